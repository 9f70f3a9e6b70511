"""The video sets that were released with Molmo2, and its text: parquet files of the Hub, videos
beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from molmo_jax.data.facts import Fact
from molmo_jax.datasets.dataset import Dataset, Fields, Training, hub, table
from molmo_jax.datasets.files import Files, Row
from molmo_jax.datasets.image_qa import AI2

# column → style, in the order of the released code
CAPTIONS = {'merged_caption': 'video_merged_caption', 'video_caption': 'video_short_caption',
            'video_frame_merged_caption': 'video_long_caption'}
LEAST_SCORE, MOST_CAPTIONS = 3, 4
DAMAGED = frozenset({                       # videos that were left out
  '0OfUqrbRa2Y', 'mTXBQzptWAg', 'NyuA4FatDQk', 'a_', 'gsfIHiBB6xE', 'bXApJtAf6Qo', 'N8BlpYSpgg4'})
LONGEST_CLIP = 63.0                         # seconds of a pointing example
STEP = 0.5                                  # seconds between the frames that were annotated
DIALOGUES = 0.2                             # probability that a tree becomes one dialogue
POINT_STYLES = ['video_point_count', 'video_point']
POINT_RANGES = {'0_5': (0, 5), '6_25': (6, 25), '26_60': (26, 60)}
# sources of molmo2-tulu4-classified that are left out: identity answers, puzzles, verifiable
# reasoning
OMITTED_TEXT = frozenset({
  'allenai/dino-hardcodes', 'allenai/hardcoded-olmo', 'allenai/puzzle_data_160k-ngram-filtered',
  'faezeb/verifiable-reasoning-v3-o4-mini-length-filtered-verified',
  'allenai/verifiable-reasoning-filtered-o4-mini-filtered'})


def _captions(row: Row) -> Iterator[Fact]:
  for column, style in CAPTIONS.items():
    if row[column]:
      yield {'style': style, 'texts': [row[column]]}


def among_others(question: str, right: str, wrong: list[str]) -> Fact:
  """A question whose right answer stands anywhere among the others."""
  return {'style': 'video_multiple_choice', 'question': question, 'options': [right, *wrong],
          'right': 0, 'order': 'insert'}


def _synthetic_question(row: Row) -> Iterator[Fact]:
  yield among_others(row['Question'], row['Answer'], list(row['NegativeAnswers']))


def _subtitles(files: Files, row: Row) -> list[dict[str, Any]]:
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


def _video_points(row: Row) -> Iterator[Fact]:
  yield _points(row['label'], shown_part(row)[0], row['two_fps_timestamps'] or (),
                row['points'] or ()) | {'question': row['question']}


def _points(label: str, start: float, times: Any, points: Any) -> dict[str, Any]:
  """Points of frames, at seconds from the start of the clip that are multiples of `STEP`."""
  return {'styles': POINT_STYLES, 'label': label, 'points': [
    [STEP * ((t - start) // STEP), [[p['x'] / 100, p['y'] / 100] for p in frame]]
    for t, frame in zip(times, points)]}


def _academic_points(row: Row) -> Iterator[Fact]:
  frames = sorted(zip(row['timestamps'], row['points']), key=lambda frame: frame[0])
  yield _points(row['category'].lower(), row['clip_start_time'], *zip(*frames))


def _is_pointed(row: Row) -> bool:
  return (row['count'] <= POINT_RANGES['26_60'][1]
          and max(row['timestamps']) - min(row['timestamps']) <= LONGEST_CLIP)


def _in_range(least: int, most: int):
  return lambda row: least <= row['count'] <= most and shown_part(row) is not None


def _text(row: Row) -> Iterator[Fact]:
  """A chat; a system message becomes the beginning of the first question."""
  messages = [(m['role'], m['content']) for m in row['messages']]
  if messages and messages[0][0] == 'system':
    (_, system), *messages = messages
    if messages:
      messages[0] = (messages[0][0], f'System: {system}\n{messages[0][1]}')
  if len(messages) % 2:
    messages.pop()                          # a question without an answer
  if messages and [r for r, _ in messages] == ['user', 'assistant'] * (len(messages) // 2):
    yield {'style': 'text_sft', 'messages': [text for _, text in messages]}


def _is_general_text(longest: int):
  return lambda row: (row['category'] not in ('code', 'non-english')
                      and row['source'] not in OMITTED_TEXT and not row['empty_messages']
                      and not row['has_special_token']
                      and row['first_message_qwen3_tokens'] <= longest)


def _identity(row: Row) -> Iterator[Row]:
  for question in row['questions']:
    for image in row['images'] or (None,):
      yield {'question': question, 'response': row['response'], 'image': image}


DATASETS = (
  Dataset('molmo2_captions', table(
    hub('train'), keep=lambda row: (row['annotation_score'] or 0) >= LEAST_SCORE
    and row['video_id'] not in DAMAGED),
          Fields(video='video_id', facts=_captions), f'{AI2}/Molmo2-Cap', 'ODC-BY', 'loader',
          training=(Training('molmo2_captions_min_3', most=MOST_CAPTIONS),)),
  Dataset('molmo2_human_qa', table(hub('HumanQA')),
          Fields(lambda r: r['question'].strip(), video='video_id', style='user_qa',
                 answers=lambda r: r['answer'].strip()),
          f'{AI2}/Molmo2-AskModelAnything', 'ODC-BY', 'loader',
          training=(Training('molmo2_human_qa', grouped=True),)),
  Dataset('molmo2_syn_captions_qa', table(hub('CapQA')),
          Fields(video='video_id', facts=_synthetic_question), f'{AI2}/Molmo2-VideoCapQA',
          'ODC-BY', 'loader', training=(Training('molmo2_syn_captions_qa', grouped=True),)),
  Dataset('molmo2_syn_captions_subtitle_qa', table(hub('SubtitleQA')),
          Fields(video='video_id', subtitles=_subtitles, facts=_synthetic_question),
          f'{AI2}/Molmo2-VideoSubtitleQA', 'ODC-BY', 'loader',
          training=(Training('molmo2_syn_captions_subtitle_qa', grouped=True),)),
  Dataset('molmo2_video_points', table(hub('train')),
          Fields(video='video_id', clip=shown_part, facts=_video_points),
          f'{AI2}/Molmo2-VideoPoint', 'ODC-BY', 'card', training=tuple(
            Training(f'molmo2_video_points_{name}', table(hub('train'), keep=_in_range(*limits)),
                     grouped=lambda row: row['video_duration'] <= LONGEST_CLIP,
                     dialogue=DIALOGUES) for name, limits in POINT_RANGES.items())),
  Dataset('academic_points', table(hub('train'), keep=_is_pointed),
          Fields(video='video_name', facts=_academic_points,
                 clip=lambda r: (r['clip_start_time'], r['clip_end_time'])),
          f'{AI2}/molmo2-academic-video-points', schema='loader',
          training=(Training('academic_points'),)),
  Dataset('tulu4', table(hub('train')), Fields(facts=_text),
          f'{AI2}/molmo2-tulu4-classified', schema='loader', training=tuple(
            Training(name, table(hub('train'), keep=_is_general_text(longest)))
            for name, longest in (('tulu4', 4096), ('tulu4_max_2304', 2304)))),
  Dataset('molmo2_hardcodes', table(hub('train'), each=_identity),
          Fields('question', 'image', answers='response', style='user_qa'),
          f'{AI2}/molmo2-hardcodes; pictures and videos of other sets in context/', schema='loader',
          training=(Training('molmo2_hardcodes', backdrop='context',
                             note='in a quarter of the draws with an image of context/, in a '
                                  'quarter with a video, in 15 % with two to five images'),)),
)
