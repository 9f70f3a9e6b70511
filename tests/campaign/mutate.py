"""Seeded damage to bytes and to JSON."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import numpy as np

Rng = np.random.Generator

INTEGERS = (0, 1, 2, 127, 128, 255, 256, 32767, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1,
            2**63 - 1, 2**63, 2**64 - 1)

# values that JSON cannot hold, or that would be slow to copy: `to_text` writes them
DEEP, DEEP_OBJECT, DIGITS = '@deep@', '@deep object@', '@digits@'
WRITTEN = {f'"{DEEP}"': '[' * 1000 + ']' * 1000, f'"{DIGITS}"': '9' * 5000,
           f'"{DEEP_OBJECT}"': '{"a":' * 3000 + '1' + '}' * 3000}
NASTY: tuple[Any, ...] = (
  None, True, False, 0, -1, 1, 3, 2**31, 2**32, 2**63, 2**64, -2**63, 10**9, 10**399, 1e39, 1e308,
  0.5, -0.5, 1e-320, -0.0, float('nan'), float('inf'), float('-inf'), '', ' ', '0', 'x',
  'x' * 70_000,
  'a' * 5000, '\ud800', 'a\udfffb', '\0', 'a\0b', '\x1b[2J\x1b]0;title\x07', '[red]x[/red]', '[/]',
  '[bold', '<|image|>', '<|video|>', '<im_patch>', '<|im_end|>', '\u202ereverse', '\ufeff',
  '💥' * 9,
  '../../../etc/passwd', '/dev/zero', '/dev/stdin', '/', '.', 'pipe:0', 'nan', 'None', '{{ 1/0 }}',
  [], {}, [[]], [None], [0], [''], {'': None}, {'a': {'b': []}}, [1, 2, 3], [1e400, -1e400],
  ['x'] * 3000, DEEP, DEEP_OBJECT, DIGITS)


def pick(rng: Rng, items: Any) -> Any:
  """One of `items`."""
  items = list(items)
  return items[int(rng.integers(len(items)))]


def damage_bytes(data: bytes, rng: Rng, focus: int | None = None) -> tuple[bytes, str]:
  """One to four kinds of damage, and their names; half of them near the beginning where `focus`
  says how many bytes that is.
  """
  names = []
  for _ in range(int(rng.integers(1, 5)) if rng.random() < 0.4 else 1):
    name = pick(rng, DAMAGES)
    data = DAMAGES[name](bytearray(data), rng, focus)
    names.append(name)
  return bytes(data), ', '.join(names)


def _at(data: bytearray, rng: Rng, focus: int | None) -> int:
  end = len(data) if focus is None or rng.random() < 0.5 else min(focus, len(data))
  return int(rng.integers(max(end, 1)))


def _flip(data: bytearray, rng: Rng, focus: int | None) -> bytearray:
  for _ in range(int(rng.integers(1, 9)) if data else 0):
    data[_at(data, rng, focus)] ^= 1 << int(rng.integers(8))
  return data


def _bytes(data: bytearray, rng: Rng, focus: int | None) -> bytearray:
  for _ in range(int(rng.integers(1, 17)) if data else 0):
    data[_at(data, rng, focus)] = int(rng.integers(256))
  return data


def _truncate(data: bytearray, rng: Rng, focus: int | None) -> bytearray:
  return data[:_at(data, rng, focus)]


def _integer(data: bytearray, rng: Rng, focus: int | None) -> bytearray:
  size, at = pick(rng, (1, 2, 4, 8)), _at(data, rng, focus)
  value = pick(rng, [i for i in INTEGERS if i < 1 << 8 * size])
  data[at:at + size] = value.to_bytes(size, pick(rng, ('big', 'little')))
  return data


def _remove(data: bytearray, rng: Rng, focus: int | None) -> bytearray:
  at = _at(data, rng, focus)
  del data[at:at + int(rng.integers(1, 40))]
  return data


def _insert(data: bytearray, rng: Rng, focus: int | None) -> bytearray:
  at = _at(data, rng, focus)
  data[at:at] = pick(rng, (rng.bytes(int(rng.integers(1, 40))), bytes(int(rng.integers(1, 400)))))
  return data


def _repeat(data: bytearray, rng: Rng, focus: int | None) -> bytearray:
  at, to = _at(data, rng, focus), _at(data, rng, None)
  data[to:to] = data[at:at + int(rng.integers(1, 200))] * int(rng.integers(1, 20))
  return data


def _zero(data: bytearray, rng: Rng, focus: int | None) -> bytearray:
  at = _at(data, rng, focus)
  data[at:at + 64] = bytes(len(data[at:at + 64]))
  return data


DAMAGES = {'bits flipped': _flip, 'bytes changed': _bytes, 'cut off': _truncate,
           'an integer': _integer, 'a piece removed': _remove, 'a piece inserted': _insert,
           'a piece repeated': _repeat, 'zeros': _zero}


def damage_json(value: Any, rng: Rng, values: tuple[Any, ...] = NASTY) -> tuple[Any, str]:
  """A copy in which one to three places have another value, are missing, renamed or doubled."""
  value, names = copy.deepcopy(value), []
  for _ in range(1 + int(rng.random() < 0.3) + int(rng.random() < 0.1)):
    holders = [h for h in _holders(value) if h]
    if not holders:
      break
    holder = pick(rng, holders)
    key = pick(rng, holder.keys() if isinstance(holder, dict) else range(len(holder)))
    names.append(f'{key} {_change(holder, key, rng, values)}')
  return value, ', '.join(names)


def _change(holder: Any, key: Any, rng: Rng, values: tuple[Any, ...]) -> str:
  kind = rng.random()
  if kind < 0.7:
    holder[key] = new = pick(rng, values)
    return f'= {str(new)[:40]!r}'
  if kind < 0.8:
    del holder[key]
    return 'removed'
  if kind < 0.9:
    holder[key] = [holder[key]]
    return 'put into a list'
  if isinstance(holder, list):
    holder.append(holder[key])
    return 'doubled'
  holder[f'{key}_'] = holder.pop(key)
  return 'renamed'


def _holders(value: Any) -> list[Any]:
  if isinstance(value, dict):
    return [value, *(h for v in value.values() for h in _holders(v))]
  if isinstance(value, list):
    return [value, *(h for v in value for h in _holders(v))]
  return []


def to_text(value: Any) -> str:
  """JSON with what `json` would not write."""
  text = json.dumps(value)
  for token, written in WRITTEN.items():
    text = text.replace(token, written)
  return text


def damage_text(text: str, rng: Rng) -> tuple[bytes, str]:
  """JSON text with damage to its syntax or bytes."""
  kind = int(rng.integers(4))
  if kind == 0:
    keys = re.findall(r'"[^"\\]{1,20}": ?', text)
    if keys:
      key = pick(rng, keys)
      doubled = text.replace('{', '{' + key + to_text(pick(rng, NASTY)) + ', ', 1)
      return doubled.encode(), f'{key.strip(": ")} twice'
  if kind == 1:
    at = int(rng.integers(len(text) + 1))
    return text[:at].encode() + pick(rng, (b'\xff', b'\xe9', b'\0', b'\xed\xa0\x80', b'\x1b[2J',
                                           b'\r', b'\\ud800', b'\xef\xbb\xbf')) \
      + text[at:].encode(), 'bytes inserted'
  return damage_bytes(text.encode(), rng)
