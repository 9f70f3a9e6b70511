"""Tracking with points (docs/training.md §5.3)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from molmo_jax.evaluation.metrics.hota import FrameSimilarity, HotaScores, hota
from molmo_jax.evaluation.metrics.means import mean_of
from molmo_jax.evaluation.metrics.pointing import (
  Point,
  PointScores,
  is_inside,
  match_points,
  scores_of,
)
from molmo_jax.preprocess.tracks import TrackFrame, parse_tracks


class TrackingScores(NamedTuple):
  precision: float
  recall: float
  f1: float
  hota: HotaScores
  frames: int                                 # frames with a reference or a prediction


class _Frame(NamedTuple):
  """One frame, ready for scoring."""
  objects: list[Hashable]
  references: list[Point]
  masks: list[np.ndarray | None]              # a mask for each reference
  tracks: list[str]
  predicted: list[Point]


def tracking_scores(
    prediction: str,
    width: int,
    height: int,
    fps: float,
    references: Mapping[int, Mapping[Hashable, Point]],
    masks: Mapping[Hashable, Mapping[int, np.ndarray]],
    *,
    align_masks: bool = False,
    count_present: bool = False,
) -> TrackingScores:
  """Precision, recall, F1 (mean over the frames with a reference or a prediction; 1 without any)
  and HOTA of a video.

  In a frame, predicted and reference points are matched by distance; a pair is right if the
  predicted point is in the object's mask. A frame without references scores 1 if nothing is
  predicted in it, else 0.

  Args:
    prediction: the generated text; the frame of a time t is round(t·fps).
    width, height: of the video, pixels.
    fps: frames per second of the video.
    references: frame → object → point (x, y) in pixels.
    masks: object → frame → bool [h,w]. Its order is the objects' order.
    align_masks: upstream bug, reproduced by default: the k-th reference point of a frame gets the
      mask of the k-th of all objects, wrong where an earlier object is absent. True gives every
      point its object's mask.
    count_present: upstream bug, reproduced by default: recall divides by the number of all objects
      of the video. True divides by those in the frame.
  """
  predicted = _by_frame(parse_tracks(prediction, width, height, fps))
  frames = [_frame(number, references.get(number, {}), masks, predicted.get(number, {}),
                   align_masks)
            for number in sorted(references.keys() | predicted.keys())]
  if not frames:
    return TrackingScores(1.0, 1.0, 1.0, hota([]), 0)
  scores = [_frame_scores(frame, len(frame.references) if count_present else len(masks))
            for frame in frames]
  means = (mean_of(getattr(s, name) for s in scores) for name in PointScores._fields)
  return TrackingScores(*means, hota([_similarity(frame) for frame in frames]), len(frames))


def _by_frame(tracks: Sequence[TrackFrame]) -> dict[int, dict[str, Point]]:
  """Points by frame; of several times in one frame, later points of a track replace earlier ones.
  """
  by_frame: dict[int, dict[str, Point]] = {}
  for track in tracks:
    by_frame.setdefault(track.frame, {}).update(track.points)
  return by_frame


def _frame(number: int, references: Mapping[Hashable, Point],
           masks: Mapping[Hashable, Mapping[int, np.ndarray]],
           predicted: Mapping[str, Point], align_masks: bool) -> _Frame:
  order = list(references) if align_masks else list(masks)
  own = [masks[o].get(number) if o in masks else None for o in order][:len(references)]
  own += [None] * (len(references) - len(own))
  return _Frame(list(references), list(references.values()), own, list(predicted),
                list(predicted.values()))


def _frame_scores(frame: _Frame, objects: int) -> PointScores:
  if not frame.references or not frame.predicted:
    return PointScores(*[float(not frame.references and not frame.predicted)] * 3)
  pairs = match_points(np.asarray(frame.predicted, np.float64),
                       np.asarray(frame.references, np.float64))
  right = sum(is_inside(frame.predicted[i], frame.masks[j]) for i, j in pairs)
  return scores_of(right, len(frame.predicted), objects)


def _similarity(frame: _Frame) -> FrameSimilarity:
  inside = [[float(is_inside(point, mask)) for point in frame.predicted] for mask in frame.masks]
  return FrameSimilarity(frame.objects, frame.tracks,
                         np.asarray(inside, np.float64).reshape(len(frame.objects),
                                                                len(frame.tracks)))
