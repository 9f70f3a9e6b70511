"""Multiple choice: the option that a text means (docs/training.md §5.3)."""

from __future__ import annotations

import re
import string
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from molmo_jax.metrics.text_answers import edit_distance, normalise_answer
from molmo_jax.metrics.versions import MOLMO2, is_v1

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


# each in turn, so that 'B.,' loses both and 'B,.' only the period
_STRIPPED = ",.!?;:'"
# up to as many words, the texts of the options are not looked for
_FEW_WORDS = 5


def parse_letter(response: str, options: Sequence[str], *, version: str = MOLMO2,
                 guess: bool = True,
                 rng: np.random.Generator | None = None) -> str | None:
  """The option letter that a response names, as MMMU and (for several images) MuirBench read it.

  Looks for (B), B), B. and B: of every option; only if there is none for a lone B; only if there is
  none, and the response has more than five words, for the options' texts (case aside). Of several,
  the one that occurs last is taken, where only the first of the forms above that occurs at all is
  looked at. `version='v1'` knows only (B) and a B between spaces.

  Args:
    response: what was generated.
    options: texts of the options; their letters are A, B, ….
    guess: without a letter: True a random one, as upstream; False None.
    rng: source of the guess; None: one that depends on the response alone.

  Returns:
    The letter, or None.
  """
  letters = LETTERS[:len(options)]
  text = _padded(response)
  groups = (('({})',), (' {} ',)) if is_v1(version) else (('({})', '{})', '{}.', '{}:'), (' {} ',))
  for forms in groups:
    for form in forms:
      found = {letter: text.rfind(form.format(letter)) for letter in letters}
      if max(found.values(), default=-1) >= 0:
        return max(found, key=found.__getitem__)
  if not is_v1(version) and text.strip() in tuple(letters):
    return text.strip()
  return _by_text(text, options, str.rfind, max) or _guess(response, letters, guess, rng)


def parse_ego_schema(response: str, options: Sequence[str], *, guess: bool = True,
                     rng: np.random.Generator | None = None) -> int | None:
  """Index of the option of EgoSchema that a response names: the one that occurs first.

  Forms: (B), a B before a space (also at the end of a word: 'AB' is B), and B. with a period;
  without any, the options' texts in a response of more than five words.
  """
  letters, text = LETTERS[:len(options)], _padded(response)
  first = {}
  for letter in letters:
    places = [place for form in ('({})', '{} ', '{}.')
              if (place := text.find(form.format(letter))) >= 0]
    if places:
      first[letter] = min(places)
  letter = min(first, key=first.__getitem__) if first else _by_text(text, options, str.find, min)
  letter = letter or _guess(response, letters, guess, rng)
  return None if letter is None else letters.index(letter)


def parse_next_qa(response: str, options: Sequence[str], *, guess: bool = True,
                  rng: np.random.Generator | None = None) -> str | None:
  """The option letter of NExT-QA that a response names: the last (B); without one, the last lone B;
  without one, B.
  """
  letters, text = LETTERS[:len(options)], _padded(response)
  for form in ('({})', ' {} ', '{}.'):
    found = {letter: text.rfind(form.format(letter)) for letter in letters}
    if max(found.values(), default=-1) >= 0:
      return max(found, key=found.__getitem__)
  return _by_text(text, options, str.rfind, max) or _guess(response, letters, guess, rng)


def _padded(response: str) -> str:
  for mark in _STRIPPED:
    response = response.strip(mark)
  return f' {response} '


def _by_text(text: str, options: Sequence[str], find: Callable[[str, str], int],
             best: Callable[..., str]) -> str | None:
  """The letter of the option whose text occurs in `text` first or last, case aside."""
  if len(text.split()) <= _FEW_WORDS:
    return None
  lower = text.lower()
  found = {letter: place for letter, option in zip(LETTERS, options)
           if (place := find(lower, option.lower())) >= 0}
  return best(found, key=found.__getitem__) if found else None


def _guess(response: str, letters: str, guess: bool, rng: np.random.Generator | None) -> str | None:
  if not guess or not letters:
    return None
  if rng is not None:
    return letters[int(rng.integers(len(letters)))]
  return letters[zlib.crc32(response.encode('utf-8', 'surrogatepass')) % len(letters)]
