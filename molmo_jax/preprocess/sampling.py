"""Which moments or frames of a video are looked at (docs/model.md §7.1). Pure functions, numpy
only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

# rates that the modes 'fps…' choose from
_CANDIDATE_FPS = (0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 16.0)


def sample_times(duration: float, max_frames: int, mode: str = 'uniform_last_frame',
                 max_fps: float | Sequence[float] | None = 2.0,
                 rng: np.random.Generator | None = None) -> np.ndarray:
  """Chooses the moments of a video, by time (docs/model.md §7.1).

  Modes:
    * `uniform_last_frame`: every 1/max_fps seconds and the end, or `max_frames` moments from start
      to end, both included, where that would be too many or max_fps is None. A sequence of rates
      means its first; with `rng`, one of them. `uniform_last_frame_sample_fps`: with `rng`, a rate
      between the smallest and the largest of them. `uniform_last_frame_max_fps_set_A-B` and
      `uniform_last_frame_min_A-B` (or `min_Afps`) say the same of the rates in their name: one of
      them, any between them.
    * `uniform`: `max_frames` moments without the end; `uniform_randomized`: with `rng`, one
      anywhere in each interval.
    * `fps`: k/rate at the largest candidate rate whose `max_frames` moments span the video (or the
      lowest rate); `fps_uniform`: `uniform` where no rate does.

  Args:
    duration: seconds.
    max_frames: largest number of moments.
    rng: source of randomness in training; None: evaluation.

  Returns:
    float64 [F], ascending, F ≤ max_frames.
  """
  _check_sampling(duration > 0, f'a duration of {duration} s', max_frames)
  if mode in ('fps', 'fps_uniform'):
    fitting = [rate for rate in _CANDIDATE_FPS if max_frames / rate >= duration]
    if fitting or mode == 'fps':
      times = np.arange(max_frames) / max(fitting, default=_CANDIDATE_FPS[0])
      return times[times < duration]
  if mode in ('uniform', 'uniform_randomized', 'fps_uniform'):
    times = np.linspace(0, duration, max_frames, endpoint=False)
    jitter = rng.random(max_frames) if rng is not None and mode == 'uniform_randomized' else 0.0
    return times + jitter * (duration / max_frames)
  rate = _last_frame_rate(mode, max_fps, rng)
  if rate is None or (max_frames - 1) / rate < duration:
    return np.linspace(0, duration, max_frames)
  times = np.arange(max_frames - 1) / rate
  return np.append(times[times < duration], duration)


def sample_frames(total_frames: int, fps: float, max_frames: int, mode: str = 'uniform_last_frame',
                  max_fps: float | Sequence[float] | None = 2.0,
                  rng: np.random.Generator | None = None) -> np.ndarray:
  """Chooses the frames of a video, by index (docs/model.md §7.1). Modes and `rng` as in
  `sample_times`.

  Args:
    total_frames: frames of the video.
    fps: frames per second of the video.
    max_frames: largest number of chosen frames.

  Returns:
    int64 [F], ascending, F ≤ max_frames. A frame may occur twice where the video is slower than the
    wanted rate.
  """
  _check_sampling(total_frames > 0 and fps > 0, f'{total_frames} frames at {fps} frames/s',
                  max_frames)
  count = min(max_frames, total_frames)
  if mode in ('fps', 'fps_uniform'):
    steps = [int(fps / rate) for rate in _CANDIDATE_FPS]
    fitting = [step for step in steps if step >= 1 and max_frames * step >= total_frames]
    if fitting or mode == 'fps':
      return np.arange(0, total_frames, max(min(fitting, default=steps[0]), 1))[:max_frames]
  if mode == 'uniform_randomized':
    step = total_frames // count
    return np.arange(count) * step + (rng.integers(step, size=count) if rng is not None else 0)
  if mode in ('uniform', 'fps_uniform'):
    return np.linspace(0, total_frames, count, endpoint=False).astype(np.int64)
  rate = _last_frame_rate(mode, max_fps, rng)
  last = total_frames - 1
  if rate is None or total_frames <= 2 or total_frames / fps > (max_frames - 1) / rate:
    return np.linspace(0, last, count).astype(np.int64)
  indices = np.rint(np.arange(0, last, fps / rate)).astype(np.int64)
  return indices if indices[-1] == last else np.append(indices, last)


def _check_sampling(usable: bool, what: str, max_frames: int) -> None:
  if not usable:
    raise ValueError(f'a video of {what} has nothing to sample')
  if max_frames < 1:
    raise ValueError(f'max_frames is {max_frames}; it must be at least 1')


def _last_frame_rate(mode: str, max_fps: float | Sequence[float] | None,
                     rng: np.random.Generator | None) -> float | None:
  """The rate of a mode `uniform_last_frame…`, frames per second; None: as many frames as allowed.
  """
  named = re.fullmatch(r'uniform_last_frame_(max_fps_set|min)_(\d[\d.]*(?:-\d[\d.]*)*)(?:fps)?',
                       mode)
  if named:
    between, rates = named[1] == 'min', [float(rate) for rate in named[2].split('-')]
  elif mode in ('uniform_last_frame', 'uniform_last_frame_sample_fps'):
    between = mode.endswith('_sample_fps')
    rates = [] if max_fps is None else [max_fps] if np.isscalar(max_fps) else list(max_fps)
  else:
    raise ValueError(
        f"unknown video.frame_sample_mode {mode!r}; known: 'uniform_last_frame', "
        "'uniform_last_frame_sample_fps', 'uniform_last_frame_max_fps_set_A-B', "
        "'uniform_last_frame_min_A-B', 'uniform', 'uniform_randomized', 'fps', 'fps_uniform'")
  if not rates:
    return None
  if rng is None or len(rates) == 1:
    return float(rates[0])
  return float(rng.uniform(min(rates), max(rates)) if between else rng.choice(rates))
