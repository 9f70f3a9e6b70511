"""The numbers that benchmarks publish, from the predictions of an evaluation and its manifest."""

from __future__ import annotations

import math
from collections.abc import Sequence

from molmo_jax import metrics
from molmo_jax.data.formatting import WordedManifest
from molmo_jax.data.manifest import Manifest
from molmo_jax.data.unusable import usable
from molmo_jax.evaluation.predictions import Prediction
from molmo_jax.preprocess.types import Example


def published_numbers(predictions: Sequence[Prediction],
                      manifest: Manifest | WordedManifest) -> dict[str, dict[str, float]]:
  """The published numbers of every task, by name (`metrics.published`), without NaN.

  Where examples of a task have several metrics, the numbers of each are under 'metric/name'.

  Args:
    predictions: of an evaluation of `manifest`, in any order.
    manifest: has what the metrics need beside the answers.

  Raises:
    ValueError: a prediction whose example is not in the manifest.
  """
  examples = {_line(example.source): example for example in usable(manifest)}
  by_task: dict[str, dict[str, list[tuple[str, Example]]]] = {}
  for prediction in predictions:
    if (line := _line(prediction.source)) not in examples:
      raise ValueError(f'{manifest.path}: there is no record in line {line}; were the predictions '
                       'made from it?')
    by_metric = by_task.setdefault(prediction.task, {})
    by_metric.setdefault(prediction.metric, []).append((prediction.prediction, examples[line]))
  numbers: dict[str, dict[str, float]] = {}
  for task, by_metric in by_task.items():
    numbers[task] = {name if len(by_metric) == 1 else f'{metric}/{name}': value
                     for metric, pairs in by_metric.items()
                     for name, value in metrics.published(metric, pairs).items()
                     if not math.isnan(value)}
  return numbers


def _line(source: str) -> str:
  """Number of the line in 'file.jsonl:12'; the file may have been moved since."""
  return source.rpartition(':')[2]
