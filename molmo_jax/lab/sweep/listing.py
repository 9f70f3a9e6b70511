"""What a sweep would do: studies, arms, flags, runs, and an estimate of the time."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path

from molmo_jax.lab.sweep import record
from molmo_jax.lab.sweep.study import RUNS, Plan
from molmo_jax.lab.sweep.tables import flags_text
from molmo_jax.progress import clock

# seconds of a run beside its steps: start, compilation, evaluation
AROUND = 30.0


def lines(plan: Plan, out: Path, processes: int) -> Iterator[str]:
  """Two lines per arm, and the sum; a run that several arms share is counted where it comes first.
  """
  counted, total = set(), 0.0
  for name, study in plan.studies.items():
    yield f'{name}: {study.claim}'
    yield f'  tasks: {", ".join(study.tasks)}'
    yield f'  for all arms: {flags_text(study.settings)}'
    width = max(map(len, study.arms))
    known = _mean_seconds(out / RUNS / run for runs in plan.arms[name].values() for run in runs)
    for arm, flags in study.arms.items():
      names = plan.arms[name][arm]
      new = [plan.runs[run] for run in names if run not in counted]
      counted |= {run.name for run in new}
      left = [run for run in new if not record.is_done(out / RUNS / run.name)]
      seconds = sum(known or AROUND + study.step_seconds * run.experiment.training.steps
                    for run in left)
      total += seconds
      earlier = len(names) - len(new)
      shared = f', {earlier} shared with a study above' if earlier else ''
      yield (f'  {arm:{width}}  {len(new)} runs, {len(new) - len(left)} done{shared}; '
             f'{clock(seconds)} left')
      yield f'  {"":{width}}  {flags_text(flags)}'
    yield ''
  yield (f'{len(counted)} runs; with {processes} at a time about {clock(total / processes)} are '
    'left (minutes:seconds; before the first run of a study a rough estimate)')


def _mean_seconds(folders: Iterable[Path]) -> float:
  """Of the finished runs; 0 where there are none."""
  known = [record.read_done(folder)['seconds'] for folder in folders if record.is_done(folder)]
  return statistics.fmean(known) if known else 0.0
