"""Images for ablations: each kind needs one certain part of the model or of the preprocessing.

`detail` needs crops, `aspect` the layout of the tokens, `tiles` every patch and its place, `match`
two images at once.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image, ImageDraw

from molmo_jax.scenes import compose, tasks
from molmo_jax.scenes.config import ScenesConfig
from molmo_jax.scenes.drawing import COLOURS, RGB, SHAPES, SUPERSAMPLING, draw_things
from molmo_jax.scenes.scene import Media, Scene

# Where a ring is open: from its centre towards the middle of the gap, (x, y).
GAPS = {'right': (1, 0), 'below': (0, 1), 'left': (-1, 0), 'above': (0, -1)}


def detail_scene(rng: np.random.Generator, config: ScenesConfig) -> Scene:
  """A large image with small rings of different colours (Landolt's: a ring with a gap on one side).

  Raises:
    ValueError: there are fewer cells than rings.
  """
  lab = config.lab
  height, width = lab.detail_size
  rows, columns = height // lab.detail_cell, width // lab.detail_cell
  if rows * columns < lab.rings:
    raise ValueError(f'{lab.rings} rings do not fit into the {rows}×{columns} cells of '
                     f'detail_size={lab.detail_size}; lower rings or detail_cell')
  colours = compose.colours(rng, lab.rings)
  sides = [compose.choose(rng, tasks.SIDES) for _ in colours]
  places = [compose.in_cell(rng, int(cell), columns, lab.detail_cell, lab.ring_jitter)
            for cell in rng.permutation(rows * columns)[:lab.rings]]
  inks = [compose.jittered(rng, config, colour) for colour in colours]
  background = compose.background(rng, config)

  def paint() -> Media:
    image = Image.new('RGB', (width * SUPERSAMPLING, height * SUPERSAMPLING), background)
    for place, side, ink in zip(places, sides, inks, strict=True):
      _draw_ring(ImageDraw.Draw(image), config, place, side, ink, background)
    return (np.asarray(image.reduce(SUPERSAMPLING)),)

  return Scene(tuple(tasks.ask(config, 'gap', side, colour)
                     for colour, side in zip(colours, sides)), paint)


def _draw_ring(pen: ImageDraw.ImageDraw, config: ScenesConfig, place: tuple[float, float],
               side: str, ink: RGB, background: RGB) -> None:
  """A ring around (x, y) pixels whose gap is a straight cut as wide as `ring_gap`."""
  lab, s = config.lab, SUPERSAMPLING
  r, gap = lab.ring_size / 2 * s, lab.ring_gap / 2 * s
  (x, y), (dx, dy) = (place[0] * s, place[1] * s), GAPS[side]
  pen.ellipse((x - r, y - r, x + r - 1, y + r - 1), outline=ink, width=round(lab.ring_stroke * s))
  x0, x1 = sorted((x - gap * abs(dy), x + r * dx + gap * abs(dy)))
  y0, y1 = sorted((y - gap * abs(dx), y + r * dy + gap * abs(dx)))
  pen.rectangle((x0, y0, x1 - abs(dy), y1 - abs(dx)), background)


def aspect_scene(rng: np.random.Generator, config: ScenesConfig) -> Scene:
  """A plain image: nothing in its pixels says how wide and how high it is."""
  lab = config.lab
  outline = compose.choose(rng, sorted({tasks.outline(grid) for grid in lab.aspect_grids}))
  grid = compose.choose(rng, [g for g in lab.aspect_grids if tasks.outline(g) == outline])
  scale = float(rng.uniform(*lab.aspect_scale))
  size = [max(round((n * lab.aspect_unit + lab.aspect_margin) * scale), 1) for n in grid]
  ink = compose.jittered(rng, config, compose.choose(rng, COLOURS))
  outlines = dataclasses.replace(tasks.ask(config, 'outline', outline), options=tasks.OUTLINES)
  return Scene((outlines, tasks.ask(config, 'ratio', str(tasks.ratio(grid)))),
               lambda: (np.full((*size, 3), ink, np.uint8),))


def tiles_scene(rng: np.random.Generator, config: ScenesConfig) -> Scene:
  """A mosaic of tiles, each of a colour of its own choice."""
  side = config.lab.tile_side
  rows, columns = compose.choose(rng, config.lab.tile_grids)
  colours = [[compose.choose(rng, COLOURS) for _ in range(columns)] for _ in range(rows)]
  inks = np.asarray([[compose.jittered(rng, config, colour) for colour in row] for row in colours],
                    np.uint8)
  return Scene(tuple(tasks.ask(config, 'tile', colour, r, c)
                     for r, row in enumerate(colours, 1) for c, colour in enumerate(row, 1)),
               lambda: (inks.repeat(side, 0).repeat(side, 1),))


def match_scene(rng: np.random.Generator, config: ScenesConfig) -> Scene:
  """Two images with several objects of different colours; one colour is in both."""
  n, side = config.lab.match_objects, config.tile_size
  colours = compose.colours(rng, len(COLOURS))
  common, groups = colours[0], (colours[1:n], colours[n:2 * n - 1])
  shapes = [compose.choose(rng, SHAPES) for _ in groups]
  pictures = []
  for shape, group in zip(shapes, groups, strict=True):
    kinds = [(common, shape), *((colour, compose.choose(rng, SHAPES)) for colour in group)]
    pictures.append((compose.background(rng, config), compose.place(rng, config, side, kinds)))
  return Scene((tasks.ask(config, 'common', common),
                *(tasks.ask(config, 'common_shape', shape, name)
                  for name, shape in zip(tasks.ORDINALS, shapes))),
               lambda: tuple(draw_things(side, *picture) for picture in pictures))
