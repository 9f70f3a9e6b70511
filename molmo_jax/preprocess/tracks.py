"""Points in a video and tracks as text, and text as points and tracks (docs/training.md §4.4).

    <tracks alt="ALT" coords="TIME id XXX YYY id XXX YYY;TIME …">LABEL</tracks>

TIME is in seconds with one decimal, XXX and YYY are thousandths of the sides, and the id of an
object is the same in every frame. The tag of points has the same form with numbers of points in the
place of ids.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Hashable, Mapping, Sequence

from molmo_jax.preprocess.points import (
  FRAME_SEPARATORS,
  coords_tag,
  frame_id,
  parse_frame_points,
  thousandths,
)
from molmo_jax.preprocess.types import choice

NO_TRACKS = 'No tracks available.'

# Later times and frame numbers are no part of any video, but of a text that went wrong.
_MAX_SECONDS = 1e9


@dataclasses.dataclass(frozen=True)
class TrackFrame:
  """The objects of one moment."""
  time: float                                 # seconds
  frame: int                                  # number of the video's frame, round(time · fps)
  points: dict[str, tuple[float, float]]      # id as written → (x, y), pixels


@dataclasses.dataclass(frozen=True)
class ObjectPoint:
  """Where an object is annotated at one moment."""
  x: float
  y: float
  occluded: bool = False                      # annotated, but not to be seen


Moments = Sequence[tuple[float, Mapping[Hashable, ObjectPoint]]]


_OLD_TAG = re.compile(r'<points\s+([^/<>]*)/>')


def parse_video_points(text: str, width: float, height: float, *, old_forms: bool = True,
                       ) -> list[tuple[float, float, float]]:
  """The points of an answer about a video: (seconds, x, y), in pixels of a `width`×`height` frame.

  With `old_forms`, a text without any readable coords tag is read as older models wrote points:
  `<points TIME index X Y index X Y/>` with X and Y in percent, all of its tags or none.
  """
  found = [(t, x, y) for t, _, x, y in parse_video_points_with_ids(text, width, height)]
  try:
    for tag in _OLD_TAG.findall(text) if old_forms and not found else ():
      time, *triples = map(float, tag.split())
      found += [(time, x / 100 * width, y / 100 * height)
                for x, y in zip(triples[1::3], triples[2::3], strict=True) if max(x, y) <= 100]
  except ValueError:
    return []
  return found


def parse_video_points_with_ids(text: str, width: float,
                                height: float) -> list[tuple[float, str, float, float]]:
  """As `parse_video_points`, with the point's or object's id as written: (seconds, id, x, y)."""
  return [(float(p.frame), p.index, p.x * width, p.y * height) for p in parse_frame_points(text)
          if float(p.frame) <= _MAX_SECONDS]


def parse_tracks(text: str, width: float, height: float, fps: float) -> list[TrackFrame]:
  """The tracks of an answer, in the order of time.

  If an id repeats in a moment, its first point counts.

  Args:
    text: the answer; tags of tracks and of points are read alike.
    width, height: of a frame, pixels.
    fps: frames per second of the video, for the frames' numbers.
  """
  moments: dict[float, dict[str, tuple[float, float]]] = {}
  for time, index, x, y in parse_video_points_with_ids(text, width, height):
    moments.setdefault(time, {}).setdefault(index, (x, y))
  return [TrackFrame(time, round(time * fps), moments[time]) for time in sorted(moments)]


def format_tracks(moments: Moments, label: str, *, mode: str = 'track',
                  queries: Sequence[tuple[Hashable, float]] | None = None, version: str = 'html-v2',
                  alt: str | None = None, only_queried: bool = False) -> str:
  """The answer that tracks objects, as Molmo2 was trained on it.

  The printed ids count from 1 in the order in which the objects are first seen (in one frame: by x,
  then y), and are in this order in every frame. Occluded objects and frames without a visible
  object are not written.

  Args:
    moments: (seconds, object → point), points as fractions of the sides, in the order of time.
    label: what is tracked; the text between the tags.
    mode: 'track' all; 'ground' for every object only its first and its last annotated frame (left
      out where it is occluded there); 'initial' the frames after a query that have its object.
    queries: (object, seconds), for 'initial': what was given in the question.
    version: 'html-v2' (';' between frames) or 'html-v1' (a tab).
    alt: the tag's alt attribute, if any.
    only_queried: upstream bug, reproduced by default: 'initial' keeps whole frames, so that other
      objects leak into the answer. True keeps the objects of the queries alone.

  Returns:
    The text; 'No tracks available.' without moments, and '' if no visible object is left.

  Raises:
    ValueError: a mode or version that does not exist, or 'initial' without queries.
  """
  choice(version, FRAME_SEPARATORS, 'point format')
  if not moments:
    return NO_TRACKS
  visible = [(time, {name: thousandths(point.x, point.y) for name, point in objects.items()
                     if not point.occluded})
             for time, objects in _kept(moments, mode, queries, only_queried)]
  ids: dict[Hashable, int] = {}
  frames = []
  for time, objects in visible:
    for name in sorted(objects, key=objects.__getitem__):
      ids.setdefault(name, len(ids) + 1)
    triples = [f'{ids[name]} {objects[name][0]:03d} {objects[name][1]:03d}'
               for name in sorted(objects, key=ids.__getitem__)]
    if triples:
      frames.append(f'{frame_id(float(time))} {" ".join(triples)}')
  return coords_tag('tracks', frames, label, version, alt) if frames else ''


def _kept(moments: Moments, mode: str, queries: Sequence[tuple[Hashable, float]] | None,
          only_queried: bool) -> Moments:
  if mode == 'track':
    return moments
  if mode == 'ground':
    seen: dict[Hashable, list[int]] = {}
    for number, (_, objects) in enumerate(moments):
      for name in objects:
        seen.setdefault(name, []).append(number)
    ends: dict[float, dict[Hashable, ObjectPoint]] = {}
    for number, (time, objects) in enumerate(moments):
      ends.setdefault(time, {}).update({name: point for name, point in objects.items()
                                        if number in (seen[name][0], seen[name][-1])})
    return list(ends.items())
  if mode != 'initial':
    raise ValueError(f'track mode {mode!r} does not exist; the modes are: track, ground, initial')
  if queries is None:
    raise ValueError("track mode 'initial' needs queries: (object, seconds) of every object given "
                     'in the question')
  kept = []
  for time, objects in moments:
    wanted = [name for name, start in queries if time > start and name in objects]
    if wanted:
      kept.append((time, {name: objects[name] for name in wanted} if only_queried else objects))
  return kept


def format_timestamp(seconds: float, decimals: int = 2) -> str:
  """`seconds` as HH:MM:SS.FF.

  As upstream, seconds that round up to 60 are not carried over (59.96 → 00:00:60.0).
  """
  hours, rest = divmod(seconds, 3600)
  minutes, rest = divmod(rest, 60)
  width = decimals + 3 if decimals else 2
  return f'{int(hours):02d}:{int(minutes):02d}:{rest:0{width}.{decimals}f}'


def parse_timestamp(text: str) -> float:
  """Seconds of 'HH:MM:SS.FF', 'MM:SS.FF' or 'SS.FF'.

  Raises:
    ValueError: anything else.
  """
  parts = text.split(':')
  try:
    numbers = [float(part) for part in parts]
  except ValueError:
    numbers = []
  if not 1 <= len(numbers) <= 3 or not all(math.isfinite(number) and number >= 0
                                           for number in numbers):
    raise ValueError(f"a time is written HH:MM:SS.FF, MM:SS.FF or SS.FF, not {text[:80]!r}")
  seconds = 0.0
  for number in numbers:
    seconds = 60 * seconds + number
  return seconds
