"""Times two programs in turns on one machine: blocks A B A B, medians and spread.

Runs that other processes disturbed are left out.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Sequence

Run = Callable[[], float]     # does the work once; returns the seconds that count

# fraction of the machine that other processes may use while a run is timed
DISTURBED = 0.1


@dataclasses.dataclass(frozen=True)
class Timing:
  """Seconds of the runs of one program, and the fraction of all cores that others used meanwhile.
  """
  seconds: tuple[float, ...]
  others: tuple[float, ...]

  @property
  def counted(self) -> tuple[float, ...]:
    """The undisturbed runs; all of them where fewer than three are left."""
    quiet = tuple(s for s, share in zip(self.seconds, self.others, strict=True)
                  if share <= DISTURBED)
    return quiet if len(quiet) >= 3 else self.seconds

  @property
  def median(self) -> float:
    """The median of the runs that count, in seconds."""
    return statistics.median(self.counted)

  def describe(self, work: float, unit: str) -> str:
    """Work per second: median, and the slowest and fastest run that counted."""
    rates = sorted(work / s for s in self.counted)
    runs, disturbed = len(self.seconds), sum(share > DISTURBED for share in self.others)
    note = f', {disturbed} of {runs} runs disturbed by other processes' if disturbed else ''
    if disturbed and len(rates) == runs:
      note += ' and counted all the same'
    return (f'{work / self.median:.1f} {unit} (from {rates[0]:.1f} to {rates[-1]:.1f}, '
            f'{len(rates)} runs{note})')


def timed(work: Callable[[], None]) -> Run:
  """A run whose every second counts."""
  def run() -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
  return run


def alternate(programs: Sequence[Run], blocks: int, runs: int) -> list[Timing]:
  """Times the programs in turns: `blocks` turns of `runs` runs each.

  Every program runs once beforehand. The first run of a turn does not count: it pays for the memory
  and the threads that the turn before it left behind.
  """
  found: list[list[tuple[float, float]]] = [[] for _ in programs]
  for run in programs:
    run()
  for _ in range(blocks):
    for results, run in zip(found, programs, strict=True):
      run()
      results += [watch(run) for _ in range(runs)]
  return [Timing(*(tuple(column) for column in zip(*results, strict=True))) for results in found]


def watch(run: Run) -> tuple[float, float]:
  """The seconds that `run` returns, and the fraction of all cores that other processes used."""
  own, busy, start = time.process_time(), _busy_seconds(), time.perf_counter()
  seconds = run()
  wall = time.perf_counter() - start
  after = _busy_seconds()
  if busy is None or after is None:
    return seconds, 0.0
  others = after - busy - (time.process_time() - own)
  return seconds, max(others, 0.0) / (wall * (os.cpu_count() or 1))


def _busy_seconds() -> float | None:
  """Seconds that all cores have worked since the machine started; None without /proc/stat."""
  try:
    with open('/proc/stat', encoding='ascii') as file:
      user, nice, system, _, _, irq, softirq = (int(x) for x in file.readline().split()[1:8])
  except (OSError, ValueError):
    return None
  return (user + nice + system + irq + softirq) / os.sysconf('SC_CLK_TCK')
