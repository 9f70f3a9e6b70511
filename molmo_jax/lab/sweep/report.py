"""All files of a report: report.md, report.html, results.csv and results.json."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from molmo_jax.files import write_atomically
from molmo_jax.lab.sweep import markdown, page
from molmo_jax.lab.sweep.results import MEAN, ArmResult, StudyResult

COLUMNS = ('study', 'arm', 'seed', 'task', 'accuracy', 'chance', 'parameters', 'flops_per_step',
           'seconds_per_step', 'folder')


def write_report(studies: Sequence[StudyResult], out: Path) -> list[Path]:
  """Writes the four files into `out`, each whole or not at all, and gives their paths."""
  texts = {'report.md': markdown.report(studies), 'report.html': page.report(studies),
           'results.csv': as_csv(studies),
           'results.json': json.dumps(as_json(studies), indent=2, allow_nan=False) + '\n'}
  for name, text in texts.items():
    write_atomically(out / name, text)
  return [out / name for name in texts]


def as_csv(studies: Sequence[StudyResult]) -> str:
  """One line per run and task, with accuracies as fractions; `mean` is over the study's tasks."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(COLUMNS)
  for study in studies:
    for arm in study.arms:
      for seed, run in arm.runs.items():
        for task, accuracy in run.accuracy.items():
          writer.writerow([study.name, arm.name, seed, task, accuracy, run.chance[task],
                           run.parameters, f'{run.flops:.6g}', f'{run.step_seconds:.6g}',
                           run.folder.name])
  return text.getvalue()


def as_json(studies: Sequence[StudyResult]) -> dict[str, Any]:
  """Study → arm → means with intervals, differences with p-values, and cost.

  Accuracies are fractions; an interval or p-value of one seed is null.
  """
  return {study.name: {'claim': study.claim, 'tasks': study.tasks, 'baseline': study.baseline.name,
                       'arms': {arm.name: _arm(study, arm) for arm in study.arms if arm.runs}}
          for study in studies}


def _arm(study: StudyResult, arm: ArmResult) -> dict[str, Any]:
  columns = (*study.tasks, MEAN)
  found = {'flags': arm.flags, 'seeds': sorted(arm.runs),
           'accuracy': {task: _plain(arm.mean(task)) for task in columns},
           'parameters': arm.typical('parameters'), 'flops_per_step': arm.typical('flops'),
           'seconds_per_step': arm.typical('step_seconds'),
           'seconds': [run.seconds for run in arm.runs.values()]}
  if arm in study.compared:
    found['difference'] = {task: _plain(study.difference(arm, task)) for task in columns}
    found['p_over_examples'] = study.p_over_examples(arm)
  return found


def _plain(record: Any) -> dict[str, float | None]:
  return {name: None if isinstance(x, float) and math.isnan(x) else x
          for name, x in vars(record).items()}
