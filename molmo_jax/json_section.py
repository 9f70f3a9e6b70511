"""Typed access to a JSON object: an error names the file, the key, its value, and what is right.

A `Key` is a value that a file and a dataclass of ours both have. One table of keys reads the file
and writes it, so that the two directions cannot drift apart.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import typing
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from molmo_jax.configuration import ConfigError, Count, Size, convert
from molmo_jax.errors import CheckpointError, MolmoError, shown
from molmo_jax.files import open_regular

LARGEST = 1 << 28   # characters of a file that are read
_REQUIRED: Any = object()


@dataclasses.dataclass(frozen=True)
class Key:
  """A field of a dataclass and its spelling in a file.

  Attributes:
    field: our name.
    kind: type of the value, the field's own.
    name: the key in the file's first dialect.
    other: the key in its second dialect; '' where it is the same, False where that dialect has
      none. Either spelling is read, whichever dialect a file has.
    words: our value for each value of the file, where a file has other ones or not all of ours.
      Where several values of the file mean the same, the first one is written.
    default: what a file means that lacks the key, in the file's words. A key without a default must
      be there.
  """
  field: str
  kind: Any
  name: str
  other: str | bool = ''
  words: Mapping[Any, Any] | None = None
  default: Any = _REQUIRED


def keys(cls: Any, rows: Mapping[str, str | Mapping[str, Any]]) -> tuple[Key, ...]:
  """The table of keys of the dataclass `cls`: by field the key of the file, or the attributes of
  `Key`, where `words` is a list of words, or of [word, our value].
  """
  hints, table = typing.get_type_hints(cls, include_extras=True), []
  for field, row in rows.items():
    given: dict[str, Any] = {'name': row} if isinstance(row, str) else dict(row)
    if 'words' in given:
      given['words'] = dict(tuple(w) if isinstance(w, list) else (w, w) for w in given['words'])
    if isinstance(given.get('default'), list):
      given['default'] = tuple(given['default'])
    table.append(Key(field, hints[field], **given))
  return tuple(table)


class Section:
  """A JSON object of a file. A key that is null counts as left out.

  Attributes:
    file: path of the file, for messages.
    values: the object.
    name: where it stands in the file, such as 'text_config'; '' for the whole file.
    asked: the keys that were read so far.
  """

  def __init__(self, file: Path, values: Any, name: str = ''):
    self.file, self.values, self.name = file, values, name
    self.asked: set[str] = set()
    if not isinstance(values, dict):
      raise CheckpointError(f'{self.at()} is {shown(values)}; it must be an object with keys')

  @classmethod
  def read(cls, file: Path, optional: bool = False) -> Section:
    """The object that a JSON file holds; an `optional` file that does not exist is an empty one.

    Raises:
      CheckpointError: the file is missing, or is not a JSON object with every key once.
    """
    try:
      with open_regular(file, 'r', encoding='utf-8') as opened:
        text = opened.read(LARGEST)
      return cls(file, json.loads(text, object_pairs_hook=_unique))
    except MolmoError:
      raise
    except OSError as error:
      if optional and isinstance(error, FileNotFoundError):
        return cls(file, {})
      raise CheckpointError(f'{file}: cannot be read ({error.strerror}); a checkpoint folder holds '
                            f'{file.name}') from None
    except (ValueError, RecursionError) as error:   # JSON, UTF-8, a number of too many digits
      raise CheckpointError(f'{file}: not valid JSON ({error})') from None

  def at(self, key: str = '') -> str:
    """File and key, as an error names them."""
    return f'{self.file}: {".".join(part for part in (self.name, key) if part) or "the file"}'

  def fail(self, key: str, should: str) -> None:
    """Raises CheckpointError for the value of `key`; `should` says what would be right."""
    raise CheckpointError(f'{self.at(key)} is {shown(self.values.get(key))}; {should}')

  def has(self, key: str) -> bool:
    """Whether the key is there and not null."""
    return self.values.get(key) is not None

  def section(self, *spellings: str) -> Section:
    """The object under whichever of the spellings is there."""
    self.asked.update(spellings)
    found = [s for s in spellings if self.has(s)]
    if len(found) != 1:
      what = (f'has both {" and ".join(found)}; keep one' if found else
              f'has no section {" or ".join(spellings)}')
      raise CheckpointError(f'{self.file}: the configuration {what}')
    return Section(self.file, self.values[found[0]],
                   '.'.join(part for part in (self.name, found[0]) if part))

  def spelling(self, *spellings: str) -> str:
    """Whichever of the spellings is there; the first one if none is."""
    return next((s for s in spellings if self.has(s)), spellings[0])

  def take(self, *spellings: str, kind: Any = Count, default: Any = _REQUIRED) -> Any:
    """The value of whichever spelling is there; where several are, they must agree.

    Args:
      spellings: names of the key.
      kind: type of the value (`configuration.convert`); a list of the file becomes a tuple.
      default: the value where no spelling is there; without one that is an error.
    """
    self.asked.update(spellings)
    found = [s for s in spellings if self.has(s)]
    if not found:
      if default is _REQUIRED:
        raise CheckpointError(f'{self.file}: {" (or ".join(spellings)}{")" * (len(spellings) - 1)} '
                              'is missing' + (f' in {self.name}' if self.name else ''))
      return default
    value = self.values[found[0]]
    for other in found[1:]:
      if self.values[other] != value:
        self.fail(found[0], f'but {other} is {shown(self.values[other])}: they must be equal')
    try:
      return convert(kind, value, self.at(found[0]))
    except ConfigError as error:
      raise CheckpointError(str(error)) from None

  def size(self, *spellings: str, default: Any = _REQUIRED) -> int:
    """A whole number above zero; see `take`."""
    return self.take(*spellings, default=default, kind=Size)

  def square(self, *spellings: str, default: Any = _REQUIRED) -> int:
    """The side of a square that is given as n or [n, n]; see `take`."""
    side = self.take(*spellings, kind=Size | tuple[Size, Size], default=default)
    if isinstance(side, tuple) and side[0] != side[1]:
      self.fail(self.spelling(*spellings), 'it must be [n, n], a square')
    return side[0] if isinstance(side, tuple) else side

  def choose(self, *spellings: str, words: Mapping[Any, Any], default: Any = _REQUIRED) -> Any:
    """What the value means by the table `words`; `default` is one of its words."""
    return words[self.take(*spellings, kind=Literal[tuple(words)], default=default)]

  def demand(self, left_out: Mapping[str, Any] | None = None, /, **wanted: Any) -> None:
    """Checks settings of which one value is supported: key=value. Numbers may differ by rounding.

    Args:
      left_out: what a file means that lacks a key, where that is not the supported value.
      wanted: the supported values.
    """
    self.asked.update(wanted)
    for key, value in wanted.items():
      found = self.values[key] if self.has(key) else (left_out or {}).get(key, value)
      if not _is_same(found, value):
        how = '' if self.has(key) else ' by default'
        raise CheckpointError(f'{self.at(key)} is {shown(found)}{how}; only {value!r} is supported')

  def fields(self, keys: Iterable[Key], **defaults: Any) -> dict[str, Any]:
    """The values of a table of keys by our names; `defaults`, by our names, replace the table's."""
    found = {}
    for key in keys:
      names = (key.name, key.other) if key.other else (key.name,)
      default = defaults.get(key.field, key.default)
      found[key.field] = (self.choose(*names, words=key.words, default=default) if key.words else
                          self.take(*names, kind=key.kind, default=default))
    return found

  def finish(self, ignored: Collection[str]) -> None:
    """Raises CheckpointError for a key that is set, was not read, and is not `ignored`."""
    for key in self.values.keys() - self.asked - set(ignored):
      if not key.startswith('_') and self.values[key] not in (None, False):
        near = difflib.get_close_matches(key, self.asked, 1)
        self.fail(key, 'this key is unknown' + (f'; did you mean {near[0]}?' if near else ''))


