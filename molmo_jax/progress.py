"""Progress with an estimate of the time left, for everything that takes longer than seconds."""

from __future__ import annotations

import time
from typing import Any

from rich.progress import (
  BarColumn,
  MofNCompleteColumn,
  Progress,
  TextColumn,
  TimeElapsedColumn,
  TimeRemainingColumn,
)

from molmo_jax.terminal import Terminal
from molmo_jax.visible import visible


class Display:
  """A live progress line in a terminal; elsewhere a printed line at most every `interval` seconds.
  """

  def __init__(self, console: Terminal, title: str, total: int, start: int = 0,
               interval: float = 15.0):
    self._console, self._title, self._total, self._interval = console, title, total, interval
    self._printed, self._begun, self._start = 0.0, time.monotonic(), start
    self._last: int | None = None
    self._bar = None
    if console.is_terminal:
      self._bar = Progress(TextColumn('{task.description}', markup=False), BarColumn(),
                           MofNCompleteColumn(), TextColumn('{task.fields[values]}', markup=False),
                           TimeElapsedColumn(), TextColumn('ETA'), TimeRemainingColumn(),
                           console=console)
      self._task = self._bar.add_task(visible(title), total=total, completed=start, values='')

  def __enter__(self) -> Display:
    if self._bar:
      self._bar.start()
    return self

  def __exit__(self, *exc: Any) -> None:
    if self._bar:
      self._bar.stop()

  def update(self, done: int, values: str = '') -> None:
    """Shows that `done` of the total are done."""
    if self._bar:
      fields: dict[str, Any] = {'values': visible(values)} if values else {}
      self._bar.update(self._task, completed=done, **fields)
      return
    now = time.monotonic()
    if now - self._printed > self._interval or done == self._total != self._last:
      self._printed, self._last, spent = now, done, now - self._begun
      new = done - self._start
      left = clock(spent / new * (self._total - done)) if new else '?'
      self._console.print(f'{self._title} {done}/{self._total}  {values}  elapsed {clock(spent)}  '
                          f'ETA {left}')

  def of(self, done: int, total: int) -> None:
    """Like `update`, for work whose size is known only when it runs."""
    self._total = total
    if self._bar:
      self._bar.update(self._task, total=total)
    self.update(done)


def clock(seconds: float) -> str:
  """minutes:seconds."""
  return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'
