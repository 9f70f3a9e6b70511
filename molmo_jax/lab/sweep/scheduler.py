"""Starts runs as processes of train.py, some at a time, until all are done or it is stopped."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from rich.console import Console

from molmo_jax.files import write_atomically
from molmo_jax.lab.sweep import record
from molmo_jax.lab.sweep.resources import Share
from molmo_jax.lab.sweep.study import RUNS, Run
from molmo_jax.programs import HOME
from molmo_jax.progress import Display

PROGRAM = HOME / 'train.py'
POLL = 0.2                                      # seconds between two looks at the processes
# seconds between asking a process to stop and ending it
PATIENCE = 120.0
SHOWN = 8                                       # lines of a failed run's log


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How a sweep ended."""
  failed: tuple[str, ...]                       # names of runs
  stopped: bool                                 # by a signal, before all runs were started


@dataclasses.dataclass(frozen=True)
class Child:
  """A run that has a process."""
  run: Run
  folder: Path
  process: subprocess.Popen
  share: Share
  lock: IO[str]
  began: float


class Stop:
  """Counts SIGINT and SIGTERM while it is in use."""

  def __init__(self):
    self.signals, self.at = 0, 0.0

  def _received(self, number: int, frame: object) -> None:
    self.signals, self.at = self.signals + 1, self.at or time.monotonic()

  @contextlib.contextmanager
  def listening(self) -> Iterator[None]:
    """While the context is open, SIGINT and SIGTERM set the flag instead of ending the program."""
    before = {number: signal.signal(number, self._received)
              for number in (signal.SIGINT, signal.SIGTERM)}
    try:
      yield
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)


class Scheduler:
  """Keeps every share busy with one run."""

  def __init__(self, runs: Sequence[Run], out: Path, config_file: str, shares: Sequence[Share],
               console: Console):
    self._runs, self._out, self._config, self._console = list(runs), out, config_file, console
    self._free = list(shares)
    self._waiting = collections.deque(run for run in runs if not record.is_done(self._folder(run)))
    self._running: list[Child] = []
    self._asked: set[int] = set()               # ids of processes that know that they should stop
    self._failed: list[str] = []
    self._steps = {run.name: self._steps_of(run) for run in runs}

  def work(self) -> Outcome:
    """Runs everything.

    At SIGINT or SIGTERM the active runs write their checkpoints and end; a second signal kills
    them.
    """
    stop, total = Stop(), sum(run.experiment.training.steps for run in self._runs)
    begin = sum(self._steps.values())
    with stop.listening(), Display(self._console, 'sweep, steps of all runs', total,
                                   begin) as display:
      try:
        while self._running or (self._waiting and not stop.signals):
          if not stop.signals:
            self._start_some()
          time.sleep(POLL)
          self._collect(bool(stop.signals))
          self._ask_to_end(stop)
          self._steps |= {child.run.name: self._steps_of(child.run) for child in self._running}
          display.update(sum(self._steps.values()), self._state(bool(stop.signals)))
      finally:                                  # none is left behind
        for child in self._running:
          child.process.kill()
    return Outcome(tuple(self._failed), bool(self._waiting))

  def _folder(self, run: Run) -> Path:
    return self._out / RUNS / run.name

  def _start_some(self) -> None:
    """One run for every free share; those that another sweep works on wait."""
    for _ in range(len(self._waiting)):
      if not self._free:
        return
      run = self._waiting.popleft()
      lock = record.lock(self._folder(run))
      if lock is None:
        self._waiting.append(run)
      elif record.is_done(self._folder(run)):   # by another sweep, meanwhile
        lock.close()
        self._steps[run.name] = run.experiment.training.steps
      else:
        self._running.append(self._start(run, lock, self._free.pop(0)))

  def _start(self, run: Run, lock: IO[str], share: Share) -> Child:
    folder = self._folder(run)
    command = [sys.executable, str(PROGRAM), *run.arguments(self._config, folder)]
    write_atomically(folder / record.FLAGS,
                     json.dumps({'flags': run.flags, 'command': command}, indent=2) + '\n')
    cache = {'JAX_COMPILATION_CACHE_DIR': str(self._out / 'cache'),
             'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2'}
    environment = {**cache, **os.environ, **share.environment, 'PYTHONUNBUFFERED': '1',
                   'COLUMNS': '120'}
    with open(folder / record.LOG, 'a', encoding='utf-8') as log, share.taken():
      log.write(f'---- {time.strftime("%Y-%m-%d %H:%M:%S")} ----\n')
      log.flush()
      process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                 stderr=subprocess.STDOUT,
                                 env=environment, pass_fds=[lock.fileno()], start_new_session=True)
    return Child(run, folder, process, share, lock, time.monotonic())

  def _collect(self, stopping: bool) -> None:
    for child in [c for c in self._running if c.process.poll() is not None]:
      self._running.remove(child)
      self._free.append(child.share)
      if child.process.returncode == 0 and (child.folder / record.SUMMARY).is_file():
        record.mark_done(child.folder, child.run.experiment.model, time.monotonic() - child.began)
      elif stopping:
        self._waiting.append(child.run)
      else:
        self._failed.append(child.run.name)
        self._show_failure(child)
      child.lock.close()
      # also of a failed run nothing is left to do
      over = not stopping or record.is_done(child.folder)
      self._steps[child.run.name] = (child.run.experiment.training.steps if over
                                     else self._steps_of(child.run))

  def _show_failure(self, child: Child) -> None:
    status = child.process.returncode
    how = f'ended with status {status}'
    if status < 0:
      how = f'was ended by {signal.Signals(-status).name}'
    log = child.folder / record.LOG
    self._console.print(f'failed: {child.run.name} {how}; its log, {log}, ends with', style='red',
                        highlight=False, soft_wrap=True)
    for line in record.last_lines(log, SHOWN):
      self._console.print(f'  {line}', markup=False, highlight=False)

  def _ask_to_end(self, stop: Stop) -> None:
    if not stop.signals:
      return
    late = stop.signals > 1 or time.monotonic() - stop.at > PATIENCE
    for child in self._running:
      if late:
        child.process.kill()
      elif child.process.pid not in self._asked:
        self._asked.add(child.process.pid)
        child.process.terminate()

  def _steps_of(self, run: Run) -> int:
    """Steps done; the last one is done when the evaluation is."""
    steps, folder = run.experiment.training.steps, self._folder(run)
    return steps if record.is_done(folder) else min(record.last_step(folder), steps - 1)

  def _state(self, stopping: bool) -> str:
    done = len(self._runs) - len(self._waiting) - len(self._running) - len(self._failed)
    doing = 'stopping' if stopping else 'running'
    failed = f', {len(self._failed)} failed' if self._failed else ''
    others = '' if self._running or stopping else ', the others are at work in another sweep'
    return (f'{done}/{len(self._runs)} runs done, {len(self._running)} {doing}{failed}'
            f'{others if self._waiting else ""}')
