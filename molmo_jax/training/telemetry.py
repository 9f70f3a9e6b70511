"""What a run measures and writes while it trains (metrics.jsonl, TensorBoard) and the tables that
it prints before.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np
from rich.table import Table
from tensorboardX import SummaryWriter

from molmo_jax.errors import MolmoError
from molmo_jax.files import write_atomically
from molmo_jax.pages.curves import read_metrics
from molmo_jax.parameters import flatten_paths
from molmo_jax.progress import Display
from molmo_jax.terminal import make_table
from molmo_jax.training.flops import Work


class MetricsLog:
  """Appends lines to `<workdir>/metrics.jsonl` and to TensorBoard; only the first process writes.

  A resumed run drops the lines after the step that it resumes from: no step appears twice.
  """

  def __init__(self, workdir: Path, start_step: int, enabled: bool = True):
    self._file: IO[str] | None = None
    self._board: Any = None
    if enabled:
      workdir.mkdir(parents=True, exist_ok=True)
      path = workdir / 'metrics.jsonl'
      kept = read_metrics(path, start_step)
      write_atomically(path, ''.join(json.dumps(row) + '\n' for row in kept))
      self._file = open(path, 'a', buffering=1)
      self._board = SummaryWriter(str(workdir / 'tensorboard'), purge_step=start_step + 1)

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Appends the values of one step."""
    if self._file:
      self._file.write(json.dumps({'step': step, **metrics}) + '\n')
      for name, value in metrics.items():
        self._board.add_scalar(name, value, step)

  def close(self) -> None:
    """Ends both files."""
    if self._file:
      self._file.close()
      self._board.close()


class Reports:
  """Metrics of the steps that are logged, fetched one log later: the devices never wait for them.

  The loss and the gradient of every step stay on the devices, with its records on the host, until a
  later report shows that they were finite.
  """

  def __init__(self, display: Display, log: MetricsLog, named: Callable[[Any], list[str]]):
    """`named` gives file and line of the records of a batch."""
    self._display, self._log, self._named = display, log, named
    self._recent: list[tuple[int, Mapping[str, Any], Any]] = []
    self._pending: tuple[int, Mapping[str, Any], Mapping[str, float]] | None = None

  def ran(self, step: int, metrics: Mapping[str, Any], records: Any) -> None:
    """One step more: its metrics, on the devices, and the records of its batch."""
    self._recent.append((step, metrics, records))

  def due(self, step: int, metrics: Mapping[str, Any], rates: Mapping[str, float]) -> None:
    """Reports the step that was due before, and keeps this one for the next time."""
    self.flush()
    self._pending = step, metrics, rates

  def flush(self) -> None:
    """Writes and shows the metrics of the step that is due.

    Raises:
      MolmoError: they are not finite; names the first such step and its records.
    """
    if self._pending is None:
      return
    (step, metrics, rates), self._pending = self._pending, None
    values = {name: float(x) for name, x in jax.device_get(metrics).items() if name != 'tokens'}
    self._log.write(step, {**values, **rates})
    self.check(step, values)
    mfu = f'  MFU {100 * rates["mfu"]:.0f} %' if 'mfu' in rates else ''
    waiting = rates['time/data']
    slow = f'  {100 * waiting:.0f} % waiting for data: raise data.workers' if waiting > 0.3 else ''
    self._display.update(step, f'loss {values["loss"]:.3f}  accuracy {values["accuracy"]:.3f}  '
                               f'{rates["tokens_per_second"]:,.0f} tokens/s{mfu}{slow}')

  def check(self, last: int, metrics: Mapping[str, Any]) -> None:
    """Raises MolmoError if `metrics`, of step `last`, are not finite; before every checkpoint."""
    if not _is_finite(metrics):
      step, metrics, records = next(entry for entry in self._recent if not _is_finite(entry[1]))
      raise MolmoError(
        f'the loss is {float(metrics["loss"])} at step {step}, the norm of the gradient '
        f'{float(metrics["gradient_norm"])}; no checkpoint was written since. Look at the records '
        f'of this batch, or resume with a lower learning rate: {", ".join(self._named(records))}')
    self._recent = [entry for entry in self._recent if entry[0] > last]


