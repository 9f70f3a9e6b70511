"""Answers about charts and figures: numbers within 5 % (docs/training.md §5.3). Every score is 0 or
1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

TOLERANCE = 0.05                                # relative to the reference


def relaxed_correctness(targets: Sequence[str], prediction: str) -> float:
  """ChartQA: 1 if the prediction is right for one of the references.

  If both are numbers (a trailing % divides by 100) and the reference is not zero: a relative error
  of at most 5 %.
  Else: equality, case aside.
  """
  return float(any(_is_relaxed_match(target, prediction) for target in targets))


def _is_relaxed_match(target: str, prediction: str) -> bool:
  expected, given = _percent_or_number(target), _percent_or_number(prediction)
  if expected and given is not None:
    return abs(given - expected) / abs(expected) <= TOLERANCE
  return prediction.lower() == target.lower()


def _percent_or_number(text: str) -> float | None:
  if not text.endswith('%'):
    return to_float(text)
  number = to_float(text.rstrip('%'))
  return None if number is None else number / 100


_NUMBER = re.compile(r'(?<!\d)\d++(?:\.\d++)?|\.\d+')
_WORD = re.compile('|'.join(NUMBER_WORDS))
_VALUES = {word: str(value) for value, word in enumerate(NUMBER_WORDS)}


def scientific_relaxed_correctness(targets: Sequence[str], prediction: str, *,
                                   whole_words: bool = False) -> float:
  """Relaxed correctness for scientific figures, where a sentence may surround the answer.

  Looks at what follows `answer:`, without a final period. For a number as the reference: the first
  number of the text, or a hundredth of it, is within 5 % (within 0.05 of a reference 0); signs are
  not read, so negative references cannot be met. For a list `[a, b]`: every item occurs in the
  text. Else: the reference occurs in the text.

  Upstream bug, reproduced: number words are replaced inside words ('sixty' → '6ty'); `whole_words`
  leaves those alone.
  """
  text = _after_answer(prediction.lower()).removesuffix('.')
  return float(any(_occurs(_after_answer(target.lower()), text, whole_words) for target in targets))


def _after_answer(text: str) -> str:
  return text.split('answer:')[1].strip() if 'answer:' in text else text.strip()


def _occurs(target: str, text: str, whole_words: bool) -> bool:
  expected = to_float(target)
  if expected is not None:
    given = _first_number(text, whole_words)
    return given is not None and (_is_close(given, expected) or _is_close(given / 100, expected))
  if target.startswith('[') and target.endswith(']') and ',' in target:
    return all(item.strip() in text for item in target[1:-1].split(','))
  return target in text


def _first_number(text: str, whole_words: bool) -> float | None:
  words = re.compile(rf'\b(?:{_WORD.pattern})\b') if whole_words else _WORD
  found = _NUMBER.search(words.sub(lambda match: _VALUES[match.group()], text.replace(',', '')))
  return None if found is None else float(found.group())


def _is_close(given: float, expected: float) -> bool:
  error = abs(given - expected)
  return error <= TOLERANCE if expected == 0 else error / abs(expected) <= TOLERANCE


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


_CONFIDENCES = np.linspace(0.5, 0.95, 10)
_SIGNED = re.compile(r'[-+]?(?:(?<!\d)\d++(?:\.\d++)?|\.\d+)')

EGO3D_MAX = 100.0                               # metres; larger predictions count as this
EGO3D_MISSING = -1.0


def mean_relative_accuracy(prediction: str, target: str) -> float:
  """VSI-Bench: the share of the thresholds t = 0.5, 0.55, …, 0.95 with a relative error of at most
  1 − t.

  The prediction is its first word, without a final period. 0 where it or the target is no number,
  or the target is 0.
  """
  words = prediction.split()
  given, expected = to_float(words[0].rstrip('.')) if words else None, to_float(target)
  if given is None or not expected:
    return 0.0
  return float(np.mean(abs(given - expected) / expected <= 1 - _CONFIDENCES))


def ego3d_squared_error(prediction: str, target: str, *, accept_zero: bool = False) -> float:
  """Ego3D-Bench: squared error of the first number of the text, which counts as at most 100; −1 if
  there is none.

  Upstream bug, reproduced: a predicted 0 counts as missing; `accept_zero` scores it.
  """
  found = _SIGNED.search(prediction)
  if found is None or not (accept_zero or float(found.group())):
    return EGO3D_MISSING
  return (min(float(found.group()), EGO3D_MAX) - float(target)) ** 2
