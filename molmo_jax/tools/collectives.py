"""Reads the collectives off a compiled program: how many, how large, in loops or outside."""

from __future__ import annotations

import dataclasses
import math
import re

OPERATIONS = ('all-gather', 'all-reduce', 'reduce-scatter', 'all-to-all', 'collective-permute')
_WIDTHS = {'pred': 1, 's8': 1, 'u8': 1, 's16': 2, 'u16': 2, 'bf16': 2, 'f16': 2, 's32': 4, 'u32': 4,
           'f32': 4, 's64': 8, 'u64': 8, 'f64': 8}
_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) [^\n]*\{ *(?:/\*[^\n]*\*/)? *\n(.*?)^\}',
                          re.MULTILINE | re.DOTALL)
_CALLED = re.compile(r'(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.\-]+)')
_BRANCHES = re.compile(r'(?:branch_computations|called_computations|calls)=\{([^}]*)\}')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CONDITION = re.compile(r'condition=%?([\w.\-]+)')
_LESS_THAN = re.compile(r' compare\(.*%([\w.\-]+)\), direction=LT')
_CHANNEL = re.compile(r'channel_id=(\d+)')
_ARRAY = re.compile(r'\b(' + '|'.join(_WIDTHS) + r')\[([\d,]*)\]')
_OPERATION = re.compile(r' (' + '|'.join(OPERATIONS) + r')(-start)?\(')


@dataclasses.dataclass
class Collective:
  """One kind of collective in one part of the program."""
  operation: str
  in_loops: bool
  count: int = 0                     # instructions
  runs: int = 0                      # executions per step; a loop of unknown length counts once
  bytes: int = 0                     # results of all executions, per device


def collectives(hlo: str) -> list[Collective]:
  """The collectives of an optimised HLO module, ordered by operation; those outside of loops first.
  """
  written = _COMPUTATION.findall(hlo)            # entry or not, name, instructions
  computations = {name: body.splitlines() for _, name, body in written}
  found: dict[tuple[str, bool], Collective] = {}
  # an asynchronous collective is written several times, on one channel
  seen: set[tuple[str, str]] = set()

  def visit(name: str, runs: int, in_loops: bool) -> None:
    for line in computations.get(name, ()):
      scatter = 'calls=%all-reduce-scatter' in line     # how TPU programs write a reduce-scatter
      match = _OPERATION.search(line)
      operation = 'reduce-scatter' if scatter else match[1] if match else None
      if operation:
        channel = _CHANNEL.search(line)
        if channel and (operation, channel[1]) in seen:
          continue
        seen.add((operation, channel[1] if channel else f'{name} {line}'))
        collective = found.setdefault((operation, in_loops), Collective(operation, in_loops))
        collective.count += 1
        collective.runs += runs
        collective.bytes += runs * _result_bytes(line, bool(match and match[2]))
        if scatter:
          continue
      loop = ' while(' in line
      trips = _trips(line, computations) if loop else 1
      called = _CALLED.findall(line) + [n.strip(' %') for group in _BRANCHES.findall(line)
                                        for n in group.split(',')]
      for other in dict.fromkeys(called):
        visit(other, runs * trips, in_loops or loop)

  for name in [name for entry, name, _ in written if entry]:
    visit(name, 1, False)
  return sorted(found.values(), key=lambda e: (OPERATIONS.index(e.operation), e.in_loops))


def _trips(line: str, computations: dict[str, list[str]]) -> int:
  """How often a loop runs, as the compiler notes it or from 'counter < constant'; else 1."""
  known, condition = _TRIPS.search(line), _CONDITION.search(line)
  if known:
    return int(known[1])
  text = '\n'.join(computations.get(condition[1], ())) if condition else ''
  limit = _LESS_THAN.search(text)
  constant = limit and rf'%{re.escape(limit[1])} = s32\[\]\S* constant\((\d+)\)'
  value = constant and re.search(constant, text)
  return int(value[1]) if value else 1


def _result_bytes(line: str, is_start: bool) -> int:
  """Bytes of an instruction's result.

  The result of an asynchronous start repeats the operand: the last array counts.
  """
  result = line.split(' = ', 1)[1]
  result = result[:result.index(') ')] if result.startswith('(') else result.split(' ', 1)[0]
  sizes = [_WIDTHS[kind] * math.prod(int(n) for n in shape.split(',') if n)
           for kind, shape in _ARRAY.findall(result)]
  return max(sizes, default=0) if is_start else sum(sizes)
