"""Forms of the values of a record: each one checks a value and says where it stands and what would
be right.

A form is a function of a decoded JSON value and of its place in the record, such as
'messages[0].content'; it returns what the value becomes. Forms are put together in the tables of
`data.record` and `data.facts`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from molmo_jax.errors import MolmoError, shorten

Form = Callable[[Any, str], Any]
LARGEST = float(np.finfo(np.float32).max)   # what the arrays of a batch hold


class ManifestError(MolmoError):
  """A manifest, or one line of it, that cannot be used: where, and what would be right."""


def wrong(where: str, value: Any, right: str) -> NoReturn:
  """Raises ManifestError for a value; `right` says what it must be."""
  raise ManifestError(f"'{where}' is {shown(value)}; it must be {right}")


def shown(value: Any) -> str:
  """The beginning of a value as JSON."""
  return shorten(json.dumps(value, ensure_ascii=False, default=repr), 60)


def present(values: Mapping[str, Any], absent: tuple = (None,)) -> dict[str, Any]:
  """The keys of an object that say something: tables are exported with null for what is absent."""
  return {key: value for key, value in values.items() if value not in absent}


def anything(value: Any, where: str) -> Any:
  """Any value."""
  return value


def string(value: Any, where: str) -> str:
  """A string."""
  return value if isinstance(value, str) else wrong(where, value, 'a string')


def path(value: Any, where: str) -> str:
  """The name of a file or folder."""
  name = string(value, where)
  return name if name and '\0' not in name else wrong(
    where, value, 'a path, which is not empty and has no NUL character')


def number_from(least: float, most: float, what: str) -> Form:
  """A number in a range that a float32 holds; NaN is in none."""
  def read(value: Any, where: str) -> int | float:
    if isinstance(value, int | float) and type(value) is not bool and least <= value <= most:
      return value
    return wrong(where, value, what)
  return read


def one_of(*words: str) -> Form:
  """One of some words."""
  def read(value: Any, where: str) -> str:
    return value if value in words else wrong(where, value, f'one of {", ".join(words)}')
  return read


def list_of(item: Form, what: str) -> Form:
  """A list, which becomes a tuple; `what` says what it is a list of."""
  def read(value: Any, where: str) -> tuple:
    if not isinstance(value, list | tuple):
      wrong(where, value, what)
    return tuple(item(x, f'{where}[{i}]') for i, x in enumerate(value))
  return read


def pair_of(first: Form, second: Form, what: str) -> Form:
  """A list of two values, which becomes a tuple."""
  def read(value: Any, where: str) -> tuple:
    if not isinstance(value, list | tuple) or len(value) != 2:
      wrong(where, value, what)
    return first(value[0], f'{where}[0]'), second(value[1], f'{where}[1]')
  return read


def object_of(keys: Mapping[str, Form], where: str, value: Any, absent: tuple = (None,)
              ) -> dict[str, Any]:
  """The keys of an object that are present; any of `keys` may be absent, others are errors."""
  at = f"'{where}'" if where else 'a record'
  if not isinstance(value, Mapping):
    raise ManifestError(f'{at} is {shown(value)}; it must be an object {{"key": value, …}}')
  values, inside = present(value, absent), f'{where}.' if where else ''
  for key in values:
    if key not in keys:
      close = difflib.get_close_matches(str(key)[:60], keys, n=1, cutoff=0.0)[0]
      raise ManifestError(f'{at} has an unknown key {shown(key)}; did you mean "{close}"? Known '
                          f'keys: {", ".join(keys)}')
  return {key: keys[key](x, inside + key) for key, x in values.items()}


def whole(what: str, **keys: Form) -> Form:
  """An object that has every one of the keys; `what` says what it must be."""
  def read(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or present(value).keys() != keys.keys():
      wrong(where, value, what)
    return object_of(keys, where, value)
  return read


number = number_from(-LARGEST, LARGEST, 'a finite number of float32')
amount = number_from(0, LARGEST, 'a finite number of float32, not below 0')
strings = list_of(string, 'a list of strings')
POINTS = list_of(pair_of(number, number, 'a pair [x, y]'), 'a list of [x, y] pairs')
