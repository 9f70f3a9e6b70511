"""The plots of a study as SVG: accuracy per task with intervals, and learning curves with their
spread over seeds.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import statistics
from collections.abc import Sequence
from html import escape

from molmo_jax.evaluation.curves import linear_ticks, smooth, thin
from molmo_jax.evaluation.drawing import COLOURS
from molmo_jax.lab.sweep.results import MEAN, ArmResult, StudyResult

# user units of one panel; on a wide screen about CSS pixels
WIDTH = 420
TOP, BOTTOM, RIGHT = 30, 28, 22                 # margins of the plot inside the panel
ROW = 26                                        # height of one arm in an accuracy panel
LETTER = 7.0                                    # width of one character of an arm's name, about
CURVE_HEIGHT, CURVE_LEFT = 230, 50
SMOOTHING = 0.8
CURVES = {'loss': 'Training loss', 'accuracy': 'Token accuracy in training',
          'validation/loss': 'Validation loss',
          'validation/accuracy': 'Token accuracy in validation'}

CSS = """
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,350px),1fr));gap:14px 20px}
.plots svg{width:100%;height:auto;font:13px system-ui,sans-serif;fill:currentColor;display:block}
.plots .grid{stroke:currentColor;stroke-opacity:.14;fill:none}
.plots .chance{stroke:var(--chance);stroke-dasharray:4 3;stroke-width:1.5;fill:none}
.plots .title{font-weight:600;font-size:14px}
.plots .tick{fill-opacity:.72;font-size:12px}
.plots .range,.plots .line{fill:none;stroke-width:2;stroke-linejoin:round}
.plots .seed{fill-opacity:.35}
.plots .band{fill-opacity:.16;stroke:none}
"""


@dataclasses.dataclass(frozen=True)
class Axis:
  """From values to user units: `low` stands at `start`, `high` at `end`."""
  low: float
  high: float
  start: float
  end: float

  def __call__(self, value: float) -> float:
    return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

  def ticks(self, count: int = 5) -> list[float]:
    return linear_ticks(self.low, self.high, count)


def colours(study: StudyResult) -> dict[str, str]:
  """Of every arm; the baseline has the colour of the text."""
  of_arms = {arm.name: f'rgb{COLOURS[i % len(COLOURS)]}' for i, arm in enumerate(study.arms[1:])}
  return {study.baseline.name: 'var(--text)'} | of_arms


def legend(study: StudyResult) -> str:
  """The arms with their colours."""
  signs = ''.join('<span><svg viewBox="0 0 18 18" aria-hidden="true" '
    'style="background:none"><path d="M1 9H17" '
    f'style="stroke:{colour};stroke-width:3"/></svg>{escape(name)}</span>'
    for name, colour in colours(study).items())
  return f'<p class="legend">{signs}</p>'


def accuracy_plots(study: StudyResult) -> str:
  """One panel per task and one for their mean: mean and 95 % interval of every arm, a faint dot for
  every seed.
  """
  return f'<div class="plots">{"".join(_accuracy_panel(study, task) for task in study.columns)}</div>'


def curve_plots(study: StudyResult) -> str:
  """One panel per column of the log: the mean over the seeds, and the range from the lowest to the
  highest seed.
  """
  panels = []
  for column, title in CURVES.items():
    found = {arm.name: _spread(arm, column) for arm in study.arms}
    if any(found.values()):
      panels.append(_curve_panel(study, title,
                                 {name: points for name, points in found.items() if points}))
  return f'<div class="plots">{"".join(panels)}</div>'


def _accuracy_panel(study: StudyResult, task: str) -> str:
  arms = [arm for arm in study.arms if arm.runs]
  chance, all_values = study.chance(task), []
  for arm in arms:
    found = arm.mean(task)
    all_values += [run.accuracy[task] for run in arm.runs.values()] + [
      min(max(bound, 0.0), 1.0) for bound in (found.low, found.high) if not math.isnan(bound)]
  left = 14 + LETTER * max(len(arm.name) for arm in arms)
  bottom = TOP + ROW * len(arms)
  low, high = (100 * bound(all_values) for bound in (min, max))
  x = Axis(max(0.0, math.floor(low / 5 - 0.5) * 5), min(100.0, math.ceil(high / 5 + 0.5) * 5), left,
           WIDTH - RIGHT)
  parts = [f'<path class="grid" d="M{x(tick):.1f} {TOP}V{bottom}"/><text class="tick" '
    f'x="{x(tick):.1f}" y="{bottom + 17}" text-anchor="middle">{tick:g}</text>'
    for tick in x.ticks(4)]
  if x.low <= 100 * chance <= x.high:
    parts.append(f'<path class="chance" d="M{x(100 * chance):.1f} '
      f'{TOP}V{bottom}"><title>chance</title></path>')
  for i, arm in enumerate(arms):
    parts.append(_accuracy_row(arm, task, x, TOP + ROW * (i + 0.5), colours(study)[arm.name]))
  title = f'mean of {len(study.tasks)} tasks' if task == MEAN else task
  return (f'<svg viewBox="0 0 {WIDTH} {bottom + BOTTOM}" role="img" aria-label="accuracy, '
    f'{escape(title)}"><text class="title" x="0" y="16">{escape(title)}</text><text class="tick" '
    f'x="{WIDTH - RIGHT}" y="16" text-anchor="end">accuracy, %</text>{"".join(parts)}</svg>')


def _accuracy_row(arm: ArmResult, task: str, x: Axis, y: float, colour: str) -> str:
  found = arm.mean(task)
  dots = ''.join(f'<circle class="seed" cx="{x(100 * run.accuracy[task]):.1f}" cy="{y + 5:.1f}" '
    f'r="2.5" style="fill:{colour}"/>' for run in arm.runs.values())
  interval = ''
  if not math.isnan(found.low):
    ends = [x(min(max(100 * bound, x.low), x.high)) for bound in (found.low, found.high)]
    interval = f'<path class="range" style="stroke:{colour}" d="M{ends[0]:.1f} {y - 3:.1f}H{ends[1]:.1f}"/>' + ''.join(
      f'<path class="range" style="stroke:{colour}" d="M{end:.1f} {y - 7:.1f}v8"/>' for end in ends)
  return (f'<text class="tick" x="{x.start - 8:.1f}" y="{y + 3:.1f}" '
    f'text-anchor="end">{escape(arm.name)}</text>{dots}{interval}<circle '
    f'cx="{x(100 * found.mean):.1f}" cy="{y - 3:.1f}" r="4" style="fill:{colour}"/>')


def _spread(arm: ArmResult, column: str) -> list[tuple[float, float, float, float]]:
  """(step, mean, lowest, highest) over the seeds, each smoothed on its own, where all seeds have
  the step.
  """
  by_step: dict[float, list[float]] = collections.defaultdict(list)
  for run in arm.runs.values():
    points = [(row['step'], row[column]) for row in run.curves if column in row]
    for (step, _), value in zip(points, smooth([v for _, v in points], SMOOTHING), strict=True):
      by_step[step].append(value)
  return [(step, statistics.fmean(values), min(values), max(values))
          for step, values in sorted(by_step.items()) if len(values) == len(arm.runs)]


def _curve_panel(study: StudyResult, title: str,
                 found: dict[str, list[tuple[float, float, float, float]]]) -> str:
  every = [point for points in found.values() for point in points]
  low, high = min(p[2] for p in every), max(p[3] for p in every)
  margin = 0.05 * (high - low) or abs(high) / 2 or 0.5
  first, last = min(p[0] for p in every), max(p[0] for p in every)
  x = Axis(first, last if last > first else first + 1, CURVE_LEFT, WIDTH - RIGHT)
  y = Axis(low - margin, high + margin, CURVE_HEIGHT - BOTTOM, TOP)
  parts = [f'<path class="grid" d="M{x.start} {y(tick):.1f}H{x.end}"/><text class="tick" '
    f'x="{x.start - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.4g}</text>'
    for tick in y.ticks()]
  parts += [f'<text class="tick" x="{x(tick):.1f}" y="{CURVE_HEIGHT - BOTTOM + 17}" '
    f'text-anchor="middle">{tick:g}</text>' for tick in x.ticks() if float(tick).is_integer()]
  for name, points in found.items():
    colour = colours(study)[name]
    upper, lower = ([(p[0], p[i]) for p in points] for i in (3, 2))
    parts.append(f'<path class="band" style="fill:{colour}" '
      f'd="M{_path(x, y, upper)}L{_path(x, y, lower[::-1])}Z"/>')
  for name, points in found.items():
    parts.append(f'<path class="line" style="stroke:{colours(study)[name]}" '
                 f'd="M{_path(x, y, [(p[0], p[1]) for p in points])}"/>')
  return (f'<svg viewBox="0 0 {WIDTH} {CURVE_HEIGHT}" role="img" aria-label="{title}"><text '
    f'class="title" x="0" y="16">{title}</text><text class="tick" x="{WIDTH - RIGHT}" y="16" '
    f'text-anchor="end">by step</text>{"".join(parts)}</svg>')


def _path(x: Axis, y: Axis, points: Sequence[tuple[float, float]]) -> str:
  return 'L'.join(f'{x(step):.1f} {y(value):.1f}' for step, value in thin(points, 300))
