"""PixMo and CoSyn, for training and as benchmarks: parquet files of the Hub.

PixMo names its images by URL, CoSyn stores them in the table.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any

from molmo_jax.data.facts import POINTS_HERE, Fact
from molmo_jax.datasets.dataset import Dataset, Fields, Training, facts_of, hub, table
from molmo_jax.datasets.files import Files, Row
from molmo_jax.datasets.image_qa import AI2
from molmo_jax.datasets.places import pixmo_points
from molmo_jax.datasets.pointing import IMAGE, count_of
from molmo_jax.datasets.tables import TableError
from molmo_jax.datasets.task import Task
from molmo_jax.metrics.counting import is_counting_question

TURN = re.compile(r'\s*\[(?:USER|ASSISTANT)\]\s*')
MOST_POINTS = 60                            # of a record (docs/training.md §2.5)
COSYN = ('chart', 'chemical', 'circuit', 'diagram', 'document', 'graphic', 'math', 'music',
         'nutrition', 'table')
SEVERAL_DOCUMENTS = ('chart', 'chemical', 'circuit', 'diagram', 'doc', 'graphic', 'music', 'table')
MOST_IMAGES = 5
MODES = ('point_count', 'pointing')
HELD_OUT = 'pixmo-points-eval'
BY_URL = 'images by image_url, saved as images/<image_sha256>.*'


def downloaded(row: Row) -> Any:
  """A picture that the user fetched from its URL: `image` where the table has one, else the file
  named by its hash.
  """
  return row['image'] if row.get('image') else f'images/{row["image_sha256"]}'


def _captions(with_transcripts: bool):
  def facts(row: Row) -> Iterator[Fact]:
    yield {'style': 'long_caption', 'texts': [row['caption']]}
    spoken = [text for text in row['transcripts'] or () if text] if with_transcripts else ()
    if spoken:
      yield {'style': 'transcript', 'texts': spoken}
  return facts


def _dialogue(style: str):
  """`question` may hold a dialogue: '[USER] … [ASSISTANT] … [USER] … [ASSISTANT]'; `answer` is the
  last reply.
  """
  def facts(row: Row) -> Iterator[Fact]:
    turns = TURN.split(row['question'])[1:]
    turns = [*(turns[:-1] if turns and not turns[-1] else turns)] or [row['question'].strip()]
    counting = [i for i in range(0, len(turns), 2) if is_counting_question(turns[i])]
    if row['answer'].strip():
      yield {'style': style, 'messages': [*turns, row['answer']]} | (
        {'no_pointing': counting} if counting else {})
  return facts


def pairs(values: dict[str, list] | list[dict[str, Any]], *names: str) -> Iterable[tuple]:
  """The named values of each of several things, which some writers store as lists by name."""
  if isinstance(values, dict):
    return zip(*(values[name] for name in names))
  return [tuple(value[name] for name in names) for value in values]


def _fractions(points: Any) -> list[list[float]]:
  """Points in percent, inside of the picture, as fractions."""
  return [[min(max(x, 0.0), 100.0) / 100, min(max(y, 0.0), 100.0) / 100]
          for x, y in pairs(points, 'x', 'y')]


def _points(row: Row) -> Iterator[Fact]:
  if row['label'] is not None:                # '' is a label too
    yield {'style': row['mode'], 'label': row['label'], 'points': [[1, _fractions(row['points'])]]}


def _counted(row: Row) -> Iterator[Fact]:
  """Like `_points`, with points in pixels."""
  width, height = row['_size']()
  yield {'style': row['mode'], 'label': row['label'], 'points': [
    [1, [[x / width, y / height] for x, y in pairs(row['points'], 'x', 'y')]]]}


def _several_images(row: Row) -> Iterator[Fact]:
  yield {'styles': ['multi_image_pointing', 'multi_image_point_then_count'], 'images': [
    {'name': name, 'label': label, 'points': _fractions(points)}
    for name, label, points in zip(row['normalized_labels'], row['labels'], row['points'])]}


def _image_pairs(row: Row) -> Iterator[Fact]:
  fields = Fields('question', answers='answer', style='correction_qa', counting=True)
  for question, answer in pairs(row['qa_pairs'], 'question', 'answer'):
    yield from facts_of({'question': question, 'answer': answer}, fields)


def _reasoned(style: str):
  """Questions about a rendered document, with the reasoning before the answer where asked for."""
  def facts(row: Row) -> Iterator[Fact]:
    for question, explanation, answer in pairs(row['qa_pairs'], 'question', 'explanation',
                                               'answer'):
      yield {'style': style, 'question': question, 'answers': [str(answer)]} | (
        {'explanation': explanation} if style.endswith('_exp') else {})
  return facts


def _cosyn_point(row: Row) -> Iterator[Fact]:
  for question, points, name in zip(row['questions'], row['answer_points'],
                                    row.get('names') or row['questions']):
    yield {'style': 'cosyn_point', 'question': question, 'label': name,
           'points': [[1, [[x / 100, y / 100] for x, y in pairs(points, 'x', 'y')]]]}


def _explained(row: Row) -> Iterator[Fact]:
  for question, answer in pairs(row['questions'], 'question', 'answer'):
    yield {'style': row['mode'], 'question': question, 'answers': [str(answer)]}


def _halves(files: Files) -> Iterator[Row]:
  """Rows by image; the questions about one image are two trees."""
  by_image: dict[str, list[Row]] = {}
  for row in table(hub('train'), keep=lambda row: row['parsed_response'] is not None)(files):
    by_image.setdefault(row['image_url'], []).append(row)
  for rows in by_image.values():
    yield from (row | {'half': i >= (len(rows) + 1) // 2} for i, row in enumerate(rows))


def _explained_by_points(row: Row) -> Iterator[Fact]:
  inline = [{'label': label, 'alt': alt, 'points': [[x / 100, y / 100] for x, y in points]}
            for label, alt, points in zip(row['inline_text'], row['alt_text'], row['points'])]
  if row['parsed_response'].count(POINTS_HERE) == len(inline):
    yield {'style': 'point_qa', 'question': row['question'], 'answers': [row['parsed_response']],
           'inline': inline}


def _pointed(method: str):
  """Rows of one of the two ways of collecting, without the images of the pointing benchmark."""
  all_rows = table(hub(), keep=lambda row: row['collection_method'] == method)

  def rows(files: Files) -> Iterator[Row]:
    try:
      held_out = {row['image_url'] for row in dataclasses.replace(
        files, root=files.root / HELD_OUT, split='test', pattern='').tables(hub())}
    except TableError:
      raise TableError(f'{files.root / HELD_OUT}: holds no test-*.parquet of allenai/{HELD_OUT}; '
        'the images of that benchmark are left out of training, so put its table there') from None
    return (row for row in all_rows(files) if row['image_url'] not in held_out)
  return rows


def _points_use(name: str, method: str) -> Training:
  return Training(name, _pointed(method), Fields(image='image_url', facts=_points), grouped=True,
                  cost=lambda row: len(row['points']), budget=MOST_POINTS, modes=MODES,
                  note='without the images of pixmo-points-eval')


def _documents(name: str, folder: str, kind: str, keep=None, **media: str) -> Dataset:
  return Dataset(name, table(hub('train', folder), keep=keep), Fields(**media),
                 f'{AI2}/{"CoSyn-400K" if "image" in media else "Molmo2-SynMultiImageQA"}',
                 'ODC-BY', 'loader', training=tuple(
    Training(name + suffix, fields=Fields(**media, facts=_reasoned(f'cosyn_{kind}{suffix}')))
    for suffix in ('', '_exp')))


def _all_seen(row: Row) -> bool:
  return len(row['images']) <= MOST_IMAGES


CAPTION = Fields(image='image_url', facts=_captions(False))
QUESTION = Fields(lambda r: r['question'].strip(), 'image_url', answers='answer', style='user_qa',
                  counting=True)

DATASETS = (
  Dataset('pixmo_cap', table(hub('train')), CAPTION, f'{AI2}/pixmo-cap', 'ODC-BY', 'card',
          training=(Training('pixmo_cap'), Training('pixmo_cap_with_transcripts', fields=Fields(
            image='image_url', facts=_captions(True))))),
  Dataset('pixmo_cap_qa', table(hub('train')),
          Fields(image='image_url', facts=_dialogue('user_qa')), f'{AI2}/pixmo-cap-qa', 'ODC-BY',
          'loader', training=(
            Training('pixmo_cap_qa_as_user_qa', grouped=True),
            Training('pixmo_cap_qa', grouped=True, fields=Fields(
              image='image_url', facts=_dialogue('synthetic_qa'))))),
  Dataset('pixmo_ask_model_anything', table({'train': hub('train'), 'validation': 'validation*'}),
          QUESTION, f'{AI2}/pixmo-ask-model-anything; {BY_URL}', 'ODC-BY', 'loader',
          training=(Training('pixmo_ask_model_anything', grouped=True),),
          benchmarks=(Task('pixmo_ask_model_anything', 'judged_open_qa', splits=('validation',),
                           max_new_tokens=384, groups=('more_image',), fields=Fields(
                             **vars(QUESTION) | {'image': downloaded}),
                           note='the published hold-out depends on which images could be '
                                'downloaded: choose your own'),)),
  Dataset('pixmo_points', table(hub('train')), Fields(style='pointing'),
          f'{AI2}/pixmo-points, with the table of allenai/{HELD_OUT} in {HELD_OUT}/', 'ODC-BY',
          'card', training=(_points_use('pixmo_points', 'pointing'),
                            _points_use('pixmo_points_high_freq', 'counting'))),
  Dataset('pixmo_points_eval', table(hub()), Fields(style='pointing'),
          f'{AI2}/{HELD_OUT}; {BY_URL}', 'ODC-BY', 'loader', benchmarks=(
            Task('pointing_eval_v2', 'pointing', max_new_tokens=192, groups=IMAGE,
                 records=pixmo_points, aliases=('pointing_eval', 'pixmo_point_eval2')),)),
  Dataset('pixmo_pointing_explanations', _halves,
          Fields(image='image_url', facts=_explained_by_points),
          f'{AI2}/pixmo-point-explanations; {BY_URL}', 'ODC-BY', 'loader',
          training=(Training('pixmo_pointing_explanations', grouped=True, key='half'),)),
  Dataset('pixmo_count', table(hub()),
          Fields(image='image_url', facts=_counted, style='point_count'),
          f'{AI2}/pixmo-count; {BY_URL}', 'ODC-BY', 'loader',
          training=(Training('pixmo_count', modes=MODES),),
          benchmarks=(Task('pixmo_count_counting', 'point_count', splits=('validation', 'test'),
                           max_new_tokens=192, groups=IMAGE + ('single_image_test',),
                           aliases=('pixmo_count',), fields=Fields(
                             image=downloaded, style='point_count', more={'label': 'label'},
                             metadata={'count': count_of})),)),
  Dataset('pixmo_multi_points', table(('parquet/train-*.parquet', *hub('train')),
                                      keep=lambda row: bool(row['labels'])),
          Fields(images='image_urls', facts=_several_images), f'{AI2}/Molmo2-MultiImagePoint',
          'ODC-BY', 'card', training=(Training('pixmo_multi_points'),)),
  Dataset('pixmo_multi_image_qa', table(
    hub('train'), keep=lambda row: 1 < len(row['image_urls']) <= MOST_IMAGES),
          Fields(images='image_urls', facts=_image_pairs), f'{AI2}/Molmo2-MultiImageQA', 'ODC-BY',
          'loader', training=(Training('pixmo_multi_image_qa'),)),
  Dataset('cosyn_point', table(hub('train')), Fields(image='image', facts=_cosyn_point),
          f'{AI2}/CoSyn-point', 'ODC-BY', 'loader', training=(Training('cosyn_point'),)),
  *(_documents(f'cosyn_{kind}', kind, kind, image='image') for kind in COSYN),
  *(_documents(f'cosyn_multidoc_{kind}', kind, kind, _all_seen, images='images')
    for kind in SEVERAL_DOCUMENTS),
  *(Dataset(f'pixmo_docs_{kind}', table(hub('train', kind)),
            Fields(image='image', facts=_explained), f'{AI2}/pixmo-docs', 'ODC-BY', 'loader',
            training=(Training(f'pixmo_docs_{kind}', modes=(f'pixmo_docs_{kind}',)),))
    for kind in ('charts', 'tables', 'other', 'diagrams')),
)
