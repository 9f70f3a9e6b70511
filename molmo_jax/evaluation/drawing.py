"""Draws predicted points and tracks on images and frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from molmo_jax.preprocess.points import FramePoint
from molmo_jax.preprocess.tracks import TrackFrame

Colour = tuple[int, int, int]

# Distinct to most eyes, in this order (Okabe and Ito).
COLOURS: tuple[Colour, ...] = ((213, 94, 0), (0, 114, 178), (0, 158, 115), (204, 121, 167),
                               (230, 159, 0), (86, 180, 233), (240, 228, 66))

_HALO = (255, 255, 255)
_RADIUS = 0.012                                 # of a point, as a fraction of the longer side
_MIN_RADIUS = 2                                 # pixels
# a point is drawn on the nearest frame if it is this near, seconds
_NEAR_FRAME = 0.5


def draw_points(image: np.ndarray, points: Sequence[tuple[float, float]], *,
                labels: Sequence[str] | None = None, colour: Colour = COLOURS[0]) -> np.ndarray:
  """A copy of an image with points on it: discs with a white rim, and labels if given.

  Args:
    image: uint8 [h,w,3].
    points: (x, y) in pixels; what lies outside the image is not seen.
    labels: a text for every point.

  Returns:
    uint8 [h,w,3].
  """
  return _draw(image, points, labels, [colour] * len(points))


def draw_numbered_points(image: np.ndarray, points: Sequence[tuple[float, float]], *,
                         colour: Colour = COLOURS[0]) -> np.ndarray:
  """As `draw_points`, labelled 1, 2, … in their order."""
  return draw_points(image, points, labels=[str(number) for number in range(1, len(points) + 1)],
                     colour=colour)


def draw_image_points(images: Sequence[np.ndarray], points: Sequence[tuple[int, float, float]], *,
                      colour: Colour = COLOURS[0]) -> list[np.ndarray]:
  """Copies of several images with points: (number of the image from 1, x, y in its pixels)."""
  return [draw_points(image, [(x, y) for n, x, y in points if n == number], colour=colour)
          for number, image in enumerate(images, start=1)]


def draw_video_points(frames: Sequence[np.ndarray], times: Sequence[float],
                      points: Sequence[FramePoint], *,
                      colour: Colour = COLOURS[0]) -> list[np.ndarray]:
  """Copies of frames with the points of `points.parse_frame_points`, labelled with their numbers.

  Args:
    frames: uint8 [h,w,3] each.
    times: of each frame, seconds.
    points: each is drawn on the nearest frame, if that is within half a second.

  Returns:
    One picture for every frame.
  """
  drawn = []
  for number, frame in enumerate(frames):
    height, width = frame.shape[:2]
    here = [p for p in points if _nearest(times, float(p.frame)) == number]
    drawn.append(draw_points(frame, [(p.x * width, p.y * height) for p in here],
                             labels=[p.index for p in here], colour=colour))
  return drawn


def draw_tracks(frames: Sequence[np.ndarray], times: Sequence[float], tracks: Sequence[TrackFrame],
                *, trail: bool = True) -> list[np.ndarray]:
  """Copies of frames with tracked objects, each in a colour of its own, labelled with its id.

  Args:
    frames: uint8 [h,w,3] each.
    times: of each frame, seconds.
    tracks: moments (`tracks.parse_tracks` with the frames' size); each is drawn on the nearest
      frame, if that is within half a second.
    trail: also draw the way that an object came, as a line.

  Returns:
    One picture for every frame.
  """
  ids = sorted({name for moment in tracks for name in moment.points},
               key=lambda name: (len(name), name))
  colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(ids)}
  ways: dict[str, list[tuple[float, float]]] = {name: [] for name in ids}
  by_frame: dict[int, dict[str, tuple[float, float]]] = {}
  for moment in tracks:
    number = _nearest(times, moment.time)
    if number is not None:
      by_frame.setdefault(number, {}).update(moment.points)
  drawn = []
  for number, frame in enumerate(frames):
    here = by_frame.get(number, {})
    for name, point in here.items():
      ways[name].append(point)
    lines = [(ways[name], colours[name]) for name in here] if trail else []
    drawn.append(_draw(frame, list(here.values()), list(here), [colours[name] for name in here],
                       lines))
  return drawn


def _nearest(times: Sequence[float], time: float) -> int | None:
  """The number of the frame nearest to a time, the first of equals; None if none is near."""
  number = min(range(len(times)), key=lambda i: abs(times[i] - time), default=None)
  return number if number is not None and abs(times[number] - time) <= _NEAR_FRAME else None


def _draw(image: np.ndarray, points: Sequence[tuple[float, float]], labels: Sequence[str] | None,
          colours: Sequence[Colour],
          lines: Sequence[tuple[Sequence[tuple[float, float]], Colour]] = ()) -> np.ndarray:
  if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
    raise ValueError(f'an image to draw on is uint8 [h,w,3], not {image.dtype} {list(image.shape)}')
  picture = Image.fromarray(image)            # copies
  pen = ImageDraw.Draw(picture)
  radius = max(_RADIUS * max(picture.size), _MIN_RADIUS)
  for way, colour in lines:
    if len(way) > 1:
      pen.line(list(way), fill=colour, width=max(round(radius / 2), 1))
  for (x, y), colour in zip(points, colours, strict=True):
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=_HALO,
                width=max(round(radius / 4), 1))
  for (x, y), colour, label in zip(points, colours, labels or (), strict=False):
    pen.text((x + 1.5 * radius, y), label, fill=colour, anchor='lm',
             font_size=max(2.5 * radius, 10), stroke_width=1, stroke_fill=_HALO)
  return np.array(picture)
