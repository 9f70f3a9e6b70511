"""Golden scorers, parsers and formatters: a JSON file for each function, a list of {"input",
"expected", …}.

A file is recognised by the longest known name in its own (with whatever before or after it) and by
the keys of its
inputs: several functions take the same input. "RANDOM" accepts anything, "NaN" and "Infinity" stand
for those floats, and a case with "error" accepts whatever ends.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.golden.runners.metric_calls import CALLS, Call

_ANYTHING = 'RANDOM'
_FLOATS = {'NaN': math.nan, 'Infinity': math.inf, '-Infinity': -math.inf}
_EXACT, _FLOAT32 = 1e-9, 1e-6
_SHOWN = 120                                    # characters of a value in a message


def recognises(folder: Path) -> bool:
  """True for a folder with at least one JSON file of a known function."""
  return any(_load(path) is not None for path in folder.glob('*.json'))


def run(folder: Path) -> list[tuple[str, str | None]]:
  """Checks every case of every recognised file, for Molmo2 and where there is an expectation for
  v1.
  """
  results = []
  for path in sorted(folder.glob('*.json')):
    loaded = _load(path)
    if loaded is not None:
      results += [(f'{path.stem} {name}', reason) for name, reason in _check_file(*loaded)]
  return results


def function_of(stem: str) -> str | None:
  """The longest known function's name in the name of a file, bounded by its ends or by signs that
  are no letters.
  """
  found = [name for name in CALLS if re.search(rf'(?<![A-Za-z0-9]){name}(?![A-Za-z0-9])', stem)]
  return max(found, key=len, default=None)


def _load(path: Path) -> tuple[Call, list[dict[str, Any]]] | None:
  name = function_of(path.stem)
  if name is None:
    return None
  try:
    cases = json.loads(path.read_text())
  except (OSError, ValueError):
    return None
  call = CALLS[name]
  first = cases[0] if isinstance(cases, list) and cases and isinstance(cases[0], dict) else {}
  given = first.get('input')
  if isinstance(given, list) and given and isinstance(given[0], dict):
    given = given[0]                          # a group of examples
  fits = call.keys <= set(given) if isinstance(given, dict) else not call.keys and 'input' in first
  return (call, cases) if fits else None


def _check_file(call: Call, cases: list[dict[str, Any]]) -> Iterator[tuple[str, str | None]]:
  for number, case in enumerate(cases):
    for suffix, run_case in (('', call.molmo2), ('_v1', call.v1 or call.molmo2)):
      expected = {key: case[key + suffix]
                  for key in ('expected', 'expected_parsed', 'expected_correct')
                  if key + suffix in case}
      if not expected and 'error' + suffix not in case:
        continue
      yield f'{number}{suffix}', _check(run_case, case['input'], expected,
                                        _FLOAT32 if call.float32 else _EXACT)


def _check(run_case, given: Any, expected: dict[str, Any], tolerance: float) -> str | None:
  try:
    got = run_case(given)
  except Exception as error:   # whatever goes wrong is this case's result
    return f'{type(error).__name__}: {error}' if expected else None
  if not expected:
    return None
  if 'expected' in expected:
    wanted = expected['expected']
  else:
    wanted = [expected['expected_parsed'], expected['expected_correct']]
  return difference(got, wanted, tolerance)


def difference(got: Any, wanted: Any, tolerance: float) -> str | None:
  """What differs between a result and its expectation; None if nothing does."""
  if isinstance(wanted, str) and (wanted == _ANYTHING or wanted.startswith('ERROR ')):
    return None
  if isinstance(wanted, dict):
    # A mean over nothing may be left out.
    missing = sorted(key for key in wanted if key not in got and wanted[key] != 'NaN')
    if missing:
      return f'{missing} missing in {_short(got)}'
    differences = ((key, difference(got[key], wanted[key], tolerance)) for key in wanted
                   if key in got)
    return next((f'{key}: {reason}' for key, reason in differences if reason), None)
  if isinstance(got, set | frozenset):        # written down as a list in some order
    return _difference_of_sets(list(got), wanted, tolerance)
  if isinstance(wanted, list):
    if not isinstance(got, list | tuple) or len(got) != len(wanted):
      return f'{_short(got)}, expected {_short(wanted)}'
    return next(filter(None, (difference(g, w, tolerance)
                              for g, w in zip(got, wanted, strict=True))), None)
  return None if _equal(got, wanted, tolerance) else f'{_short(got)}, expected {_short(wanted)}'


def _difference_of_sets(got: list[Any], wanted: list[Any], tolerance: float) -> str | None:
  same = len(got) == len(wanted) and all(any(_equal(g, w, tolerance) for g in got) for w in wanted)
  return None if same else f'{_short(got)}, expected {_short(wanted)}'


def _equal(got: Any, wanted: Any, tolerance: float) -> bool:
  if isinstance(wanted, str) and isinstance(got, float):
    wanted = _FLOATS.get(wanted, wanted)
  if isinstance(wanted, int | float) and isinstance(got, int | float):
    return (math.isnan(got) and math.isnan(wanted)) or got == wanted or abs(
      got - wanted) <= tolerance * max(
          1.0, abs(wanted))
  return got == wanted


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= _SHOWN else text[:_SHOWN] + '…'
