"""Rows of tracking sets: where objects are at which time, and at which rates frames are sampled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from molmo_jax.data.facts import Fact
from molmo_jax.datasets.files import Row
from molmo_jax.preprocess.tracks import parse_timestamp

MOST_FPS = 10                               # frames of a second that are sampled at most


def frame_sampling(video_fps: float, least: int = 1) -> dict[str, Any]:
  """How frames of a tracked video are sampled: at one of the rates that divide its own, are
  multiples of `least` and at most 10 (allenai/molmo2 f3cb108
  olmo/data/academic_video_track_datasets.py:211).
  """
  rates = [rate for rate in range(least, min(int(video_fps), MOST_FPS) + 1, least)
           if int(video_fps) % rate == 0]
  return {'frame_sample_mode': 'fps', 'candidate_fps': rates}


def can_be_sampled(row: Row) -> bool:
  """Whether frames at the rate of the row exist in its video."""
  return row['fps'] > 0 and row['sampling_fps'] > 0 and row['fps'] % row['sampling_fps'] == 0


def track_facts(row: Row) -> Iterator[Fact]:
  """One expression, and in 'frame_trajectories' points by time and object."""
  known = {str(name): number for number, name in enumerate(row['mask_id'])}
  moments = []
  for frame in sorted(row['frame_trajectories'] or (), key=lambda f: f['frame']):
    objects = {}
    for point in frame['points']:
      if str(point['id']) in known and point['point']:
        x, y = point['point'][0] / row['width'], point['point'][1] / row['height']
        objects[str(known[str(point['id'])])] = [x, y, True] if point['occluded'] else [x, y]
    moments.append([parse_timestamp(str(frame['time'])), objects])
  yield {'label': row['expression'], 'fps': row['sampling_fps'], 'tracks': moments}
