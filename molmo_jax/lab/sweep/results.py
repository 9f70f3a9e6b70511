"""The results in a sweep's folders: accuracies of runs, and means and differences of studies."""

from __future__ import annotations

import collections
import dataclasses
import functools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from molmo_jax.configuration import ConfigError
from molmo_jax.evaluation.compare import sign_flip_p
from molmo_jax.evaluation.predictions import read_predictions
from molmo_jax.evaluation.summary import read_summary
from molmo_jax.files import read_json, write_json
from molmo_jax.lab.sweep import record
from molmo_jax.lab.sweep.statistics import Mean, Paired, mean_of, paired_t_test
from molmo_jax.lab.sweep.study import RUNS, Plan
from molmo_jax.pages.curves import read_metrics

STUDIES = 'studies.json'                        # in --out: which runs belong to which arm
# of the tasks that a study looks at: its main outcome
MEAN = 'mean'


@dataclasses.dataclass(frozen=True)
class RunResult:
  """One finished run."""
  folder: Path
  # of every task, and `MEAN` of those of the study; fractions
  accuracy: dict[str, float]
  chance: dict[str, float]
  curves: list[dict[str, Any]]                  # rows of metrics.jsonl
  parameters: int
  seconds: float

  @property
  def flops(self) -> float:
    """Operations of one training step, forward and backward: mean over the rows of the log."""
    return statistics.fmean(1e12 * row['tflops'] * row['seconds_per_step']
                            for row in self._measured())

  @property
  def step_seconds(self) -> float:
    """Median over the rows of the log but the first, which compiles."""
    rows = self._measured()
    return statistics.median(row['seconds_per_step'] for row in rows[1:] or rows)

  @functools.cached_property
  def scores(self) -> dict[tuple[str, str], float]:
    """Of every example, by task and id."""
    return {(r.task, r.id): r.score for r in read_predictions(self.folder / record.PREDICTIONS)}

  def _measured(self) -> list[dict[str, Any]]:
    return [row for row in self.curves if 'tflops' in row]


@dataclasses.dataclass(frozen=True)
class ArmResult:
  """The finished runs of one arm, by seed."""
  name: str
  flags: dict[str, Any]
  runs: dict[int, RunResult]

  def mean(self, task: str) -> Mean:
    """Mean accuracy of a task over the random seeds, with its interval."""
    return mean_of([run.accuracy[task] for run in self.runs.values()])

  def typical(self, measure: str) -> float:
    """The median over the runs of a number such as 'flops'."""
    return statistics.median(getattr(run, measure) for run in self.runs.values())


@dataclasses.dataclass(frozen=True)
class StudyResult:
  """One study as far as it has been run. The first of `arms` is the baseline."""
  name: str
  claim: str
  tasks: tuple[str, ...]
  arms: list[ArmResult]
  seeds: int                                    # runs of each arm that there should be

  @property
  def baseline(self) -> ArmResult:
    """The first arm, which the others are compared with."""
    return self.arms[0]

  @property
  def columns(self) -> tuple[str, ...]:
    """The tasks, and their mean where there are several."""
    return self.tasks if len(self.tasks) == 1 else (*self.tasks, MEAN)

  @property
  def compared(self) -> list[ArmResult]:
    """The arms that have a seed in common with the baseline, without it."""
    return [arm for arm in self.arms[1:] if arm.runs.keys() & self.baseline.runs.keys()]

  @property
  def missing(self) -> int:
    """Runs that are not finished."""
    return sum(self.seeds - len(arm.runs) for arm in self.arms)

  def chance(self, task: str) -> float:
    """Accuracy of guessing in a task."""
    run = next(run for arm in self.arms for run in arm.runs.values())
    return run.chance[task]

  def difference(self, arm: ArmResult, task: str = MEAN) -> Paired:
    """`arm` − baseline over the seeds that both have."""
    return paired_t_test(*([side.runs[seed].accuracy[task] for seed in self._common(arm)]
                           for side in (self.baseline, arm)))

  def p_over_examples(self, arm: ArmResult) -> float:
    """Two-sided sign-flip test over the examples, each with its mean score over the seeds."""
    by_example: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    for seed in self._common(arm):
      before, after = self.baseline.runs[seed].scores, arm.runs[seed].scores
      for key in before.keys() & after.keys():
        if key[0] in self.tasks:
          by_example[key].append(after[key] - before[key])
    differences = [statistics.fmean(by_example[key]) for key in sorted(by_example)]
    return sign_flip_p(np.array(differences), np.random.default_rng(0))

  def _common(self, arm: ArmResult) -> list[int]:
    return sorted(arm.runs.keys() & self.baseline.runs.keys())


def write_plan(out: Path, plan: Plan, seeds: int) -> None:
  """Adds the studies of `plan` to `<out>/studies.json`, from which reports are made."""
  path = out / STUDIES
  known = read_json(path) if path.exists() else {}
  for name, study in plan.studies.items():
    arms = {arm: {'flags': study.arms[arm], 'runs': runs} for arm, runs in plan.arms[name].items()}
    known[name] = {'claim': study.claim, 'tasks': study.tasks, 'seeds': seeds, 'arms': arms}
  write_json(path, known)


def read_results(out: Path, names: Sequence[str] | None = None) -> list[StudyResult]:
  """The studies in `out` (`names`: only these) that have a finished run.

  Raises:
    ConfigError: `out` is no folder of a sweep, has no finished run of these studies, or a run lacks
      a task.
  """
  path = out / STUDIES
  if not path.exists():
    raise ConfigError(f'{path} is missing: {out} is not the folder of a sweep')
  known = read_json(path)
  absent = [name for name in names or () if name not in known]
  if absent:
    raise ConfigError(f'{path} has no study {", ".join(absent)}; it has: {", ".join(known)}')
  found = [_read_study(out, name, known[name]) for name in names or known]
  found = [study for study in found if any(arm.runs for arm in study.arms)]
  if not found:
    raise ConfigError(f'{out}: no run is finished yet')
  return found


def _read_study(out: Path, name: str, study: Mapping[str, Any]) -> StudyResult:
  tasks, arms = tuple(study['tasks']), []
  for arm, described in study['arms'].items():
    folders = {seed: out / RUNS / run for seed, run in enumerate(described['runs'])}
    arms.append(ArmResult(arm, described['flags'],
                          {s: _read_run(folder, tasks) for s, folder in folders.items()
                           if record.is_done(folder)}))
  return StudyResult(name, study['claim'], tasks, arms, study['seeds'])


def _read_run(folder: Path, tasks: tuple[str, ...]) -> RunResult:
  rows, done = read_summary(folder / record.SUMMARY)['tasks'], record.read_done(folder)
  absent = [task for task in tasks if task not in rows]
  if absent:
    raise ConfigError(f'{folder / record.SUMMARY} has no task {", ".join(absent)}, which the study '
      f'asks for; it has: {", ".join(rows)}')
  columns = {column: {task: row[column] for task, row in rows.items()}
             for column in ('accuracy', 'chance')}
  for column in columns.values():
    column[MEAN] = statistics.fmean(column[task] for task in tasks)
  return RunResult(folder, columns['accuracy'], columns['chance'],
                   read_metrics(folder / record.METRICS), done['parameters'], done['seconds'])
