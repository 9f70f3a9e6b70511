"""Images for ablations: each kind needs one certain part of the model or of the preprocessing.

`detail` needs crops, `aspect` the layout of the tokens, `tiles` every patch and its place, `match`
two images at once.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from molmo_jax.scenes import compose
from molmo_jax.scenes.config import ScenesConfig
from molmo_jax.scenes.drawing import (
  COLOURS,
  RGB,
  SHAPES,
  SUPERSAMPLING,
  add_noise,
  draw_things,
)
from molmo_jax.scenes.lab import tasks as lab_tasks
from molmo_jax.scenes.scene import Media, Scene

# Where a ring is open: the middle of the gap in degrees, clockwise from three o'clock, as Pillow
# counts.
GAP_ANGLES = {'right': 0.0, 'below': 90.0, 'left': 180.0, 'above': 270.0}


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
  sides = [compose.choose(rng, lab_tasks.SIDES) for _ in colours]
  places = []
  for cell in rng.permutation(rows * columns)[:lab.rings]:
    row, column = divmod(int(cell), columns)
    places.append(tuple((i + 0.5) * lab.detail_cell
                        + float(rng.uniform(-lab.ring_jitter, lab.ring_jitter))
                        for i in (column, row)))
  inks = [compose.jittered(rng, config, colour) for colour in colours]
  background = compose.background(rng, config)

  def paint() -> Media:
    image = Image.new('RGB', (width * SUPERSAMPLING, height * SUPERSAMPLING), background)
    for (x, y), side, ink in zip(places, sides, inks, strict=True):
      _draw_ring(ImageDraw.Draw(image), config, x, y, side, ink, background)
    return (add_noise(np.asarray(image.reduce(SUPERSAMPLING)), config.noise, rng),)
  return Scene(tuple(map(lab_tasks.gap_question, colours, sides)), paint)


def _draw_ring(pen: ImageDraw.ImageDraw, config: ScenesConfig, x: float, y: float, side: str,
               ink: RGB, background: RGB) -> None:
  """A ring around (x, y) pixels whose gap is a straight cut as wide as `ring_gap`."""
  lab, s = config.lab, SUPERSAMPLING
  r, gap = lab.ring_size / 2 * s, lab.ring_gap / 2 * s
  x, y = x * s, y * s
  pen.ellipse((x - r, y - r, x + r - 1, y + r - 1), outline=ink, width=round(lab.ring_stroke * s))
  dx, dy = (round(float(f(np.deg2rad(GAP_ANGLES[side])))) for f in (np.cos, np.sin))
  x0, x1 = sorted((x - gap * abs(dy), x + r * dx + gap * abs(dy)))
  y0, y1 = sorted((y - gap * abs(dx), y + r * dy + gap * abs(dx)))
  pen.rectangle((x0, y0, x1 - abs(dy), y1 - abs(dx)), background)


def aspect_scene(rng: np.random.Generator, config: ScenesConfig) -> Scene:
  """A plain image: nothing in its pixels says how wide and how high it is."""
  lab = config.lab
  outline = compose.choose(rng, sorted({lab_tasks.outline(grid) for grid in lab.aspect_grids}))
  grid = compose.choose(rng,
                        [grid for grid in lab.aspect_grids if lab_tasks.outline(grid) == outline])
  scale = float(rng.uniform(*lab.aspect_scale))
  size = [max(round((n * lab.aspect_unit + lab.aspect_margin) * scale), 1) for n in grid]
  ink = compose.jittered(rng, config, compose.choose(rng, COLOURS))

  def paint() -> Media:
    return (add_noise(np.full((*size, 3), ink, np.uint8), config.noise, rng),)
  return Scene(tuple(lab_tasks.aspect_questions(grid, config)), paint)


def tiles_scene(rng: np.random.Generator, config: ScenesConfig) -> Scene:
  """A mosaic of tiles, each of a colour of its own choice."""
  lab = config.lab
  rows, columns = compose.choose(rng, lab.tile_grids)
  colours = [[compose.choose(rng, COLOURS) for _ in range(columns)] for _ in range(rows)]
  inks = np.asarray([[compose.jittered(rng, config, colour) for colour in row] for row in colours],
                    np.uint8)

  def paint() -> Media:
    return (add_noise(inks.repeat(lab.tile_side, 0).repeat(lab.tile_side, 1), config.noise, rng),)
  return Scene(tuple(lab_tasks.tile_questions(colours)), paint)


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

  def paint() -> Media:
    return tuple(add_noise(draw_things(side, background, things), config.noise, rng)
                 for background, things in pictures)
  return Scene(tuple(lab_tasks.match_questions(common, shapes)), paint)
