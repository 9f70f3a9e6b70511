"""Open questions of MMMU (docs/training.md §5.3). Multiple choice: `letters.parse_letter`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from molmo_jax.evaluation.metrics.numerals import to_float

_KEYS = ('could be ', 'so ', 'is ', 'thus ', 'therefore ', 'final ', 'answer ', 'result ')
_NO_ANSWERS = tuple(":,.!?;'")

# Numbers with groups of three digits, with an exponent, and plain ones. The lookbehinds keep the
# search linear: it starts once in a run of digits.
_NUMBERS = (
  re.compile(r'-?\b\d{1,3}(?:,\d{3})+\b'),
  re.compile(r'-?(?<!\d)\d++(?:\.\d++)?[eE][+-]?\d+'),
  re.compile(r'-?(?:(?<!\d)\d++\.\d++|\.\d++|(?<!\d)\d++\b)(?![eE][+-]?\d)(?![,\d])'),
)


def mmmu_open_correct(targets: str | Sequence[str], response: str) -> bool:
  """Whether a response to an open question of MMMU is right.

  Right if one of its parsed candidates (`parse_open_answer`) is a number that equals a reference,
  or a text in which a reference occurs. References are normalised like candidates.
  """
  targets = [targets] if isinstance(targets, str) else targets
  accepted = {value for target in targets for value in _normalise(target)}
  texts = [value for value in accepted if isinstance(value, str)]
  return any(any(text in value for text in texts) if isinstance(value, str) else value in accepted
             for value in parse_open_answer(response))


def parse_open_answer(response: str) -> set[float | str]:
  """The candidates that a response holds: floats rounded to two decimals, and lower-case texts.

  Of every line, the shortest tail behind a key phrase (could be, so, is, thus, therefore, final,
  answer, result; in the last line also '='); without any, the whole response. Then all numbers of
  these, with commas, exponents or plain.

  Upstream bug, reproduced: lines, not sentences, are looked at (the split of sentences looks for
  capitals after the text has been lower-cased).
  """
  text = response.strip().strip('.').lower()
  lines = text.split('\n')
  tails = [_shortest_tail(line, (*_KEYS, '=') if line_number == len(lines) else _KEYS)
           for line_number, line in enumerate(lines, start=1)]
  parts = [tail for tail in tails if tail and tail not in _NO_ANSWERS] or [text]
  candidates = parts + [number for part in parts for pattern in _NUMBERS
                        for number in pattern.findall(part)]
  return {value for candidate in candidates for value in _normalise(candidate)}


def _shortest_tail(line: str, keys: Sequence[str]) -> str:
  """The shortest text that follows the last occurrence of a key; of several equally short, the
  first key's.
  """
  tails = [line.rpartition(key)[2].strip() for key in keys if key in line]
  return min(filter(None, tails), key=len, default='')


def _normalise(text: str) -> list[float | str]:
  text = text.strip()
  number = to_float(text.replace(',', ''))
  if number is not None:
    return [round(number, 2)]
  lower = text.lower()
  return [f' {lower}', f'{lower} '] if len(lower) == 1 else [lower]