def _is_finite(metrics: Mapping[str, Any]) -> bool:
  return math.isfinite(metrics['loss']) and math.isfinite(metrics['gradient_norm'])


class Meter:
  """Where the time goes, and how much useful work is done in it; per process, from the host's
  clock.

  Seconds are what the host spends: the device works on while it fetches data. 'step' is everything
  that is neither start, data, checkpoint nor evaluation, the wait for the device among it.
  """

  def __init__(self, flops: Callable[[Work], float], shards: int, devices: int, peak: float | None):
    """`flops` of this process's work; every batch has `shards` such shards; `peak` of one of all
    `devices`.
    """
    self._flops, self._shards, self._peak = flops, shards, peak and peak * devices
    self._spent: dict[str, float] = {}
    self._work, self._steps, self._since = Work(), 0, time.monotonic()

  @contextlib.contextmanager
  def __call__(self, what: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    self._spent[what] = self._spent.get(what, 0.0) + time.monotonic() - begun

  def add(self, work: Work) -> None:
    """One step more."""
    self._work, self._steps = self._work + work, self._steps + 1

  def take(self) -> dict[str, float]:
    """Rates and fractions of time since the last call."""
    now = time.monotonic()
    seconds = now - self._since - sum(self._spent.get(w, 0.0) for w in ('start', 'evaluation'))
    work, of = self._work, lambda used, room: 1 - used / room if room else 0.0
    values = {'seconds_per_step': seconds / max(self._steps, 1),
              'tokens_per_second': work.tokens * self._shards / seconds,
              'crops_per_second': work.crops * self._shards / seconds,
              'padding/tokens': of(work.tokens, work.capacity),
              'padding/crops': of(work.crops, work.crop_capacity),
              # forward, and twice that backward
              'tflops': 3 * self._flops(work) * self._shards / seconds / 1e12}
    if self._peak:
      values['mfu'] = values['tflops'] * 1e12 / self._peak
    for what in ('data', 'checkpoint'):
      values[f'time/{what}'] = self._spent.get(what, 0.0) / seconds
    values['time/step'] = 1 - values['time/data'] - values['time/checkpoint']
    used = (jax.local_devices()[0].memory_stats() or {}).get('peak_bytes_in_use')
    if used:
      values['memory_gib'] = used / 2 ** 30
    self._work, self._steps, self._spent, self._since = Work(), 0, {}, now
    return values


def parameter_table(params: Any) -> Table:
  """Every parameter with its shape, standard deviation aside: path, shape, dtype, count; and the
  sum per tower.
  """
  table = make_table('path', 'shape', 'dtype', 'count', texts=3, title='parameters')
  towers: dict[str, int] = {}
  for path, leaf in flatten_paths(params).items():
    size = int(np.prod(leaf.shape))
    towers[path.split('/')[0]] = towers.get(path.split('/')[0], 0) + size
    table.add_row(path, ' × '.join(map(str, leaf.shape)), str(leaf.dtype), f'{size:,}')
  table.add_section()
  for tower, size in towers.items():
    table.add_row(f'{tower}/…', '', '', f'{size:,}')
  table.add_row('all', '', '', f'{sum(towers.values()):,}', style='bold')
  return table


def batch_table(batch: Mapping[str, np.ndarray]) -> Table:
  """Every array of a batch: shape, dtype, range, and the fraction in use where a field has padding.
  """
  table = make_table('field', 'shape', 'dtype', 'least', 'largest', 'in use', texts=3,
                     title='first batch')
  in_use = dict(tokens=batch['segments'] >= 0, feature_index=batch['feature_index'] >= 0,
                visual=batch['visual'] > 0, loss_weights=batch['loss_weights'] > 0,
                pool_index=batch['pool_index'] >= 0)
  for name, x in batch.items():
    used = f'{100 * in_use[name].mean():.0f} %' if name in in_use and x.size else ''
    least, largest = (f'{x.min():g}', f'{x.max():g}') if x.size else ('', '')
    table.add_row(name, ' × '.join(map(str, x.shape)), str(x.dtype), least, largest, used)
  return table
