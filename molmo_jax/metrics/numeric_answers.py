"""Numbers in answers: charts and figures, VSI-Bench, Ego3D-Bench (docs/training.md §5.3).

`to_float`, `to_int` and `truncated` read a number without ever trusting the text: one that is no
number, or no usable one, gives None.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from molmo_jax.metrics.text_answers import NUMBER_WORDS

# Python refuses to turn longer digit strings into integers, and no count is that long.
_MAX_DIGITS = 18


def to_float(text: str) -> float | None:
  """`text` as a float in the way Python reads one ('1e3', '1_000', 'inf', spaces around it)."""
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
  """`text` as a float, cut to an integer ('14.0' → 14), or None for one that is not finite."""
  number = to_float(text)
  return int(number) if number is not None and math.isfinite(number) else None


TOLERANCE = 0.05                                # relative to the reference


def relaxed_correctness(targets: Sequence[str], prediction: str) -> float:
  """ChartQA: 1 if the prediction is right for one of the references, else 0.

  If both are numbers (a trailing % divides by 100) and the reference is not zero: a relative error
  of at most 5 %. Else: equality, case aside.
  """
  return float(any(_is_relaxed_match(target, prediction) for target in targets))


def _is_relaxed_match(target: str, prediction: str) -> bool:
  expected, given = _percent_or_number(target), _percent_or_number(prediction)
  if expected and given is not None:
    return abs(given - expected) / abs(expected) <= TOLERANCE
  return prediction.lower() == target.lower()


def _percent_or_number(text: str) -> float | None:
  number = to_float(text.rstrip('%') if text.endswith('%') else text)
  return number / 100 if number is not None and text.endswith('%') else number


_DECIMAL_OR_DIGITS = re.compile(r'[-+]?\d*\.\d+|\d+')


def scientific_relaxed_correctness(targets: Sequence[str], prediction: str, *,
                                   whole_words: bool = False) -> float:
  """Relaxed correctness for scientific figures, where a sentence may surround the answer; 0 or 1.

  Looks at what follows `answer:`, without a final period; an empty text is wrong. For a number as
  the reference: the first number of the text, or a hundredth of it, is within 5 % (within 0.05 of a
  reference 0). For a list `[a, b]`: every item occurs in the text. Else: the reference occurs in
  the text.

  Upstream bugs, reproduced: a sign is read only before a number with a decimal point; number words
  are replaced inside words ('sixty' → '6ty'), which `whole_words` leaves alone.
  """
  text = _after_answer(prediction)
  if not text:
    return 0.0
  text = text.removesuffix('.')
  return float(any(_occurs(_after_answer(target), text, whole_words) for target in targets))


def _after_answer(text: str) -> str:
  text = text.lower()
  return text.split('answer:')[1].strip() if 'answer:' in text else text.strip()


def _occurs(target: str, text: str, whole_words: bool) -> bool:
  expected = to_float(target)
  if expected is not None:
    given = _first_number(text, whole_words)
    return given is not None and (_is_close(given, expected) or _is_close(given / 100, expected))
  if '[' in target and ',' in target:
    items = target.replace('[', '').replace(']', '').split(',')
    return all(item.strip() in text for item in items)
  return target in text


def _first_number(text: str, whole_words: bool) -> float | None:
  text = text.replace(',', '')
  for value, word in enumerate(NUMBER_WORDS):
    text = (re.sub(rf'\b{word}\b', str(value), text) if whole_words
            else text.replace(word, str(value)))
  found = _DECIMAL_OR_DIGITS.search(text)
  return float(found.group()) if found else None


def _is_close(given: float, expected: float) -> bool:
  return abs(given - expected) / (abs(expected) or 1.0) <= TOLERANCE


_MARGINS = 1 - np.linspace(0.5, 0.95, 10)


def mean_relative_accuracy(prediction: str, target: str) -> float:
  """VSI-Bench: how many of the margins 0.5, 0.45, …, 0.05 the relative error meets, as a fraction.

  The prediction is what precedes its first space, without a final period. 0 where it or the target
  is no number, or the target is 0.
  """
  given, expected = to_float(prediction.split(' ')[0].rstrip('.')), to_float(target)
  if given is None or not expected:
    return 0.0
  return float(np.mean(abs(given - expected) / expected <= _MARGINS))


_SIGNED = re.compile(r'[-+]?(?:\d++(?:\.\d++)?|\.\d+)')

EGO3D_MAX = 100.0                               # metres; larger predictions count as this
EGO3D_MISSING = -1.0


def ego3d_squared_error(prediction: str, target: str, *, accept_zero: bool = False) -> float:
  """Ego3D-Bench: squared error of the first number of the text, at most 100; −1 if there is none.

  Upstream bug, reproduced: a predicted 0 counts as missing; `accept_zero` scores it.
  """
  found = _SIGNED.search(prediction)
  if found is None or not (accept_zero or float(found.group())):
    return EGO3D_MISSING
  return (min(float(found.group()), EGO3D_MAX) - float(target)) ** 2
