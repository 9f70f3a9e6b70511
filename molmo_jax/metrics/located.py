"""Rules of the metrics about places: points, boxes, tracks. Their references are in the example's
metadata as JSON.

Sizes are pixels, masks are as in `masks.decode_mask`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from molmo_jax.metrics.masks import decode_mask
from molmo_jax.metrics.point_scores import (
  point_bench,
  point_in_box,
  pointing_scores,
  video_point_scores,
)
from molmo_jax.metrics.references import Metric, Scores, of_metadata
from molmo_jax.metrics.track_scores import tap_vid_scores, tracking_scores
from molmo_jax.metrics.versions import MOLMO2
from molmo_jax.preprocess.tracks import parse_tracks

Metadata = Mapping[str, Any]


class EncodedMasks(dict):
  """Frame → mask bool [h,w], decoded when it is asked for: most frames of a video never are."""

  def get(self, frame: int, default: Any = None) -> np.ndarray | None:
    """The mask of a frame, decoded: bool [H,W], or `default` where it has none."""
    return decode_mask(self[frame]) if frame in self else default


def _pointing(prediction: str, data: Metadata) -> Scores:
  return pointing_scores(
      prediction, data['width'], data['height'], data['references'],
      [decode_mask(mask) for mask in data['masks']], version=data.get('version', MOLMO2))._asdict()


def _point_bench(prediction: str, data: Metadata) -> Scores:
  mask = decode_mask(data['mask'])
  return {'accuracy': point_bench(prediction, mask, data['width'], data['height'])}


def _point_in_box(prediction: str, data: Metadata) -> Scores:
  return {'accuracy': point_in_box(prediction, data['width'], data['height'], data['box'])}


def _video_pointing(prediction: str, data: Metadata) -> Scores:
  masks = [EncodedMasks({float(t): mask for t, mask in of_object}) for of_object in data['masks']]
  return video_point_scores(prediction, data['width'], data['height'], data['duration'],
                            data['references'], masks)


def _tracking(prediction: str, data: Metadata) -> Scores:
  tracks = {int(frame): objects for frame, objects in data['tracks'].items()}
  masks = {name: EncodedMasks({int(frame): mask for frame, mask in frames.items()})
           for name, frames in data['masks'].items()}
  scores = tracking_scores(
      prediction, data['width'], data['height'], data['fps'], tracks, masks,
      **{option: bool(data.get(option)) for option in ('align_masks', 'count_present')})
  return {name: scores[name] for name in ('f1', 'precision', 'recall', 'HOTA', 'DetA', 'AssA')}


def _tap_vid(prediction: str, data: Metadata) -> Scores:
  """One point of a video: where a frame has no point it counts as hidden, at the place where it was
  last seen.
  """
  frames = len(data['track'])
  tracks, hidden = np.zeros((1, frames, 2)), np.ones((1, frames), bool)
  for moment in parse_tracks(prediction, data['width'], data['height'], data['fps']):
    if moment.frame < frames and moment.points:
      tracks[0, moment.frame:], hidden[0, moment.frame] = next(iter(moment.points.values())), False
  scores = tap_vid_scores(np.array([data['query_frame']]), np.array([data['occluded']], bool),
                          np.array([data['track']], np.float64), hidden, tracks)
  return {name: scores[name]
          for name in ('average_jaccard', 'average_pts_within_thresh', 'occlusion_accuracy')}


LOCATED: dict[str, Metric] = {
  'pointing': of_metadata(_pointing, 'width', 'height', 'references', 'masks'),
  'point_bench': of_metadata(_point_bench, 'width', 'height', 'mask'),
  'point_in_box': of_metadata(_point_in_box, 'width', 'height', 'box'),
  'video_pointing': of_metadata(_video_pointing, 'width', 'height', 'duration', 'references',
                                'masks'),
  'tracking': of_metadata(_tracking, 'width', 'height', 'fps', 'tracks', 'masks'),
  'tap_vid': of_metadata(_tap_vid, 'width', 'height', 'fps', 'query_frame', 'track', 'occluded'),
}
