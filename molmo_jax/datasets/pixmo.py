"""PixMo and CoSyn: what the declarations in `pixmo.toml` need code for.

PixMo names its images by URL, CoSyn stores them in the table.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any

from molmo_jax.data.facts import POINTS_HERE, Fact
from molmo_jax.datasets.dataset import Fields, facts_of
from molmo_jax.datasets.files import Files, Row
from molmo_jax.datasets.tables import TableError
from molmo_jax.metrics.counting import is_counting_question

TURN = re.compile(r'\s*\[(?:USER|ASSISTANT)\]\s*')
HELD_OUT = 'pixmo-points-eval'
CORRECTION = Fields(question='question', answers='answer', style='correction_qa', counting=True)


def dialogue(row: Row) -> Iterator[Fact]:
  """`question` may hold a dialogue: '[USER] … [ASSISTANT] … [USER] … [ASSISTANT]'; `answer` is the
  last reply.
  """
  turns = TURN.split(row['question'])[1:]
  turns = [*(turns[:-1] if turns and not turns[-1] else turns)] or [row['question'].strip()]
  counting = [i for i in range(0, len(turns), 2) if is_counting_question(turns[i])]
  if row['answer'].strip():
    yield {'messages': [*turns, row['answer']]} | ({'no_pointing': counting} if counting else {})


def question(row: Row) -> str:
  """The question without white space around it."""
  return row['question'].strip()


def pairs(values: dict[str, list] | list[dict[str, Any]], *names: str) -> Iterable[tuple]:
  """The named values of each of several things, which some writers store as lists by name."""
  if isinstance(values, dict):
    return zip(*(values[name] for name in names))
  return [tuple(value[name] for name in names) for value in values]


def _fractions(points: Any) -> list[list[float]]:
  """Points in percent, inside of the picture, as fractions."""
  return [[min(max(x, 0.0), 100.0) / 100, min(max(y, 0.0), 100.0) / 100]
          for x, y in pairs(points, 'x', 'y')]


def points(row: Row) -> Iterator[Fact]:
  """Points in percent."""
  if row['label'] is not None:                # '' is a label too
    yield {'label': row['label'], 'points': [[1, _fractions(row['points'])]]}


def number_of_points(row: Row) -> int:
  """How many points there are."""
  return len(row['points'])


def pixel_points(row: Row) -> Iterator[Fact]:
  """Points in pixels."""
  width, height = row['_size']()
  yield {'label': row['label'], 'points': [
    [1, [[x / width, y / height] for x, y in pairs(row['points'], 'x', 'y')]]]}


def several_images(row: Row) -> Iterator[Fact]:
  """Points over several images."""
  yield {'styles': ['multi_image_pointing', 'multi_image_point_then_count'], 'images': [
    {'name': name, 'label': label, 'points': _fractions(places)}
    for name, label, places in zip(row['normalized_labels'], row['labels'], row['points'])]}


def image_pairs(row: Row) -> Iterator[Fact]:
  """Questions about several images."""
  for asked, answer in pairs(row['qa_pairs'], 'question', 'answer'):
    yield from facts_of({'question': asked, 'answer': answer}, CORRECTION)


def answered(row: Row) -> Iterator[Fact]:
  """Questions about a rendered document."""
  for asked, answer in pairs(row['qa_pairs'], 'question', 'answer'):
    yield {'question': asked, 'answers': [str(answer)]}


def reasoned(row: Row) -> Iterator[Fact]:
  """Questions about a rendered document, with the reasoning before the answer."""
  for asked, explanation, answer in pairs(row['qa_pairs'], 'question', 'explanation', 'answer'):
    yield {'question': asked, 'answers': [str(answer)], 'explanation': explanation}


def cosyn_point(row: Row) -> Iterator[Fact]:
  """Questions that are answered by points in percent."""
  for asked, places, name in zip(row['questions'], row['answer_points'],
                                 row.get('names') or row['questions']):
    yield {'question': asked, 'label': name,
           'points': [[1, [[x / 100, y / 100] for x, y in pairs(places, 'x', 'y')]]]}


def asked_in_lists(row: Row) -> Iterator[Fact]:
  """Questions and answers in `questions`."""
  for asked, answer in pairs(row['questions'], 'question', 'answer'):
    yield {'question': asked, 'answers': [str(answer)]}


def halves(files: Files) -> Iterator[Row]:
  """Rows by image; the questions about one image are two trees."""
  by_image: dict[str, list[Row]] = {}
  for row in files.tables('hub:train'):
    if row['parsed_response'] is not None:
      by_image.setdefault(row['image_url'], []).append(row)
  for rows in by_image.values():
    yield from (row | {'half': i >= (len(rows) + 1) // 2} for i, row in enumerate(rows))


def explained_by_points(row: Row) -> Iterator[Fact]:
  """Answers with points at the places that they speak of."""
  inline = [{'label': label, 'alt': alt, 'points': [[x / 100, y / 100] for x, y in places]}
            for label, alt, places in zip(row['inline_text'], row['alt_text'], row['points'])]
  if row['parsed_response'].count(POINTS_HERE) == len(inline):
    yield {'question': row['question'], 'answers': [row['parsed_response']], 'inline': inline}


def not_held_out(files: Files) -> Iterator[Row]:
  """PixMo points without the images of the pointing benchmark."""
  try:
    held_out = {row['image_url'] for row in dataclasses.replace(
      files, root=files.root / HELD_OUT, split='test', pattern='').tables('hub:test')}
  except TableError:
    raise TableError(f'{files.root / HELD_OUT}: put test-*.parquet of allenai/{HELD_OUT} there; '
                     'its images are left out of training') from None
  return (row for row in files.tables('hub:train') if row['image_url'] not in held_out)
