"""One input at a time: it is given to the project in a process of its own, watched and judged.

An area (`images.py` and its neighbours) makes inputs. Input number n of an area follows from the
random seed and n alone, so that any of them can be made again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import importlib
import json
import os
import resource
import shutil
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from molmo_jax.errors import MolmoError

AREAS = ('images', 'videos', 'records', 'checkpoints', 'runs')
MEMORY = 2 << 30                 # bytes above the baseline that no input may take
SECONDS = 15.0                   # that no input may take, on a busy machine
LONGEST_MESSAGE = 4000           # characters; where there is a list, it has lines of its own
TRACE = 'where_it_was.txt'       # written into the input's folder when its time is up
ROOT = Path(__file__).parents[2]

FORBIDDEN = {'socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname', 'os.system', 'os.exec',
             'os.posix_spawn', 'os.spawn', 'subprocess.Popen', 'pickle.find_class', 'os.remove',
             'os.rename', 'shutil.rmtree', 'open'}

TRUSTED = 'tensorboardX'         # pickles its own messages between its threads


@dataclasses.dataclass(frozen=True)
class Case:
  """One input.

  Attributes:
    what: how it was made.
    call: gives it to the project.
    check: raises AssertionError for a returned value that is wrong.
    names: an error's message must contain this.
    wanted: whether a value or an error alone is right.
  """
  what: str
  call: Callable[[], Any]
  check: Callable[[Any], None]
  names: str
  wanted: Literal['either', 'value', 'error'] = 'either'


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What became of input `number`. `kind`: 'right', 'clean error' or 'bad' and then for which
  `reason`, which is the same text for the same fault.
  """
  number: int
  what: str
  kind: str
  reason: str = ''
  seconds: float = 0.0
  peak: int = 0                  # bytes of memory above the baseline


class Area(Protocol):
  """What a module of an area has as `Inputs`."""

  def __init__(self, base: Path, port: int):
    """`base`: a folder for what all inputs are made from, kept between processes; `port`: of a
    local socket that nobody may connect to.
    """

  def case(self, rng: np.random.Generator, folder: Path) -> Case:
    """Writes an input into `folder`, which is empty."""


class Guard:
  """Sees what must not happen while an input is processed: connections, processes, unpickling,
  files that are written or removed outside of `folder`, memory.
  """

  def __init__(self, folder: Path):
    self.folder, self.seen, self._active = str(folder), [], False
    self._listener = socket.create_server(('127.0.0.1', 0))
    self._listener.setblocking(False)
    self.port = self._listener.getsockname()[1]
    self._baseline = _memory('VmRSS')
    sys.addaudithook(self._hear)

  @contextlib.contextmanager
  def watching(self):
    """Watches; `seen` and `peak` say afterwards what was seen."""
    self.seen.clear()
    _reset_peak()
    self._active = True
    try:
      yield
    finally:
      self._active = False
      with contextlib.suppress(BlockingIOError):   # native code connects without an audit event
        self._listener.accept()[0].close()
        self.seen.append('connected to a socket')
      self.peak = max(0, _memory('VmHWM') - self._baseline)
      if self.peak > MEMORY:
        self.seen.append(f'took more than {MEMORY >> 20} MB of memory')

  def _hear(self, event: str, arguments: tuple) -> None:
    if not self._active or event not in FORBIDDEN:
      return
    if event == 'subprocess.Popen' and os.fspath(arguments[0]) == sys.executable:
      return                       # a process of the project's own, to bound what it runs
    if event == 'open' and not _writes(arguments):
      return
    if event == 'pickle.find_class' and any(TRUSTED in frame.filename
                                            for frame in traceback.extract_stack()):
      return
    if event in ('open', 'os.remove', 'os.rename', 'shutil.rmtree'):
      path = arguments[1] if event == 'os.rename' else arguments[0]
      if not isinstance(path, (str, bytes, os.PathLike)) or self._allowed(os.fsdecode(path)):
        return
    with contextlib.suppress(Exception):
      self.seen.append(f'{event} {str(arguments[:2])[:100]}')

  def _allowed(self, path: str) -> bool:
    path = os.path.abspath(path)
    return path.startswith(self.folder) or path == os.devnull or '__pycache__' in path


def _writes(arguments: tuple) -> bool:
  _, mode, flags = arguments
  wants = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
  return bool(set(mode or '') & set('wax+')) or bool((flags or 0) & wants)


def _memory(key: str) -> int:
  with open('/proc/self/status') as status:
    return next(int(line.split()[1]) for line in status if line.startswith(key)) << 10


