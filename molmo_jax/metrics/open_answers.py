"""Open questions: MathVista without a language model that extracts the answer, and MMMU
(docs/training.md §5.3).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from molmo_jax.metrics.choices import LETTERS, select_option
from molmo_jax.metrics.numeric_answers import to_float, truncated
from molmo_jax.metrics.text_answers import edit_distance
from molmo_jax.metrics.versions import MOLMO2

_LETTER = re.compile(r'([A-Za-z]):')


def math_vista_correct(response: str, answer: str, *, question_type: str,
                       choices: Sequence[str] | None = None, version: str = MOLMO2,
                       **kind: Any) -> bool:
  """Whether a response to a MathVista question is right, without an extraction by a language model.

  'multi_choice': the letter that `choices.select_option` takes (of `version`) stands for the
  choice. This, or the response, is normalised as in `normalise_extraction`, which takes the other
  arguments; the result must equal `answer`.
  """
  if question_type == 'multi_choice':
    if not choices:
      return False
    response = choices[select_option(response, LETTERS[:len(choices)], version=version)]
  return answer == normalise_extraction(response, question_type=question_type, choices=choices,
                                        **kind)


def normalise_extraction(extraction: str, *, question_type: str, answer_type: str,
                         choices: Sequence[str] | None = None, precision: float | None = None,
                         fix_precision: bool = False) -> str | None:
  """An extracted answer in the form in which MathVista compares it; None if it has no such form.

  Upstream bug, reproduced: the data gives `precision` as a float (1.0), with which rounding fails,
  so that every answer is None; `fix_precision` rounds.

  Args:
    extraction: what was extracted.
    question_type: 'multi_choice': the choice of a letter (`B`, or the first that precedes a colon);
      else the choice at the smallest edit distance from that letter or from the text.
    answer_type: 'integer': cut to an integer ('14.0' → '14'). 'float': rounded to `precision`
      digits. Else: as it is.
    choices: the texts of the choices.
    precision: number of decimals; None rounds to an integer.
    fix_precision: whether a `precision` that is a float is meant as an integer.
  """
  if question_type == 'multi_choice':
    return _choice(extraction.strip(), choices or ())
  if answer_type == 'integer':
    number = truncated(extraction)
    return None if number is None else str(number)
  if answer_type != 'float':
    return extraction
  digits: Any = int(precision) if fix_precision and precision is not None else precision
  try:
    return str(round(float(extraction), digits))
  except (TypeError, ValueError, OverflowError):
    return None


def _choice(extraction: str, choices: Sequence[str]) -> str | None:
  marked = _LETTER.search(extraction)
  named = marked.group(1).upper() if marked else extraction
  letters = LETTERS[:len(choices)]
  if len(named) == 1 and named in letters:
    return choices[letters.index(named)]
  return min(choices, key=lambda choice: edit_distance(named, choice), default=None)


_KEYS = ('could be ', 'so ', 'is ', 'thus ', 'therefore ', 'final ', 'answer ', 'result ')
_NO_ANSWERS = tuple(":,.!?;'")

# Numbers with groups of three digits, with an exponent, and plain ones. The lookbehinds keep the
# search linear: it starts once in a run of digits.
_NUMBERS = (re.compile(r'-?\b\d{1,3}(?:,\d{3})+\b'),
            re.compile(r'-?(?<!\d)\d++(?:\.\d++)?[eE][+-]?\d+'),
            re.compile(r'-?(?:(?<!\d)\d++\.\d++|\.\d++|(?<!\d)\d++\b)(?![eE][+-]?\d)(?![,\d])'))


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
  *lines, last = text.split('\n')
  tails = [_shortest_tail(line, _KEYS) for line in lines] + [_shortest_tail(last, (*_KEYS, '='))]
  parts = [tail for tail in tails if tail and tail not in _NO_ANSWERS] or [text]
  numbers = [number for part in parts for pattern in _NUMBERS for number in pattern.findall(part)]
  return {value for candidate in parts + numbers for value in _normalise(candidate)}


def _shortest_tail(line: str, keys: Sequence[str]) -> str:
  """The shortest text that follows the last occurrence of a key.

  As upstream, an empty text counts as the shortest, but the next key's text replaces it.
  """
  shortest = ''
  for tail in (line.rpartition(key)[2].strip() for key in keys if key in line):
    if not shortest or len(tail) < len(shortest):
      shortest = tail
  return shortest


def _normalise(text: str) -> list[float | str]:
  text = text.strip()
  number = to_float(text.replace(',', ''))
  if number is not None:
    return [round(number, 2)]
  lower = text.lower()
  return [f' {lower}', f'{lower} '] if len(lower) == 1 else [lower]
