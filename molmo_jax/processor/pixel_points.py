"""Points of an answer in pixels of the images or frames that it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from molmo_jax.preprocess import points


class PixelPoint(NamedTuple):
  """A point of an answer in one of the images or frames."""
  frame: int                  # index of the image, or of the sampled frame, from 0
  x: float                    # pixels from the left
  y: float                    # pixels from the top
  index: str                  # number of the point or object as written; '' where none is
  time: float | None = None   # seconds, in a video


def pixel_points(text: str, inputs: Mapping[str, np.ndarray] | Sequence[tuple[int, int]]
                 ) -> list[PixelPoint]:
  """The points that an answer gives, in pixels of the images or frames it is about.

  Args:
    text: the answer.
    inputs: what the processor returned for the conversation, or the (width, height) of its
      images.

  Returns:
    In the order of the text. Points outside an image, or in an image that does not exist, are
    left out. A point of a video belongs to the sampled frame nearest to the time that is written.
  """
  times = None
  if isinstance(inputs, Mapping):
    if inputs['tokens'].ndim != 1:
      raise ValueError('these are the inputs of a batch; points belong to one conversation')
    sizes = [(int(w), int(h)) for h, w in (*inputs['image_sizes'], *inputs['video_sizes'])]
    times = inputs['frame_times'] if len(inputs['video_sizes']) else None
  else:
    sizes = list(inputs)
  if times is None and len(sizes) == 1:
    found = points.parse_frame_points(text)
    indices = [point.index for point in found]
    pixels = points.parse_points(text, *sizes[0])
    return [PixelPoint(0, x, y, indices[k] if indices else '') for k, (x, y) in enumerate(pixels)]
  placed = []
  for point in points.parse_frame_points(text):
    number, time = float(point.frame), None
    if times is not None:
      frame, size = int(np.abs(times - number).argmin()), sizes[0]
      time = float(times[frame])
    elif number in range(1, len(sizes) + 1):
      frame, size = int(number) - 1, sizes[int(number) - 1]
    else:
      continue
    placed.append(PixelPoint(frame, point.x * size[0], point.y * size[1], point.index, time))
  return placed