def _reset_peak() -> None:
  with contextlib.suppress(OSError), open('/proc/self/clear_refs', 'w') as file:
    file.write('5')


def examine(number: int, case: Case, guard: Guard) -> Outcome:
  """Gives the input to the project and judges what comes back."""
  begun = time.monotonic()
  kind, reason = 'right', ''
  with guard.watching():
    try:
      value = case.call()
    except MolmoError as error:
      kind, reason = 'clean error', _fault_of_message(error, case.names)
    except BaseException as error:   # an input must not even end the program
      kind, reason = 'bad', f'{type(error).__name__}: {_first_line(error)} at {_place(error)}'
    else:
      reason = _fault_of_value(value, case.check)
  if guard.seen:
    reason = guard.seen[0]
  elif not reason and case.wanted == 'value' and kind == 'clean error':
    reason = f'refused, but a value is right: {case.what.partition(":")[0]}'
  elif not reason and case.wanted == 'error' and kind == 'right':
    reason = f'accepted, but an error is right: {case.what.partition(":")[0]}'
  return Outcome(number, case.what, 'bad' if reason else kind, reason, time.monotonic() - begun,
                 guard.peak)


def _fault_of_message(error: BaseException, names: str) -> str:
  text, cause, seen = str(error), error, 0
  if len(text) > LONGEST_MESSAGE:
    return f'an error of {len(text)} characters at {_place(error)}'
  if names not in text:
    return f'an error that does not name {names!r}: {_first_line(error)} at {_place(error)}'
  while cause is not None and seen < 20:   # refused by the limit of this test alone
    if type(cause) is MemoryError:   # FFmpeg's own kind refuses absurd sizes
      return f'memory ran out at {_place(cause)}'
    cause, seen = cause.__cause__ or cause.__context__, seen + 1
  return ''


def _fault_of_value(value: Any, check: Callable[[Any], None]) -> str:
  try:
    check(value)
  except Exception as error:
    return f'a wrong value: {_first_line(error)} at {_place(error)}'
  return ''


def _first_line(error: BaseException) -> str:
  return (str(error).splitlines() or [''])[0][:160]


def _place(error: BaseException) -> str:
  frames = traceback.extract_tb(error.__traceback__)
  ours = [f for f in frames if f.filename.startswith(str(ROOT))] or frames
  return f'{os.path.relpath(ours[-1].filename, ROOT)}:{ours[-1].lineno}' if ours else 'nowhere'


def generator(area: str, seed: int, number: int) -> np.random.Generator:
  """The random numbers of one input."""
  return np.random.default_rng([seed, AREAS.index(area), number])


def serve(area: str, seed: int, folder: Path) -> None:
  """The process of an area: reads numbers from standard input, a line each; answers with outcomes.

  `folder/base` holds what inputs are made from, `folder/input` the newest input.
  """
  answers = os.fdopen(os.dup(1), 'w', buffering=1)
  os.dup2(2, 1)                    # what the project prints is no answer
  for name in ('base', 'tmp', 'home'):
    (folder / name).mkdir(parents=True, exist_ok=True)
  os.environ['TMPDIR'], os.environ['HOME'] = str(folder / 'tmp'), str(folder / 'home')
  os.environ['HF_HUB_OFFLINE'] = '1'
  tempfile.tempdir = None
  os.chdir(folder)
  guard = Guard(folder)
  inputs: Area = importlib.import_module(f'tests.campaign.{area}').Inputs(folder / 'base',
                                                                          guard.port)
  guard._baseline = _memory('VmRSS')
  size = _memory('VmSize') + 2 * MEMORY
  resource.setrlimit(resource.RLIMIT_AS, (size, size))
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  answers.write('ready\n')
  for line in sys.stdin:
    number = int(line)
    case = _new_input(inputs, area, seed, number, folder)
    with open(folder / TRACE, 'w') as trace:
      faulthandler.enable(trace)
      faulthandler.dump_traceback_later(SECONDS - 1, file=trace)
      outcome = examine(number, case, guard)
      faulthandler.cancel_dump_traceback_later()
      faulthandler.enable(sys.stderr)
    answers.write(json.dumps(dataclasses.asdict(outcome)) + '\n')


def _new_input(inputs: Area, area: str, seed: int, number: int, folder: Path) -> Case:
  shutil.rmtree(folder / 'input', ignore_errors=True)
  (folder / 'input').mkdir()
  case = inputs.case(generator(area, seed, number), folder / 'input')
  (folder / 'what.txt').write_text(case.what, errors='replace')
  return case


if __name__ == '__main__':
  serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
