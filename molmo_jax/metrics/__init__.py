"""Scorers and parsers of the published evaluations, and the metrics that an example can name.

Small pure functions by family: `text_answers`, `charts`, `options`, `letters`, `mmmu`,
`math_vista`, `spatial`, `counting`, `pointing`, `tracking`, `hota`, `tap_vid`, `video_qa`,
`video_ocr`, `temp_compass`, `moments`, `clock`, `android`, `contrast`, `means`; `masks` reads the
masks of COCO. Each reproduces upstream's numbers, its bugs included, unless an option says
otherwise; docs/metrics.md lists all of them. The names here are those of `scoring` and `published`:
metrics by name, for one example and for all of a task.
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
