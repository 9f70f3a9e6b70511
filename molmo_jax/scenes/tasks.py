"""Questions and answers about scenes; the fixed words cost a tiny model little capacity.

The wording of a question never depends on its answer, so that a guess from the text alone is right
with probability 1 / len(options) where the answers of a form are balanced (generate.py does that
for validation).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from molmo_jax.preprocess.points import format_points
from molmo_jax.scenes.compose import DIRECTIONS, RELATIONS, cell_of, relation
from molmo_jax.scenes.config import COMPARISONS, ScenesConfig
from molmo_jax.scenes.drawing import COLOURS, SHAPES, Thing

YES_NO = ('yes', 'no')
ORDINALS = ('first', 'second')
ROWS, COLUMNS = {-1: 'top', 0: 'middle', 1: 'bottom'}, {-1: 'left', 0: 'centre', 1: 'right'}
SIDES = ('left', 'right', 'above', 'below')
OUTLINES = ('wide', 'tall', 'square')
WORDINGS = tomllib.loads(Path(__file__).with_name('questions.toml').read_text(encoding='utf-8'))

Form = tuple[str | None, tuple[Any, ...]]


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
def _sets(config: ScenesConfig) -> dict[str, Any]:
  """What questions may be about, and the possible answers, by the names in questions.toml."""
  lab = config.lab
  numbers = {'object counts': range(1, config.max_objects + 1),
             'frame counts': range(1, lab.blink_most + 1),
             'ratios': {ratio(grid) for grid in lab.aspect_grids},
             'seconds': {k * s for k in range(1, lab.when_frames - 1) for s in lab.when_spacings}}
  cells = {(row + 1, column + 1) for grid in lab.tile_grids
           for row, column in itertools.product(*map(range, grid))}
  outlines = {outline(grid) for grid in lab.aspect_grids}
  return {name: tuple(map(str, sorted(values))) for name, values in numbers.items()} | {
    'colours': tuple(COLOURS), 'shapes': SHAPES, 'relations': RELATIONS, 'sides': SIDES,
    'directions': tuple(DIRECTIONS), 'yes or no': YES_NO, 'ordinals': ORDINALS,
    'ends': ('first', 'last'), 'cells': sorted(cells),
    'outlines': tuple(name for name in OUTLINES if name in outlines)}


@functools.cache
def forms(task: str, config: ScenesConfig) -> list[Form]:
  """The forms of a task, (question text, possible answers).

  None stands for anything: a text that need not be balanced, or an answer that is uniform as it is
  drawn (reading and pointing).
  """
  if task == 'comparison':
    return [_form(config, 'which', colour) if kind == 'which_image' else
            _form(config, 'same', kind.removeprefix('same_')) for colour in COLOURS
            for kind in COMPARISONS if kind in config.comparisons]
  return [_form(config, name, about) for name, wording in WORDINGS.items()
          if wording['task'] == task for about in _sets(config).get(wording.get('about'), [()])
          ] or [(None, (None,))]


def _form(config: ScenesConfig, name: str, about: str | tuple[Any, ...]) -> Form:
  wording, subject = WORDINGS[name], about if isinstance(about, tuple) else (about,)
  answers = _sets(config).get(wording['answers'], tuple(c for c in COLOURS if c not in subject))
  return None if wording.get('free') else wording['text'].format(*subject), answers


def balanced_targets(task: str, config: ScenesConfig) -> list[tuple[str | None, str | None]]:
  """(question text, answer) pairs that, asked equally often, balance the answers of every form.

  None stands for anything. A whole number of rounds through the list is balanced exactly.
  """
  return [(text, answer) for text, answers in forms(task, config) for answer in answers]


def ask(config: ScenesConfig, name: str, answer: str, *about: Any) -> Question:
  """The question of a wording of questions.toml."""
  wording = WORDINGS[name]
  return Question(wording['task'], wording['text'].format(*about), answer,
                  _form(config, name, about)[1])


def outline(grid: tuple[int, int]) -> str:
  """wide, tall or square: of a (height, width)."""
  height, width = grid
  return OUTLINES[2] if height == width else OUTLINES[height > width]


def ratio(grid: tuple[int, int]) -> int:
  """The longer side of a (height, width), in shorter ones."""
  return max(grid) // min(grid)


def colour_questions(things: Sequence[Thing], config: ScenesConfig) -> list[Question]:
  """The colour of every object whose shape is unique."""
  return [ask(config, 'colour', t.colour, t.shape) for t in things
          if sum(u.shape == t.shape for u in things) == 1]


def shape_questions(things: Sequence[Thing], config: ScenesConfig) -> list[Question]:
  """The shape of every object; colours are unique in an image."""
  return [ask(config, 'shape', t.shape, t.colour) for t in things]


def position_questions(things: Sequence[Thing], side: int, config: ScenesConfig) -> list[Question]:
  """Where an object is relative to the middle, for every object with a clear direction."""
  directions = [(t.colour, relation(t, side, config)) for t in things]
  return [ask(config, 'position', answer, colour) for colour, answer in directions if answer]


def pointing_questions(things: Sequence[Thing], side: int, config: ScenesConfig) -> list[Question]:
  """The place of every object, as point text; none where there are too many objects."""
  questions = []
  for t in things if len(things) <= config.max_pointing_objects else ():
    label, place = f'{t.colour} object', (t.x / side, t.y / side)
    x, y = ((i // config.cell_size + 0.5) * config.cell_size / side for i in (t.x, t.y))
    answer = format_points({1: [(x, y) if config.point_to_cells else place]}, label)
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
  asked = [ask(config, 'same', YES_NO[getattr(first, name) != getattr(second, name)], name)
           for name in ('colour', 'shape') if f'same_{name}' in config.comparisons]
  if 'which_image' in config.comparisons and first.colour != second.colour:
    asked += [ask(config, 'which', ordinal, thing.colour)
              for thing, ordinal in zip((first, second), ORDINALS)]
  return asked
