"""Multiple choice: the option that a text means (docs/training.md §5.3)."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from molmo_jax.evaluation.metrics.edit_distance import edit_distance
from molmo_jax.evaluation.metrics.text_answers import normalise_answer
from molmo_jax.evaluation.metrics.versions import MOLMO2, is_v1

LETTERS = string.ascii_uppercase

_SAID = re.compile(r'answer\s+is:?\s+\(?([a-z])\b', re.IGNORECASE)


def select_option(prediction: str, options: Sequence[str], *, version: str = MOLMO2,
                  read_sentences: bool = False) -> int:
  """Index of the option that the text means. Case and whitespace at the ends do not count.

  The first rule that fits: (1) the text equals an option; (2) exactly one option is the beginning
  of the text; (3) the text is the beginning of exactly one; (4) exactly one contains the text; (5)
  the smallest edit distance, the first of equals. `version='v1'` has only rules 1, 4 and 5.

  Upstream bug, reproduced: sentences are not understood ('The answer is C' among A, B, C is A, by
  rule 5). `read_sentences` reduces 'answer is C' to the letter before the rules are tried.

  Raises:
    ValueError: no options.
  """
  if not options:
    raise ValueError('select_option needs at least one option')
  beginnings = not is_v1(version)
  said = _SAID.search(prediction) if read_sentences else None
  text = (said.group(1) if said else prediction).strip().lower()
  names = [option.strip().lower() for option in options]
  if text in names:
    return names.index(text)
  rules = (lambda name: text.startswith(name), lambda name: name.startswith(text),
           lambda name: text in name)
  for rule in rules if beginnings else rules[2:]:
    fitting = [i for i, name in enumerate(names) if rule(name)]
    if len(fitting) == 1:
      return fitting[0]
  distances = [edit_distance(text, name) for name in names]
  return distances.index(min(distances))


def real_world_qa(target: str, prediction: str, question_type: str, *,
                  version: str = MOLMO2) -> float:
  """RealWorldQA: 'multiple_choice' by `select_option` among A…D, else equality after VQA's
  normalisation; 0 or 1.
  """
  if question_type == 'multiple_choice':
    return float(LETTERS[select_option(prediction, LETTERS[:4], version=version)] == target)
  return float(normalise_answer(prediction) == normalise_answer(target))
