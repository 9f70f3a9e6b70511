"""Numbers in texts, read without ever trusting them: a text that is no number, or no usable one,
gives None.
"""

from __future__ import annotations

import math

NUMBER_WORDS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine',
                'ten')

# Python refuses to turn longer digit strings into integers, and no count is that long.
_MAX_DIGITS = 18


def to_float(text: str) -> float | None:
  """`text` as a float in the way Python reads one ('1e3', '1_000', 'inf', spaces around it), or
  None.
  """
  try:
    return float(text)
  except ValueError:
    return None


def to_int(text: str) -> int | None:
  """`text` as an integer ('7', '-1', ' 12 '), or None; None too for more than 18 digits."""
  try:
    return int(text) if len(text.strip()) <= _MAX_DIGITS else None
  except ValueError:
    return None


def truncated(text: str) -> int | None:
  """`text` as a float, cut to an integer ('14.0' → 14, '1e2' → 100), or None for one that is not
  finite.
  """
  number = to_float(text)
  return int(number) if number is not None and math.isfinite(number) else None
