"""Pointing in images and videos (docs/training.md §5.3). Points are (x, y) in pixels of the image.

A mask is bool [h,w]; a point is inside if the pixel it falls on is true. A point outside the mask's
array is outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from molmo_jax.metrics.versions import MOLMO2, is_v1
from molmo_jax.preprocess.points import is_v1_points, parse_points, parse_points_v1
from molmo_jax.preprocess.tracks import parse_video_points

Point = Sequence[float]

_EPSILON = 1e-10                                # in the divisor of F1, as upstream
# places of the shares of duration, width and height in video matching
_PERCENT_DECIMALS = 1


class PointScores(NamedTuple):
  precision: float
  recall: float
  f1: float


class VideoPointScores(NamedTuple):
  precision: float
  recall: float
  f1: float
  valid: float                                # whether the text has any point


def match_points(predicted: np.ndarray, references: np.ndarray) -> list[tuple[int, int]]:
  """Pairs (predicted, reference), one to one, with the smallest sum of Euclidean distances.

  Args:
    predicted: float [M,k].
    references: float [N,k].

  Returns:
    min(M, N) pairs of indices.
  """
  distances = np.linalg.norm(predicted[:, None] - references[None], axis=-1)
  return [(int(i), int(j)) for i, j in zip(*linear_sum_assignment(distances), strict=True)]


def is_inside(point: Point, mask: np.ndarray | None,
              to_pixel: Callable[[float], int] = round) -> bool:
  """Whether the pixel of a point (by default rounded half to even) is true in a mask bool [h,w];
  False without mask.
  """
  if mask is None:
    return False
  x, y = to_pixel(point[0]), to_pixel(point[1])
  return 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and bool(mask[y, x])


def scores_of(right: int, predicted: int, references: int) -> PointScores:
  """Precision, recall and F1 of `right` pairs. No references: 1 without predictions, else 0."""
  if not references:
    return PointScores(*[float(not predicted)] * 3)
  if not predicted:
    return PointScores(0.0, 0.0, 0.0)
  precision, recall = right / predicted, right / references
  return PointScores(precision, recall, 2 * precision * recall / (precision + recall + _EPSILON))


def pointing_scores(prediction: str, width: int, height: int, references: Sequence[Point],
                    masks: Sequence[np.ndarray],
                    *, version: str = MOLMO2) -> PointScores:
  """PixMo points: predicted and reference points are matched; a pair is right if the predicted
  point is in the mask.

  Args:
    prediction: the generated text.
    width, height: of the image, pixels.
    references: the reference points.
    masks: a mask for each of them.
    version: 'v1' reads points as Molmo v1 writes them; where there are references, it reads none if
      the text is anything but one valid tag.
  """
  parse = parse_points_v1 if is_v1(version) else parse_points
  predicted = parse(prediction, width, height)
  if is_v1(version) and references and not is_v1_points(prediction):
    predicted = []
  if not predicted or not references:
    return scores_of(0, len(predicted), len(references))
  pairs = match_points(np.asarray(predicted, np.float64), np.asarray(references, np.float64))
  return scores_of(sum(is_inside(predicted[i], masks[j]) for i, j in pairs), len(predicted),
                   len(references))


def point_bench(prediction: str, mask: np.ndarray, width: int | None = None,
                height: int | None = None) -> float:
  """PointBench: 1 if there is a point, and every point (coordinates truncated) is in the mask bool
    [h,w].

  `width` and `height` are the image's, where a mask has another size than its image (some do); the
  mask is not resized.
  """
  points = parse_points(prediction, width or mask.shape[1], height or mask.shape[0])
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
                       masks: Sequence[Mapping[float, np.ndarray]]) -> VideoPointScores:
  """Pointing in a video: (t, x, y) are matched as shares of duration, width and height, in percent
  with one decimal.

  A pair is right if the predicted point is in the reference object's mask at exactly the predicted
  time.

  Args:
    prediction: the generated text.
    width, height: of the video, pixels.
    duration: of the video, seconds.
    references: (seconds, x, y).
    masks: for each reference, the object's mask by time in seconds.
  """
  predicted = parse_video_points(prediction, width, height)
  valid = float(bool(predicted))
  if not predicted or not references:
    return VideoPointScores(*scores_of(0, len(predicted), len(references)), valid)
  size = np.asarray([duration, width, height], np.float64)
  shares = [np.round(np.asarray(triplets, np.float64) / size * 100, _PERCENT_DECIMALS)
            for triplets in (predicted, references)]
  pairs = [(predicted[i], masks[j]) for i, j in match_points(*shares)]
  right = sum(is_inside((x, y), by_time.get(t)) for (t, x, y), by_time in pairs)
  return VideoPointScores(*scores_of(right, len(predicted), len(references)), valid)


def rectangle_mask(width: int, height: int, rectangles: Sequence[Sequence[int]]) -> np.ndarray:
  """bool [h,w] that is true inside of rectangles x0, y0, x1, y1 (x0 ≤ x < x1, y0 ≤ y < y1)."""
  mask = np.zeros((height, width), bool)
  for x0, y0, x1, y1 in rectangles:
    mask[max(y0, 0):max(y1, 0), max(x0, 0):max(x1, 0)] = True
  return mask
