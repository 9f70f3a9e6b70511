"""Short answers: VQA score, A-OKVQA score, ANLS, exact matches (docs/training.md §5.1, §5.3).

Every score is 0…1. `targets` are the accepted answers.
"""

from __future__ import annotations

import collections
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

WORDS = tomllib.loads(Path(__file__).with_name('words.toml').read_text(encoding='utf-8'))
NUMBER_WORDS = tuple(WORDS['numbers'].split()[:11])   # zero to ten

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_GROUPED_DIGITS = re.compile(r'\d,\d')
_PERIOD = re.compile(r'\.(?!\d)')
_MAX_PERIODS = 32
_ARTICLES = frozenset(('a', 'an', 'the'))
_NUMBERS = {word: str(number) for number, word in enumerate(NUMBER_WORDS)} | {'none': '0'}

# Misspelling (one apostrophe is missing) → word. The last entry is upstream's, the wrong way round.
CONTRACTIONS = {word[:i] + word[i + 1:]: word for word in WORDS['contractions'].split()
                for i, character in enumerate(word) if character == "'"}
CONTRACTIONS["somebody'd"] = 'somebodyd'

ANLS_LIMIT = 0.5                                # from this normalised distance on, ANLS is 0


def clean_prediction(text: str) -> str:
  """The part of a generated text that the VQA metrics look at (§5.1).

  What follows the first `Answer:`, up to the next one; without it, of several lines the most
  frequent (the first of equals). Whitespace at the ends goes, and runs of it become one space where
  there is no `Answer:`.
  """
  text = text.strip()
  if 'Answer:' in text:
    return text.split('Answer:')[1].strip()
  lines = [' '.join(line.split()) for line in text.split('\n')]
  return collections.Counter(lines).most_common(1)[0][0]


def normalise_answer(text: str, *, all_periods: bool = False) -> str:
  """An answer in the form in which VQA compares answers.

  Lower case; punctuation out (a mark that stands next to a space anywhere, or any mark of a text
  with grouped digits like 1,000, is deleted, else it becomes a space; periods go unless a digit
  follows); number words none…ten as digits; no articles; apostrophes of contractions restored (dont
  → don't).

  Upstream removes only the first 32 periods (a flag in the place of a count); `all_periods` removes
  all.
  """
  text = text.replace('\n', ' ').replace('\t', ' ').lower().strip()
  grouped = _GROUPED_DIGITS.search(text) is not None
  text = text.translate({
    ord(m): '' if grouped or f'{m} ' in text or f' {m}' in text else ' ' for m in _MARKS})
  words = _PERIOD.sub('', text, count=0 if all_periods else _MAX_PERIODS).split()
  numbered = (_NUMBERS.get(word, word) for word in words)
  return ' '.join(CONTRACTIONS.get(word, word) for word in numbered if word not in _ARTICLES)


def vqa_score(targets: str | Sequence[str], prediction: str) -> float:
  """VQA v2: a third for every reference that equals the prediction, at most 1. All are normalised.

  Upstream bug, reproduced: a single reference given as a string is compared as it is, without being
  normalised, and counts in full; give a list of one to have it normalised (and count a third).
  """
  given = normalise_answer(prediction)
  if isinstance(targets, str):
    return float(given == targets)
  return min(sum(normalise_answer(t) == given for t in targets) / 3, 1.0)


def a_okvqa_score(targets: Sequence[str], prediction: str) -> float:
  """A-OKVQA direct answers: as the VQA score, but only case and whitespace at the ends do not
  count.
  """
  given = prediction.strip().lower()
  return min(sum(t.strip().lower() == given for t in targets) / 3, 1.0)


def exact_answer(targets: Sequence[str], prediction: str) -> float:
  """Upstream's `em`: 1 if the prediction equals a reference, case aside."""
  return float(prediction.lower() in {t.lower() for t in targets})


def starts_with_answer(targets: Sequence[str], prediction: str) -> float:
  """Upstream's `em_start`: 1 if the prediction starts with the first character of the first
  reference.

  Case and whitespace at the ends do not count: meant for references that are option letters.
  Upstream bug, reproduced: 'A ball' is right for 'A'.
  """
  first = targets[0].strip().lower()[:1]
  return float(prediction.strip().lower().startswith(first))


def anls(targets: Sequence[str], prediction: str) -> float:
  """Average normalised Levenshtein similarity (DocVQA): the best over the references of
  1 − distance/longer length; 0 where the normalised distance is 0.5 or more.

  Case does not count in the distance, while the lengths are those of the texts as they are: they
  differ where a lower-case form is longer ('İ'). Two empty texts score 1 (upstream divides by
  zero).
  """
  return max((_similarity(target, prediction) for target in targets), default=0.0)


def _similarity(target: str, prediction: str) -> float:
  longer = max(len(target), len(prediction))
  if not longer:
    return 1.0
  a, b = target.lower(), prediction.lower()
  if abs(len(a) - len(b)) / longer >= ANLS_LIMIT:   # at least that far apart, without looking
    return 0.0
  distance = edit_distance(a, b) / longer
  return 1 - distance if distance < ANLS_LIMIT else 0.0


def edit_distance(a: str, b: str) -> int:
  """Fewest insertions, deletions and replacements of one character that turn `a` into `b`.

  Myers' algorithm (1999): a column of the table of distances is kept as two bit masks of vertical
  steps +1 and −1, so that one character of the longer text costs a few operations on integers of as
  many bits as the shorter one has.
  """
  if len(a) < len(b):
    a, b = b, a
  if not b:
    return len(a)
  places: dict[str, int] = {}                 # character of b → bits at its places
  for place, character in enumerate(b):
    places[character] = places.get(character, 0) | 1 << place
  full, last = (1 << len(b)) - 1, 1 << (len(b) - 1)
  # steps of +1 and of −1 from one row of the column to the next
  up, down, distance = full, 0, len(b)
  for character in a:
    equal = places.get(character, 0)
    diagonal = ((((equal & up) + up) ^ up) | equal | down) & full
    right, left = down | (full & ~(diagonal | up)), up & diagonal
    distance += bool(right & last) - bool(left & last)
    right = (right << 1 | 1) & full
    up, down = (left << 1 & full) | (full & ~(diagonal | right)), right & diagonal
  return distance
