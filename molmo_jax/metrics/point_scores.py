"""Pointing in images and videos (docs/training.md §5.3). Points are (x, y) in pixels of the image.

A mask is bool [h,w]; a point is inside if the pixel it falls on is true. A point outside the mask's
array is outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from molmo_jax.metrics.means import F1Scores
from molmo_jax.metrics.versions import MOLMO2, is_v1
from molmo_jax.preprocess.points import is_v1_points, parse_points, parse_points_v1
from molmo_jax.preprocess.tracks import parse_video_points

Point = Sequence[float]

_EPSILON = 1e-10                                # in the divisor of F1, as upstream


def is_inside(point: Point, mask: np.ndarray | None,
              to_pixel: Callable[[float], int] = round) -> bool:
  """Whether the pixel of a point (by default rounded half to even) is true in a mask bool [h,w];
  False without mask.
  """
  if mask is None:
    return False
  x, y = to_pixel(point[0]), to_pixel(point[1])
  return 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and bool(mask[y, x])


def in_masks(points: Sequence[Point], masks: Sequence[np.ndarray | None],
             ) -> Callable[[int, int], bool]:
  """Whether the point of the first index is in the mask of the second."""
  return lambda i, j: is_inside(points[i], masks[j])


def matched_scores(predicted: Sequence[Point], references: Sequence[Point],
                   is_right: Callable[[int, int], bool], total: int | None = None) -> F1Scores:
  """Precision, recall and F1 of points that are paired, one to one, so that the sum of the
  distances is smallest. No references: 1 without predictions, else 0.

  Args:
    predicted: M points of any dimension.
    references: N points of the same dimension.
    is_right: whether the pair (predicted, reference) of these indices is right.
    total: what recall divides by; None: the number of references.
  """
  if not references or not predicted:
    return F1Scores(*[float(not references and not predicted)] * 3)
  pairs = zip(*linear_sum_assignment(cdist(predicted, references)), strict=True)
  right = sum(is_right(i, j) for i, j in pairs)
  precision, recall = right / len(predicted), right / (total or len(references))
  return F1Scores(2 * precision * recall / (precision + recall + _EPSILON), precision, recall)


def pointing_scores(prediction: str, width: int, height: int, references: Sequence[Point],
                    masks: Sequence[np.ndarray], *, version: str = MOLMO2) -> F1Scores:
  """PixMo points: predicted and reference points are matched; a pair is right if the predicted
  point is in the mask.

  Args:
    prediction: the generated text.
    width: of the image, pixels.
    height: of the image, pixels.
    references: the reference points.
    masks: a mask for each of them.
    version: 'v1' reads points as Molmo v1 writes them; where there are references, it reads none if
      the text is anything but one valid tag.
  """
  predicted = (parse_points_v1 if is_v1(version) else parse_points)(prediction, width, height)
  if is_v1(version) and references and not is_v1_points(prediction):
    predicted = []
  return matched_scores(predicted, references, in_masks(predicted, masks))


def point_bench(prediction: str, mask: np.ndarray, width: int | None = None,
                height: int | None = None) -> float:
  """PointBench: 1 if there is a point, and every point (coordinates truncated) is in the mask bool
  [h,w].

  `width` and `height` are the image's, where a mask has another size than its image (some do); the
  mask is not resized.
  """
  width, height = width or mask.shape[1], height or mask.shape[0]
  points = parse_points(prediction, width, height)
  mask = mask[:height, :width]
  return float(bool(points) and all(is_inside(point, mask, math.trunc) for point in points))


def point_in_box(prediction: str, width: int, height: int, box: Sequence[float]) -> float:
  """ScreenSpot-v2, ScreenSpot-Pro, OSWorld-G: 1 if the first point is in the box x0, y0, x1, y1
  (bounds included).
  """
  points = parse_points(prediction, width, height)
  return float(bool(points) and box[0] <= points[0][0] <= box[2]
               and box[1] <= points[0][1] <= box[3])


def video_point_scores(prediction: str, width: int, height: int, duration: float,
                       references: Sequence[Point],
                       masks: Sequence[Mapping[float, np.ndarray]]) -> dict[str, float]:
  """Pointing in a video: (t, x, y) are matched as percent of duration, width and height with one
  decimal.

  A pair is right if the predicted point is in the reference object's mask at exactly the predicted
  time. Returns 'f1', 'precision', 'recall', and 'valid': whether the text has any point.

  Args:
    prediction: the generated text.
    width: of the video, pixels.
    height: of the video, pixels.
    duration: of the video, seconds.
    references: (seconds, x, y).
    masks: for each reference, the object's mask by time in seconds.
  """
  def percents(points: Sequence[Point]) -> list[list[float]]:
    return [[round(value / full * 100, 1) for value, full in zip(
      point, (duration, width, height), strict=True)] for point in points]

  predicted = parse_video_points(prediction, width, height)
  scores = matched_scores(percents(predicted), percents(references), lambda i, j: is_inside(
      predicted[i][1:], masks[j].get(predicted[i][0])))
  return scores._asdict() | {'valid': float(bool(predicted))}
