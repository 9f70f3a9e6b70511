"""Moments of a video: QVHighlights (docs/training.md §5.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from molmo_jax.metrics.means import F1Scores

_SEGMENT = re.compile(r'(?<!\d)(\d++(?:\.\d*+)?+)\s*+-\s*+(\d++(?:\.\d*+)?+)')

MIN_OVERLAP = 0.5                               # intersection over union


def parse_segments(text: str) -> list[tuple[float, float]]:
  """Every `start-end` of the text, seconds, with or without brackets around it; those with start ≥
  end are left out.
  """
  found = [(float(start), float(end)) for start, end in _SEGMENT.findall(text)]
  return [(start, end) for start, end in found if start < end]


def moment_scores(prediction: str, windows: Sequence[tuple[float, float]]) -> F1Scores:
  """Precision, recall and F1 of predicted moments.

  In the order of the references, each takes the first prediction that is still free and overlaps it
  by an intersection over union of at least 0.5. Neither predictions nor references: all 1.
  """
  segments = parse_segments(prediction)
  if not segments and not windows:
    return F1Scores(1.0, 1.0, 1.0)
  free = list(segments)
  for window in windows:
    match = next((s for s in free if _overlap(window, s) >= MIN_OVERLAP), None)
    if match is not None:
      free.remove(match)
  matched = len(segments) - len(free)
  if not matched:
    return F1Scores(0.0, 0.0, 0.0)
  precision, recall = matched / len(segments), matched / len(windows)
  return F1Scores(2 * precision * recall / (precision + recall), precision, recall)


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
  common = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
  # in this order: the sums of the published code round so
  return common / ((a[1] - a[0]) + (b[1] - b[0]) - common)