def written(keys: Iterable[Key], config: Any, dialect: int = 0) -> dict[str, Any]:
  """What a file holds for a dataclass: the inverse of `Section.fields`.

  Args:
    config: the dataclass that has the fields of the keys.
    dialect: 0 writes `Key.name`, 1 writes `Key.other`. A value without a word is left out.
  """
  out: dict[str, Any] = {}
  for key in keys:
    value = getattr(config, key.field)
    name = key.name if dialect == 0 or key.other == '' else key.other
    if key.words:
      value = next((word for word, ours in key.words.items() if ours == value), None)
    if name and (value is not None or key.words is None):
      out[str(name)] = list(value) if isinstance(value, tuple) else value
  return out


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  if pairs and (most := Counter(key for key, _ in pairs).most_common(1)[0])[1] > 1:
    raise ValueError(f'the key {shown(most[0])} is there {most[1]} times')
  return dict(pairs)


def _is_same(found: Any, wanted: Any) -> bool:
  """Whether two values of a file mean the same; one number stands for a list of equal numbers."""
  if isinstance(wanted, (list, tuple)):
    found = found if isinstance(found, (list, tuple)) else [found] * len(wanted)
    return len(found) == len(wanted) and all(map(_is_same, found, wanted))
  if isinstance(wanted, float):
    return (isinstance(found, (int, float)) and not isinstance(found, bool)
            and math.isclose(found, wanted, rel_tol=1e-6))
  return found == wanted and isinstance(found, bool) == isinstance(wanted, bool)
