"""Rules of the metrics about places: points, boxes, tracks. Their references are in the example's
metadata as JSON.

Sizes are pixels, masks are as in `masks.decode_mask`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from molmo_jax.metrics.masks import decode_mask
from molmo_jax.metrics.point_scores import (
  point_bench,
  point_in_box,
  pointing_scores,
  video_point_scores,
)
from molmo_jax.metrics.references import Reference, metadata_of
from molmo_jax.metrics.track_scores import tap_vid_scores, tracking_scores
from molmo_jax.metrics.versions import MOLMO2
from molmo_jax.preprocess.tracks import parse_tracks


class EncodedMasks(dict):
  """Frame → mask bool [h,w], decoded when it is asked for: most frames of a video never are."""

  def get(self, frame: int, default: Any = None) -> np.ndarray | None:
    return decode_mask(self[frame]) if frame in self else default


def _pointing(prediction: str, example: Reference) -> Mapping[str, float]:
  data = metadata_of(example)
  scores = pointing_scores(prediction, data['width'], data['height'], data['references'],
                           [decode_mask(mask) for mask in data['masks']],
                           version=data.get('version', MOLMO2))
  return {'f1': scores.f1, 'precision': scores.precision, 'recall': scores.recall}


def _point_bench(prediction: str, example: Reference) -> Mapping[str, float]:
  data = metadata_of(example)
  return {'accuracy': point_bench(prediction, decode_mask(data['mask']), data['width'],
                                  data['height'])}


def _point_in_box(prediction: str, example: Reference) -> Mapping[str, float]:
  data = metadata_of(example)
  return {'accuracy': point_in_box(prediction, data['width'], data['height'], data['box'])}


def _video_pointing(prediction: str, example: Reference) -> Mapping[str, float]:
  data = metadata_of(example)
  masks = [EncodedMasks({float(t): mask for t, mask in of_object}) for of_object in data['masks']]
  scores = video_point_scores(prediction, data['width'], data['height'], data['duration'],
                              data['references'], masks)
  return {'f1': scores.f1, 'precision': scores.precision, 'recall': scores.recall,
          'valid': scores.valid}


def _tracking(prediction: str, example: Reference) -> Mapping[str, float]:
  data = metadata_of(example)
  tracks = {int(frame): objects for frame, objects in data['tracks'].items()}
  masks = {name: EncodedMasks({int(frame): mask for frame, mask in frames.items()})
           for name, frames in data['masks'].items()}
  scores = tracking_scores(prediction, data['width'], data['height'], data['fps'], tracks, masks,
                           align_masks=bool(data.get('align_masks')),
                           count_present=bool(data.get('count_present')))
  return {'f1': scores.f1, 'precision': scores.precision, 'recall': scores.recall,
          'HOTA': scores.hota.HOTA,
          'DetA': scores.hota.DetA, 'AssA': scores.hota.AssA}


def _tap_vid(prediction: str, example: Reference) -> Mapping[str, float]:
  """One point of a video: where a frame has no point it counts as hidden, at the place where it was
  last seen.
  """
  data = metadata_of(example)
  frames = len(data['track'])
  tracks, hidden = np.zeros((1, frames, 2)), np.ones((1, frames), bool)
  for moment in parse_tracks(prediction, data['width'], data['height'], data['fps']):
    if moment.frame < frames and moment.points:
      tracks[0, moment.frame:], hidden[0, moment.frame] = next(iter(moment.points.values())), False
  scores = tap_vid_scores(np.array([data['query_frame']]), np.array([data['occluded']], bool),
                          np.array([data['track']], np.float64), hidden, tracks)
  return {name: scores[name]
          for name in ('average_jaccard', 'average_pts_within_thresh', 'occlusion_accuracy')}


# Rule, and the keys that the metadata must have.
LOCATED: dict[str, tuple[Callable[[str, Reference], Mapping[str, float]], tuple[str, ...]]] = {
  'pointing': (_pointing, ('width', 'height', 'references', 'masks')),
  'point_bench': (_point_bench, ('width', 'height', 'mask')),
  'point_in_box': (_point_in_box, ('width', 'height', 'box')),
  'video_pointing': (_video_pointing, ('width', 'height', 'duration', 'references', 'masks')),
  'tracking': (_tracking, ('width', 'height', 'fps', 'tracks', 'masks')),
  'tap_vid': (_tap_vid, ('width', 'height', 'fps', 'query_frame', 'track', 'occluded')),
}
