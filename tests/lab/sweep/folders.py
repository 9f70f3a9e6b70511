"""The folder of a sweep as it would be after its runs, without running any."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from molmo_jax.evaluation.predictions import Prediction, write_predictions
from molmo_jax.evaluation.summary import summarise
from molmo_jax.files import write_json
from molmo_jax.lab.sweep import record
from molmo_jax.lab.sweep.results import STUDIES
from molmo_jax.lab.sweep.study import RUNS

EXAMPLES = 40                                   # of each task


def write_study(out: Path, name: str, arms: dict[str, dict[str, float]], seeds: int = 5,
                claim: str = 'A claim.',
                spread: float = 0.02, steps: int = 400) -> None:
  """Adds a study to the sweep in `out`.

  Args:
    arms: name → the accuracy of every task around which the seeds lie; all arms have the same
      tasks.
    spread: standard deviation over the seeds; what a seed adds is the same in all arms but for a
      tenth of it.
  """
  path = out / STUDIES
  known = json.loads(path.read_text()) if path.exists() else {}
  described = {}
  for number, (arm, tasks) in enumerate(arms.items()):
    runs = [f'{name}-{arm.replace(" ", "_")}-seed{seed}' for seed in range(seeds)]
    for seed, run in enumerate(runs):
      noise = [np.random.default_rng([seed, n]).normal() for n in (0, number + 1)]
      shift = spread * (noise[0] + 0.1 * noise[1])
      write_run(out / RUNS / run, {t: min(max(a + shift, 0), 1) for t, a in tasks.items()}, seed,
                number, steps)
    described[arm] = {'flags': {'model.connector.pooling': arm} if number else {}, 'runs': runs}
  known[name] = {'claim': claim, 'tasks': list(next(iter(arms.values()))), 'seeds': seeds,
                 'arms': described}
  out.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(known))


def write_run(folder: Path, accuracy: dict[str, float], seed: int = 0, arm: int = 0,
              steps: int = 400) -> None:
  """One finished run; an accuracy is rounded to whole examples."""
  records = [Prediction(task, f'{task}-{i}', 'Which?', 'a' if right else 'b', float(right),
                    answers=('a',),
                    options=('a', 'b', 'c', 'd'))
             for task, share in accuracy.items() for i, right in enumerate(_right(share, seed))]
  (folder / 'evaluation').mkdir(parents=True, exist_ok=True)
  write_json(folder / record.SUMMARY, summarise(records))
  write_predictions(folder / record.PREDICTIONS, records)
  rng = np.random.default_rng([seed, arm])
  rows = [{'step': step, 'loss': 0.3 + 0.2 * arm + 3 * np.exp(-step / 90) + 0.05 * rng.normal(),
           'accuracy': 1 - 0.1 * arm - 0.8 * np.exp(-step / 120) + 0.02 * rng.normal(),
           'tflops': 2e-3 + 1e-4 * arm,
           'seconds_per_step': 0.05 if step > 20 else 1.0} for step in range(20, steps + 1, 20)]
  (folder / record.METRICS).write_text(''.join(json.dumps(row) + '\n' for row in rows))
  (folder / record.DONE).write_text(
    json.dumps({'seconds': 100.0, 'parameters': 500_000 + 1000 * arm}))


def _right(share: float, seed: int) -> np.ndarray:
  return np.random.default_rng(seed).permutation(EXAMPLES) < round(share * EXAMPLES)
