"""Multiple choice: the option that a text means, and the letters in it (docs/training.md §5.3).

The parsers of MMMU, MuirBench, EgoSchema and NExT-QA differ in the forms of a letter that they
know, and in which of several letters they take. A form is a text around the letter: '({})' is (B).
A response that names nothing is a guess upstream; here too, unless `guess` is False.
"""

from __future__ import annotations

import operator
import re
import string
import zlib
from collections.abc import Sequence

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
  said = _SAID.search(prediction) if read_sentences else None
  text = (said.group(1) if said else prediction).lower().strip()
  names = [option.lower().strip() for option in options]
  rules = (text.startswith, lambda name: name.startswith(text), lambda name: text in name)
  rules = rules[2:] if is_v1(version) else rules
  if text in names:
    return names.index(text)
  for rule in rules:
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


# How a reply names a letter, the surest way first: with nothing beside it; after a word such as
# 'answer is'; in parentheses; at the beginning, with a mark behind it.
_NAMED = [re.compile(pattern) for pattern in (
  r'^\W*([A-Za-z])\W*$',
  r"(?i:answer|option|choice|choose|pick|select)(?i:\s+is)?[\s:*\"']*\(?([A-Z])(?![\w'])",
  r'\(([A-Z])\)', r'^\W*([A-Z])[).:\]]')]
_OWN_LETTER = re.compile(r'^\(?[a-z][).:]\s+')   # of an option, in small letters


def named_option(reply: str, options: Sequence[str]) -> int | None:
  """Index of the option that a reply names; None where it names none, or several alike.

  A text that is an option, with or without a letter that it brings, names it; else a letter, in the
  ways of `_NAMED` (of several after 'answer is' the last counts); else the only option whose text
  is in the reply, in whole words. The letters of options that are letters are these.
  """
  text = _OWN_LETTER.sub('', _collapsed(reply))
  names = [_OWN_LETTER.sub('', _collapsed(option)) for option in options]
  if text in names:
    return names.index(text)
  letters = names if set(names) <= set(LETTERS.lower()) else list(LETTERS[:len(names)].lower())
  for way, pattern in enumerate(_NAMED):
    known = [letters.index(found.lower()) for found in pattern.findall(reply)
             if found.lower() in letters]
    if known:
      return known[-1] if way == 1 or len(set(known)) == 1 else None
  inside = [i for i, name in enumerate(names)
            if name and re.search(rf'(?<!\w){re.escape(name)}(?!\w)', text)]
  return inside[0] if len(inside) == 1 else None


def _collapsed(text: str) -> str:
  return ' '.join(text.casefold().split()).rstrip(' .,;:!?')


# Up to as many words, the texts of the options are not looked for.
_FEW_WORDS = 5
_PLACE = operator.itemgetter(0)                 # of a place and a letter


def parse_letter(response: str, options: Sequence[str], *, version: str = MOLMO2,
                 guess: bool = True, rng: np.random.Generator | None = None) -> str | None:
  """The option letter that a response names, as MMMU and (for several images) MuirBench read it.

  Looks for (B), B), B. and B: of every option; only if there is none for a lone B; only if there is
  none, and the response has more than five words, for the options' texts (case aside). Of several,
  the one that occurs last is taken, where only the first of the forms above that occurs at all is
  looked at. `version='v1'` knows only (B) and a B between spaces.

  Args:
    response: what was generated.
    options: texts of the options; their letters are A, B, ….
    version: the generation of the published scorers.
    guess: without a letter: True a random one, as upstream; False None.
    rng: source of the guess; None: one that depends on the response alone.

  Returns:
    The letter, or None.
  """
  letters = LETTERS[:len(options)]
  alone = _padded(response).strip()
  if not is_v1(version) and alone in tuple(letters):
    return alone
  forms = ('({})', ' {} ') if is_v1(version) else ('({})', '{})', '{}.', '{}:', ' {} ')
  return _last(response, options, forms) or guess_letter(response, letters, guess, rng)


def parse_next_qa(response: str, options: Sequence[str], *, guess: bool = True,
                  rng: np.random.Generator | None = None) -> str | None:
  """The option letter of NExT-QA that a response names: the last (B); without one, the last lone B;
  without one, the last B followed by a period; then as `parse_letter`.
  """
  found = _last(response, [option.strip() for option in options], ('({})', ' {} ', '{}.'))
  return found or guess_letter(response, LETTERS[:len(options)], guess, rng)


def parse_ego_schema(response: str, options: Sequence[str], *, guess: bool = True,
                     rng: np.random.Generator | None = None) -> int | None:
  """Index of the option of EgoSchema that a response names.

  Forms: (B), a B before a space (also at the end of a word: 'AB' is B), and B. with a period;
  without any, the options' texts in a response of more than five words. Of each form of a
  letter, and of each text, the last occurrence counts; the first of these is taken.
  """
  letters, text = LETTERS[:len(options)], _padded(response)
  found = (_last_places(text, ('({})', '{} ', '{}.'), letters)
           or _texts_of_options(text, [option.strip() for option in options]))
  letter = min(found, key=_PLACE)[1] if found else guess_letter(response, letters, guess, rng)
  return None if letter is None else letters.index(letter)


def _last(response: str, options: Sequence[str], forms: Sequence[str]) -> str | None:
  """The letter at the last place of the first form that occurs; else of the last option's text."""
  text, letters = _padded(response), LETTERS[:len(options)]
  found = next(filter(None, (_last_places(text, [form], letters) for form in forms)),
               None) or _texts_of_options(text, options)
  return max(found, key=_PLACE)[1] if found else None


def _last_places(text: str, forms: Sequence[str], letters: str) -> list[tuple[int, str]]:
  """Last place and letter of every form of a letter that occurs."""
  return [(text.rfind(form.format(letter)), letter) for form in forms for letter in letters
          if form.format(letter) in text]


def _padded(response: str) -> str:
  for mark in ",.!?;:'":          # each in turn, so that 'B.,' loses both and 'B,.' only the period
    response = response.strip(mark)
  return f' {response} '


def _texts_of_options(text: str, options: Sequence[str]) -> list[tuple[int, str]]:
  """Last place and letter of every option whose text occurs in a text of more than five words."""
  lower = text.lower()
  return [(lower.rfind(option.lower()), letter) for letter, option in zip(LETTERS, options)
          if option.lower() in lower and len(text.split()) > _FEW_WORDS]


def guess_letter(response: str, letters: str, guess: bool, rng: np.random.Generator | None,
                 ) -> str | None:
  """One of `letters`: drawn from `rng`, or without it one that depends on the response alone.

  None where there are no letters, or `guess` is False.
  """
  if not guess or not letters:
    return None
  if rng is not None:
    return letters[int(rng.integers(len(letters)))]
  return letters[zlib.crc32(response.encode('utf-8', 'surrogatepass')) % len(letters)]
