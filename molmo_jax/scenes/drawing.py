"""Pixels of scenes: anti-aliased shapes and numbers on a plain background, and clips as MP4 files.
"""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageDraw

RGB = tuple[int, int, int]

_TABLES = tomllib.loads(Path(__file__).with_name('drawing.toml').read_text(encoding='utf-8'))
COLOURS: dict[str, RGB] = {name: tuple(rgb) for name, rgb in _TABLES['colours'].items()}
# rows of cells of every digit, '#' is ink
GLYPHS = tuple(tuple(rows.split()) for rows in _TABLES['digits'].values())
SHAPES = ('ring', 'square', 'triangle', 'cross')

SUPERSAMPLING = 4

GLYPH_WIDTH, GLYPH_HEIGHT = 5, 7
BOLD = 0.12                                   # how far a cell of ink grows on each side, in cells


@dataclasses.dataclass(frozen=True)
class Thing:
  """One object of a scene; lengths in pixels of the image."""
  colour: str                                 # the word
  shape: str
  x: float                                    # centre
  y: float
  size: float                                 # diameter of the circle that holds it
  rgb: RGB                                    # the word's colour with its jitter


def draw_things(side: int, background: RGB, things: Sequence[Thing]) -> np.ndarray:
  """A square picture of `things`, uint8 [side, side, 3]."""
  image = Image.new('RGB', (side * SUPERSAMPLING,) * 2, background)
  pen = ImageDraw.Draw(image)
  for thing in things:
    _draw_thing(pen, thing)
  return np.asarray(image.reduce(SUPERSAMPLING))


def _draw_thing(pen: ImageDraw.ImageDraw, thing: Thing) -> None:
  x, y, r = (v * SUPERSAMPLING for v in (thing.x, thing.y, thing.size / 2))
  if thing.shape == 'ring':
    pen.ellipse((x - r, y - r, x + r - 1, y + r - 1), outline=thing.rgb, width=round(0.42 * r))
  elif thing.shape == 'square':
    h = 0.92 * r
    pen.rectangle((x - h, y - h, x + h - 1, y + h - 1), thing.rgb)
  elif thing.shape == 'triangle':
    # larger than the circle: the areas look alike; (x, y) is the centroid
    h = 1.15 * r
    pen.polygon([(x, y - h), (x + 0.866 * h, y + h / 2), (x - 0.866 * h, y + h / 2)], thing.rgb)
  elif thing.shape == 'cross':
    arm = 0.34 * r
    pen.rectangle((x - r, y - arm, x + r - 1, y + arm - 1), thing.rgb)
    pen.rectangle((x - arm, y - r, x + arm - 1, y + r - 1), thing.rgb)
  else:
    raise ValueError(f'shape {thing.shape!r} does not exist; the shapes are: {", ".join(SHAPES)}')


def number_size(count: int, height: float) -> tuple[float, float]:
  """Width and height in pixels of `count` digits that are `height` tall."""
  return (count * (GLYPH_WIDTH + 1) - 1) * height / GLYPH_HEIGHT, height


def draw_number(side: int, background: RGB, text: str, x: float, y: float, height: float,
                rgb: RGB) -> np.ndarray:
  """A square image of a number.

  Args:
    side: of the image, in pixels.
    background: its colour.
    text: the digits.
    x, y: centre of the digits, in pixels.
    height: of the digits, in pixels.
    rgb: colour of the digits.

  Returns:
    uint8 [side, side, 3].
  """
  image = Image.new('RGB', (side * SUPERSAMPLING,) * 2, background)
  pen = ImageDraw.Draw(image)
  cell = height / GLYPH_HEIGHT
  left, top = x - number_size(len(text), height)[0] / 2, y - height / 2
  for i, digit in enumerate(text):
    ink = [[mark == '#' for mark in cells] for cells in GLYPHS[int(digit)]]
    for row, column in np.argwhere(ink).tolist():
      u, v = left + (i * (GLYPH_WIDTH + 1) + column) * cell, top + row * cell
      x0, y0 = ((w - BOLD * cell) * SUPERSAMPLING for w in (u, v))
      x1, y1 = ((w + (1 + BOLD) * cell) * SUPERSAMPLING for w in (u, v))
      pen.rectangle((x0, y0, x1 - 1, y1 - 1), rgb)
  return np.asarray(image.reduce(SUPERSAMPLING))


def add_noise(pixels: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
  """Adds Gaussian noise of `deviation` (of 255) to uint8 pixels of any shape; unchanged at 0."""
  if not deviation:
    return pixels
  noisy = pixels + rng.normal(0.0, deviation, pixels.shape)
  return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def save_image(path: Path, pixels: np.ndarray) -> None:
  """Writes uint8 [h, w, 3] as a PNG."""
  Image.fromarray(pixels).save(path, compress_level=1)


def save_clip(path: Path, frames: np.ndarray, fps: Fraction | int) -> None:
  """Writes uint8 [T, h, w, 3] with even sides as an MP4.

  H.264 if PyAV has libx264, else MPEG-4 part 2.
  """
  codec = _video_codec()
  with av.open(str(path), 'w', format='mp4') as container:
    stream: Any = container.add_stream(codec, rate=Fraction(fps))
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = 'yuv420p'
    # one thread: independent of the machine, and faster at this size
    stream.thread_count = 1
    if codec == 'libx264':
      stream.options = {'crf': '14', 'preset': 'veryfast'}
    else:
      stream.bit_rate = 2_000_000
    for frame in frames:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
    container.mux(stream.encode())


@functools.cache
def _video_codec() -> str:
  return 'libx264' if 'libx264' in av.codecs_available else 'mpeg4'
