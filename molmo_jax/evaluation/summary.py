"""From records to one table: accuracy, its interval and chance, per task and over everything."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from molmo_jax import metrics
from molmo_jax.evaluation.predictions import Prediction
from molmo_jax.files import write_atomically

# the metric of examples whose answers a test server keeps
UNSCORED = 'predictions_only'
_COLUMNS = ('accuracy', 'low', 'high', 'chance', 'n')


def wilson_interval(correct: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
  """The Wilson score interval of a proportion.

  Args:
    correct: number of right answers, 0…n; also a sum of scores in 0…1, for which the interval errs
      on the wide side.
    n: number of answers, at least 1.
    confidence: probability that such an interval covers the true proportion, in (0, 1).

  Returns:
    (low, high) as fractions, 0 ≤ low ≤ correct/n ≤ high ≤ 1.
  """
  if n < 1 or not 0 <= correct <= n or not 0 < confidence < 1:
    raise ValueError(f'no interval for {correct} of {n} at confidence {confidence}: 0 ≤ correct ≤ '
      'n, n ≥ 1 and 0 < confidence < 1 are needed')
  z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
  p = correct / n
  centre = (p + z * z / (2 * n)) / (1 + z * z / n)
  half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
  # At 0 and n the bound is exactly p; rounding may leave it a few ulps beside.
  return max(0.0, min(centre - half, p)), min(1.0, max(centre + half, p))


def bootstrap_interval(scores: Sequence[float], confidence: float = 0.95, draws: int = 10_000,
                       seed: int = 0
                       ) -> tuple[float, float]:
  """The percentile bootstrap interval of a mean score: (low, high) over `draws` samples with
  replacement.
  """
  values, counts = np.unique(np.asarray(scores, np.float64), return_counts=True)
  samples = np.random.default_rng(seed).multinomial(len(scores), counts / len(scores),
                                                    draws) @ values / len(scores)
  low, high = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2])
  return float(low), float(high)


def summarise(records: Sequence[Prediction], confidence: float = 0.95) -> dict[str, Any]:
  """The numbers of an evaluation, all of them fractions.

  Returns:
    `{'tasks': {task: row}, 'overall': row, 'task_mean': accuracy, 'confidence': confidence}` with
    `row` = `{'accuracy', 'low', 'high', 'chance', 'n'}`. Tasks stand in the order of their first
    record. 'accuracy' is the mean score; 'low' and 'high' its interval: Wilson's where every score
    is 0 or 1, else a bootstrap over examples; 'chance' as in `metrics.chance`, 'n' the number of
    examples. 'judged' lists tasks that a language model scores afterwards (their accuracy is 0
    until then), 'unscored' those whose answers nobody here has. 'overall' is over all examples, so
    that a large task counts more; 'task_mean' is the mean of the tasks' accuracies.

  Raises:
    ValueError: no records.
  """
  if not records:
    raise ValueError('there are no predictions to summarise')
  by_task: dict[str, list[Prediction]] = {}
  for record in records:
    by_task.setdefault(record.task, []).append(record)
  tasks = {task: _row(task_records, _chance(task_records), confidence)
           for task, task_records in by_task.items()}
  overall_chance = sum(row['chance'] * row['n'] for row in tasks.values()) / len(records)
  return {
    'tasks': tasks,
    'overall': _row(records, overall_chance, confidence),
    'task_mean': statistics.fmean(row['accuracy'] for row in tasks.values()),
    'confidence': confidence,
    'judged': [t for t, some in by_task.items() if all(metrics.is_judged(r.metric) for r in some)],
    'unscored': [t for t, some in by_task.items() if all(r.metric == UNSCORED for r in some)],
  }


def _row(records: Sequence[Prediction], chance: float, confidence: float) -> dict[str, Any]:
  correct = math.fsum(record.score for record in records)
  if all(record.score in (0, 1) for record in records):
    low, high = wilson_interval(correct, len(records), confidence)
  else:
    low, high = bootstrap_interval([record.score for record in records], confidence)
  return {'accuracy': correct / len(records), 'low': low, 'high': high, 'chance': chance,
          'n': len(records)}


def _chance(records: Sequence[Prediction]) -> float:
  """Chance of one task, whose examples may be scored by different metrics."""
  by_metric: dict[str, list[Prediction]] = {}
  for record in records:
    by_metric.setdefault(record.metric, []).append(record)
  return sum(metrics.chance(group, metric) * len(group)
             for metric, group in by_metric.items()) / len(records)


def write_summary(path: str | os.PathLike, summary: dict[str, Any]) -> None:
  """Writes `summary.json`, whole or not at all."""
  write_atomically(path, json.dumps(summary, ensure_ascii=False, indent=2, allow_nan=False) + '\n')


def read_summary(path: str | os.PathLike) -> dict[str, Any]:
  """Reads what `write_summary` wrote.

  Raises:
    ValueError: the file is no summary; the message names it and what is missing.
  """
  with open(path, encoding='utf-8') as file:
    try:
      summary = json.load(file)
    except ValueError as error:
      raise ValueError(f'{path}: not JSON: {error}') from error
  if not isinstance(summary, dict) or not {'tasks', 'overall'} <= summary.keys():
    raise ValueError(f"{path}: not the summary of an evaluation; it needs the keys 'tasks' and "
      "'overall'")
  for task, row in [*summary['tasks'].items(), ('overall', summary['overall'])]:
    missing = [column for column in _COLUMNS if column not in row]
    if missing:
      raise ValueError(f"{path}: '{task}' lacks: {', '.join(missing)}")
  return summary


def print_table(summary: dict[str, Any], console: Console) -> None:
  """Prints one line per task and one for all examples; accuracy, interval and chance in per cent.
  """
  table = Table(title_justify='left', show_edge=False, pad_edge=False)
  table.add_column('task')
  for name in ('accuracy', f'{100 * summary.get("confidence", 0.95):g} % interval', 'chance', 'n'):
    table.add_column(name, justify='right')
  for task, row in summary['tasks'].items():
    cells = _cells(row)
    if task in summary.get('judged', ()) or task in summary.get('unscored', ()):
      cells[:3] = ['to be judged' if task in summary['judged'] else 'not scored', '', '']
    table.add_row(Text(task), *cells)           # Text: a task's name is not read as rich's markup
  if len(summary['tasks']) > 1:
    table.add_section()
    table.add_row('all examples', *_cells(summary['overall']), style='bold')
  console.print(table)


def print_published(published: Mapping[str, Mapping[str, float]], console: Console) -> None:
  """Prints the numbers that benchmarks publish, where they are more than the mean score."""
  shown = {task: numbers for task, numbers in published.items() if set(numbers) - {'score'}}
  if not shown:
    return
  table = Table(title='as published', title_justify='left', show_edge=False, pad_edge=False)
  for name, justify in (('task', 'left'), ('number', 'left'), ('value', 'right')):
    table.add_column(name, justify=justify)
  for task, numbers in shown.items():
    for i, (name, value) in enumerate(numbers.items()):
      table.add_row(Text(task if i == 0 else ''), Text(name), f'{value:.4f}')
  console.print(table)


def _cells(row: dict[str, Any]) -> list[str]:
  low, high = (f'{100 * row[name]:.1f}' for name in ('low', 'high'))
  return [f'{100 * row["accuracy"]:.1f}', f'{low} – {high}', f'{100 * row["chance"]:.1f}',
          str(row['n'])]
