"""Masks as text: the run-length encoding of COCO, in which datasets publish them and manifests
carry them.

A mask bool [h,w] is read column by column; the runs are the lengths of alternating stretches of 0
and 1, beginning with 0 (the first may be 0 long). `{"size": [h, w], "counts": …}` holds the runs as
a list, or as COCO's text: groups of five bits, the lowest first, each a character from '0' on, bit
5 saying that another follows; from the fourth run on as the difference to the last but one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_FIRST = ord('0')                               # the character of a group of zeros
_MORE, _SIGN = 0x20, 0x10


def decode_mask(rle: Mapping[str, Any]) -> np.ndarray:
  """bool [h,w] of `{'size': [h, w], 'counts': runs or text}`.

  Raises:
    ValueError: another form, or runs that do not fill the size.
  """
  try:
    height, width = (int(v) for v in rle['size'])
    counts = rle['counts']
  except (KeyError, TypeError, ValueError):
    raise ValueError(f'a mask is {{"size": [h, w], "counts": …}}, not {str(rle)[:80]}') from None
  counts = counts.decode('ascii') if isinstance(counts, bytes) else counts
  runs = np.asarray(_runs_of_text(counts) if isinstance(counts, str) else counts, np.int64)
  if (runs < 0).any() or runs.sum() != height * width:
    raise ValueError(f'the runs of a mask of {width}×{height} must add up to {height * width}, not '
      f'{runs.sum()}')
  values = np.arange(len(runs)) % 2 == 1
  return np.repeat(values, runs).reshape(width, height).T


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
  """`{'size': [h, w], 'counts': text}` of a mask bool [h,w]."""
  column = np.asarray(mask, bool).T.reshape(-1)
  starts = np.flatnonzero(np.diff(column, prepend=False))
  runs = np.diff(np.concatenate([[0], starts, [column.size]]))
  return {'size': [int(n) for n in mask.shape], 'counts': _text_of_runs(runs.tolist())}


def _runs_of_text(text: str) -> list[int]:
  runs: list[int] = []
  value = shift = 0
  for character in text:
    group = ord(character) - _FIRST
    if not 0 <= group < 64:
      raise ValueError(f'{character!r} is no character of a mask')
    value |= (group & 0x1f) << shift
    shift += 5
    if not group & _MORE:
      value -= 1 << shift if group & _SIGN else 0
      runs.append(value + (runs[-2] if len(runs) > 2 else 0))
      value = shift = 0
  if shift:
    raise ValueError('the text of a mask ends in the middle of a number')
  return runs


def _text_of_runs(runs: Sequence[int]) -> str:
  characters = []
  for i, run in enumerate(runs):
    value = run - (runs[i - 2] if i > 2 else 0)
    done = False
    while not done:
      group, value = value & 0x1f, value >> 5
      done = value == (-1 if group & _SIGN else 0)
      characters.append(chr(_FIRST + (group if done else group | _MORE)))
  return ''.join(characters)
