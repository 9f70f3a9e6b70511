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
  index: str                  # type: ignore[assignment] # number of the point or object as written; '' where none is
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
  times, sizes = None, ()
  if not isinstance(inputs, Mapping):
    sizes = inputs
  else:
    if inputs['tokens'].ndim != 1:
      raise ValueError('these are the inputs of a batch; points belong to one conversation')
    sizes = [(int(w), int(h)) for h, w in (*inputs['image_sizes'], *inputs['video_sizes'])]
    times = inputs['frame_times'] if len(inputs['video_sizes']) else None
  found = points.parse_frame_points(text)
  if times is None and len(sizes) == 1:
    pixels = points.parse_points(text, *sizes[0])
    return [PixelPoint(0, x, y, found[k].index if found else '') for k, (x, y) in enumerate(pixels)]
  placed = []
  for point in found:
    number = float(point.frame)
    frame = int(number) - 1 if times is None else int(np.abs(times - number).argmin())
    if times is None and number not in range(1, len(sizes) + 1):
      continue
    width, height = sizes[0 if times is not None else frame]
    placed.append(PixelPoint(frame, point.x * width, point.y * height, point.index,
                             None if times is None else float(times[frame])))
  return placed
