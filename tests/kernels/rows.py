"""Rows for the attention tests, typed as drawings.

A row is a string with one letter per token: `p` text of a shared prefix (BOS, timestamps), a digit
= visual token of the image or frame with that number, `a`–`f` text of branch 0–5, `t` text of an
example without branches, `_` padding, `|` (no token) = the next packed example.
"""

from __future__ import annotations

import numpy as np

from molmo_jax.kernels.mask import MaskInfo, mask_info

PREFIX = 10_000


def draw_rows(*rows: str) -> MaskInfo:
  """The metadata of the drawn rows; shorter ones get padding on the right."""
  length = max(len(row.replace('|', '')) for row in rows)
  segments, visual = zip(*(_tokens(row + '_' * (length - len(row.replace('|', ''))))
                           for row in rows), strict=True)
  return mask_info(np.array(segments), np.array(visual))


def _tokens(row: str) -> tuple[list[int], list[int]]:
  segments, visual = [], []
  for example, letters in enumerate(row.split('|')):
    branches = any(letter in 'abcdef' for letter in letters)
    for letter in letters:
      if letter == '_':
        segment = -1
      else:
        subsegment = 'abcdef'.index(letter) if letter in 'abcdef' else PREFIX if branches else 0
        segment = 100_000 * example + subsegment
      segments.append(segment)
      visual.append(1 + int(letter) if letter.isdigit() else 0)
  return segments, visual
