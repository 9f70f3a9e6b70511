"""Reads a pickle of numpy arrays without unpickling it: nothing that the file names is called.

A pickle is a program. `pickletools.genops` lists its instructions; the few that make plain values
are followed here, and a call becomes a `Call`: a name and arguments. `array` and no one else gives
a meaning to calls, those that describe an array. Time and memory grow with the length of the file.
"""

from __future__ import annotations

import dataclasses
import math
import mmap
import pickletools
import re
from pathlib import Path
from typing import Any

import numpy as np

from molmo_jax.datasets.files import TaskError
from molmo_jax.errors import MolmoError
from molmo_jax.files import open_regular

# what a pickle of arrays names: numpy's modules as they were and are called
_NAMES = {(module, name) for module in ('numpy.core.multiarray', 'numpy._core.multiarray',
                                        'numpy.core.numeric', 'numpy._core.numeric', 'numpy')
          for name in ('_reconstruct', '_frombuffer', 'dtype', 'ndarray')} | {('_codecs', 'encode')}
_LITERALS = {'BININT', 'BININT1', 'BININT2', 'LONG1', 'BINFLOAT', 'BINUNICODE', 'SHORT_BINUNICODE',
             'BINUNICODE8', 'BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8', 'BYTEARRAY8', 'NONE'}
_EMPTY = {'EMPTY_DICT': dict, 'EMPTY_LIST': list, 'EMPTY_TUPLE': tuple}
# how many values an instruction takes from the stack; None: those after the last mark
_TAKES = {'TUPLE': None, 'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3, 'APPEND': 1, 'APPENDS': None,
          'SETITEM': 2, 'SETITEMS': None, 'STACK_GLOBAL': 2, 'REDUCE': 2, 'BUILD': 1}


@dataclasses.dataclass
class Call:
  """What a pickle asks to call, and the state that it gives to the result."""
  name: str
  arguments: Any = None                       # None: the name alone
  state: Any = None


def read_pickle(path: Path) -> Any:
  """The value of a pickle (protocols 2 to 5) of plain values and arrays, these as `Call`.

  Raises:
    TaskError: missing, damaged, or anything else in it; the message names the file.
  """
  try:
    with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
      return _value(data)
  except (MolmoError, OSError, ValueError, TypeError, LookupError, AttributeError) as error:
    raise TaskError(f'{path}: cannot be read as a pickle of arrays ({str(error)[:200]})') from None


def _value(file: mmap.mmap) -> Any:
  stack: list[Any] = []
  marks: list[int] = []
  memo: dict[int, Any] = {}
  argument: Any
  for instruction, argument, position in pickletools.genops(file):   # type: ignore[arg-type]
    match instruction.name:
      case name if name in _LITERALS:
        stack.append(argument)
      case 'NEWTRUE' | 'NEWFALSE' as name:
        stack.append(name == 'NEWTRUE')
      case name if name in _EMPTY:
        stack.append(_EMPTY[name]())
      case 'MARK':
        marks.append(len(stack))
      case 'BINPUT' | 'LONG_BINPUT' | 'MEMOIZE':
        memo[len(memo) if argument is None else argument] = stack[-1]
      case 'BINGET' | 'LONG_BINGET':
        stack.append(memo[argument])
      case 'GLOBAL':
        stack.append(_named(*argument.split(' ', 1)))
      case name if name in _TAKES:
        taken = _TAKES[name]
        start = marks.pop() if taken is None else len(stack) - taken
        if not 0 <= start <= len(stack):
          raise ValueError(f'byte {position}: {name} finds too little')
        taken = stack[start:]
        del stack[start:]
        _follow(name, taken, stack)
      case name if name not in ('PROTO', 'FRAME', 'STOP'):
        raise ValueError(f'byte {position}: an array needs no {name}')
  return stack.pop()


def _follow(name: str, taken: list[Any], stack: list[Any]) -> None:
  match name:
    case 'APPEND' | 'APPENDS':
      _expect(stack[-1], list).extend(taken)
    case 'SETITEM' | 'SETITEMS':
      keys = [_expect(key, str) for key in taken[::2]]   # the hash of a tuple has no limit of depth
      _expect(stack[-1], dict).update(zip(keys, taken[1::2], strict=True))
    case 'STACK_GLOBAL':
      stack.append(_named(*taken))
    case 'REDUCE':
      stack.append(Call(_expect(taken[0], Call).name, _expect(taken[1], tuple)))
    case 'BUILD':
      [_expect(stack[-1], Call).state] = taken
    case _:
      stack.append(tuple(taken))


def _named(module: str, name: str) -> Call:
  if (module, name) not in _NAMES:
    raise ValueError(f'it names {module}.{name}, which is no array')
  return Call(name)


def _expect(value: Any, kind: type) -> Any:
  if not isinstance(value, kind):
    raise ValueError(f'a {type(value).__name__} stands where a {kind.__name__} belongs')
  return value


def array(value: Any) -> np.ndarray:
  """The array that a call describes: numbers or booleans, whole.

  Raises:
    ValueError: another call, another dtype, or a shape that its bytes do not fill.
  """
  match value:
    case Call('_reconstruct', state=(_, shape, dtype, bool(fortran), data)):
      order = 'F' if fortran else 'C'
    case Call('_frombuffer', (data, dtype, shape, 'C' | 'F' as order)):
      pass
    case _:
      raise ValueError(f'a {type(value).__name__} stands where an array belongs')
  match data:
    case Call('encode', (str(text), 'latin1' | 'latin-1')):   # bytes in protocol 2
      data = text.encode('latin1')
  match dtype:
    case Call('dtype', (str(code), *_), state) if re.fullmatch('b1|[iu][1248]|f[248]', code):
      order_of_bytes = state[1] if state and state[1] in ('<', '>') else '='
      kind = np.dtype(order_of_bytes + code)
    case _:
      raise ValueError('an array of something else than numbers')
  sides = [_expect(side, int) for side in _expect(shape, tuple)]
  if min(sides, default=0) < 1 or math.prod(sides) * kind.itemsize != len(data):
    raise ValueError(f'an array {str(sides)[:80]} of {kind} in {len(data)} bytes')
  return np.ndarray(sides, kind, data, order=order)   # type: ignore[arg-type]
