"""Runs training processes, several at a time, until all are done or the sweep is stopped."""

from __future__ import annotations

import collections
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path
from typing import IO

from molmo_jax import stopping
from molmo_jax.files import write_json
from molmo_jax.lab.sweep import record
from molmo_jax.lab.sweep.resources import Share
from molmo_jax.lab.sweep.study import RUNS, Run
from molmo_jax.programs import HOME
from molmo_jax.progress import Display
from molmo_jax.terminal import Terminal

PROGRAM = HOME / 'train.py'
POLL = 0.2                                      # seconds between two looks at the processes
# seconds between asking a process to stop and killing it
PATIENCE = 120.0
SHOWN = 8                                       # lines of a failed run's log


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How a sweep ended."""
  failed: tuple[str, ...]                       # names of runs
  stopped: stopping.Stopped | None              # by a signal, before all runs were finished


class Scheduler:
  """Keeps every share busy with one run: a thread for each starts one process after the other."""

  def __init__(self, runs: Sequence[Run], out: Path, config_file: str, shares: Sequence[Share],
               console: Terminal):
    self._runs, self._out, self._config, self._console = list(runs), out, config_file, console
    self._shares = shares
    self._waiting = collections.deque(run for run in runs if not record.is_done(self._folder(run)))
    self._running: dict[str, subprocess.Popen] = {}
    self._asked: set[str] = set()               # runs that know that they should stop
    self._failed: list[str] = []
    self._ending: float | None = None           # when runs are killed, of the monotonic clock

  def work(self) -> Outcome:
    """Runs everything.

    At SIGINT or SIGTERM the active runs write their checkpoints and end; a second signal kills
    them.
    """
    total = sum(run.experiment.training.steps for run in self._runs)
    display = Display(self._console, 'sweep, steps of all runs', total, self._steps())
    finishing = stopping.finishing('after the steps that run; the same command resumes',
                                   second=lambda: self._end(0))
    with (futures.ThreadPoolExecutor(len(self._shares)) as pool, stopping.listening(), finishing,
          display):
      left = [pool.submit(self._serve, share) for share in self._shares]
      try:
        while left:
          ended, left = futures.wait(left, POLL)
          for worker in ended:
            worker.result()                     # raises what it raised
          if stopping.received() and self._ending is None:
            self._end(PATIENCE)
          self._end_processes()
          display.update(self._steps(), self._state())
      finally:                                  # none is left behind
        self._end(0)
        self._end_processes()
    return Outcome(tuple(self._failed), self._waiting and stopping.received() or None)

  def _end(self, patience: float) -> None:
    self._ending = time.monotonic() + patience

  def _folder(self, run: Run) -> Path:
    return self._out / RUNS / run.name

  def _serve(self, share: Share) -> None:
    """Takes one run after the other; those that another sweep works on wait."""
    if share.cores:
      os.sched_setaffinity(0, share.cores)      # of this thread, and of the processes it starts
    while self._ending is None:
      try:
        run = self._waiting.popleft()
      except IndexError:
        return
      lock = record.lock(self._folder(run))
      if lock is None:
        self._waiting.append(run)
        time.sleep(POLL)
        continue
      with lock:
        if not record.is_done(self._folder(run)):   # by another sweep, meanwhile
          self._train(run, share, lock)

  def _train(self, run: Run, share: Share, lock: IO[bytes]) -> None:
    folder, began = self._folder(run), time.monotonic()
    command = [sys.executable, str(PROGRAM), *run.arguments(self._config, folder)]
    write_json(folder / record.FLAGS, {'flags': run.flags, 'command': command})
    cache = {'JAX_COMPILATION_CACHE_DIR': str(self._out / 'cache'),
             'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2'}
    environment = {**cache, **os.environ, **share.environment, 'PYTHONUNBUFFERED': '1'}
    with open(folder / record.LOG, 'a', encoding='utf-8') as log:
      log.write(f'---- {time.strftime("%Y-%m-%d %H:%M:%S")} ----\n')
      log.flush()
      process = self._running[run.name] = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment,
        pass_fds=[lock.fileno()], start_new_session=True)
    self._end_processes()                       # a signal that came meanwhile holds for it, too
    status = process.wait()
    if status == 0 and (folder / record.SUMMARY).is_file():
      record.mark_done(folder, run.experiment.model, time.monotonic() - began)
    elif self._ending is not None:
      self._waiting.append(run)
    else:
      self._failed.append(run.name)
      self._show_failure(run, status)
    del self._running[run.name]

  def _show_failure(self, run: Run, status: int) -> None:
    how = f'ended with status {status}'
    if status < 0:
      how = f'was ended by {signal.Signals(-status).name}'
    log = self._folder(run) / record.LOG
    self._console.print(f'failed: {run.name} {how}; its log, {log}, ends with', style='red',
                        soft_wrap=True)
    for line in record.last_lines(log, SHOWN):
      self._console.print(f'  {line}')

  def _end_processes(self) -> None:
    """After a first signal, asks each process once to stop; after a second, or too long, kills it.
    """
    if self._ending is None:
      return
    late = time.monotonic() >= self._ending
    for name, process in list(self._running.items()):
      if late:
        process.kill()
      elif name not in self._asked:
        self._asked.add(name)
        process.terminate()

  def _steps(self) -> int:
    """Steps done of all runs; the last one of a run is done when its evaluation is."""
    done = 0
    for run in self._runs:
      steps, folder = run.experiment.training.steps, self._folder(run)
      over = run.name in self._failed or record.is_done(folder)   # of a failed run nothing is left
      done += steps if over else min(record.last_step(folder), steps - 1)
    return done

  def _state(self) -> str:
    done = sum(record.is_done(self._folder(run)) for run in self._runs)
    doing = 'running' if self._ending is None else 'stopping'
    failed = f', {len(self._failed)} failed' if self._failed else ''
    others = self._waiting and not self._running and self._ending is None
    return (f'{done}/{len(self._runs)} runs done, {len(self._running)} {doing}{failed}'
            + ', the others are at work in another sweep' * bool(others))
