"""The campaign: processes that work through the inputs, what is counted, what is kept."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.campaign.engine import ROOT, SECONDS, TRACE, Outcome

FRESH = 2000                     # inputs after which a process is replaced, so that nothing adds up
START = 300.0                    # seconds in which a process must be ready
KEPT = 3                         # inputs that are kept of every kind of fault


class Worker:
  """The process of one area; replaced when it hangs or ends."""

  def __init__(self, area: str, seed: int, folder: Path):
    self._area, self._seed, self._folder = area, seed, folder
    self._process, self._served = None, 0

  def ask(self, number: int) -> Outcome:
    """Lets the process examine input `number`."""
    if self._process is None or self._served >= FRESH:
      self.start()
    begun = time.monotonic()
    self._served += 1
    self._process.stdin.write(f'{number}\n')
    self._process.stdin.flush()
    line = self._line(SECONDS)
    if line:
      return Outcome(**json.loads(line))
    self.close(seconds=0 if line is None else 5)
    trace = (self._folder / TRACE).read_text() if (self._folder / TRACE).exists() else ''
    frames = [text.strip() for text in trace.splitlines() if str(ROOT) in text]
    place = next((f for f in frames if f'{ROOT}/molmo_jax' in f), (frames or ['unknown'])[0])
    what = (self._folder / 'what.txt').read_text()
    reason = (f'hangs for {SECONDS:.0f} s at {place}' if line is None else
              f'ended the process ({_ending(self._status)}) at {place}')
    return Outcome(number, what, 'bad', reason, time.monotonic() - begun)

  def close(self, seconds: float = 0) -> None:
    """Ends the process, if it does not end within `seconds` by itself."""
    if self._process is not None:
      try:
        self._status = self._process.wait(seconds)
      except subprocess.TimeoutExpired:
        self._process.kill()
        self._status = self._process.wait()
      self._process.stdin.close()
      self._process.stdout.close()
      self._process = None

  def start(self) -> None:
    """Starts it anew; it prepares what all inputs are made from."""
    self.close()
    environment = os.environ | {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, '-m', 'tests.campaign.engine', self._area, str(self._seed),
               str(self._folder)]
    with open(self._folder / 'stderr.txt', 'wb') as messages:
      self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, text=True,
                                       stdout=subprocess.PIPE, stderr=messages)
    self._served = 0
    if self._line(START) != 'ready\n':
      self.close()
      raise RuntimeError(f'{self._area}: the process does not start: '
                         f'{(self._folder / "stderr.txt").read_text()[-2000:]}')

  def _line(self, seconds: float) -> str | None:
    """What the process says next; '' when it has ended, None when it has computed for `seconds`, or
    has waited four times as long. On a busy machine a process that computes may take longer.
    """
    begun = before = self._computed()
    waited = 0
    while True:
      ready, _, _ = select.select([self._process.stdout], [], [], seconds)
      if ready:
        return self._process.stdout.readline()
      now = self._computed()
      waited = waited + 1 if now - before < 0.05 else 0
      if now - begun > seconds or waited == 4:
        return None
      before = now

  def _computed(self) -> float:
    """Seconds of processor time that the process has had."""
    try:
      fields = Path(f'/proc/{self._process.pid}/stat').read_text().rpartition(')')[2].split()
    except OSError:
      return 0.0
    return sum(map(int, fields[11:13])) / os.sysconf('SC_CLK_TCK')


def _ending(status: int) -> str:
  return signal.Signals(-status).name if status < 0 else f'status {status}'


@dataclasses.dataclass
class Tally:
  """The row of an area in the table."""
  area: str
  counts: Counter = dataclasses.field(default_factory=Counter)
  faults: Counter = dataclasses.field(default_factory=Counter)
  examples: dict[str, Outcome] = dataclasses.field(default_factory=dict)
  seconds: float = 0.0
  slowest: float = 0.0
  peak: int = 0

  @property
  def tried(self) -> int:
    """Inputs so far."""
    return sum(self.counts.values())

  def add(self, outcome: Outcome) -> None:
    """Counts one more."""
    self.counts[outcome.kind] += 1
    self.slowest = max(self.slowest, outcome.seconds)
    self.peak = max(self.peak, outcome.peak)
    if outcome.kind == 'bad':
      self.faults[kind_of(outcome.reason)] += 1
      self.examples.setdefault(kind_of(outcome.reason), outcome)


def kind_of(reason: str) -> str:
  """The same text for faults that differ in values alone."""
  text, at, place = reason.rpartition(' at ')
  if exception := re.match(r'\w+: ', text):
    return exception[0] + place
  return re.sub(r"'[^']*'|\[[^]]*\]|[\d.]+", '…', text) + at + place


def run_area(area: str, seed: int, numbers: Iterable[int], total: int | None, seconds: float,
             out: Path) -> Tally:
  """Examines inputs until they or the time are used up, and says every ten seconds how far it is.

  Args:
    total: how many `numbers` there are; None: the time ends them.
    seconds: the time, after the preparations.
    out: folder; bad inputs are kept in `out/bad`.
  """
  tally, folder = Tally(area), out / area
  shutil.rmtree(folder, ignore_errors=True)     # of another version of the project, perhaps
  folder.mkdir(parents=True)
  worker = Worker(area, seed, folder)
  worker.start()
  begun = said = time.monotonic()
  for number in numbers:
    outcome = worker.ask(number)
    tally.add(outcome)
    if outcome.kind == 'bad' and tally.faults[kind_of(outcome.reason)] <= KEPT:
      keep(folder, out / 'bad' / f'{area}-{number}', outcome, seed)
    now = time.monotonic()
    tally.seconds = now - begun
    if now - said > 10:
      said = now
      print(_progress(tally, total, seconds), flush=True)
    if tally.seconds > seconds:
      break
  worker.close()
  return tally


def _progress(tally: Tally, total: int | None, seconds: float) -> str:
  rate = tally.tried / tally.seconds
  left = seconds - tally.seconds if total is None else min(seconds - tally.seconds,
                                                           (total - tally.tried) / rate)
  return (f'{tally.area}: {tally.tried:,}{f" of {total:,}" if total else ""}, '
          f'{tally.counts["bad"]} bad, {rate:.0f} a second, {left / 60:.1f} minutes left')


def keep(folder: Path, target: Path, outcome: Outcome, seed: int) -> None:
  """Copies a bad input, with a file that says what is wrong and how to make it again."""
  shutil.rmtree(target, ignore_errors=True)
  ordinary = lambda path, names: [n for n in names if not (Path(path, n).is_file()
                                                           or Path(path, n).is_dir())]
  if (folder / 'input').exists():
    shutil.copytree(folder / 'input', target, ignore=ordinary)
  target.mkdir(parents=True, exist_ok=True)
  area = folder.name
  (target / 'HOW.txt').write_text(
    f'{outcome.what}\n{outcome.reason}\n'
    f'python -m tests.campaign --area={area} --seed={seed} --number={outcome.number}\n',
    errors='replace')


def table(tallies: Iterable[Tally]) -> str:
  """The table, as Markdown."""
  lines = ['| area | tried | right | clean error | bad | seconds | slowest | most memory |',
           '| --- | --: | --: | --: | --: | --: | --: | --: |']
  for t in tallies:
    lines.append(f'| {t.area} | {t.tried:,} | {t.counts["right"]:,} | {t.counts["clean error"]:,} '
                 f'| {t.counts["bad"]:,} | {t.seconds:,.0f} | {t.slowest:.1f} s '
                 f'| {t.peak / 1e6:,.0f} MB |')
  return '\n'.join(lines)
