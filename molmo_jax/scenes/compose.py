"""Draws scenes at random: which objects, where, and how they move.

Every function takes its random generator. The caller may fix what a question is about (its shape,
its answer); everything else is drawn at random.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from molmo_jax.scenes.config import ScenesConfig
from molmo_jax.scenes.drawing import COLOURS, RGB, SHAPES, Thing, draw_things, number_size

Kind = tuple[str, str]                        # (colour, shape)

DIRECTIONS = {'left': (-1, 0), 'right': (1, 0), 'up': (0, -1), 'down': (0, 1)}
RELATIONS = ('left', 'right', 'above', 'below')


@dataclasses.dataclass(frozen=True)
class Clip:
  """A clip before it is drawn: the things of every frame."""
  frames: tuple[tuple[Thing, ...], ...]
  background: RGB

  def paint(self, side: int) -> tuple[np.ndarray]:
    """The clip as media: one uint8 [T, side, side, 3]."""
    return (np.stack([draw_things(side, self.background, things) for things in self.frames]),)


def choose(rng: np.random.Generator, items: Iterable) -> Any:
  """One of `items` with equal probability."""
  items = list(items)
  return items[rng.integers(len(items))]


def choose_kinds(rng: np.random.Generator, config: ScenesConfig) -> list[Kind]:
  """(colour, shape) of a random number of objects of an image; no colour occurs twice."""
  total = int(rng.integers(1, config.max_objects + 1))
  return [(colour, choose(rng, SHAPES)) for colour in colours(rng, total)]


def place(rng: np.random.Generator, config: ScenesConfig, side: int,
          kinds: Sequence[Kind]) -> list[Thing]:
  """Puts objects into different cells of a square of `side` pixels, each near its cell's middle.

  Raises:
    ValueError: there are more objects than cells.
  """
  across = side // config.cell_size
  if len(kinds) > across ** 2:
    raise ValueError(f'{len(kinds)} objects do not fit into the {across}×{across} cells of {side} '
      'px; lower max_objects or cell_size, or use a larger image')
  things = []
  for (colour, shape), cell in zip(kinds, rng.permutation(across ** 2)[:len(kinds)], strict=True):
    x, y = in_cell(rng, cell, across, config.cell_size, config.cell_jitter)
    things.append(Thing(colour, shape, x, y, object_size(rng, config),
                        jittered(rng, config, colour)))
  return things


def in_cell(rng: np.random.Generator, cell: int, columns: int, side: int,
            jitter: float) -> tuple[float, float]:
  """(x, y) near the middle of the square cell of a number, counted row by row; pixels."""
  x, y = ((i + 0.5) * side + float(rng.uniform(-jitter, jitter))
          for i in (cell % columns, cell // columns))
  return x, y


def object_size(rng: np.random.Generator, config: ScenesConfig) -> float:
  """The diameter of an object, pixels."""
  return float(rng.uniform(config.min_object_size, config.max_object_size))


def colours(rng: np.random.Generator, count: int) -> list[str]:
  """`count` different colours (all of them where there are fewer), in random order."""
  return [tuple(COLOURS)[i] for i in rng.permutation(len(COLOURS))[:count]]


def jittered(rng: np.random.Generator, config: ScenesConfig, colour: str) -> RGB:
  """The RGB of a colour word with its random change, 0…255."""
  change = rng.integers(-config.colour_jitter, config.colour_jitter + 1, 3)
  return tuple(np.clip(change + COLOURS[colour], 0, 255).tolist())


def background(rng: np.random.Generator, config: ScenesConfig) -> RGB:
  """A light grey with a slight tint."""
  grey = rng.integers(config.background[0], config.background[1] + 1)
  return tuple(np.clip(grey + rng.integers(-4, 5, 3), 0, 255).tolist())


def cell_of(thing: Thing, side: int, config: ScenesConfig) -> tuple[int, int]:
  """Row and column of the object's cell relative to the middle of the image: −1, 0 or 1."""
  middle = (side // config.cell_size - 1) / 2
  row, column = (int(v // config.cell_size - middle) for v in (thing.y, thing.x))
  return row, column


def relation(thing: Thing, side: int, config: ScenesConfig) -> str | None:
  """Where the object is relative to the middle; None at the middle and in the corners."""
  row, column = cell_of(thing, side, config)
  if row == 0 and column:
    return 'left' if column < 0 else 'right'
  if column == 0 and row:
    return 'above' if row < 0 else 'below'
  return None


def number_place(rng: np.random.Generator, config: ScenesConfig) -> tuple[float, float, float]:
  """Centre (x, y) and height in pixels of a number, inside the image.

  Raises:
    ValueError: the digits are too large for the image.
  """
  height = float(rng.uniform(config.min_digit_height, config.max_digit_height))
  centre = []
  for extent in number_size(config.digits, height):
    free = (config.image_size - extent) / 2 - 1
    if free < 0:
      raise ValueError(f'{config.digits} digits of {height:.0f} px do not fit into '
        f'image_size={config.image_size}; lower max_digit_height')
    shift = min(free, config.digit_shift)
    centre.append(config.image_size / 2 + float(rng.uniform(-shift, shift)))
  return centre[0], centre[1], height


def moving(rng: np.random.Generator, config: ScenesConfig, direction: str) -> Clip:
  """One object that moves in a straight line at constant speed."""
  colour, shape = choose(rng, COLOURS), choose(rng, SHAPES)
  size = object_size(rng, config)
  first, last = size / 2 + 1, config.clip_size - size / 2 - 1
  way = (last - first) * rng.uniform(config.min_travel, 1.0)
  start = rng.uniform(first, last - way)
  across = float(rng.uniform(first, last))
  along = np.linspace(start, start + way, config.clip_length)
  dx, dy = DIRECTIONS[direction]
  if dx + dy < 0:
    along = along[::-1]
  rgb = jittered(rng, config, colour)
  places = [(v, across) if dx else (across, v) for v in along.tolist()]
  frames = tuple((Thing(colour, shape, x, y, size, rgb),) for x, y in places)
  return Clip(frames, background(rng, config))


def appearing(rng: np.random.Generator, config: ScenesConfig, first: str, last: str) -> Clip:
  """An object of colour `first`, then one of colour `last`, each for two samples or more."""
  things = [place(rng, config, config.clip_size, [(colour, choose(rng, SHAPES))])[0]
            for colour in (first, last)]
  step = config.clip_fps // config.sample_fps
  change = step * int(rng.integers(2, config.clip_frames - 1)) - step // 2
  frames = tuple((things[0] if i < change else things[1],) for i in range(config.clip_length))
  return Clip(frames, background(rng, config))
