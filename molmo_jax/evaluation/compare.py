"""Two evaluations of the same examples: paired differences with intervals and p-values."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from molmo_jax.errors import MolmoError
from molmo_jax.evaluation.predictions import Prediction, read_predictions
from molmo_jax.evaluation.summary import bootstrap_interval
from molmo_jax.terminal import Terminal, make_table

EXACT = 12                      # up to this many differing examples, all sign patterns are counted
DRAWS = 10_000                                  # random sign patterns otherwise


class CompareError(MolmoError):
  """Two evaluations that cannot be compared; the message says why."""


@dataclasses.dataclass(frozen=True)
class Difference:
  """Of one task, or of all examples: second minus first, as fractions."""
  first: float                                # mean score of the first evaluation
  second: float
  mean: float                                 # of the paired differences
  # 95 % interval of `mean`: percentile bootstrap over examples
  low: float
  high: float
  p: float                                    # two-sided sign-flip test of `mean` = 0
  better: int                                 # examples with a higher score in the second
  worse: int
  n: int


def pair_predictions(first: Sequence[Prediction],
                     second: Sequence[Prediction]) -> list[tuple[Prediction, Prediction]]:
  """The predictions for the same task and id, in the order of `first`.

  Raises:
    CompareError: no common examples, or an id that one evaluation has twice.
  """
  mine, theirs = ({(p.task, p.id): p for p in some} for some in (first, second))
  for some, table in ((first, mine), (second, theirs)):
    if len(table) < len(some):
      (task, name), _ = Counter((p.task, p.id) for p in some).most_common(1)[0]
      raise CompareError(f"task '{task}' has the id '{name}' more than once; examples can only be "
                         'paired if ids differ')
  pairs = [(p, theirs[key]) for key, p in mine.items() if key in theirs]
  if not pairs:
    raise CompareError('the two evaluations have no example (task and id) in common')
  return pairs


def compare(pairs: Sequence[tuple[Prediction, Prediction]], seed: int = 0) -> dict[str, Difference]:
  """The difference of every task, and of 'all examples' if there are several."""
  by_task: dict[str, list[tuple[float, float]]] = {}
  for a, b in pairs:
    by_task.setdefault(a.task, []).append((a.score, b.score))
  found = {task: difference(np.array(scores), seed) for task, scores in by_task.items()}
  if len(found) > 1:
    found['all examples'] = difference(np.array([(a.score, b.score) for a, b in pairs]), seed)
  return found


def difference(scores: np.ndarray, seed: int = 0) -> Difference:
  """Compares float [n,2]: the scores of n examples in the first and in the second evaluation."""
  d = scores[:, 1] - scores[:, 0]
  low, high = bootstrap_interval(d, seed=seed)
  first, second = map(float, scores.mean(0))
  p = sign_flip_p(d, np.random.default_rng(seed))
  return Difference(first, second, float(d.mean()), low, high, p, better=int((d > 0).sum()),
                    worse=int((d < 0).sum()), n=len(d))


def sign_flip_p(differences: np.ndarray, rng: np.random.Generator) -> float:
  """p-value of the two-sided sign-flip (permutation) test.

  It is the probability of a mean at least as far from 0 if every difference had a random sign.

  Counted over all patterns of up to `EXACT` differences that are not 0, else over `DRAWS` random
  ones, the given one among them, so that it is never 0.
  """
  d = differences[differences != 0]
  if not len(d):
    return 1.0
  limit = abs(d.sum()) - 1e-12
  if len(d) <= EXACT:
    signs = np.array(list(itertools.product((-1, 1), repeat=len(d))))
    return float((np.abs(signs @ d) >= limit).mean())
  extreme = sum(int((np.abs(rng.choice((-1.0, 1.0), (500, len(d))) @ d) >= limit).sum())
                for _ in range(DRAWS // 500))
  return (extreme + 1) / (DRAWS + 1)


def read_evaluation(folder: str | Path) -> list[Prediction]:
  """The predictions of an evaluation: its folder, the workdir of a run, or predictions.jsonl.

  Raises:
    CompareError: none of these.
  """
  path = Path(folder)
  candidates = [path] if path.is_file() else [path / 'predictions.jsonl',
                                              path / 'evaluation' / 'predictions.jsonl']
  for candidate in candidates:
    if candidate.is_file():
      return read_predictions(candidate)
  raise CompareError(f'{folder}: no evaluation; looked for {" and ".join(map(str, candidates))}')


def print_comparison(found: dict[str, Difference], names: tuple[str, str],
                     console: Terminal) -> None:
  """Prints one line per task, per cent; p < 0.05 stands out."""
  table = make_table('task', *names, 'difference', '95 % interval', 'p', 'better', 'worse', 'n')
  for task, d in found.items():
    if task == 'all examples':
      table.add_section()
    first, second = (f'{100 * x:.1f}' for x in (d.first, d.second))
    mean, low, high = (f'{100 * x:+.1f}' for x in (d.mean, d.low, d.high))
    table.add_row(task, first, second, mean, f'{low} … {high}', f'{d.p:.4f}', str(d.better),
                  str(d.worse), str(d.n), style='bold' if d.p < 0.05 else None)
  console.print(table)
  console.print(f'difference: {names[1]} − {names[0]}, in percentage points; bold where p < 0.05')


def as_json(found: dict[str, Difference]) -> dict[str, Any]:
  """For comparison.json."""
  return {task: dataclasses.asdict(d) for task, d in found.items()}
