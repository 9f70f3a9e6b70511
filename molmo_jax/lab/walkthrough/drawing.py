"""SVG paths over the pixels of the vision tower's input; walkthrough.html lays them on the images.

Coordinates are pixels of the picture. What is drawn is read off `pool_index`, `layout_index` and
`layout_box`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from molmo_jax.evaluation.media import TINY_SIDE, data_uri, thumbnail
from molmo_jax.lab.walkthrough.example import Part, View, Walkthrough, canvas_places

STRIP = 12                                    # frames in the strip, the last one included
STRIP_SIDE = 200                              # their side, pixels


def as_uint8(crops: np.ndarray) -> np.ndarray:
  """Crops for the eye: letterboxed ones are float32 in 0..1."""
  return crops if crops.dtype == np.uint8 else np.rint(crops * 255).astype(np.uint8)


def embedded(pixels: np.ndarray) -> dict[str, Any]:
  """A picture uint8 [h,w,3] in the page: its size, its bytes, and whether it is shown pixelated."""
  height, width = pixels.shape[:2]
  tiny = max(height, width) <= TINY_SIDE
  return dict(width=width, height=height, tiny=tiny,
              uri=data_uri(Image.fromarray(pixels), lossless=tiny))


def canvas(part: Part, w: Walkthrough) -> tuple[np.ndarray, np.ndarray]:
  """The image reassembled from its crops, uint8 [h,w,3]; corners (y, x) of crops, int [n,2]."""
  size = w.image.patch_size
  (rows, cols), places = canvas_places(part, w)
  out = np.zeros((rows * size, cols * size, 3), np.uint8)
  crops = as_uint8(w.encoded.crops[part.crops.start + 1:part.crops.stop])
  for (y, x), crop in zip(places * size, crops, strict=True):
    out[y:y + w.side, x:x + w.side] = crop
  return out, places * size


def shared(corners: np.ndarray, side: int, height: int, width: int) -> list[str]:
  """The strips of a canvas that neighbouring crops share."""
  ys, xs = np.unique(corners[:, 0]).tolist(), np.unique(corners[:, 1]).tolist()
  return [*(rectangle(x, 0, before + side - x, height) for before, x in zip(xs, xs[1:])),
          *(rectangle(0, y, width, before + side - y) for before, y in zip(ys, ys[1:]))]


def middle(corners: np.ndarray) -> int:
  """The crop nearest to the middle of the canvas."""
  return int(np.abs(corners - corners.mean(axis=0)).sum(axis=1).argmin())


def straddling(w: Walkthrough, view: View) -> np.ndarray:
  """Windows of a view that take patches of several crops: bool [V]."""
  index = w.encoded.pool_index[view.rows]
  crop = np.where(index >= 0, index // w.grid ** 2, -1)
  return (crop != crop.max(axis=1)[:, None]).any(axis=1, where=crop >= 0)


def every_other(w: Walkthrough, part: Part) -> np.ndarray:
  """Windows that belong to every other crop of a tiling, as on a chessboard: bool [V]."""
  crop = w.encoded.layout_index[part.views[-1].rows, 2] - 1   # from 0
  _, columns = part.tiling or (0, 1)
  return (crop // columns + crop % columns) % 2 == 1


def close_up(w: Walkthrough, view: View, height: int, width: int) -> dict[str, Any]:
  """The pooling window in the middle of a view, as a picture of `height` × `width` pixels."""
  size = w.image.patch_size
  box = w.encoded.layout_box[view.rows][(view.grid[0] // 2) * view.grid[1] + view.grid[1] // 2]
  x0, y0, x1, y1 = (box * [width, height, width, height]).tolist()
  reach = min(10 * size, width, height)
  left, top = (min(max(round((low + high - reach) / 2 / size) * size, 0), extent - reach)
               for low, high, extent in ((x0, x1, width), (y0, y1, height)))
  return dict(reach=reach, left=left, top=top,
              window=rectangle(x0 - left, y0 - top, x1 - x0, y1 - y0))


def strip(w: Walkthrough) -> list[tuple[int, Image.Image, str]]:
  """Up to STRIP frames, evenly chosen, first and last among them: number, picture, bytes."""
  last = len(w.encoded.frame_times) - 1
  chosen = np.unique(np.rint(np.linspace(0, last, STRIP)).astype(int)).tolist()
  small = [thumbnail(as_uint8(w.encoded.crops[index]), STRIP_SIDE)[0] for index in chosen]
  return [(index, image, data_uri(image, lossless=False)) for index, image in zip(chosen, small)]


def rectangle(x: float, y: float, width: float, height: float) -> str:
  """The outline of a rectangle as commands of an SVG path."""
  return f'M{x:.5g} {y:.5g}h{width:.4g}v{height:.4g}h{-width:.4g}z'


def boxes(box: np.ndarray, height: int, width: int) -> str:
  """The outlines of windows `box` float [V,4] of `layout_box`."""
  corners = box * np.asarray([width, height, width, height], np.float32)
  return ''.join(rectangle(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in corners.tolist())


def cells(flags: np.ndarray, w: Walkthrough) -> str:
  """Rectangles over the true patches, bool [P], of a crop; neighbours of a row in one."""
  size, out = w.image.patch_size, []
  for row, line in enumerate(flags.reshape(w.grid, w.grid).astype(np.int8)):
    edges = np.flatnonzero(np.diff(line, prepend=0, append=0)).reshape(-1, 2)
    out += [rectangle(start * size, row * size, (stop - start) * size, size)
            for start, stop in edges.tolist()]
  return ''.join(out)
