"""Academic questions about images: what the declarations in `image_qa.toml` need code for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from molmo_jax.data.facts import Fact
from molmo_jax.datasets.files import Files, Row, TaskError, read_json

VQA_SAMPLE, VQA_SEED = 8192, 69282
SCENE_TEXT_HELD_OUT, SCENE_TEXT_SEED = 1024, 63069
# questions of ChartQA; weighted so that both parts count alike (docs/training.md §2.5)
HUMAN, AUGMENTED = 7398, 20901


def sampled(rows: list[Row], split: str) -> list[Row]:
  """The questions of VQA that were evaluated."""
  np.random.RandomState(VQA_SEED).shuffle(rows)   # type: ignore[arg-type]
  return rows[:VQA_SAMPLE]


def hold_out_scene_text(rows: list[Row], split: str) -> list[Row]:
  """The first 1,024 shuffled training questions are the validation set, and not trained on."""
  if split == 'test':
    return rows
  rows.sort(key=lambda row: row['question_id'])
  np.random.RandomState(SCENE_TEXT_SEED).shuffle(rows)   # type: ignore[arg-type]
  return (rows[:SCENE_TEXT_HELD_OUT] if split == 'validation' else rows[SCENE_TEXT_HELD_OUT:])


def is_human(row: Row) -> bool:
  """Whether a person wrote the question about a chart."""
  return row['human_or_machine'] == 0


def chart_weight(row: Row) -> dict[str, float]:
  """The loss weight of a question about a chart."""
  return {'weight': 2 * (AUGMENTED if is_human(row) else HUMAN) / (HUMAN + AUGMENTED)}


def letters_alone(row: Row) -> bool:
  """Whether the options are letters of the diagram (all but one may be something else), which get
  no labels of their own.
  """
  return bool(row['abc_label']) and sum(row['option_is_abc']) >= len(row['answer_texts']) - 1


def diagram_options(row: Row) -> list[str]:
  """Options about a diagram; its letters are capital ones."""
  return [text.upper() if letter and letters_alone(row) else text
          for text, letter in zip(row['answer_texts'], row['option_is_abc'])]


def diagram_style(row: Row) -> str:
  """Options that are letters have a style of their own."""
  return 'ai2_diagram_no_letter' if letters_alone(row) else 'ai2_diagram'


def diagrams(files: Files) -> Iterator[Row]:
  """AI2D: a table for training, or one JSON file per diagram with lists of ids per split."""
  if not (files.root / 'questions').is_dir():
    yield from files.tables('hub:train')
    return
  ids = set(_lines(files, f'ai2d_{files.split}_ids.csv'))
  for path in sorted((files.root / 'questions').glob('*.json')):
    if path.name.split('.')[0] in ids:
      yield from _diagram_questions(read_json(path), path.name)


def _diagram_questions(diagram: dict[str, Any], file: str) -> Iterator[Row]:
  """Diagrams with letters come twice, with opaque and with transparent boxes."""
  for question, detail in diagram['questions'].items():
    options = [o for o in dict.fromkeys(detail['answerTexts']) if o != '{}']
    right = options.index(detail['answerTexts'][detail['correctAnswer']])
    letters = [len(o.strip()) == 1 and o.strip().isalpha() for o in options]
    for folder, transparent in ((('abc_images', False), ('abc_images_transparent', True))
                                if detail['abcLabel'] else (('images', False),)):
      yield {'question': question, 'image': f'{folder}/{diagram["imageName"]}', '_file': file,
             'answer_texts': options, 'correct_answer': right, 'option_is_abc': letters,
             'abc_label': detail['abcLabel'], 'has_transparent_box': transparent,
             'question_id': detail['questionId']}


def _lines(files: Files, name: str) -> list[str]:
  try:
    return (files.root / name).read_text(encoding='utf-8').split()
  except OSError as error:
    raise TaskError(f'{files.root / name}: {error.strerror}; a text file with the ids of the '
                    'diagrams of the split, one a line') from None


def opaque(row: Row) -> bool:
  """Diagrams without letters, and those whose letters have opaque boxes."""
  return not row['abc_label'] or not row['has_transparent_box']


def transparent(row: Row) -> bool:
  """Diagrams without letters, and those whose letters have transparent boxes."""
  return not row['abc_label'] or row['has_transparent_box']


def directly_answerable(rows: list[Row], split: str) -> list[Row]:
  """Questions of A-OKVQA that can be answered without options."""
  return [row for row in rows if not row['difficult_direct_answer']]


def hinted_question(row: Row) -> str:
  """A question of ScienceQA, after its hint."""
  return '\n'.join(filter(None, (row['hint'], row['question'])))


def mantis_facts(row: Row) -> Iterator[Fact]:
  """The questions about some images, in lists of questions, options and right ones."""
  for question, options, right in zip(row['mc_question'], row['choices'],
                                      row['correct_choice_idx']):
    yield {'style': 'mantis_instruct_mc', 'question': question, 'options': options, 'right': right,
           'order': 'any'}


def by_question(row: Row) -> Iterator[Row]:
  """Tables of plots may hold the picture, and the questions about it as lists below `questions`."""
  if 'questions' not in row:
    yield row
    return
  for question, answer in zip(row['questions']['question'], row['questions']['answer']):
    yield row | {'picture': row['image'], 'question': question, 'question_string': question,
                 'answer': str(answer)}
