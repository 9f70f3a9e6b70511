"""Training curves from a metrics JSONL.

A line of the file is one JSON object with 'step' and any of the columns below:
`{"step": 20, "loss": 2.31, "accuracy": 0.52, "learning_rate": 0.0002, "tokens_per_second": 81000}`.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from molmo_jax.files import read_json_lines, write_atomically
from molmo_jax.pages.plots import CurvePanel, Line, short, smooth, thin
from molmo_jax.pages.render import render
from molmo_jax.visible import visible

# The columns that are drawn, in this order, where the file has them.
TITLES = {
  'loss': 'Loss',
  'accuracy': 'Token accuracy',
  'learning_rate': 'Learning rate',
  'tokens_per_second': 'Tokens per second',
}


def read_metrics(path: str | os.PathLike, last: float = math.inf) -> list[dict[str, Any]]:
  """The objects of a metrics JSONL up to step `last`, none without the file; a log line names those
  that are damaged or half written.
  """
  if not os.path.exists(path):
    return []
  rows, problems = read_json_lines(path, _row)
  if problems:
    logging.warning('%d lines of the metrics cannot be used, the first: %s', len(problems),
                    visible(problems[0]))
  return [row for row in rows if row['step'] <= last]


def _row(value: Any) -> dict[str, Any]:
  if not isinstance(value, dict) or not _is_finite(value.get('step')):
    raise ValueError(f"an object with a numeric 'step' is needed, not {str(value)[:80]}")
  return value


def write_curves(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]], *,
                 title: str = 'Training curves', log_loss: bool = False, smoothing: float = 0.9
                 ) -> None:
  """Writes one HTML file with the curves of `rows`; arguments as in `curve_panels`."""
  panels = curve_panels(rows, log_loss=log_loss, smoothing=smoothing)
  write_atomically(path, render('curves.html', title=title, panels=panels))


def curve_panels(rows: Sequence[Mapping[str, Any]], *, log_loss: bool = False,
                 smoothing: float = 0.9) -> list[CurvePanel]:
  """One panel per column of `TITLES` that `rows` have.

  Args:
    rows: `{'step': …, column: value}`; a column that is absent, or whose value is not a finite
      number, is a gap of that curve. Where a step occurs twice (a resumed run) the later value
      counts.
    log_loss: logarithmic axis for the loss; values that are not positive are then left out.
    smoothing: how wide the average is that is drawn over the raw points (`plots.smooth`), at least
      0 and below 1; 0 joins them. The learning rate has no noise and is never smoothed.

  Raises:
    ValueError: smoothing outside its range, or rows that hold nothing to draw.
  """
  if not 0 <= smoothing < 1:
    raise ValueError(f'smoothing is {smoothing}; it must be at least 0 and below 1')
  panels = []
  for column, title in TITLES.items():
    log = log_loss and column == 'loss'
    points = _points(rows, column, positive=log)
    if points:
      steps, values = zip(*points)
      smoothed = smooth(values, 0.0 if column == 'learning_rate' else smoothing)
      line = Line(thin(list(zip(steps, smoothed))), dots=thin(points))
      last = f'{short(values[-1])} at step {short(steps[-1])}'
      panels.append(CurvePanel(title + ', log scale' * log, last, [line], log))
  if not panels:
    raise ValueError("no row has 'step' and a finite value of any of: "
                     f'{", ".join(TITLES)}; there is nothing to draw')
  return panels


def _is_finite(value: Any) -> bool:
  return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _points(rows: Sequence[Mapping[str, Any]], column: str, positive: bool
            ) -> list[tuple[float, float]]:
  """(step, value) in the order of the steps."""
  values = {row['step']: row[column] for row in rows
            if _is_finite(row.get('step')) and _is_finite(row.get(column))}
  return [(float(s), float(v)) for s, v in sorted(values.items()) if v > 0 or not positive]
