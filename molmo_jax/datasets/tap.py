"""TAP-Vid DAVIS: points that are tracked through a video, published as a pickle of arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from molmo_jax.datasets.benchmark import Record
from molmo_jax.datasets.files import Files, TaskError, at
from molmo_jax.datasets.pickled import array, read_pickle
from molmo_jax.files import file_name
from molmo_jax.preprocess.points import format_points
from molmo_jax.preprocess.reading import load_image

# at which the frames are written and the times are counted
VIDEO_FPS = 6


def tap_davis(files: Files) -> Iterator[Record]:
  """One question per point: it is given where it is first seen, and is to be tracked from there."""
  path = Path(files.file('tapvid_davis.pkl'))
  videos = read_pickle(path)
  if not isinstance(videos, dict):
    raise TaskError(f'{path}: holds a {type(videos).__name__}; it should be videos by their names')
  for name, video in videos.items():
    where = f'{path}: video {name[:80]!r}'
    with at({'_where': where}):
      records = [*_questions(files.media / f'{file_name(name, where)}.mp4', video)]
    yield from records


def _questions(path: Path, video: dict[str, Any]) -> Iterator[Record]:
  given = video['video']
  frames = ([load_image(frame) if isinstance(frame, bytes) else array(frame) for frame in given]
            if isinstance(given, list) else [*array(given)])
  points, occluded = array(video['points']).astype(np.float64), array(video['occluded']) != 0
  height, width = frames[0].shape[:2]
  if ({(frame.dtype, frame.shape) for frame in frames} != {(np.dtype('u1'), (height, width, 3))}
      or points.shape != (*occluded.shape, 2) or occluded.shape[1:] != (len(frames),)
      or not np.isfinite(points).all()):
    raise ValueError(f'{len(frames)} frames, points {points.shape}, occluded {occluded.shape}')
  clip = _write(path, frames)
  for number, track in enumerate(points * [width - 1, height - 1]):
    seen = np.flatnonzero(~occluded[number])
    if len(seen):
      first = int(seen[0])
      query = format_points({first / VIDEO_FPS: [
        (track[first, 0] / width, track[first, 1] / height)]}, 'point')
      yield {'id': f'{path.stem}_{number}', 'video': clip,
             'question': f'Track this point at {VIDEO_FPS} FPS: {query}',
             'metadata': {'width': width, 'height': height, 'fps': VIDEO_FPS, 'query_frame': first,
                          'track': np.round(track, 3).tolist(),
                          'occluded': occluded[number].tolist()}}


def _write(path: Path, frames: list[np.ndarray]) -> str:
  """Writes a clip, whole or not at all; sides are cut to even numbers, which the encoder needs."""
  if not path.exists():
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    codec = 'libx264' if 'libx264' in av.codecs_available else 'mpeg4'
    temporary = path.with_name(f'.{path.name}.tmp')
    with av.open(str(temporary), 'w', format='mp4') as container:
      stream: Any = container.add_stream(codec, rate=Fraction(VIDEO_FPS))
      stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
      for frame in frames:
        pixels = np.ascontiguousarray(frame[:height, :width])
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format='rgb24')))
      container.mux(stream.encode())
    os.replace(temporary, path)
  return str(path)
