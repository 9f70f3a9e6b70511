"""Checkpoints in the Hugging Face layout with cases computed by transformers, checked through the
public face alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import molmo_jax

PIXEL_TOLERANCE = 6e-8           # rounding of the normalisation
LEVEL = 1 / 127.5                # one grey level of a normalised pixel
LEVEL_SHARE = 1e-4               # of the values may be one grey level off
LOGIT_TOLERANCE = 2e-5
_MEDIA = ('image', 'video')
# crops, patches, values: what is recorded
_SAMPLE = (slice(None), slice(None, None, 37), slice(None, None, 11))


def recognises(folder: Path) -> bool:
  """True for a Molmo2 checkpoint (config.json, safetensors) with cases in it or in a folder inside
  it.
  """
  config = folder / 'config.json'
  if not config.is_file() or not any(folder.glob('*.safetensors')):
    return False
  return json.loads(config.read_text(encoding='utf-8')).get('model_type') == 'molmo2' and bool(
    _cases(folder))


def run(folder: Path) -> list[tuple[str, str | None]]:
  """Checks every case: (name, None) or (name, what is wrong)."""
  molmo = molmo_jax.from_pretrained(folder, dtype='float32')
  results = []
  for path, case in _cases(folder):
    try:
      reason = check_case(molmo, case, _expected(path, case), path.parent)
    except Exception as error:   # whatever goes wrong is this case's result
      reason = f'{type(error).__name__}: {error}'
    results.append((path.stem, reason))
  return results


def check_case(molmo: Any, case: dict[str, Any], expected: dict[str, np.ndarray],
               folder: Path) -> str | None:
  """What differs between the public face and transformers in one case; None where nothing does.

  Args:
    molmo: what `molmo_jax.from_pretrained` gives, in float32.
    case: messages, `input_ids`, `greedy_ids` and `text`.
    expected: arrays of transformers; those that are absent are not compared.
    folder: where the media of the messages lie.
  """
  messages = with_media(case['messages'], folder)
  inputs = molmo.processor(messages)
  wrong = check_inputs(inputs, case, expected)
  if wrong:
    return wrong
  wrong = check_logits(np.asarray(molmo.logits(inputs)), expected)
  if wrong:
    return wrong
  count = len(case['greedy_ids'])
  ids = np.asarray(molmo.generate_ids(inputs, max_new_tokens=count)).tolist()
  if ids != case['greedy_ids']:
    return f'greedy ids are {ids}, not {case["greedy_ids"]}'
  text = molmo.generate(messages, max_new_tokens=count)
  return None if text == case['text'] else f'the text is {text!r}, not {case["text"]!r}'


def check_inputs(inputs: dict[str, np.ndarray], case: dict[str, Any],
                 expected: dict[str, np.ndarray]) -> str | None:
  """What differs in the processor's arrays."""
  pairs = [('ids', inputs['tokens'], case['input_ids'])]
  if 'token_types' in expected:
    pairs.append(('token types', inputs['visual'] > 0, expected['token_types'] > 0))
  if 'pooling' in expected:
    pairs.append(('pooling indices', inputs['pool_index'], expected['pooling']))
  pairs += [(key, inputs[key], expected[key])
            for key in ('image_grids', 'image_num_crops', 'video_grids')
            if key in expected]
  for name, ours, theirs in pairs:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.shape != theirs.shape:
      return f'{name} have the shape {ours.shape}, not {theirs.shape}'
    if not np.array_equal(ours, theirs):
      return f'{name} differ in {(ours != theirs).sum()} of {ours.size} places'
  if 'pixel_sample' not in expected:
    return None
  return _check_pixels(inputs['crops'], expected['pixel_sample'], expected['pixel_sums'])


