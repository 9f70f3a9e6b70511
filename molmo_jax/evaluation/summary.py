"""From predictions to one table: accuracy, its interval and chance, per task and over all."""

from __future__ import annotations

import dataclasses
import math
import os
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from molmo_jax import metrics
from molmo_jax.configuration import Count, Rate, build
from molmo_jax.evaluation.predictions import Prediction
from molmo_jax.files import read_json
from molmo_jax.terminal import Terminal, make_table

UNSCORED = 'predictions_only'                   # metric of examples whose answers are not public


@dataclasses.dataclass(frozen=True)
class _Row:
  """A line of the table; what it means, says `summarise`."""
  accuracy: Rate
  low: Rate
  high: Rate
  chance: Rate
  n: Count


@dataclasses.dataclass(frozen=True)
class _Rows:
  tasks: dict[str, _Row]
  overall: _Row


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
  """The Wilson score interval of a proportion.

  Args:
    correct: number of right answers, 0…n.
    n: number of answers, at least 1.
    confidence: probability that such an interval covers the true proportion, in (0, 1).

  Returns:
    (low, high) as fractions, 0 ≤ low ≤ correct/n ≤ high ≤ 1.
  """
  if n < 1 or not 0 <= correct <= n or not 0 < confidence < 1:
    raise ValueError(f'no interval for {correct} of {n} at confidence {confidence}: 0 ≤ correct ≤ '
                     'n, n ≥ 1 and 0 < confidence < 1 are needed')
  found = stats.binomtest(correct, n).proportion_ci(confidence, method='wilson')
  return float(found.low), float(found.high)


def bootstrap_interval(scores: Sequence[float], confidence: float = 0.95, draws: int = 10_000,
                       seed: int = 0) -> tuple[float, float]:
  """The percentile bootstrap interval of a mean score: (low, high) over `draws` resamples."""
  values, counts = np.unique(np.asarray(scores, np.float64), return_counts=True)
  n = len(scores)   # resampling n scores is a multinomial over the values that occur
  means = np.random.default_rng(seed).multinomial(n, counts / n, draws) @ values / n
  low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
  return float(low), float(high)


def summarise(predictions: Sequence[Prediction], confidence: float = 0.95,
              chances: Mapping[str, float] | None = None) -> dict[str, Any]:
  """The numbers of an evaluation, all of them fractions.

  Args:
    chances: chance of the tasks of which only a part was evaluated; the others' is that of the
      predictions.

  Returns:
    `{'tasks': {task: line}, 'overall': line, 'task_mean': accuracy, 'confidence': confidence}` with
    `line` = `{'accuracy', 'low', 'high', 'chance', 'n'}`. Tasks stand in the order of their first
    example. 'accuracy' is the mean score; 'low' and 'high' its interval: Wilson's where every score
    is 0 or 1, else a bootstrap over examples; 'chance' as in `metrics.chance`, 'n' the number of
    examples. 'judged' lists tasks that a language model scores afterwards (their accuracy is 0
    until then), 'unscored' those whose answers are not public. 'overall' is over all examples, so
    that a large task counts more; 'task_mean' is the mean of the tasks' accuracies.

  Raises:
    ValueError: no predictions.
  """
  if not predictions:
    raise ValueError('there are no predictions to summarise')
  by_task = _grouped(predictions, 'task')
  chances = chances_of(predictions) | dict(chances or {})
  tasks = {task: _line(some, chances[task], confidence) for task, some in by_task.items()}
  overall_chance = sum(line['chance'] * line['n'] for line in tasks.values()) / len(predictions)
  return {
    'tasks': tasks,
    'overall': _line(predictions, overall_chance, confidence),
    'task_mean': statistics.fmean(line['accuracy'] for line in tasks.values()),
    'confidence': confidence,
    'judged': [t for t, some in by_task.items() if all(metrics.is_judged(p.metric) for p in some)],
    'unscored': [t for t, some in by_task.items() if all(p.metric == UNSCORED for p in some)],
  }


def _grouped(examples: Sequence[Any], field: str) -> dict[str, list[Any]]:
  groups: dict[str, list[Any]] = defaultdict(list)
  for example in examples:
    groups[getattr(example, field)].append(example)
  return groups


def _line(predictions: Sequence[Prediction], chance: float, confidence: float) -> dict[str, Any]:
  scores, n = [p.score for p in predictions], len(predictions)
  if all(score in (0, 1) for score in scores):
    low, high = wilson_interval(round(sum(scores)), n, confidence)
  else:
    low, high = bootstrap_interval(scores, confidence)
  return {'accuracy': math.fsum(scores) / n, 'low': low, 'high': high, 'chance': chance, 'n': n}


def chance_of(examples: Sequence[Any]) -> float:
  """Chance of one task, whose examples or predictions may be scored by different metrics."""
  groups = _grouped(examples, 'metric').items()
  return sum(metrics.chance(some, metric) * len(some) for metric, some in groups) / len(examples)


def chances_of(examples: Sequence[Any]) -> dict[str, float]:
  """Chance of every task of `examples`."""
  return {task: chance_of(some) for task, some in _grouped(examples, 'task').items()}


def read_summary(path: str | os.PathLike) -> dict[str, Any]:
  """Reads a `summary.json`.

  Raises:
    MolmoError: the file is no summary; the message names it and what is missing.
  """
  summary = read_json(path)
  build(_Rows, {key: summary[key] for key in ('tasks', 'overall') if key in summary}
        if isinstance(summary, dict) else {}, os.fspath(path))
  return summary


def print_table(summary: dict[str, Any], console: Terminal) -> None:
  """Prints one line per task and one for all examples, in per cent."""
  table = make_table('task', 'accuracy', f'{100 * summary.get("confidence", 0.95):g} % interval',
                     'chance', 'n')
  for task, row in summary['tasks'].items():
    cells = _cells(row)
    if task in summary.get('judged', ()) or task in summary.get('unscored', ()):
      cells[:3] = ['to be judged' if task in summary['judged'] else 'not scored', '', '']
    table.add_row(task, *cells)
  if len(summary['tasks']) > 1:
    table.add_section()
    table.add_row('all examples', *_cells(summary['overall']), style='bold')
  console.print(table)


def print_published(published: Mapping[str, Mapping[str, float]], console: Terminal) -> None:
  """Prints the numbers that benchmarks publish, where they are more than the mean score."""
  table = make_table('task', 'number', 'value', title='as published', texts=2)
  for task, numbers in published.items():
    if set(numbers) - {'score'}:
      for i, (name, value) in enumerate(numbers.items()):
        table.add_row('' if i else task, name, f'{value:.4f}')
  if table.row_count:
    console.print(table)


def _cells(row: dict[str, Any]) -> list[str]:
  accuracy, low, high, chance = (f'{100 * row[name]:.1f}' for name in
                                 ('accuracy', 'low', 'high', 'chance'))
  return [accuracy, f'{low} – {high}', chance, str(row['n'])]
