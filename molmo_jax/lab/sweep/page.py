"""The report as one HTML file: tables and plots of every study."""

from __future__ import annotations

import collections
import math
import statistics
from collections.abc import Sequence

from molmo_jax.evaluation.drawing import COLOURS
from molmo_jax.lab.sweep import tables
from molmo_jax.lab.sweep.results import MEAN, ArmResult, StudyResult
from molmo_jax.pages.plots import CurvePanel, Interval, IntervalPanel, Line, smooth, thin
from molmo_jax.pages.render import render

SMOOTHING = 0.8
CURVES = {'loss': 'Training loss', 'accuracy': 'Token accuracy in training',
          'validation/loss': 'Validation loss',
          'validation/accuracy': 'Token accuracy in validation'}


def report(studies: Sequence[StudyResult], title: str = 'Ablations') -> str:
  """The whole page."""
  runs = {run.folder for study in studies for arm in study.arms for run in arm.runs.values()}
  return render('sweep.html', title=title, studies=studies, runs=len(runs), tables=tables,
                colours=colours, accuracy_panels=accuracy_panels, curve_panels=curve_panels)


def colours(study: StudyResult) -> dict[str, str]:
  """Of every arm; the baseline has the colour of the text."""
  return {arm.name: f'rgb{COLOURS[(number - 1) % len(COLOURS)]}' if number else 'var(--text)'
          for number, arm in enumerate(study.arms)}


def accuracy_panels(study: StudyResult) -> list[IntervalPanel]:
  """One panel per task and one for their mean: mean and 95 % interval of every arm, and its seeds.
  """
  return [IntervalPanel(f'mean of {len(study.tasks)} tasks' if task == MEAN else task,
                        'accuracy, %', _rows(study, task), 100 * study.chance(task))
          for task in study.columns]


def _rows(study: StudyResult, task: str) -> list[Interval]:
  rows = []
  for arm in filter(lambda arm: arm.runs, study.arms):
    found = arm.mean(task)
    low, high = (None if math.isnan(b) else 100 * b for b in (found.low, found.high))
    values = [100 * run.accuracy[task] for run in arm.runs.values()]
    rows.append(Interval(arm.name, colours(study)[arm.name], values, 100 * found.mean, low, high))
  return rows


def curve_panels(study: StudyResult) -> list[CurvePanel]:
  """One panel per column of the log: the mean over the seeds, and their range."""
  panels = []
  for column, title in CURVES.items():
    lines = [_line(points, colours(study)[arm.name]) for arm in study.arms
             if (points := _over_seeds(arm, column))]
    if lines:
      panels.append(CurvePanel(title, 'by step', lines))
  return panels


def _over_seeds(arm: ArmResult, column: str) -> list[tuple[float, list[float]]]:
  """(step, values) over the seeds, each smoothed on its own, where all seeds have the step."""
  by_step: dict[float, list[float]] = collections.defaultdict(list)
  for run in arm.runs.values():
    points = [(row['step'], row[column]) for row in run.curves if column in row]
    for (step, _), value in zip(points, smooth([v for _, v in points], SMOOTHING)):
      by_step[step].append(value)
  return [(step, values) for step, values in sorted(by_step.items())
          if len(values) == len(arm.runs)]


def _line(points: list[tuple[float, list[float]]], colour: str) -> Line:
  mean, low, high = (thin([(step, f(values)) for step, values in points], 300)
                     for f in (statistics.fmean, min, max))
  return Line(mean, colour, band=[*high, *low[::-1]])
