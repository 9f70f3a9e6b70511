"""Golden tilings and video sampling: JSON files of a folder, each recognised by its content."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from molmo_jax.preprocess.frame_sampling import sample_frames, sample_times
from molmo_jax.preprocess.images import image_tiling, select_tiling
from molmo_jax.preprocess.types import ImageConfig

Case = tuple[str, Callable[[], str | None]]


def recognises(folder: Path) -> bool:
  """True for a folder with at least one JSON file of tilings, of sampled times or of sampled
  frames.
  """
  return any(_cases(path) is not None for path in folder.glob('*.json'))


def run(folder: Path) -> list[tuple[str, str | None]]:
  """Checks every case of every recognised file: (name, None) or (name, what is wrong)."""
  results = []
  for path in sorted(folder.glob('*.json')):
    for name, check in _cases(path) or ():
      try:
        results.append((f'{path.stem} {name}', check()))
      except Exception as error:   # whatever goes wrong is this case's result
        results.append((f'{path.stem} {name}', f'{type(error).__name__}: {error}'))
  return results


def _cases(path: Path) -> Iterator[Case] | None:
  """The cases of a file, or None if it is none of ours."""
  try:
    data = json.loads(path.read_text())
  except (OSError, ValueError):
    return None
  if isinstance(data, dict) and isinstance(data.get('rows'), list):
    if {'window_sizes', 'max_crops'} <= set(data):
      return _tiling_cases(data)
    return _image_cases(data) if 'tiling' in str(data.get('format')) else None
  first = data[0] if isinstance(data, list) and data and isinstance(data[0], dict) else {}
  if not isinstance(first.get('input'), dict) or 'frame_sample_mode' not in first['input']:
    return None
  return _time_cases(data) if 'duration' in first['input'] else _frame_cases(data)


def _tiling_cases(data: dict[str, Any]) -> Iterator[Case]:
  for height, width, *by_window in data['rows']:
    for window, tilings in zip(data['window_sizes'], by_window, strict=True):
      for max_crops, tiling in zip(data['max_crops'], tilings, strict=True):
        yield (f'{height}x{width} window {window} K={max_crops}', functools.partial(
            _compare_tiling, tiling, lambda h=height, w=width, s=window,
            k=max_crops: select_tiling(h, w, s, k)))


def _image_cases(data: dict[str, Any]) -> Iterator[Case]:
  clip = ImageConfig(crop_size=336, clamp_small_sides=False)
  for height, width, *tilings in data['rows']:
    for config, max_crops, tiling in zip((clip, ImageConfig(), ImageConfig()), (12, 8, 24), tilings,
                                         strict=True):
      yield (f'{height}x{width} crop {config.crop_size} K={max_crops}', functools.partial(
          _compare_tiling, tiling, lambda h=height, w=width, c=config,
          k=max_crops: image_tiling(h, w, c, k)))


def _compare_tiling(expected: list[int], choose: Callable[[], tuple[int, int]]) -> str | None:
  got = choose()
  return None if got == tuple(expected) else f'tiling {got}, expected {tuple(expected)}'


def _time_cases(data: list[dict[str, Any]]) -> Iterator[Case]:
  for number, case in enumerate(data):
    given = case['input']
    yield (f'{number} {given["frame_sample_mode"]} D={given["duration"]} F={given["max_frames"]}',
           functools.partial(_check_times, given, case['expected']['timestamps']))


def _check_times(given: dict[str, Any], expected: list[float]) -> str | None:
  got = sample_times(given['duration'], given['max_frames'], given['frame_sample_mode'],
                     given['max_fps'])
  if len(got) != len(expected):
    return f'{len(got)} times, expected {len(expected)}'
  error = float(np.abs(got - expected).max())
  return None if error <= 1e-9 else f'a time is off by {error:.3g} s'


def _frame_cases(data: list[dict[str, Any]]) -> Iterator[Case]:
  for number, case in enumerate(data):
    given = case['input']
    yield (f'{number} {given["frame_sample_mode"]} N={given["total_frames"]} '
      f'F={given["max_frames"]}',
      functools.partial(_check_frames, given, case['expected']['indices']))


def _check_frames(given: dict[str, Any], expected: list[int]) -> str | None:
  mode, rate = given['frame_sample_mode'], given.get('min_fps')
  if mode == 'uniform_last_frame' and rate is not None:   # another name of the same rule
    mode = f'uniform_last_frame_min_{rate}fps'
  got = sample_frames(given['total_frames'], given['video_fps'], given['max_frames'], mode,
                      None).tolist()
  return None if got == expected else f'frames {got[:8]}…, expected {expected[:8]}…'
