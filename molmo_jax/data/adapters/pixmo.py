"""PixMo and CoSyn: parquet files of the Hub; PixMo names its images by URL, CoSyn stores them in
the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from molmo_jax.data.adapters import prompts
from molmo_jax.data.adapters.adapter import Adapter, Context, Conversation, Row
from molmo_jax.data.adapters.media import Media, image

TRAIN = ('data/train-*.parquet', 'train-*.parquet', '**/train-*.parquet')
TURN = re.compile(r'\s*\[(USER|ASSISTANT)\]\s*')
MOST_POINTS = 60                            # of a record (docs/training.md §2.5)
COSYN_KINDS = ('chart', 'chemical', 'circuit', 'diagram', 'document', 'graphic', 'math', 'music',
               'nutrition', 'table')
MULTI_DOCUMENT_KINDS = ('chart', 'chemical', 'circuit', 'diagram', 'doc', 'graphic', 'music',
                        'table')
MOST_IMAGES = 5


def _url(row: Row) -> Media:
  return Media(image(row['image_url']))


def _caption(row: Row, context: Context) -> Iterator[Conversation]:
  yield prompts.caption(context, row['caption'], 'long_caption')


def _caption_and_transcript(row: Row, context: Context) -> Iterator[Conversation]:
  yield from _caption(row, context)
  spoken = [text for text in row['transcripts'] or () if text]
  if spoken:
    yield prompts.caption(context, spoken[int(context.rng.integers(len(spoken)))], 'transcript')


def _dialogue(row: Row, context: Context) -> Iterator[Conversation]:
  """`question` may hold a dialogue: '[USER] … [ASSISTANT] … [USER] … [ASSISTANT]'; `answer` is the
  last reply.
  """
  turns = [part.strip() for part in TURN.split(row['question'])[2::2]]
  if turns and not turns[-1]:
    turns.pop()                             # the marker before the answer
  yield Conversation((*(turns or [row['question'].strip()]), row['answer'].strip()), 'user_qa')


def _question(row: Row, context: Context) -> Iterator[Conversation]:
  yield prompts.answer(row['question'], row['answer'], 'user_qa')


def _percent(points: list[dict[str, float]]) -> list[tuple[float, float]]:
  return [(min(max(p['x'], 0.0), 100.0) / 100, min(max(p['y'], 0.0), 100.0) / 100) for p in points]


def _pairs(points: dict[str, list[float]] | list[dict[str, float]]) -> list[tuple[float, float]]:
  """(x, y) of a list of points, which some writers store as two lists."""
  if isinstance(points, dict):
    return list(zip(points['x'], points['y']))
  return [(p['x'], p['y']) for p in points]


def _points(row: Row, context: Context) -> Iterator[Conversation]:
  if row['label']:
    mode = 'point_count' if row['mode'] == 'point_count' else 'point'
    yield prompts.pointing(context, {1: _percent(row['points'])}, row['label'], row['mode'], mode)


def _counted(row: Row, context: Context) -> Iterator[Conversation]:
  """Like `_points`, with points in pixels."""
  width, height = context.size()
  percent = [{'x': 100 * x / width, 'y': 100 * y / height} for x, y in _pairs(row['points'])]
  yield from _points(row | {'points': percent}, context)


def _several_images(row: Row, context: Context) -> Iterator[Conversation]:
  points = {i: _percent(p) for i, p in enumerate(row['points'], start=1) if p}
  mode = 'point_count' if row['mode'].endswith('count') else 'point'
  yield prompts.pointing(context, points, row['labels'][0], row['mode'], mode, medium='images')


def _reasoned(kind: str):
  def conversations(row: Row, context: Context) -> Iterator[Conversation]:
    pairs = row['qa_pairs']
    if isinstance(pairs, list):
      pairs = {name: [p[name] for p in pairs] for name in ('question', 'explanation', 'answer')}
    for question, explanation, answer in zip(pairs['question'], pairs['explanation'],
                                             pairs['answer']):
      yield prompts.reasoned(context, question, explanation, answer, f'cosyn_{kind}_exp')
  return conversations


def _cosyn_point(row: Row, context: Context) -> Iterator[Conversation]:
  names = row.get('names') or row['questions']
  for question, points, name in zip(row['questions'], row['answer_points'], names):
    percent = _percent([{'x': x, 'y': y} for x, y in _pairs(points)])
    yield Conversation((question.strip(),
                        context.points_text({1: percent}, name.strip().lower(), 'point')),
                       'cosyn_point')


def _documents(row: Row, context: Context) -> Iterator[Conversation]:
  pairs = row['questions']
  if isinstance(pairs, list):
    pairs = {name: [p[name] for p in pairs] for name in ('question', 'answer')}
  for question, text in zip(pairs['question'], pairs['answer']):
    yield prompts.answer(question, text, row['mode'])


def _point_set(method: str) -> Adapter:
  return Adapter(TRAIN, _url, _points, 'card', keep=lambda row: row['collection_method'] == method,
                 grouped=True,
                 cost=lambda row: len(row['points']), budget=MOST_POINTS,
                 modes=('point_count', 'pointing'))


PIXMO = {
  'pixmo_cap': Adapter(TRAIN, _url, _caption, 'card'),
  'pixmo_cap_with_transcripts': Adapter(TRAIN, _url, _caption_and_transcript, 'card'),
  'pixmo_cap_qa_as_user_qa': Adapter(TRAIN, _url, _dialogue, 'loader', grouped=True),
  'pixmo_ask_model_anything': Adapter(TRAIN, _url, _question, 'loader', grouped=True),
  'pixmo_points': _point_set('pointing'),
  'pixmo_points_high_freq': _point_set('counting'),
  'pixmo_count': Adapter(TRAIN, _url, _counted, 'card', cost=lambda row: row['count'],
                         budget=MOST_POINTS,
                         modes=('point_count', 'pointing')),
  'pixmo_multi_points': Adapter(
    ('parquet/train-*.parquet', *TRAIN), lambda row: Media(tuple(row['image_urls'])),
    _several_images, 'card',
    keep=lambda row: len(row['image_urls']) <= MOST_IMAGES and bool(row['labels']),
    modes=('multi_image_pointing', 'multi_image_point_then_count')),
  'cosyn_point': Adapter(TRAIN, lambda row: Media(image(row['image'])), _cosyn_point, 'loader'),
  **{f'cosyn_{kind}_exp': Adapter((f'{kind}/train-*.parquet',),
                                  lambda row: Media(image(row['image'])),
                                  _reasoned(kind), 'loader') for kind in COSYN_KINDS},
  **{f'cosyn_multidoc_{kind}_exp': Adapter(
       (f'{kind}/train-*.parquet',), lambda row: Media(sum((image(x) for x in row['images']), ())),
       _reasoned(kind),
       'loader', keep=lambda row: len(row['images']) <= MOST_IMAGES)
     for kind in MULTI_DOCUMENT_KINDS},
  **{f'pixmo_docs_{kind}': Adapter((f'{kind}/train-*.parquet',),
                                   lambda row: Media(image(row['image'])), _documents,
                                   'loader', modes=(f'pixmo_docs_{kind}',))
     for kind in ('charts', 'tables', 'other', 'diagrams')},
}
