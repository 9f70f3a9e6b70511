"""Times two programs in turns on one machine: blocks A B A B, medians and spread.

Turns that other processes disturbed are left out.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Sequence

Run = Callable[[], float]     # does the work once; the seconds that count

# share of the machine that other processes may take while a run is timed
DISTURBED = 0.1


@dataclasses.dataclass(frozen=True)
class Timing:
  """Seconds of the runs of one program, and what share of the machine others took meanwhile."""
  seconds: tuple[float, ...]
  others: tuple[float, ...]

  @property
  def counted(self) -> tuple[float, ...]:
    """The runs that nobody disturbed; all of them where fewer than three are left."""
    quiet = tuple(s for s, share in zip(self.seconds, self.others, strict=True)
                  if share <= DISTURBED)
    return quiet if len(quiet) >= 3 else self.seconds

  @property
  def median(self) -> float:
    """Of the runs that count, in seconds."""
    return statistics.median(self.counted)

  def describe(self, work: float, unit: str) -> str:
    """Work per second: median, and the slowest and fastest run that counted."""
    rates = sorted(work / s for s in self.counted)
    disturbed = sum(share > DISTURBED for share in self.others)
    note = ''
    if disturbed:
      note = f', {disturbed} of {len(self.seconds)} runs disturbed by other processes'
      if len(self.counted) == len(self.seconds):
        note += ' and counted all the same'
    return (f'{work / self.median:.1f} {unit} (from {rates[0]:.1f} to {rates[-1]:.1f}, '
            f'{len(rates)} runs{note})')


def alternate(programs: Sequence[Run], blocks: int, runs: int) -> list[Timing]:
  """Times the programs in turns: `blocks` turns of `runs` runs each.

  Every program runs once before, and every turn begins with a run that does not count: it pays for
  memory and threads that the turn before it left behind.
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
  if busy is None:
    return seconds, 0.0
  others = _busy_seconds() - busy - (time.process_time() - own)
  return seconds, max(others, 0.0) / (wall * (os.cpu_count() or 1))


def _busy_seconds() -> float | None:
  """Seconds of work of all cores since the machine started; None without /proc/stat."""
  try:
    with open('/proc/stat', encoding='ascii') as file:
      user, nice, system, _, _, irq, softirq = (int(x) for x in file.readline().split()[1:8])
  except (OSError, ValueError):
    return None
  return (user + nice + system + irq + softirq) / os.sysconf('SC_CLK_TCK')
