"""Counting in images and videos (docs/training.md §5.3, §13.1)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from molmo_jax.metrics.means import mean_by, mean_of
from molmo_jax.metrics.numeric_answers import to_int
from molmo_jax.metrics.text_answers import WORDS
from molmo_jax.metrics.versions import MOLMO2, is_v1
from molmo_jax.preprocess.points import parse_points

_VALUES = {word: value for value, word in enumerate(WORDS['numbers'].split())}
_LAST_TOTAL = re.compile(r'.*a total of ([0-9]+)')
# Upstream sets no limit to the name; without one the search of a hostile text would never end.
_TOTAL = re.compile(r'(?:a total of|the total number(?:\s+of\s+.{1,1000}?)?\s+is:)\s*(\d+)')
_NONE = re.compile(r'\bnone\b', re.IGNORECASE)

_BIN_EDGES = (0, 5, 10, 15, 20, 25)

_MEASURES = '|'.join(WORDS['measures'].split()).replace('_', ' ')
_ASKED = r"what|(?:what(?:'s| is| was| were)|states?|indicates?) the(?: exact| precise)?"
_AMOUNT = '(?:total )?(?:count|number|amount)|total|num'
_COUNTING = re.compile(
    rf"\b(?:how ?many (?!{_MEASURES})"
    '|(?<!do not )(?:count|tally) (?:all|every|each|the) '
    '|(?:there are|a total of) _{3,4}'
    rf'|(?:{_ASKED}) (?:{_AMOUNT}) of (?!{_MEASURES}|money|the))'
    r'\b', re.IGNORECASE)


def is_counting_question(question: str) -> bool:
  """Whether a question asks for a count, and so for points.

  'how many <things>', 'count the …', 'what is the number of …' and their kind, but no measures
  (years, dollars, …). A text that begins with 'approximately' asks for none. Only a plain space
  counts between the words.

  Source: allenai/molmo2 f3cb108 olmo/preprocessing/detect_counting_question.py.
  """
  return (not question.lower().startswith('approximately')
          and _COUNTING.search(question) is not None)


def point_count(prediction: str, count: int, *, version: str = MOLMO2, read_text: bool = False,
                read_none: bool = False) -> dict[str, float]:
  """CountBench and PixMo-Count: the count that a text gives against the right one; close is a
  difference of 1. Case does not count. Returns 'correct', 'close', and 'valid' (whether a count
  could be read at all), each 0 or 1.

  Molmo2: the number of points in the text. Upstream bug, reproduced: a number that the text names
  is not looked at, so that '5' counts as 0; `read_text` takes the named number where there are no
  points.

  `version='v1'`: the last word, as digits or as a word up to twenty, without final periods; else
  the number of the last 'a total of N' of the first line; else nothing is valid. Upstream bug,
  reproduced: 'none' is not read as 0; `read_none` does so.
  """
  text = prediction.strip().lower().rstrip('.').strip()
  if is_v1(version):
    given = _last_number(text, read_none)
  else:
    given = len(parse_points(text, 100, 100))
    if read_text and not given:
      given = _last_number(text, read_none=True)
  return _scores(given, count, margin=1)


def _last_number(text: str, read_none: bool) -> int | None:
  last = text.split()[-1] if text else ''
  return _first(to_int(last), _VALUES.get(last), _found(_LAST_TOTAL.match(text)),
                _none(text, read_none))


def _first(*values: int | None) -> int | None:
  return next((value for value in values if value is not None), None)


def _found(match: re.Match | None) -> int | None:
  return to_int(match.group(1)) if match else None


def _none(text: str, read_none: bool) -> int | None:
  return 0 if read_none and _NONE.search(text) else None


def _scores(given: int | None, count: int, margin: int) -> dict[str, float]:
  close = given is not None and abs(given - count) <= margin
  return {'correct': float(given == count), 'close': float(close),
          'valid': float(given is not None)}


def point_count_means(rows: Sequence[Mapping[str, Any]], *, version: str = MOLMO2,
                      ) -> dict[str, float]:
  """Means over rows of 'prediction' and 'count': 'close', 'valid', 'correct', and 'correct_N' of
  every count N.
  """
  scores = [point_count(row['prediction'], row['count'], version=version) for row in rows]
  pairs = zip(rows, scores, strict=True)
  return _means(scores) | mean_by(((row['count'], s['correct']) for row, s in pairs), 'correct_')


def _means(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
  return {name: mean_of(s[name] for s in scores) for name in ('correct', 'close', 'valid')}


def video_point_count(prediction: str, count: int, *, read_none: bool = False) -> dict[str, float]:
  """Counting in videos: an integer (final periods allowed), 'a total of N' or 'the total number of
  … is: N', the first that occurs. Returns what `point_count` does.

  Close is a difference of at most 1 + 5 % of the count, rounded down. Upstream bug, reproduced:
  'There are none.' is not valid; `read_none` reads it as 0.
  """
  text = prediction.strip().lower().rstrip('.').strip()
  given = _first(to_int(text), _found(_TOTAL.search(text)), _none(text, read_none))
  return _scores(given, count, margin=1 + math.floor(0.05 * count))


def video_point_count_means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """Means over rows of 'prediction', 'count' and 'subset' (object, animal, action/event).

  'close', 'valid', 'correct'; 'correct_A_B' of the counts A ≤ count < B for the bins 0, 5, 10, 15,
  20, 25 and one more than the largest count (NaN of no rows); 'acc_S' of every subset S.
  """
  scores = [video_point_count(row['prediction'], row['count']) for row in rows]
  means, pairs = _means(scores), list(zip(rows, scores, strict=True))
  edges = (*_BIN_EDGES, max((row['count'] for row in rows), default=0) + 1)
  for low, high in zip(edges, edges[1:]):
    means[f'correct_{low}_{high}'] = mean_of(
        s['correct'] for row, s in pairs if low <= row['count'] < high)
  return means | mean_by(((row['subset'], s['correct']) for row, s in pairs), 'acc_')
