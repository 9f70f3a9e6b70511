"""The video datasets that were released with Molmo2, and its text: parquet files of the Hub, videos
beside them.
"""

from __future__ import annotations

from collections.abc import Iterator

from molmo_jax.data.adapters import prompts
from molmo_jax.data.adapters.adapter import Adapter, Context, Conversation, Row
from molmo_jax.data.adapters.media import Media, image

CAPTIONS = {'merged_caption': 'video_merged_caption', 'video_caption': 'video_short_caption',
            'video_frame_merged_caption': 'video_long_caption'}
LEAST_SCORE, MOST_CAPTIONS = 3, 4
LONGEST_CLIP = 63.0                         # seconds of a pointing example
STEP = 0.5                                  # seconds between the frames that were annotated
# of the trees become one dialogue (docs/training.md §2.5)
DIALOGUE_SHARE = 0.2
POINT_RANGES = {'0_5': (0, 5), '6_25': (6, 25), '26_60': (26, 60)}
# sources of molmo2-tulu4-classified that are left out: identity answers, puzzles, verifiable
# reasoning
OMITTED_TEXT = frozenset({
  'allenai/dino-hardcodes', 'allenai/hardcoded-olmo', 'allenai/puzzle_data_160k-ngram-filtered',
  'faezeb/verifiable-reasoning-v3-o4-mini-length-filtered-verified',
  'allenai/verifiable-reasoning-filtered-o4-mini-filtered'})


def split(name: str) -> tuple[str, ...]:
  """Where a split's parquet files may lie."""
  return (f'data/{name}-*.parquet', f'{name}/*.parquet', f'**/{name}-*.parquet')


def _video(row: Row) -> Media:
  return Media(video=row['video_id'])


def _captions(row: Row, context: Context) -> Iterator[Conversation]:
  for column, style in CAPTIONS.items():
    if row[column]:
      yield prompts.caption(context, row[column], style)


def _human_question(row: Row, context: Context) -> Iterator[Conversation]:
  yield prompts.answer(row['question'], row['answer'], 'user_qa')


def _synthetic_question(row: Row, context: Context) -> Iterator[Conversation]:
  yield prompts.shuffled_choice(context, row['Question'], row['Answer'], row['NegativeAnswers'],
                                'video_multiple_choice')


def _with_subtitles(row: Row) -> Media:
  lines = tuple((float(s['start']), float(s['end']), s['text']) for s in row['subtitle'] or ())
  return Media(video=row['video_id'],
               subtitles=tuple(line for line in lines if 0 <= line[0] <= line[1]))


def _clip(row: Row) -> tuple[float, float] | None:
  """The part of the video that is shown: all of a short one, else the annotated window; None: no
  usable window.
  """
  if row['video_duration'] <= LONGEST_CLIP:
    return 0.0, float(row['video_duration'])
  start, end = row['clip_start'], row['clip_end']
  times = row['two_fps_timestamps'] or ()
  usable = start is not None and end is not None and 0 <= start < end <= start + LONGEST_CLIP
  return (float(start), float(end)) if usable and all(start <= t <= end for t in times) else None


def _pointed_video(row: Row) -> Media:
  clip = _clip(row)
  whole = clip is not None and clip[1] == row['video_duration'] and not clip[0]
  return Media(video=row['video_id'], clip=None if whole else clip)


def _video_points(row: Row, context: Context) -> Iterator[Conversation]:
  style = ('video_point', 'video_point_count')[int(context.rng.integers(2))]
  start = _clip(row)[0]
  points = {STEP * ((t - start) // STEP): [(p['x'] / 100, p['y'] / 100) for p in frame]
            for t, frame in zip(row['two_fps_timestamps'] or (), row['points'] or ()) if frame}
  mode = 'point_count' if style.endswith('count') else 'point'
  yield prompts.pointing(context, points, row['label'], style, mode, medium='video')


def _point_range(least: int, most: int) -> Adapter:
  return Adapter(
    ('data/train-*.parquet', '*/train-*.parquet', '**/train-*.parquet'), _pointed_video,
    _video_points, 'card',
    grouped=True, most=8, keep=lambda row: (least <= row['count'] <= most
                                            and not row['annotator_unsure']
                                            and _clip(row) is not None))


def _text(row: Row, context: Context) -> Iterator[Conversation]:
  """A chat; a system message becomes the beginning of the first question."""
  messages = [(m['role'], m['content']) for m in row['messages']]
  if messages and messages[0][0] == 'system':
    (_, system), *messages = messages
    if messages:
      messages[0] = (messages[0][0], f'System: {system}\n{messages[0][1]}')
  if len(messages) % 2:
    messages.pop()                          # a question without an answer
  if [role for role, _ in messages] == ['user', 'assistant'] * (len(messages) // 2):
    yield Conversation(tuple(text for _, text in messages), 'text_sft')


def _is_general_text(row: Row, longest: int) -> bool:
  return (row['category'] not in ('code', 'non-english') and row['source'] not in OMITTED_TEXT
          and not row['empty_messages'] and not row['has_special_token']
          and row['first_message_qwen3_tokens'] <= longest)


def _tulu(longest: int) -> Adapter:
  return Adapter(split('train'), lambda row: Media(), _text, 'loader',
                 keep=lambda row: _is_general_text(row, longest))


def _identity(row: Row, context: Context) -> Iterator[Conversation]:
  for question in row['questions']:
    yield prompts.answer(question, row['response'], 'user_qa')


MOLMO2 = {
  'molmo2_captions_min_3': Adapter(
    split('train'), _video, _captions, 'loader',
    keep=lambda row: (row['annotation_score'] or 0) >= LEAST_SCORE),
  'molmo2_human_qa': Adapter(split('HumanQA'), _video, _human_question, 'loader', grouped=True),
  'molmo2_syn_captions_qa': Adapter(split('CapQA'), _video, _synthetic_question, 'loader',
                                    grouped=True, most=10),
  'molmo2_syn_captions_subtitle_qa': Adapter(split('SubtitleQA'), _with_subtitles,
                                             _synthetic_question, 'loader',
                                             grouped=True, most=10),
  **{f'molmo2_video_points_{name}': _point_range(*limits) for name, limits in POINT_RANGES.items()},
  'tulu4': _tulu(4096),
  'tulu4_max_2304': _tulu(2304),
  'molmo2_hardcodes': Adapter(split('train'),
                              lambda row: Media(sum((image(x) for x in row['images'] or ()), ())),
                              _identity, 'card'),
}
