"""Conversations with random media, in Hugging Face's chat format."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from tests.oracle.checkpoints import Design

Conversation = list[dict[str, Any]]


def picture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
  """Waves, blocks and noise: uint8 [h,w,3]."""
  y, x = np.mgrid[:height, :width] / rng.uniform(4, 40, 2)[:, None, None]
  waves = np.stack([np.sin(x + p) * np.cos(y - p) for p in rng.uniform(0, 6, 3)], axis=-1)
  blocks = ((x // 2 + y // 3) % 2)[..., None] * rng.uniform(-60, 60, 3)
  return np.clip(128 + 80 * waves + blocks + rng.normal(0, 12, waves.shape), 0,
                 255).astype(np.uint8)


def image(pixels: Any) -> dict[str, Any]:
  return {'type': 'image', 'image': pixels}


def text(words: str) -> dict[str, Any]:
  return {'type': 'text', 'text': words}


def user(*content: dict[str, Any]) -> dict[str, Any]:
  return {'role': 'user', 'content': list(content)}


def assistant(words: str) -> dict[str, Any]:
  return {'role': 'assistant', 'content': [text(words)]}


def tall(d: Design, rng: np.random.Generator) -> np.ndarray:
  """An image that is cut into at least two rows of crops."""
  # those are narrow, so that the tests stay fast
  margin, large = 14 * sum(d.margins), d.side > 200
  window = d.side - margin
  height = rng.integers(margin + window * 3 // 2, margin + window * (2 if large else 3))
  return picture(rng, int(height),
                 int(height * (rng.uniform(0.5, 0.6) if large else rng.uniform(0.6, 1.4))))


def filmed(rng: np.random.Generator, frames: int, fps: float = 2.0) -> dict[str, Any]:
  """A video with few enough frames per second that all are taken."""
  height, width = rng.integers(40, 160, 2).tolist()
  return {'type': 'video', 'video': np.stack([picture(rng, height, width) for _ in range(frames)]),
          'fps': fps}


def everyday(d: Design) -> dict[str, Conversation]:
  """One of each kind: two images of at least two rows, text, an earlier turn, a video."""
  rng = np.random.default_rng([d.seed, 47])
  frames = int(rng.integers(4, 9))
  return {
    'images': [user(image(tall(d, rng)), image(tall(d, rng)), text('Compare image 1 with image 2, '
      'in 25 words.'))],
    'text': [user(text('How many lanterns hang above the river?'))],
    'turns': [user(text('Describe the picture.'), image(tall(d, rng))),
              assistant('An orange kite in a birch.'),
              user(text('And what is below it?'), text('Point to every boat.'))],
    'video': [user(filmed(rng, frames), text('What happens after 1.5 seconds?'))],
  }


def unusual(d: Design, folder: Any) -> dict[str, Any]:
  """Images that are small, thin, of another mode, or turned; those that are files lie in `folder`.
  """
  rng = np.random.default_rng([d.seed, 53])
  size = lambda: rng.integers(60, 260, 2).tolist()
  rgb = lambda: Image.fromarray(picture(rng, *size()))
  faded = rgb()
  faded.putalpha(rgb().convert('L').resize(faded.size))
  palette = rgb().quantize(64)
  clear = rgb().quantize(32)
  clear.info['transparency'] = 3
  turned, exif = folder / 'turned.png', Image.Exif()
  exif[0x0112] = 6   # the camera was on its side
  rgb().save(turned, exif=exif)
  return {
    'tiny': Image.fromarray(picture(rng, 1, 1)), 'small': Image.fromarray(picture(rng, 17, 23)),
    'thin': Image.fromarray(picture(rng, 900, 9)), 'flat': Image.fromarray(picture(rng, 31, 700)),
    'margin': Image.fromarray(picture(rng, 14 * sum(d.margins), 300)), 'window': Image.fromarray(
      picture(rng, d.side, d.side)), 'large': Image.fromarray(picture(rng, 611, 977)),
    'grey': rgb().convert('L'), 'black and white': rgb().convert('1'),
    'grey with alpha': faded.convert('LA'),
    'alpha': faded, 'palette': palette, 'clear palette': clear, 'inks': rgb().convert('CMYK'),
    'turned': turned,
    'array': picture(rng, *size()),
    **{f'shape {i}': Image.fromarray(picture(rng, *size())) for i in range(4)}}
