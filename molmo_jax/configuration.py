"""From a flat, flag-friendly `ConfigDict` to typed, frozen dataclasses: once, at the edge.

Every room owns the dataclass that it reads (`model/config.py`, `preprocess/types.py`, …); this
module only converts. A key that no dataclass knows is an error that names the closest one.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, cast

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from molmo_jax.errors import MolmoError, shown

T = TypeVar('T')


class ConfigError(MolmoError):
  """A configuration key or value that the program does not understand."""


class Range(NamedTuple):
  """The values that a number may have: from `least` to `most`, without `but`."""
  least: float
  most: float
  but: float | None = None

  def __contains__(self, value: Any) -> bool:
    return self.least <= value <= self.most and value != self.but

  def __str__(self) -> str:
    without = '' if self.but is None else f', not {self.but}'
    return f'from {self.least} to {self.most}{without}'


# Types of fields of a configuration, which say what is allowed where the field is declared.
Size = Annotated[int, Range(1, 2 ** 31 - 1)]
Count = Annotated[int, Range(0, 2 ** 31 - 1)]
Positive = Annotated[float, Range(0, 1e30, but=0)]
NonNegative = Annotated[float, Range(0, 1e30)]
Rate = Annotated[float, Range(0, 1)]
Dropout = Annotated[float, Range(0, 1, but=1)]
Seed = Annotated[int, Range(0, 2 ** 32 - 1)]


def build(cls: type[T], mapping: Mapping[str, Any], path: str = '') -> T:
  """Builds the dataclass `cls` from `mapping`, nested dataclasses included.

  Args:
    cls: a (frozen) dataclass; its field types say what is converted.
    mapping: a `ConfigDict`, a dict, or anything with `items()`.
    path: where `mapping` stands in the whole configuration, for messages.

  Raises:
    ConfigError: an unknown key, a missing one, or a value of the wrong type.
  """
  hints = typing.get_type_hints(cls, include_extras=True)
  fields = {f.name: f for f in dataclasses.fields(cast(Any, cls)) if f.init}
  values = {}
  for key, value in mapping.items():
    where = f'{path}.{key}' if path else key
    if key not in fields:
      close = difflib.get_close_matches(key, fields, n=1, cutoff=0.0)
      raise ConfigError(f"unknown configuration key '{where}'; did you mean '{close[0]}'? "
                        f'{cls.__name__} has: {", ".join(fields)}')
    values[key] = convert(hints[key], value, where)
  missing = [n for n, f in fields.items() if n not in values
             and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
  if missing:
    raise ConfigError(f"configuration '{path or cls.__name__}' lacks: {', '.join(missing)}")
  try:
    return cls(**values)
  except ConfigError:
    raise
  except ValueError as error:   # a check of the dataclass itself
    raise ConfigError(f'{path}: {error}' if path else str(error)) from None


def with_defaults(cls: Any, mapping: Mapping[str, Any]) -> ConfigDict:
  """`mapping` with all defaults of the dataclass `cls`, so that a flag can set every key.

  Keys that `cls` does not know stay for `build` to complain about. An optional section that is not
  given stays absent.
  """
  hints = typing.get_type_hints(cls)
  out = ConfigDict(dict(mapping))
  for field in dataclasses.fields(cls):
    name, hint, given = field.name, hints[field.name], out.get(field.name)
    section = section_of(hint)
    if section is None:
      if name not in out and field.default is not dataclasses.MISSING:
        out[name] = placeholder(_plain_type(hint)) if field.default is None else field.default
    elif typing.get_origin(hint) is dict:
      if given:
        out[name] = ConfigDict({k: with_defaults(section, v) for k, v in given.items()})
    elif given is not None or hint is section:
      out[name] = with_defaults(section, given or {})
  return out


def section_of(hint: Any) -> type | None:
  """The dataclass in a field's type, if there is one: of itself, `… | None`, or a dict's values."""
  hints = (hint, *typing.get_args(hint))
  return next((h for h in hints if isinstance(h, type) and dataclasses.is_dataclass(h)), None)


def flatten(tree: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Nested mappings as one level: `{'model.llm.layers': 24}`."""
  out: dict[str, Any] = {}
  for key, value in tree.items():
    nested = hasattr(value, 'items')
    out |= flatten(value, f'{prefix}{key}.') if nested else {f'{prefix}{key}': value}
  return out


def _plain_type(hint: Any) -> type:
  """The type that a flag of an optional value is parsed as: str of `Literal['a', 'b'] | None`."""
  option = next(h for h in typing.get_args(hint) if h is not type(None))
  if typing.get_origin(option) is typing.Literal:
    return type(typing.get_args(option)[0])
  return typing.get_origin(option) or option


def convert(hint: Any, value: Any, where: str) -> Any:
  """`value` as the type `hint` has it: lists as tuples, mappings as dataclasses, whole numbers as
  floats; numbers are finite and within the `Range` of an `Annotated` type.

  Raises:
    ConfigError: it is of another type, or out of range; the message begins with `where`.
  """
  origin, args = typing.get_origin(hint), typing.get_args(hint)
  if hint is Any:
    return value
  if origin is Annotated:
    made = convert(args[0], value, where)
    if made in args[1]:
      return made
  elif origin in (typing.Union, types.UnionType):
    options = [a for a in args if a is not type(None)]
    if value is None and len(options) < len(args):
      return None
    for option in options:
      try:
        return convert(option, value, where)
      except ConfigError:
        if len(options) == 1:   # what is wrong inside says more
          raise
  elif dataclasses.is_dataclass(hint):
    if isinstance(value, cast(type, hint)):
      for name, part in typing.get_type_hints(hint, include_extras=True).items():
        convert(part, getattr(value, name), f'{where}.{name}')
      return value
    if hasattr(value, 'items'):
      return build(cast(type, hint), value, where)
  elif origin is tuple and isinstance(value, (list, tuple)):
    kinds = args[:1] * len(value) if args[-1] is Ellipsis else args
    if len(kinds) == len(value):
      return tuple(convert(k, v, f'{where}[{i}]') for i, (k, v) in enumerate(zip(kinds, value)))
  elif origin is dict and hasattr(value, 'items'):
    return {k: convert(args[1], v, f'{where}.{k}') for k, v in value.items()}
  elif origin is Literal:
    if any(value == a and type(value) is type(a) for a in args):
      return value
  elif hint is float:
    if type(value) in (int, float) and abs(value) <= sys.float_info.max:
      return float(value)
  elif isinstance(value, origin or hint) and isinstance(value, bool) == (hint is bool):
    return value
  kind = '' if origin is Literal else 'of type finite ' if hint is float else 'of type '
  raise ConfigError(f'{where} is {shown(value)}; it must be {kind}{describe(hint)}')


def describe(hint: Any) -> str:
  """A type in words: `int`, `2 int`, `one of 'a', 'b'`, `none or str`."""
  origin, args = typing.get_origin(hint), typing.get_args(hint)
  if origin is Annotated:
    return f'{describe(args[0])} {args[1]}'
  if origin is Literal:
    return f'one of {", ".join(map(repr, args))}'
  if origin in (typing.Union, types.UnionType):
    return ' or '.join('none' if a is type(None) else describe(a) for a in args)
  if origin is tuple:
    return f'{"several" if args[-1] is Ellipsis else len(args)} {describe(args[0])}'
  if origin is dict or dataclasses.is_dataclass(hint):
    return 'section'
  return 'function' if origin is Callable else hint.__name__
