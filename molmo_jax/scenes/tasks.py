"""Questions and answers about scenes; the fixed words cost a tiny model little capacity.

The wording of a question never depends on its answer, so that a guess from the text alone is right
with probability 1 / len(options) where the answers of a form are balanced (generate.py does that
for validation).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from molmo_jax.preprocess.points import format_points
from molmo_jax.scenes.compose import DIRECTIONS, RELATIONS, cell_of, relation
from molmo_jax.scenes.config import COMPARISONS, ScenesConfig
from molmo_jax.scenes.drawing import COLOURS, SHAPES, Thing

YES_NO = ('yes', 'no')
ORDINALS = ('first', 'second')
MOMENTS = ('first', 'last')
ROWS, COLUMNS = {-1: 'top', 0: 'middle', 1: 'bottom'}, {-1: 'left', 0: 'centre', 1: 'right'}
COUNT_TEXT = 'How many objects are there?'
PLACES = ('first', 'second', 'third')


@dataclasses.dataclass(frozen=True)
class Question:
  """One question about a scene, with its reference answer."""
  task: str
  text: str
  answer: str
  options: tuple[str, ...] = ()               # the possible answers, where they are a closed set
  # (x, y) as fractions of width and height; set for pointing
  points: tuple[tuple[float, float], ...] = ()


def colour_questions(things: Sequence[Thing]) -> list[Question]:
  """The colour of every object whose shape is unique."""
  return [Question('colour', f'What colour is the {t.shape}?', t.colour, tuple(COLOURS))
          for t in things if sum(u.shape == t.shape for u in things) == 1]


def shape_questions(things: Sequence[Thing]) -> list[Question]:
  """The shape of every object; colours are unique in an image."""
  return [Question('shape', f'What shape is the {t.colour} object?', t.shape, SHAPES)
          for t in things]


def count_question(things: Sequence[Thing], config: ScenesConfig) -> Question:
  """How many objects there are."""
  return Question('count', COUNT_TEXT, str(len(things)), object_counts(config))


def object_counts(config: ScenesConfig) -> tuple[str, ...]:
  """The possible numbers of objects in an image."""
  return tuple(str(n) for n in range(1, config.max_objects + 1))


def position_questions(things: Sequence[Thing], side: int, config: ScenesConfig) -> list[Question]:
  """Where an object is relative to the middle, for every object with a clear direction.

  The question ends like that for a shape: what a tiny model has learned for one serves the other.
  """
  directions = [(t.colour, relation(t, side, config)) for t in things]
  return [Question('position', f'Relative to the middle, where is the {colour} object?', answer,
                   RELATIONS) for colour, answer in directions if answer]


def pointing_questions(things: Sequence[Thing], side: int, config: ScenesConfig) -> list[Question]:
  """The place of every object, as point text; none where there are too many objects."""
  questions = []
  for t in things if len(things) <= config.max_pointing_objects else ():
    label, place = f'{t.colour} object', (t.x / side, t.y / side)
    written = tuple((i // config.cell_size + 0.5) * config.cell_size / side for i in (t.x, t.y))
    answer = format_points({1: [written if config.point_to_cells else place]}, label)
    questions.append(Question('pointing', f'Point to the {label}.', answer, points=(place,)))
  return questions


def caption_question(things: Sequence[Thing], side: int, config: ScenesConfig) -> Question:
  """All objects with their places, in reading order: a text about every visual token."""
  places = sorted((cell_of(t, side, config), t) for t in things)
  names = [f'{t.colour} {t.shape} {ROWS[row]} {COLUMNS[column]}' for (row, column), t in places]
  return Question('caption', 'What is in the image?', ', '.join(names))


def reading_questions(number: str) -> list[Question]:
  """The number that is written in the image, and each of its digits."""
  digits = [Question('digit', f'What is the {name} digit?', digit, tuple('0123456789'))
            for name, digit in zip(PLACES, number, strict=False)]
  return [Question('reading', 'What number is written?', number), *digits]


def comparison_questions(first: Thing, second: Thing, kinds: Sequence[str]) -> list[Question]:
  """Questions of `kinds` about two images with one object each; `which_image` needs two colours."""
  questions = []
  for kind, name in itertools.product(kinds, ('colour', 'shape')):
    if kind == f'same_{name}':
      same = getattr(first, name) == getattr(second, name)
      questions.append(Question('comparison', same_text(name), YES_NO[not same], YES_NO))
  if 'which_image' in kinds and first.colour != second.colour:
    questions += [Question('comparison', which_text(t.colour), ordinal, ORDINALS)
                  for t, ordinal in zip((first, second), ORDINALS, strict=True)]
  return questions


def same_text(name: str) -> str:
  """The question whether two images agree in `name`: colour or shape."""
  return f'Do the two images show the same {name}?'


def which_text(colour: str) -> str:
  """The question in which of two images the object of `colour` is."""
  return f'Which image shows the {colour} object?'


def motion_question(direction: str) -> Question:
  """The direction in which the object of a clip moves."""
  return Question('motion', 'In which direction does the object move?', direction,
                  tuple(DIRECTIONS))


def order_questions(first: str, last: str) -> list[Question]:
  """Which of two colours comes first, and which last."""
  return [Question('order', order_text(moment), colour, tuple(COLOURS))
          for moment, colour in zip(MOMENTS, (first, last), strict=True)]


def order_text(moment: str) -> str:
  """The question for the colour at `moment`: first or last."""
  return f'Which colour appears {moment}?'


def balanced_targets(task: str, config: ScenesConfig) -> list[tuple[str | None, str | None]]:
  """(question text, answer) pairs that, asked equally often, balance the answers of every form.

  None stands for anything. A whole number of rounds through the list is balanced exactly.
  """
  if task == 'colour':
    return [(f'What colour is the {shape}?', colour) for shape in SHAPES for colour in COLOURS]
  if task == 'shape':
    return [(f'What shape is the {colour} object?', shape) for colour in COLOURS
            for shape in SHAPES]
  if task == 'count':
    return [(COUNT_TEXT, count) for count in object_counts(config)]
  if task == 'position':
    return [(None, answer) for answer in RELATIONS]
  if task == 'comparison':
    texts = {'same_colour': same_text('colour'), 'same_shape': same_text('shape')}
    return [(texts.get(kind, which_text(colour)), answer) for colour in COLOURS
            for kind in COMPARISONS if kind in config.comparisons
            for answer in (YES_NO if kind in texts else ORDINALS)]
  if task == 'motion':
    return [(None, answer) for answer in DIRECTIONS]
  if task == 'order':
    return [(order_text(moment), colour) for moment in MOMENTS for colour in COLOURS]
  # reading and pointing: answers are uniform as they are drawn
  return [(None, None)]