def check_logits(logits: np.ndarray, expected: dict[str, np.ndarray]) -> str | None:
  """What differs in the scores: the last rows, and mean and deviation (unbiased) of every row."""
  tail = expected['logits_tail']
  if logits.dtype != np.float32 or logits.shape != (len(expected['input_ids']), tail.shape[1]):
    return (f'logits are {logits.dtype} {logits.shape}, not float32 '
      f'{(len(expected["input_ids"]), tail.shape[1])}')
  wide = logits.astype(np.float64)
  for name, ours, theirs in (('logits', logits[-len(tail):], tail),
                             ('means', wide.mean(-1), expected['logits_mean']),
                             ('deviations', wide.std(-1, ddof=1), expected['logits_std'])):
    worst = np.abs(ours - theirs).max()
    if not worst <= LOGIT_TOLERANCE:
      return f'{name} of the logits are off by {worst:.2g}, more than {LOGIT_TOLERANCE}'
  return None


def with_media(messages: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
  """The messages with paths of media in `folder`, and frames that are kept as `.npy` as arrays."""
  return [message if isinstance(message['content'], str) else
          {**message, 'content': [_with_media(part, folder) for part in message['content']]}
          for message in messages]


def _with_media(part: dict[str, Any], folder: Path) -> dict[str, Any]:
  part = dict(part)
  for key in _MEDIA:
    if key in part:
      path = folder / part[key]
      part[key] = np.load(path, allow_pickle=False) if path.suffix == '.npy' else str(path)
  return part


def _check_pixels(crops: np.ndarray, sample: np.ndarray, sums: np.ndarray) -> str | None:
  count, height, width, _ = crops.shape
  patches, size = _patch_grid(height * width, sample)
  rows = crops.reshape(count, height // size, size, width // size, size, 3).transpose(0, 1, 3, 2, 4,
                                                                                      5)
  values = rows.reshape(count, patches, -1).astype(np.float32) / np.float32(255) * 2 - 1
  ours = values[_SAMPLE]
  if ours.shape != sample.shape:
    return f'the sample of pixels has the shape {ours.shape}, not {sample.shape}'
  off = np.abs(ours - sample)
  share = (off > PIXEL_TOLERANCE).mean()
  if off.max() > LEVEL + PIXEL_TOLERANCE or share > LEVEL_SHARE:
    return (f'pixels are off by up to {off.max():.3g}, {share:.2%} of them by more than '
      f'{PIXEL_TOLERANCE}')
  allowed = values[0].size * (PIXEL_TOLERANCE + LEVEL_SHARE * LEVEL)
  worst = np.abs(values.astype(np.float64).sum((1, 2)) - sums).max()
  return (None if worst <= allowed else f'the sum of a crop is off by {worst:.3g}, more than '
          f'{allowed:.3g}')


def _patch_grid(pixels: int, sample: np.ndarray) -> tuple[int, int]:
  """Number of patches of a crop and their side, from the shape of the sample."""
  fitting = [(pixels // side ** 2, side) for side in range(1, 65) if pixels % side ** 2 == 0
             and len(range(0, pixels // side ** 2, 37)) == sample.shape[1]
             and len(range(0, 3 * side ** 2, 11)) == sample.shape[2]]
  if len(fitting) != 1:
    raise ValueError(f'no side of a patch fits {pixels} pixels and a sample of {sample.shape}')
  return fitting[0]


def _cases(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
  found = []
  for path in sorted([*folder.glob('*.json'), *folder.glob('*/*.json')]):
    try:
      case = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
      continue
    if isinstance(case, dict) and {'messages', 'input_ids', 'greedy_ids', 'text'} <= set(case):
      found.append((path, case))
  return found


def _expected(path: Path, case: dict[str, Any]) -> dict[str, np.ndarray]:
  """The arrays of a case: in the archive of its name, or else in the one with the same ids."""
  for archive in [path.with_suffix('.npz'), *sorted(path.parent.glob('*.npz'))]:
    if archive.is_file():
      with np.load(archive, allow_pickle=False) as data:
        if np.array_equal(data['input_ids'], case['input_ids']):
          return dict(data)
  raise ValueError(f'no archive beside {path.name} has its input_ids')
