"""A JSON object of a checkpoint's configuration, read so that no key is overlooked."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any


class Section:
  """The keys of one object of a file. A key that is null counts as left out.

  Attributes:
    file: where it stands, for messages.
    values: the object.
    asked: keys that were read so far.
  """

  def __init__(self, file: Path, values: Mapping[str, Any], prefix: str = ''):
    self.file, self.values, self._prefix = file, values, prefix
    self.asked: set[str] = set()

  def at(self, key: str) -> str:
    """File and key, as an error names them."""
    return f'{self.file}: {self._prefix}{key}'

  def flag(self, key: str, default: bool | None) -> bool | None:
    return self._value(key, default, lambda value: isinstance(value, bool), 'true or false')

  def number(self, key: str, default: int) -> int:
    return self._value(key, default, lambda value: _is_int(value, 1), 'a whole number from 1 on')

  def rate(self, key: str, default: float) -> float | None:
    """A positive number; null means that there is no limit, a missing key means `default`."""
    if key in self.values and self.values[key] is None:
      return self._value(key, None, bool, '')
    return self._value(key, default, lambda value: _is_number(value) and value > 0,
                       'a positive number or null')

  def pair(self, key: str, default: tuple[int, int], least: int = 1) -> tuple[int, int]:
    return tuple(self._value(
      key, default, lambda value: isinstance(value, (list, tuple)) and len(value) == 2
      and all(_is_int(n, least) for n in value), f'two whole numbers from {least} on'))

  def fixed(self, key: str, wanted: Any) -> None:
    """The only value that is supported."""
    self._value(key, wanted, lambda value: value == wanted,
                f'{wanted!r}, other values are not supported')

  def close(self, key: str, wanted: tuple[float, ...]) -> None:
    """The only number, or numbers, that are supported, up to rounding."""
    def matches(value: Any) -> bool:
      numbers = value if isinstance(value, (list, tuple)) else [value] * len(wanted)
      return len(numbers) == len(wanted) and all(
        _is_number(n) and math.isclose(n, w, rel_tol=1e-6)
        for n, w in zip(numbers, wanted, strict=True))
    shown = list(wanted) if len(wanted) > 1 else wanted[0]
    self._value(key, wanted, matches, f'{shown}, other values are not supported')

  def finish(self, ignored: Collection[str]) -> None:
    """Raises ValueError for a key that is set, was not read, and is not `ignored`."""
    for key, value in self.values.items():
      if key not in self.asked and key not in ignored and not key.startswith('_') and value not in (
        None, False):
        near = difflib.get_close_matches(key, self.asked, 1)
        raise ValueError(f'{self.at(key)} is {value!r}, a key that is not known here'
                         + (f'; did you mean {near[0]}?' if near else ''))

  def _value(self, key: str, default: Any, accepts: Any, wanted: str) -> Any:
    self.asked.add(key)
    value = self.values.get(key)
    if value is None:
      return default
    if not accepts(value):
      raise ValueError(f'{self.at(key)} is {value!r}; it must be {wanted}')
    return value


def _is_number(value: Any) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_int(value: Any, least: int) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and value >= least
