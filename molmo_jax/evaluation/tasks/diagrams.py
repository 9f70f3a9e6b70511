"""AI2D: questions about diagrams, one JSON file per diagram."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from molmo_jax.evaluation.tasks.prompts import choose, choose_unlabelled
from molmo_jax.evaluation.tasks.reader import Reader, Row, TaskError
from molmo_jax.evaluation.tasks.rows import Adapter, Fields, Record, record_of


def diagrams(boxes: str) -> Adapter:
  """An adapter. Diagrams with letters exist with opaque and with transparent boxes; `boxes` says
  which, or 'both'.
  """
  def adapter(reader: Reader) -> Iterator[Record]:
    ids = {line.strip() for line in _lines(reader, f'ai2d_{reader.split}_ids.csv')}
    number = 0
    for path in sorted((reader.root / 'questions').glob('*.json')):
      if path.name.split('.')[0] not in ids:
        continue
      diagram = json.loads(path.read_text(encoding='utf-8'))
      for question, detail in diagram['questions'].items():
        for folder, transparent in _box_folders(detail['abcLabel'], boxes):
          row = detail | {'question': question, 'image': f'{folder}/{diagram["imageName"]}',
                          'transparent': transparent, '_file': path.name}
          yield record_of(row, UNLABELLED if _is_unlabelled(row) else LABELLED, reader, number)
          number += 1
  return adapter


def _lines(reader: Reader, name: str) -> list[str]:
  try:
    return (reader.root / name).read_text(encoding='utf-8').split()
  except OSError as error:
    raise TaskError(f'{reader.root / name}: {error.strerror}; a text file with the ids of the '
      'diagrams of the split, one a line') from None


def _box_folders(abc: bool, boxes: str) -> list[tuple[str, bool]]:
  if not abc:
    return [('images', False)]
  folders = [('abc_images', False), ('abc_images_transparent', True)]
  return {'both': folders, 'opaque': folders[:1], 'transparent': folders[1:]}[boxes]


def _is_letter(text: str) -> bool:
  return len(text.strip()) == 1 and text.strip().isalpha()


def _is_unlabelled(row: Row) -> bool:
  """Whether the options are letters of the diagram (all but one may be something else), which get
  none of their own.
  """
  options = row['answerTexts']
  return bool(row['abcLabel']) and sum(map(_is_letter, options)) >= len(options) - 1


def _diagram_metadata(unlabelled: bool) -> dict[str, Any]:
  return {'abc_label': 'abcLabel', 'has_transparent_box': 'transparent',
          'unlabelled': lambda r: unlabelled}


def _capital_letters(row: Row) -> list[str]:
  return [o.upper() if _is_letter(o) else o for o in row['answerTexts']]


LABELLED = Fields(question='question', image='image', options='answerTexts', index='correctAnswer',
                  prompt=choose,
                  id='questionId', metadata=_diagram_metadata(False))
UNLABELLED = Fields(question='question', image='image', options=_capital_letters,
                    prompt=choose_unlabelled,
                    answers=lambda r: _capital_letters(r)[r['correctAnswer']], id='questionId',
                    style=lambda r: 'ai2_diagram_no_letter', metadata=_diagram_metadata(True))
