"""Scorers and parsers of the published evaluations, and the metrics that an example can name.

Small pure functions by family: `text_answers`, `charts`, `options`, `letters`, `mmmu`, `math_vista`, `spatial`,
`counting`, `pointing`, `tracking`, `hota`, `tap_vid`, `video_qa`, `temp_compass`, `moments`, `clock`, `android`,
`means`. Each reproduces upstream's numbers, its bugs included, unless an option says otherwise; docs/metrics.md lists
all of them.
The names here are those of `scoring`: metrics by name, for any example.
"""

from __future__ import annotations

from molmo_jax.evaluation.metrics.scoring import METRICS, POINT_TOLERANCE, Reference, chance, score

__all__ = ['METRICS', 'POINT_TOLERANCE', 'Reference', 'chance', 'score']
