"""TAP-Vid DAVIS: points that are tracked through a video, published as a pickle of arrays."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from molmo_jax.datasets.benchmark import Record
from molmo_jax.datasets.files import Files, TaskError
from molmo_jax.preprocess.points import format_points

# at which the frames are written and the times are counted
VIDEO_FPS = 6

# All that a pickle of numpy arrays needs; a pickle that names anything else is not read.
_ALLOWED = frozenset((module, name)
                     for module in ('numpy.core.multiarray', 'numpy._core.multiarray', 'numpy')
                     for name in ('_reconstruct', 'scalar', 'ndarray', 'dtype')) | {
                       ('numpy._core.numeric', '_frombuffer'),
                       ('numpy.core.numeric', '_frombuffer'), ('_codecs', 'encode')}


class _ArraysOnly(pickle.Unpickler):
  """Reads a pickle that holds arrays and plain values, and refuses to call anything else."""

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) not in _ALLOWED:
      raise pickle.UnpicklingError(f'it contains {module}.{name}, which is no array')
    return super().find_class(module, name)


def tap_davis(files: Files) -> Iterator[Record]:
  """One question per point: it is given where it is first seen, and is to be tracked from there."""
  path = Path(files.file('tapvid_davis.pkl'))
  try:
    with open(path, 'rb') as file:
      videos: Mapping[str, Any] = _ArraysOnly(file).load()
  except (OSError, pickle.UnpicklingError, EOFError) as error:
    raise TaskError(f'{path}: cannot be read as a pickle of arrays ({error})') from None
  for name, video in videos.items():
    frames = [_pixels(frame) for frame in video['video']]
    height, width = frames[0].shape[:2]
    clip = _write(files.media / f'{name}.mp4', frames)
    for number, (points, occluded) in enumerate(
      zip(video['points'], np.asarray(video['occluded'], bool), strict=True)):
      seen = np.flatnonzero(~occluded)
      if len(seen):
        track = np.asarray(points, np.float64) * [width - 1, height - 1]
        first = int(seen[0])
        query = format_points({first / VIDEO_FPS: [
          (track[first, 0] / width, track[first, 1] / height)]}, 'point')
        yield {'id': f'{name}_{number}', 'video': clip, 'question': 'Track this point at '
               f'{VIDEO_FPS} FPS: {query}',
               'metadata': {'width': width, 'height': height, 'fps': VIDEO_FPS,
                            'query_frame': first,
                            'track': np.round(track, 3).tolist(), 'occluded': occluded.tolist()}}


def _pixels(frame: Any) -> np.ndarray:
  return np.asarray(Image.open(io.BytesIO(frame)).convert('RGB') if isinstance(frame, bytes)
                    else frame)


def _write(path: Path, frames: list[np.ndarray]) -> str:
  """Writes a clip; sides are cut to even numbers, which the encoder needs."""
  if not path.exists():
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    codec = 'libx264' if 'libx264' in av.codecs_available else 'mpeg4'
    with av.open(str(path), 'w', format='mp4') as container:
      stream = container.add_stream(codec, rate=Fraction(VIDEO_FPS))
      stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
      for frame in frames:
        pixels = np.ascontiguousarray(frame[:height, :width])
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format='rgb24')))
      container.mux(stream.encode())
  return str(path)
