"""Draws scenes at random: which objects, where, and how they move. Every function takes its random generator.

The caller may fix what a question is about (its shape, its answer); everything else is drawn freely.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from molmo_jax.data.scenes.config import ScenesConfig
from molmo_jax.data.scenes.drawing import COLOURS, RGB, SHAPES, Thing, number_size

Kind = tuple[str, str]                        # (colour, shape)
Spot = tuple[float, float, float]             # x, y, size

DIRECTIONS = {'left': (-1, 0), 'right': (1, 0), 'up': (0, -1), 'down': (0, 1)}
RELATIONS = ('left', 'right', 'above', 'below')
ATTEMPTS = 1000


@dataclasses.dataclass(frozen=True)
class Clip:
  """A clip before it is drawn: the things of every frame."""
  frames: tuple[tuple[Thing, ...], ...]
  background: RGB


def choose(rng: np.random.Generator, items: Iterable) -> object:
  """One of `items` with equal probability."""
  items = list(items)
  return items[rng.integers(len(items))]


def choose_kinds(rng: np.random.Generator, config: ScenesConfig, shape: str, copies: int) -> list[Kind]:
  """(colour, shape) of the objects of an image: exactly `copies` have `shape`; no pair occurs twice.

  The number of objects is uniform in what `copies` leaves possible.
  """
  total = int(rng.integers(max(1, copies), config.max_objects + 1))
  colours = [str(c) for c in rng.permutation(list(COLOURS))]
  others = [(c, s) for c, s in itertools.product(COLOURS, SHAPES) if s != shape]
  chosen = rng.permutation(len(others))[:total - copies]
  return [(c, shape) for c in colours[:copies]] + [others[i] for i in chosen]


def place(rng: np.random.Generator, config: ScenesConfig, side: int, kinds: Sequence[Kind]) -> list[Thing]:
  """Puts objects of `kinds` into a square of `side` pixels, apart from each other by `config.min_gap` at least.

  Raises:
    ValueError: they do not fit.
  """
  for _ in range(ATTEMPTS):
    spots: list[Spot] = []
    for _ in kinds:
      size = float(rng.uniform(config.min_object_size, config.max_object_size))
      free = _free_spots(config, side, size, spots)
      if not len(free):
        break
      x, y = free[rng.integers(len(free))]
      spots.append((float(x), float(y), size))
    else:
      return [Thing(colour, shape, *spot, jittered(rng, config, colour))
              for (colour, shape), spot in zip(kinds, spots, strict=True)]
  raise ValueError(f'{len(kinds)} objects of {config.max_object_size} px do not fit into {side} px; '
                   'lower max_objects or max_object_size, or use a larger image')


def _free_spots(config: ScenesConfig, side: int, size: float, taken: Sequence[Spot]) -> np.ndarray:
  """Lattice points (x, y) where an object of `size` keeps its distance to the border and to `taken`; float [n, 2]."""
  margin = size / 2 + config.min_gap
  step = config.grid_step
  axis = np.arange(np.ceil(margin / step), np.floor((side - margin) / step) + 1) * step
  free = np.ones((len(axis), len(axis)), bool)
  for x, y, other in taken:
    distance = (size + other) / 2 + config.min_gap
    free &= (axis[:, None] - x) ** 2 + (axis - y) ** 2 >= distance ** 2
  return axis[np.argwhere(free)]


def jittered(rng: np.random.Generator, config: ScenesConfig, colour: str) -> RGB:
  """The RGB of a colour word with its random change, 0…255."""
  change = rng.integers(-config.colour_jitter, config.colour_jitter + 1, 3).tolist()
  return tuple(min(max(v + c, 0), 255) for v, c in zip(COLOURS[colour], change, strict=True))


def background(rng: np.random.Generator, config: ScenesConfig) -> RGB:
  """A light grey with a slight tint."""
  grey = rng.integers(config.background[0], config.background[1] + 1)
  return tuple(min(max(v, 0), 255) for v in (grey + rng.integers(-4, 5, 3)).tolist())


def relation(a: Thing, b: Thing, dominance: float) -> str | None:
  """Where `a` is relative to `b`: left, right, above or below; None if neither axis dominates."""
  dx, dy = a.x - b.x, a.y - b.y
  if abs(dx) >= dominance * abs(dy):
    return 'left' if dx < 0 else 'right'
  if abs(dy) >= dominance * abs(dx):
    return 'above' if dy < 0 else 'below'
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
      raise ValueError(f'{config.digits} digits of {height:.0f} px do not fit into image_size={config.image_size}; '
                       'lower max_digit_height')
    shift = min(free, config.digit_shift)
    centre.append(config.image_size / 2 + float(rng.uniform(-shift, shift)))
  return centre[0], centre[1], height


def moving(rng: np.random.Generator, config: ScenesConfig, direction: str) -> Clip:
  """One object that moves in a straight line at constant speed."""
  colour, shape = choose(rng, COLOURS), choose(rng, SHAPES)
  size = float(rng.uniform(config.min_object_size, config.max_object_size))
  first, last = size / 2 + 1, config.clip_size - size / 2 - 1
  way = (last - first) * rng.uniform(config.min_travel, 1.0)
  start = rng.uniform(first, last - way)
  across = float(rng.uniform(first, last))
  along = np.linspace(start, start + way, config.clip_length)
  dx, dy = DIRECTIONS[direction]
  if dx + dy < 0:
    along = along[::-1]
  rgb = jittered(rng, config, colour)
  frames = tuple((Thing(colour, shape, *((float(v), across) if dx else (across, float(v))), size, rgb),) for v in along)
  return Clip(frames, background(rng, config))


def appearing(rng: np.random.Generator, config: ScenesConfig, first: str, last: str) -> Clip:
  """An object of colour `first`, then, when it has gone, one of colour `last`; each is seen for two samples or more."""
  things = [place(rng, config, config.clip_size, [(colour, choose(rng, SHAPES))])[0] for colour in (first, last)]
  step = config.clip_fps // config.sample_fps
  change = step * int(rng.integers(2, config.clip_frames - 1)) - step // 2
  frames = tuple((things[0] if i < change else things[1],) for i in range(config.clip_length))
  return Clip(frames, background(rng, config))
