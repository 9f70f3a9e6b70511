"""Reading a configuration file key by key: what is missing or wrong is one error that names file,
key and value.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from molmo_jax.errors import CheckpointError

_REQUIRED: Any = object()


class Section:
  """One section of the file. A value may stand under several spellings; those that are there must
  agree.

  Attributes:
    file: path of config.json, for messages.
    name: where the section stands in it, '' for the top.
  """

  def __init__(self, file: Path, name: str, values: Any):
    self.file, self.name, self.values = file, name, values
    if not isinstance(values, dict):
      self.fail('', values, 'must be a section with keys')

  def fail(self, key: str, value: Any, should: str) -> None:
    where = '.'.join(part for part in (self.name, key) if part)
    raise CheckpointError(f'{self.file}: {where} is {value!r}; {should}')

  def section(self, *spellings: str) -> Section:
    found = [s for s in spellings if self.values.get(s) is not None]
    if len(found) != 1:
      what = f'has both {" and ".join(found)}; keep one' if found else f'has no section {" or ".join(spellings)}'
      raise CheckpointError(f'{self.file}: the configuration {what}')
    return Section(self.file, '.'.join(p for p in (self.name, found[0]) if p),
                   self.values[found[0]])

  def take(self, *spellings: str, kind: type | tuple[type, ...] = int,
           default: Any = _REQUIRED) -> Any:
    """The value of whichever spelling is there, of the given type; int is taken for float, null for
    absent.
    """
    found = [s for s in spellings if self.values.get(s) is not None]
    if not found:
      if default is _REQUIRED:
        where = f' in {self.name}' if self.name else ''
        raise CheckpointError(f'{self.file}: {" (or ".join(spellings)}{")" * (len(spellings) - 1)} '
          f'is missing{where}')
      return default
    value = self.values[found[0]]
    for other in found[1:]:
      if self.values[other] != value:
        self.fail(found[0], value, f'but {other} is {self.values[other]!r}: they must be equal')
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
      value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
      self.fail(found[0], value, f'it must be of type {getattr(kind, "__name__", kind)}')
    if kind is int and value < 0:
      self.fail(found[0], value, 'it must not be negative')
    return value

  def size(self, *spellings: str) -> int:
    """A whole number above zero."""
    value = self.take(*spellings)
    return value if value else self.fail(spellings[0], value, 'it must be above 0')

  def choose(self, *spellings: str, table: dict[str, Any], default: str = _REQUIRED) -> Any:
    """The meaning of one of the words of `table`; `default` is one of them."""
    value = self.take(*spellings, kind=str, default=default)
    if value not in table:
      self.fail(spellings[0], value, f'this program knows {", ".join(map(repr, table))}')
    return table[value]

  def demand(self, *spellings: str, value: Any, default: Any = _REQUIRED) -> None:
    """A setting that is only built in one way; `default` is what a file means that does not have
    it.
    """
    found = self.take(*spellings, kind=object, default=value if default is _REQUIRED else default)
    if found != value or isinstance(found, bool) != isinstance(value, bool):
      given = next((s for s in spellings if self.values.get(s) is not None), None)
      self.fail(given or spellings[0], found, f'only {value!r} is built' if given
                else f'left out, it means that, and only {value!r} is built')


def read_json(file: Path) -> Any:
  """The contents of a JSON file, or one clear error."""
  try:
    return json.loads(file.read_text(encoding='utf-8'))
  except OSError as error:
    raise CheckpointError(f'{file}: cannot be read ({error.strerror}); a checkpoint folder holds '
      f'{file.name}') from None
  except ValueError as error:
    raise CheckpointError(f'{file}: not valid JSON ({error})') from None
