"""Sentences around the facts of a record: one readable file of our own, or one that a user gives.

`data/wordings.toml` holds a list for each kind of request; `{label}` and the like are filled in
from the record. `--config.data.wordings=FILE` (TOML or JSON) replaces the lists that it names, and
`molmo-jax wordings CHECKOUT FILE` writes such a file from a copy of allenai/molmo2.
"""

from __future__ import annotations

import difflib
import functools
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from molmo_jax.errors import MolmoError

DEFAULT = Path(__file__).with_name('wordings.toml')
Wordings = Mapping[str, tuple[str, ...]]


class WordingsError(MolmoError):
  """A file of wordings that cannot be used; the message names it, the kind and what would be right.
  """


@functools.cache
def read_wordings(path: str = '') -> Wordings:
  """The wordings by kind: the project's own, with those of the file `path` in their places.

  Raises:
    WordingsError: the file cannot be read, names an unknown kind, or a wording lacks a field of it.
  """
  own = _load(DEFAULT)
  if not path:
    return own
  given = _load(Path(path))
  for kind, texts in given.items():
    if kind not in own:
      close = difflib.get_close_matches(kind, own, n=1, cutoff=0.0)[0]
      raise WordingsError(f"{path}: there is no kind of wording '{kind}'; did you mean '{close}'?")
    for text in texts:
      if fields_of(text) != fields_of(own[kind][0]):
        needed = ', '.join(f'{{{name}}}' for name in sorted(fields_of(own[kind][0]))) or 'no field'
        raise WordingsError(f'{path}: a wording of {kind} needs {needed} once, not {text!r}')
  return {**own, **given}


def _load(path: Path) -> Wordings:
  try:
    text = path.read_text(encoding='utf-8')
    value = json.loads(text) if path.suffix == '.json' else tomllib.loads(text)
  except (OSError, ValueError) as error:
    raise WordingsError(f'{path}: cannot be read as wordings ({error}); write JSON or TOML with a '
                        'list of strings for each kind') from None
  for kind, texts in value.items():
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
      raise WordingsError(f"{path}: '{kind}' must be a list of strings with at least one")
  return {kind: tuple(texts) for kind, texts in value.items()}


def fields_of(text: str) -> frozenset[str]:
  """The names in braces."""
  return frozenset(re.findall(r'\{(\w+)\}', text))


def draw(wordings: Sequence[str], rng: np.random.Generator, **fields: object) -> str:
  """One of the wordings, with its fields filled in; braces in the values stay as they are."""
  text = wordings[int(rng.integers(len(wordings)))]
  return re.sub(r'\{(\w+)\}', lambda match: str(fields.get(match[1], match[0])), text)


def about_video(wordings: Sequence[str]) -> tuple[str, ...]:
  """Wordings about an image, said of a video."""
  return tuple(re.sub('image|picture|photo', 'video', text) for text in wordings)
