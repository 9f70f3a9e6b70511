"""From a flat, flag-friendly `ConfigDict` to typed, frozen dataclasses: once, at the edge.

Every room owns the dataclass that it reads (`model/config.py`, `preprocess/types.py`, …); this
module only converts. A key that no dataclass knows is an error that names the closest one.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from molmo_jax.errors import MolmoError

T = TypeVar('T')


class ConfigError(MolmoError):
  """A configuration key or value that the program does not understand."""


def build(cls: type[T], mapping: Mapping[str, Any], path: str = '') -> T:
  """Builds the dataclass `cls` from `mapping`, nested dataclasses included.

  Args:
    cls: a (frozen) dataclass; its field types say what is converted.
    mapping: a `ConfigDict`, a dict, or anything with `items()`.
    path: where `mapping` stands in the whole configuration, for messages.

  Raises:
    ConfigError: an unknown key, a missing one, or a value of the wrong type.
  """
  hints = typing.get_type_hints(cls)
  fields = {f.name: f for f in dataclasses.fields(cast(Any, cls)) if f.init}
  values = {}
  for key, value in mapping.items():
    where = f'{path}.{key}' if path else key
    if key not in fields:
      close = difflib.get_close_matches(key, fields, n=1, cutoff=0.0)
      raise ConfigError(f"unknown configuration key '{where}'; did you mean '{close[0]}'? "
                        f'{cls.__name__} has: {", ".join(fields)}')
    values[key] = _convert(hints[key], value, where)
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
    hint, name = hints[field.name], field.name
    section = next((h for h in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(h)), None)
    if section is not None and typing.get_origin(hint) is not dict:
      if name in out and out[name] is not None:
        out[name] = with_defaults(section, out[name])
      elif hint is section:
        out[name] = with_defaults(section, {})
    elif name not in out and field.default is not dataclasses.MISSING:
      out[name] = placeholder(_plain_type(hint)) if field.default is None else field.default
    elif name in out and typing.get_origin(hint) is dict:
      section = typing.get_args(hint)[1]
      if dataclasses.is_dataclass(section):
        out[name] = ConfigDict({k: with_defaults(section, v) for k, v in out[name].items()})
  return out


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


def _convert(hint: Any, value: Any, where: str) -> Any:
  origin, args = typing.get_origin(hint), typing.get_args(hint)
  if origin in (typing.Union, types.UnionType):
    if value is None and type(None) in args:
      return None
    options = [a for a in args if a is not type(None)]
    for option in options:
      try:
        return _convert(option, value, where)
      except ConfigError:
        if option is options[-1]:
          raise
  if dataclasses.is_dataclass(hint):
    if isinstance(value, cast(type, hint)):
      return value
    if not hasattr(value, 'items'):
      raise ConfigError(f"'{where}' must be a section with keys, not {value!r}")
    return build(cast(type, hint), value, where)
  if origin is tuple:
    if isinstance(value, str) or not hasattr(value, '__iter__'):
      raise ConfigError(f"'{where}' must be a sequence, not {value!r}")
    items = tuple(value)
    if len(args) == 2 and args[1] is Ellipsis:
      return tuple(_convert(args[0], v, f'{where}[{i}]') for i, v in enumerate(items))
    if len(items) != len(args):
      raise ConfigError(f"'{where}' needs {len(args)} values, got {len(items)}: {items}")
    return tuple(_convert(a, v, f'{where}[{i}]') for i, (a, v) in enumerate(zip(args, items)))
  if origin is dict:
    if not hasattr(value, 'items'):
      raise ConfigError(f"'{where}' must be a mapping, not {value!r}")
    return {k: _convert(args[1], v, f'{where}.{k}') for k, v in value.items()}
  if origin is collections.abc.Callable and not callable(value):
    raise ConfigError(f"'{where}' must be a text or a function, not {value!r}")
  if origin is typing.Literal:
    if value not in args:
      raise ConfigError(f"'{where}' is {value!r}; it must be one of {', '.join(map(repr, args))}")
    return value
  if hint is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  if isinstance(hint, type) and (not isinstance(value, hint)
                                 or (hint is int and isinstance(value, bool))):
    raise ConfigError(f"'{where}' must be of type {hint.__name__}, not {value!r}")
  return value
