"""Ctrl-C and SIGTERM: answered at once, even while XLA compiles; a second one ends the program.

Python runs signal handlers in the main thread, between two bytecodes: not while that thread waits
for a compiler, a device or a queue. So a small thread reads the signals, too (`set_wakeup_fd`): it
says that the first one was heard, and ends the program at the second.

The exit status is 128 + the signal's number, as shells have it: `train && eval` stops.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

NUMBERS = (signal.SIGINT, signal.SIGTERM)
STATUSES = tuple(128 + number for number in NUMBERS)
# A terminal and a program around this one may both hand on one Ctrl-C: seconds that make it two.
APART = 0.3


class Stopped(BaseException):
  """The program was asked to stop. Not an Exception: whoever skips faults must not skip this."""

  def __init__(self, number: int):
    self.name = signal.Signals(number).name
    self.status = 128 + number
    super().__init__(f'stopped by {self.name}')


class _Signals:
  """What this process received; signals belong to the process, hence one object for all."""

  def __init__(self) -> None:
    self.listening = False
    self.received: list[int] = []
    self.first = ''                               # what is finished before the program ends
    self.second: Callable[[], None] | None = None

  def handle(self, number: int, frame: object) -> None:
    """The handler, which Python calls in the main thread."""
    self.received.append(number)
    if not self.first:
      raise Stopped(number)

  def answer(self, descriptor: int) -> None:
    """The thread: reads the numbers of the signals as they come."""
    last, heard = 0, 0.0                          # the number of the last signal, when it came
    while data := os.read(descriptor, 1):
      number, now = data[0], time.monotonic()
      if number not in NUMBERS or (number == last and now - heard < APART):
        continue
      if not last:
        _say(f'{signal.Signals(number).name}: stopping{self.first}; again to stop now')
      elif self.second:
        self.second()
      else:
        os._exit(128 + number)
      last, heard = number, now


_signals = _Signals()


@contextlib.contextmanager
def listening() -> Iterator[None]:
  """Around a whole program: the first signal raises `Stopped` in the main thread, except within
  `finishing`; a second ends the program. Where this is active already, or in another thread than
  the main one, it does nothing.
  """
  if _signals.listening or threading.current_thread() is not threading.main_thread():
    yield
    return
  reading, writing = os.pipe()
  os.set_blocking(writing, False)                 # as set_wakeup_fd wants it
  _signals.listening, _signals.received = True, []
  thread = threading.Thread(target=_signals.answer, args=(reading,), daemon=True)
  thread.start()
  before = {number: signal.signal(number, _signals.handle) for number in NUMBERS}
  signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
  try:
    yield
  finally:
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
      signal.signal(number, handler)
    os.close(writing)                             # ends the thread
    thread.join()
    os.close(reading)
    _signals.listening = False


@contextlib.contextmanager
def finishing(first: str, second: Callable[[], None] | None = None) -> Iterator[None]:
  """While the context is open a signal interrupts nothing; `received` tells that it came.

  Args:
    first: what is done before the program ends, for the answer: 'after this step'.
    second: what the second signal does, in another thread, instead of ending the program.
  """
  before = _signals.first, _signals.second
  _signals.first, _signals.second = f' {first}', second
  try:
    yield
  finally:
    _signals.first, _signals.second = before


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
  """Within `finishing`, for a part that may end at once: a signal leaves it, and only it."""
  before, _signals.first = _signals.first, ''
  try:
    yield
  except Stopped:
    if not before:                                # not within `finishing`
      raise
  finally:
    _signals.first = before


def leave_to_parent(*unused: int) -> None:
  """In a worker process: Ctrl-C and SIGTERM, which a terminal or a scheduler sends to all processes
  of a group, are for the process that started it, which ends it, too.
  """
  for number in NUMBERS:
    signal.signal(number, signal.SIG_IGN)


def received() -> Stopped | None:
  """The first signal that came, if any."""
  return Stopped(_signals.received[0]) if _signals.received else None


def _say(text: str) -> None:
  with contextlib.suppress(OSError, ValueError):   # nobody reads standard error any more
    print(text, file=sys.stderr, flush=True)
