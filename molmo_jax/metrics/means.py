"""Means of scores, over all examples and over groups of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from molmo_jax.metrics.choices import select_option
from molmo_jax.metrics.numeric_answers import relaxed_correctness, scientific_relaxed_correctness
from molmo_jax.metrics.text_answers import (
  anls,
  clean_prediction,
  exact_answer,
  starts_with_answer,
  vqa_score,
)
from molmo_jax.metrics.versions import MOLMO2

# The text metrics of upstream's evaluator, under its names ('ansl' is its spelling).
TEXT_METRICS: dict[str, Callable[[Sequence[str], str], float]] = {
  'em': exact_answer,
  'ansl': anls,
  'relaxed_correctness': relaxed_correctness,
  'vqa_score': vqa_score,
  'em_start': starts_with_answer,
  'scifi_relaxed_correctness': scientific_relaxed_correctness,
}


class F1Scores(NamedTuple):
  """Of one answer, fractions in 0…1; F1 first, as it is the score."""
  f1: float
  precision: float
  recall: float


def mean_of(scores: Iterable[float]) -> float:
  """The mean; NaN of nothing."""
  scores = list(scores)
  return sum(scores) / len(scores) if scores else math.nan


def mean_by(pairs: Iterable[tuple[Any, float]], prefix: str = '') -> dict[str, float]:
  """Means of the scores of (group, score), by prefix + group, groups sorted."""
  groups: dict[Any, list[float]] = {}
  for group, score in pairs:
    groups.setdefault(group, []).append(score)
  return {f'{prefix}{group}': mean_of(groups[group]) for group in sorted(groups)}


def text_metric_means(rows: Sequence[Mapping[str, Any]],
                      metrics: Sequence[str]) -> dict[str, float]:
  """Means of text metrics, and for ChartQA those of human and augmented questions.

  Args:
    rows: examples with 'answers' and 'prediction', and for ChartQA 'is_human'. Predictions pass
      through `clean_prediction`.
    metrics: names of `TEXT_METRICS`.

  Returns:
    Mean by name, and if the rows have 'is_human' also by name + '_human' and '_aug' (NaN of no
    rows).
  """
  means = {}
  for name in metrics:
    scores = [TEXT_METRICS[name](row['answers'], clean_prediction(row['prediction']))
              for row in rows]
    means[name] = mean_of(scores)
    if rows and 'is_human' in rows[0]:
      for suffix, human in (('_human', True), ('_aug', False)):
        means[name + suffix] = mean_of(s for row, s in zip(rows, scores, strict=True)
                                       if row['is_human'] == human)
  return means


def ai2d_means(rows: Sequence[Mapping[str, Any]], *, version: str = MOLMO2) -> dict[str, float]:
  """Accuracy of AI2D with opaque and with transparent boxes: 'mc_ai2d_opaque',
  'mc_ai2d_transparent'.

  Args:
    rows: 'prediction', 'option_names', 'answer_idx', 'has_transparent_box', and 'abc_label':
      whether the diagram is labelled with letters. Such a diagram counts only for its own kind of
      box, every other one for both.
  """
  scored = [(row, float(select_option(clean_prediction(row['prediction']), row['option_names'],
                                      version=version) == row['answer_idx'])) for row in rows]
  return {f'mc_ai2d_{name}': mean_of(score for row, score in scored
                                     if not row['abc_label'] or row['has_transparent_box']
                                     == transparent)
          for name, transparent in (('opaque', False), ('transparent', True))}
