"""Questions and answers about scenes; the fixed words cost a tiny model little capacity.

The wording of a question never depends on its answer, so that a guess from the text alone is right
with probability 1 / len(options) where the answers of a form are balanced (generate.py does that
for validation).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Sequence

from molmo_jax.preprocess.points import format_points
from molmo_jax.scenes.compose import DIRECTIONS, RELATIONS, cell_of, relation
from molmo_jax.scenes.config import COMPARISONS, ScenesConfig
from molmo_jax.scenes.drawing import COLOURS, SHAPES, Thing

YES_NO = ('yes', 'no')
ORDINALS = ('first', 'second')
ROWS, COLUMNS = {-1: 'top', 0: 'middle', 1: 'bottom'}, {-1: 'left', 0: 'centre', 1: 'right'}
SIDES = ('left', 'right', 'above', 'below')
OUTLINES = ('wide', 'tall', 'square')

# Wordings; {} is filled in
COLOUR, SHAPE = 'What colour is the {}?', 'What shape is the {} object?'
COUNT = 'How many objects are there?'
# ends like the question for a shape: what a tiny model has learned for one serves the other
POSITION = 'Relative to the middle, where is the {} object?'
SAME, WHICH = 'Do the two images show the same {}?', 'Which image shows the {} object?'
MOTION, ORDER = 'In which direction does the object move?', 'Which colour appears {}?'
GAP = 'On which side is the gap of the {} ring?'
OUTLINE = 'Is the picture wide, tall or square?'
RATIO = 'How many times as long is the long side as the short side?'
TILE = 'Which colour is in row {}, column {}?'
COMMON = 'Which colour is in both images?'
COMMON_SHAPE = 'What shape has the common colour in the {} image?'
BLINKS, WHEN = 'How often does the {} object appear?', 'At which second does the {} object appear?'
NEIGHBOUR = 'Which colour appears right {} {}?'
MISSING = 'Which colour is gone at the end?'


@dataclasses.dataclass(frozen=True)
class Question:
  """One question about a scene, with its reference answer."""
  task: str
  text: str
  answer: str
  options: tuple[str, ...] = ()               # the possible answers, where they are a closed set
  # (x, y) as fractions of width and height; set for pointing
  points: tuple[tuple[float, float], ...] = ()


@functools.cache
def forms(task: str, config: ScenesConfig) -> list[tuple[str | None, tuple[str | None, ...]]]:
  """The forms of a task, (question text, possible answers).

  None stands for anything: a text that need not be balanced, or an answer that is uniform as it is
  drawn (reading and pointing).
  """
  colours, lab = tuple(COLOURS), config.lab
  compared = {'same_colour': (SAME.format('colour'), YES_NO),
              'same_shape': (SAME.format('shape'), YES_NO)}
  outlines = {outline(grid) for grid in lab.aspect_grids}
  seconds = {k * s for k in range(1, lab.when_frames - 1) for s in lab.when_spacings}
  cells = {cell for grid in lab.tile_grids for cell in itertools.product(*map(range, grid))}
  return {
    'colour': [(COLOUR.format(shape), colours) for shape in SHAPES],
    'shape': [(SHAPE.format(colour), SHAPES) for colour in COLOURS],
    'count': [(COUNT, _numbers(range(1, config.max_objects + 1)))],
    'position': [(None, RELATIONS)],
    'comparison': [compared.get(kind, (WHICH.format(colour), ORDINALS)) for colour in COLOURS
                   for kind in COMPARISONS if kind in config.comparisons],
    'motion': [(MOTION, tuple(DIRECTIONS))],
    'order': [(ORDER.format(moment), colours) for moment in ('first', 'last')],
    'detail': [(GAP.format(colour), SIDES) for colour in COLOURS],
    'aspect': [(OUTLINE, tuple(name for name in OUTLINES if name in outlines)),
               (RATIO, _numbers({ratio(grid) for grid in lab.aspect_grids}))],
    'tiles': [(TILE.format(row + 1, column + 1), colours) for row, column in sorted(cells)],
    'match': [(COMMON, colours), *((COMMON_SHAPE.format(name), SHAPES) for name in ORDINALS)],
    'blinks': [(BLINKS.format(colour), _numbers(range(1, lab.blink_most + 1)))
               for colour in COLOURS],
    'when': [(WHEN.format(colour), _numbers(seconds)) for colour in COLOURS],
    'events': [(NEIGHBOUR.format(side, colour), tuple(c for c in COLOURS if c != colour))
               for side in ('before', 'after') for colour in COLOURS],
    'missing': [(MISSING, colours)],
  }.get(task, [(None, (None,))])


def _numbers(values: Iterable[int]) -> tuple[str, ...]:
  return tuple(map(str, sorted(values)))


def balanced_targets(task: str, config: ScenesConfig) -> list[tuple[str | None, str | None]]:
  """(question text, answer) pairs that, asked equally often, balance the answers of every form.

  None stands for anything. A whole number of rounds through the list is balanced exactly.
  """
  return [(text, answer) for text, answers in forms(task, config) for answer in answers]


def ask(config: ScenesConfig, task: str, text: str, answer: str) -> Question:
  """A question with the possible answers of its form."""
  options = dict(forms(task, config))
  return Question(task, text, answer, options.get(text) or options[None])


def outline(grid: tuple[int, int]) -> str:
  """wide, tall or square: of a (height, width)."""
  height, width = grid
  return OUTLINES[2] if height == width else OUTLINES[height > width]


def ratio(grid: tuple[int, int]) -> int:
  """The longer side of a (height, width), in shorter ones."""
  return max(grid) // min(grid)


def colour_questions(things: Sequence[Thing], config: ScenesConfig) -> list[Question]:
  """The colour of every object whose shape is unique."""
  return [ask(config, 'colour', COLOUR.format(t.shape), t.colour) for t in things
          if sum(u.shape == t.shape for u in things) == 1]


def shape_questions(things: Sequence[Thing], config: ScenesConfig) -> list[Question]:
  """The shape of every object; colours are unique in an image."""
  return [ask(config, 'shape', SHAPE.format(t.colour), t.shape) for t in things]


def position_questions(things: Sequence[Thing], side: int, config: ScenesConfig) -> list[Question]:
  """Where an object is relative to the middle, for every object with a clear direction."""
  directions = [(t.colour, relation(t, side, config)) for t in things]
  return [ask(config, 'position', POSITION.format(colour), answer)
          for colour, answer in directions if answer]


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
  """The number that is written in the image, and each of its first three digits."""
  digits = [Question('digit', f'What is the {name} digit?', digit, tuple('0123456789'))
            for name, digit in zip(('first', 'second', 'third'), number, strict=False)]
  return [Question('reading', 'What number is written?', number), *digits]


def comparison_questions(first: Thing, second: Thing, config: ScenesConfig) -> list[Question]:
  """Questions about two images with one object each; `which_image` needs two colours."""
  asked = [(SAME.format(name), YES_NO[getattr(first, name) != getattr(second, name)])
           for name in ('colour', 'shape') if f'same_{name}' in config.comparisons]
  if 'which_image' in config.comparisons and first.colour != second.colour:
    asked += [(WHICH.format(t.colour), ordinal) for t, ordinal in zip((first, second), ORDINALS)]
  return [ask(config, 'comparison', text, answer) for text, answer in asked]
