"""The video sets that were released with Molmo2, and its text: what the declarations in
`molmo2.toml` need code for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from molmo_jax.data.facts import Fact
from molmo_jax.datasets.files import Files, Row

# column → style, in the order of the released code
CAPTIONS = {'merged_caption': 'video_merged_caption', 'video_caption': 'video_short_caption',
            'video_frame_merged_caption': 'video_long_caption'}
LEAST_SCORE = 3
DAMAGED = frozenset({                       # videos that were left out
  '0OfUqrbRa2Y', 'mTXBQzptWAg', 'NyuA4FatDQk', 'a_', 'gsfIHiBB6xE', 'bXApJtAf6Qo', 'N8BlpYSpgg4'})
LONGEST_CLIP = 63.0                         # seconds of a pointing example
STEP = 0.5                                  # seconds between the frames that were annotated
POINT_STYLES = ['video_point_count', 'video_point']
MOST_POINTS = 60
# sources of molmo2-tulu4-classified that are left out: identity answers, puzzles, verifiable
# reasoning
OMITTED_TEXT = frozenset({
  'allenai/dino-hardcodes', 'allenai/hardcoded-olmo', 'allenai/puzzle_data_160k-ngram-filtered',
  'faezeb/verifiable-reasoning-v3-o4-mini-length-filtered-verified',
  'allenai/verifiable-reasoning-filtered-o4-mini-filtered'})


def is_well_described(row: Row) -> bool:
  """Whether the captions were rated well and the video is whole."""
  return (row['annotation_score'] or 0) >= LEAST_SCORE and row['video_id'] not in DAMAGED


def stripped(row: Row) -> list[Row]:
  """Texts without white space around them."""
  return [{key: value.strip() if isinstance(value, str) else value for key, value in row.items()}]


def captions(row: Row) -> Iterator[Fact]:
  """Three captions of a video."""
  for column, style in CAPTIONS.items():
    if row[column]:
      yield {'style': style, 'texts': [row[column]]}


def among_others(question: str, right: str, wrong: list[str]) -> Fact:
  """A question whose right answer stands anywhere among the others."""
  return {'style': 'video_multiple_choice', 'question': question, 'options': [right, *wrong],
          'right': 0, 'order': 'insert'}


def synthetic_question(row: Row) -> Iterator[Fact]:
  """A question with wrong answers."""
  yield among_others(row['Question'], row['Answer'], list(row['NegativeAnswers']))


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
  yield _points(row['label'], shown_part(row)[0], row['two_fps_timestamps'] or (),
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
  """Whether there are few enough points, close enough in time."""
  return (row['count'] <= MOST_POINTS
          and max(row['timestamps']) - min(row['timestamps']) <= LONGEST_CLIP)


def has_0_to_5(row: Row) -> bool:
  """Few objects, in a part of the video that can be shown."""
  return 0 <= row['count'] <= 5 and shown_part(row) is not None


def has_6_to_25(row: Row) -> bool:
  """Some objects, in a part of the video that can be shown."""
  return 6 <= row['count'] <= 25 and shown_part(row) is not None


def has_26_to_60(row: Row) -> bool:
  """Many objects, in a part of the video that can be shown."""
  return 26 <= row['count'] <= MOST_POINTS and shown_part(row) is not None


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


def is_general_text(row: Row, longest: int = 4096) -> bool:
  """Whether a chat is trained on: `longest` is the number of tokens of its first message."""
  return (row['category'] not in ('code', 'non-english') and row['source'] not in OMITTED_TEXT
          and not row['empty_messages'] and not row['has_special_token']
          and row['first_message_qwen3_tokens'] <= longest)


def is_short_general_text(row: Row) -> bool:
  """General text that fits into a row of pretraining."""
  return is_general_text(row, 2304)


def identity(row: Row) -> Iterator[Row]:
  """Every question about the model, about each of the images."""
  for question in row['questions']:
    for image in row['images'] or (None,):
      yield {'question': question, 'response': row['response'], 'image': image}
