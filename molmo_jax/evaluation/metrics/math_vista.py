"""MathVista without a language model that extracts the answer (docs/training.md §5.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from molmo_jax.evaluation.metrics.edit_distance import edit_distance
from molmo_jax.evaluation.metrics.numerals import to_float, truncated
from molmo_jax.evaluation.metrics.options import LETTERS, select_option

_LETTER = re.compile(r'([A-Za-z]):')


def math_vista_correct(
    response: str,
    answer: str,
    *,
    question_type: str,
    answer_type: str,
    choices: Sequence[str] | None = None,
    precision: float | None = None,
    fix_precision: bool = False,
) -> bool:
  """Whether a response to a MathVista question is right, without an extraction by a language model.

  'multi_choice': the letter that `options.select_option` takes stands for the choice; else the
  response is normalised as in `normalise_extraction`. The result must equal `answer`.
  """
  if question_type == 'multi_choice':
    return bool(choices) and choices[select_option(response, LETTERS[:len(choices)])] == answer
  given = normalise_extraction(response, question_type=question_type, answer_type=answer_type,
                               choices=choices,
                               precision=precision, fix_precision=fix_precision)
  return given is not None and given == answer


def normalise_extraction(
    extraction: str,
    *,
    question_type: str,
    answer_type: str,
    choices: Sequence[str] | None = None,
    precision: float | None = None,
    fix_precision: bool = False,
) -> str | None:
  """An extracted answer in the form in which MathVista compares it; None if it has no such form.

  * 'multi_choice': the choice of a letter (`B`, or `B:` and more); else the choice at the smallest
    edit distance.
  * 'integer': cut to an integer ('14.0' → '14'). 'float': rounded to `precision` digits. Else: as
    it is.

  Upstream bug, reproduced: the data gives `precision` as a float (1.0), with which rounding fails,
  so that every answer is None; `fix_precision` rounds.
  """
  if question_type == 'multi_choice':
    return _choice(extraction.strip(), choices or ())
  if answer_type == 'integer':
    number = truncated(extraction)
    return None if number is None else str(number)
  if answer_type == 'float':
    number = to_float(extraction)
    if number is None or precision is None or not (fix_precision or isinstance(precision, int)):
      return None
    return str(round(number, int(precision)))
  return extraction


def _choice(extraction: str, choices: Sequence[str]) -> str | None:
  marked = _LETTER.match(extraction)
  letter = marked.group(1).upper() if marked else extraction
  letters = LETTERS[:len(choices)]
  if len(letter) == 1 and letter in letters:
    return choices[letters.index(letter)]
  return min(choices, key=lambda choice: edit_distance(extraction, choice), default=None)
