"""Counting in images and videos (docs/training.md §5.3, §13.1)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from molmo_jax.metrics.means import mean_by, mean_of
from molmo_jax.metrics.numeric_answers import NUMBER_WORDS, to_int
from molmo_jax.metrics.versions import MOLMO2, is_v1
from molmo_jax.preprocess.points import parse_points

_WORDS = (*NUMBER_WORDS, 'eleven', 'twelve', 'thirteen', 'fourteen', 'fifteen', 'sixteen',
          'seventeen', 'eighteen',
          'nineteen', 'twenty')
_VALUES = {word: value for value, word in enumerate(_WORDS)}
_TOTAL = re.compile(r'a total of ([0-9]+)', re.IGNORECASE)
_NUMBER_IS = re.compile(r'the total number[^:]*\bis: ?([0-9]+)', re.IGNORECASE)
_NONE = re.compile(r'\bnone\b', re.IGNORECASE)

_BIN_EDGES = (0, 5, 10, 15, 20, 25)

_MEASURES = ('years?', 'calories', 'days?', 'hours?', 'minutes?', 'seconds?', 'weeks?', 'months?',
             'miles?', 'meters?',
             'kilometers?', 'degrees?', 'dollars?', 'percent')
_COUNTING = re.compile(
    rf'\bhow many (?!(?:{"|".join(_MEASURES)})\b)\S|\bcount the \S|\bnumber of \S', re.IGNORECASE)


class CountScores(NamedTuple):
  correct: float
  close: float
  valid: float                                # whether a count could be read at all


def is_counting_question(question: str) -> bool:
  """Whether a question asks for a count, and so for points: 'how many <things>', 'count the …',
  'number of …'.

  Measures (years, calories, …) are no counts. Only a plain space counts between the words.
  """
  return _COUNTING.search(question) is not None


def point_count(prediction: str, count: int, *, version: str = MOLMO2, read_text: bool = False,
                read_none: bool = False) -> CountScores:
  """CountBench and PixMo-Count: the count that a text gives against the right one; close is a
  difference of 1.

  Molmo2: the number of points in the text. Upstream bug, reproduced: a number that the text names
  is not looked at, so that '5' counts as 0; `read_text` takes the named number where there are no
  points. `version='v1'`: the last word, as digits or as a word up to twenty, without a final
  period; else the number in 'a total of N'; else nothing is valid. Upstream bug, reproduced: 'none'
  is not read as 0; `read_none` does so.
  """
  if is_v1(version):
    given = _last_number(prediction, read_none)
  else:
    given = len(parse_points(prediction, 100, 100))
    if read_text and not given:
      given = _last_number(prediction, read_none=True)
  return _scores(given, count, margin=1)


def _last_number(text: str, read_none: bool) -> int | None:
  words = text.lower().split()
  last = words[-1].removesuffix('.') if words else ''
  value = _VALUES.get(last, to_int(last))
  if value is None:
    value = _found(_TOTAL, text)
  return 0 if value is None and read_none and _NONE.search(text) else value


def _found(pattern: re.Pattern, text: str) -> int | None:
  found = pattern.search(text)
  return to_int(found.group(1)) if found else None


def _scores(given: int | None, count: int, margin: int) -> CountScores:
  if given is None:
    return CountScores(0.0, 0.0, 0.0)
  return CountScores(float(given == count), float(abs(given - count) <= margin), 1.0)


def point_count_means(rows: Sequence[Mapping[str, Any]], *,
                      version: str = MOLMO2) -> dict[str, float]:
  """Means over rows of 'prediction' and 'count': 'close', 'valid', 'correct', and 'correct_N' of
  every count N.
  """
  scores = [point_count(row['prediction'], row['count'], version=version) for row in rows]
  means = {name: mean_of(getattr(s, name) for s in scores)
           for name in ('close', 'valid', 'correct')}
  return means | mean_by(((row['count'], s.correct) for row, s in zip(rows, scores, strict=True)),
                         'correct_')


def video_point_count(prediction: str, count: int, *, read_none: bool = False) -> CountScores:
  """Counting in videos: an integer (a final period allowed), 'a total of N' or 'the total number …
  is: N'.

  Close is a difference of at most 1 + 5 % of the count, rounded down. Upstream bug, reproduced:
  'There are none.' is not valid; `read_none` reads it as 0.
  """
  given = to_int(prediction.strip().removesuffix('.'))
  for pattern in (_TOTAL, _NUMBER_IS):
    given = _found(pattern, prediction) if given is None else given
  if given is None and read_none and _NONE.search(prediction):
    given = 0
  return _scores(given, count, margin=1 + math.floor(0.05 * count))


def video_point_count_means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """Means over rows of 'prediction', 'count' and 'subset' (object, animal, action/event).

  'close', 'valid', 'correct'; 'correct_A_B' of the counts A ≤ count < B for the bins 0, 5, 10, 15,
  20, 25 and one more than the largest count (NaN of no rows); 'acc_S' of every subset S.
  """
  scores = [video_point_count(row['prediction'], row['count']) for row in rows]
  means = {name: mean_of(getattr(s, name) for s in scores)
           for name in ('close', 'valid', 'correct')}
  pairs = list(zip(rows, scores, strict=True))
  edges = (*_BIN_EDGES, max((row['count'] for row in rows), default=0) + 1)
  for low, high in zip(edges, edges[1:]):
    means[f'correct_{low}_{high}'] = mean_of(s.correct for row, s in pairs
                                             if low <= row['count'] < high)
  return means | mean_by(((row['subset'], s.correct) for row, s in pairs), 'acc_')
