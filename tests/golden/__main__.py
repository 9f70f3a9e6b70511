"""Runs the golden data of a folder through the project: `python -m tests.golden --dir DIR`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import ModuleType

from tests.golden.runners import RUNNERS

_SHOWN_FAILURES = 20


def main(arguments: list[str] | None = None) -> int:
  """Prints one line per folder and returns the exit code: 0 if everything recognised passes, else
  1.
  """
  parser = argparse.ArgumentParser(
      prog='python -m tests.golden',
      description='Compares the project with golden data. Folders are recognised by their content, '
      'not by their name.',
      epilog='example: python -m tests.golden --dir tests/golden',
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--dir', type=Path, default=Path(__file__).parent,
                      help='a folder of golden data, or a folder of such folders (default: '
                      '%(default)s)')
  top = parser.parse_args(arguments).dir
  if not top.is_dir():
    parser.error(f'--dir {top}: no such folder')
  return 0 if run_all(top) else 1


def run_all(top: Path) -> bool:
  """Runs `top`, if a runner recognises it, else each of its sub-folders; true if something ran and
  nothing failed.
  """
  folders = [top] if _runners(top) else sorted(p for p in top.iterdir() if p.is_dir()
                                               and _has_data(p))
  ran, good = False, True
  for folder in folders:
    runners = _runners(folder)
    if not runners:
      print(f'{folder.name}: no runner (skipped)')
      continue
    results = [result for runner in runners for result in _run(runner, folder)]
    failures = [(case, reason) for case, reason in results if reason is not None]
    print(f'{folder.name}: {len(results) - len(failures)}/{len(results)}')
    for case, reason in failures[:_SHOWN_FAILURES]:
      print(f'  {case}: {reason}')
    if len(failures) > _SHOWN_FAILURES:
      print(f'  … and {len(failures) - _SHOWN_FAILURES} more')
    ran, good = ran or bool(results), good and not failures
  if not ran:
    print(f'{top}: holds no golden data that a runner recognises', file=sys.stderr)
  return ran and good


def _has_data(folder: Path) -> bool:
  return any(path.is_file() and path.suffix != '.py' for path in folder.rglob('*')
             if '__pycache__' not in path.parts)


def _runners(folder: Path) -> list[ModuleType]:
  return [runner for runner in RUNNERS if _recognises(runner, folder)]


def _recognises(runner: ModuleType, folder: Path) -> bool:
  try:
    return runner.recognises(folder)
  except Exception as error:   # a damaged file of one folder must not hide the others
    print(f'{folder.name}: {runner.__name__.rpartition(".")[2]} cannot read it ({error})',
          file=sys.stderr)
    return False


def _run(runner: ModuleType, folder: Path) -> list[tuple[str, str | None]]:
  try:
    return runner.run(folder)
  except Exception as error:   # one broken folder must not hide the others
    return [(runner.__name__.rpartition('.')[2], f'{type(error).__name__}: {error}')]


if __name__ == '__main__':
  sys.exit(main())
