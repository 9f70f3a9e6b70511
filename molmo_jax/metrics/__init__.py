"""Scorers and parsers of the published evaluations, and the metrics that an example can name.

Small pure functions by family; each reproduces upstream's numbers, its bugs included, unless an
option says otherwise. docs/metrics.md lists all of them.

  * answers in words and numbers: `text_answers`, `numeric_answers`, `choices`, `open_answers`,
    `video_answers`, `moments`, `clock`, `android`;
  * points and tracks: `counting`, `point_scores`, `track_scores`, `masks` (the masks of COCO);
  * by name: `benchmarks` and `located` (the rule of each), `scoring` (one example), `summaries` and
    `means` (all examples of a task).

The names here are those of `scoring` and `summaries`.
"""

from __future__ import annotations

from molmo_jax.metrics.references import Reference
from molmo_jax.metrics.scoring import (
  METRICS,
  POINT_TOLERANCE,
  chance,
  is_judged,
  score,
  sub_scores,
)
from molmo_jax.metrics.summaries import published

__all__ = ['METRICS', 'POINT_TOLERANCE', 'Reference', 'chance', 'is_judged', 'published', 'score',
           'sub_scores']
