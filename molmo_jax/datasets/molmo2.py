"""The video sets that were released with Molmo2, and its text: what the declarations in
`molmo2.toml` need code for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from molmo_jax.data.facts import Fact
from molmo_jax.datasets.files import Files, Row

LONGEST_CLIP = 63.0                         # seconds of a pointing example
STEP = 0.5                                  # seconds between the frames that were annotated
POINT_STYLES = ['video_point_count', 'video_point']


def stripped(row: Row) -> list[Row]:
  """Texts without white space around them."""
  return [{key: value.strip() if isinstance(value, str) else value for key, value in row.items()}]


def subtitles(files: Files, row: Row) -> list[dict[str, Any]]:
  """What is said in the video."""
  return [{key: s[key] for key in ('start', 'end', 'text')} for s in row['subtitle'] or ()
          if 0 <= s['start'] <= s['end']]


def shown_part(row: Row) -> tuple[float, float] | None:
  """The part of the video that is shown: all of a short one, else the annotated window; None: no
  usable window.
  """
  duration, times = row['video_duration'], row['two_fps_timestamps'] or ()
  start, end = row['clip_start'], row['clip_end']
  if None not in (start, end) and end - start > LONGEST_CLIP:
    return None
  if duration <= LONGEST_CLIP:
    start, end = 0.0, duration
  elif None in (start, end):
    return None
  first, last = (min(times), max(times)) if times else (0.0, min(duration, LONGEST_CLIP))
  usable = (0 <= start < end <= duration and end - start <= LONGEST_CLIP and start <= first
            and end >= last)
  return (float(start), float(end)) if usable else None


def video_points(row: Row) -> Iterator[Fact]:
  """A question that is answered by points."""
  start, _ = shown_part(row) or (0.0, 0.0)       # rows without a part are left out before
  yield _points(row['label'], start, row['two_fps_timestamps'] or (),
                row['points'] or ()) | {'question': row['question']}


def _points(label: str, start: float, times: Any, points: Any) -> dict[str, Any]:
  """Points of frames, at seconds from the start of the clip that are multiples of `STEP`."""
  return {'styles': POINT_STYLES, 'label': label, 'points': [
    [STEP * ((t - start) // STEP), [[p['x'] / 100, p['y'] / 100] for p in frame]]
    for t, frame in zip(times, points)]}


def academic_points(row: Row) -> Iterator[Fact]:
  """Points of a video in the order of time."""
  frames = sorted(zip(row['timestamps'], row['points']), key=lambda frame: frame[0])
  yield _points(row['category'].lower(), row['clip_start_time'], *zip(*frames))


def is_pointed(row: Row) -> bool:
  """Whether the points are close enough in time."""
  return max(row['timestamps']) - min(row['timestamps']) <= LONGEST_CLIP


def is_shown_whole(row: Row) -> bool:
  """Whether the whole video is short enough."""
  return row['video_duration'] <= LONGEST_CLIP


def text(row: Row) -> Iterator[Fact]:
  """A chat; a system message becomes the beginning of the first question."""
  messages = [(m['role'], m['content']) for m in row['messages']]
  if messages and messages[0][0] == 'system':
    (_, system), *messages = messages
    if messages:
      messages[0] = (messages[0][0], f'System: {system}\n{messages[0][1]}')
  if len(messages) % 2:
    messages.pop()                          # a question without an answer
  if messages and [r for r, _ in messages] == ['user', 'assistant'] * (len(messages) // 2):
    yield {'messages': [text for _, text in messages]}


def identity(row: Row) -> Iterator[Row]:
  """Every question about the model, about each of the images."""
  for question in row['questions']:
    for image in row['images'] or (None,):
      yield {'question': question, 'response': row['response'], 'image': image}


def can_be_shown(row: Row) -> bool:
  """Whether the part of the video that has the points can be shown."""
  return shown_part(row) is not None
