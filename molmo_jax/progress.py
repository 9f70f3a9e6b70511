"""Progress with an estimate of the time left, for everything that takes longer than seconds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import RenderableType
from rich.progress import (
  BarColumn,
  MofNCompleteColumn,
  Progress,
  TextColumn,
  TimeElapsedColumn,
  TimeRemainingColumn,
)
from rich.text import Text

from molmo_jax.terminal import Terminal
from molmo_jax.visible import visible


class Display:
  """A live progress line in a terminal, the values of `update` below it; elsewhere a printed line
  at most every `interval` seconds, not wrapped.

  The time that is left follows from the pace since the first `update`: what comes before it, a
  compiler for example, is there only once.
  """

  def __init__(self, console: Terminal, title: str, total: int, start: int = 0,
               interval: float = 15.0):
    self._console, self._title, self._total, self._interval = console, title, total, interval
    self._printed, self._begun = 0.0, time.monotonic()
    self._first: tuple[int, float] | None = None   # what was done at the first update, and when
    self._last: int | None = None
    self._bar = None
    if console.is_terminal:
      self._bar = _Bar(TextColumn('{task.description}', markup=False), BarColumn(),
                       MofNCompleteColumn(), TimeElapsedColumn(), TextColumn('ETA'),
                       TimeRemainingColumn(), console=console)
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
    begun, since = self._first = self._first or (done, now)
    if now - self._printed > self._interval or done == self._total != self._last:
      self._printed, self._last, new = now, done, done - begun
      left = clock((now - since) / new * (self._total - done)) if new else '?'
      self._console.print(f'{self._title} {done}/{self._total}  {values}  elapsed '
                  f'{clock(now - self._begun)}  ETA {left}')

  @contextlib.contextmanager
  def during(self, what: str, shown: bool = True) -> Iterator[None]:
    """If `shown`, says that `what` is being done, such as 'compiling', and how long it took."""
    if not shown:
      yield
      return
    since = time.monotonic()
    if self._bar:
      self._bar.update(self._task, values=f'{what} …')
    else:
      self._console.print(f'{self._title}: {what} …')
    yield
    self._console.print(f'{self._title}: {what}, {time.monotonic() - since:.0f} s')

  def of(self, done: int, total: int) -> None:
    """Like `update`, for work whose size is known only when it runs."""
    self._total = total
    if self._bar:
      self._bar.update(self._task, total=total)
    self.update(done)


class _Bar(Progress):
  """Values stand below the bar, where 80 columns have room for them."""

  def get_renderables(self) -> Iterable[RenderableType]:
    yield self.make_tasks_table(self.tasks)
    values = [task.fields['values'] for task in self.tasks]
    yield from (Text(visible(f'  {text}')) for text in values if text)


def clock(seconds: float) -> str:
  """minutes:seconds."""
  return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'
