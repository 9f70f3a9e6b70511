"""Drawings over the pixels that the vision tower gets: SVG elements as text.

A picture is embedded once per page, as `<image id=…>`, and used by every drawing over it.
Coordinates are pixels of that picture. What is drawn is read off `pool_index`, `layout_index` and
`layout_box`.
"""

from __future__ import annotations

import html

import numpy as np
from PIL import Image

from molmo_jax.evaluation.media import TINY_SIDE, data_uri
from molmo_jax.lab.walkthrough.example import Part, View, Walkthrough, canvas_places

HIGHEST = 620                                 # a drawing is shown no higher than this, CSS pixels


def as_uint8(crops: np.ndarray) -> np.ndarray:
  """Crops for the eye: letterboxed ones are float32 in 0..1."""
  return crops if crops.dtype == np.uint8 else np.rint(crops * 255).astype(np.uint8)


def canvas(part: Part, w: Walkthrough) -> tuple[np.ndarray, np.ndarray]:
  """The canvas put together from the crops again: uint8 [h,w,3], and int [n,2], each crop's left
  top corner (y, x).
  """
  size = w.run.preprocess.image.patch_size
  (rows, cols), places = canvas_places(part, w)
  out = np.zeros((rows * size, cols * size, 3), np.uint8)
  side = w.grid * size
  for (y, x), crop in zip(places * size, as_uint8(
    w.encoded.crops[part.crops.start + 1:part.crops.stop]), strict=True):
    out[y:y + side, x:x + side] = crop
  return out, places * size


def definition(name: str, pixels: np.ndarray) -> str:
  """The picture `name`, embedded."""
  height, width = pixels.shape[:2]
  tiny = max(height, width) <= TINY_SIDE
  uri = data_uri(Image.fromarray(pixels), lossless=tiny)
  style = ' style="image-rendering:pixelated"' if tiny else ''
  return f'<image id="{name}" width="{width}" height="{height}"{style} href="{uri}"/>'


def svg(width: float, height: float, label: str, *content: str) -> str:
  return (f'<svg class="pic fill" style="max-width:{HIGHEST * width / height:.0f}px" role="img" '
    f'aria-label="{html.escape(label)}" viewBox="0 0 {width:g} {height:g}">{"".join(content)}</svg>')


def tiling(name: str, shape: tuple[int, int], corners: np.ndarray, side: int) -> str:
  """The canvas with all crops, what they share, and one crop in full. `corners` int [n,2] are (y,
  x), pixels.
  """
  height, width = shape
  ys, xs = np.unique(corners[:, 0]).tolist(), np.unique(corners[:, 1]).tolist()
  shared = [rectangle(x, 0, before + side - x, height) for before, x in zip(xs, xs[1:])]
  shared += [rectangle(0, y, width, before + side - y) for before, y in zip(ys, ys[1:])]
  edges = ''.join(rectangle(x, y, side, side) for y, x in corners.tolist())
  one_y, one_x = corners[_middle(corners)].tolist()
  inset = side / 150                          # its line stays beside those of the others
  one = rectangle(one_x + inset, one_y + inset, side - 2 * inset, side - 2 * inset)
  labels = [_label(x + side / 2, y + side / 2, side * .13, str(number))
            for number, (y, x) in enumerate(corners.tolist(), 1)]
  return svg(width, height, f'{len(corners)} overlapping crops on the canvas',
             f'<use href="#{name}"/>',
             *(f'<path class="shared" d="{d}"/>' for d in shared),
             f'<path class="edge" d="{edges}"/>',
             f'<path class="one" d="{one}"/>', *labels)


def _middle(corners: np.ndarray) -> int:
  return int(np.abs(corners - corners.mean(axis=0)).sum(axis=1).argmin())


def view(name: str, box: np.ndarray, side: int) -> str:
  """The global view, or a frame, with its pooling windows: `box` float [V,4] of `layout_box`."""
  return svg(side, side, f'{len(box)} pooling windows', f'<use href="#{name}"/>',
             grid(box, side, side))


def grid(box: np.ndarray, width: int, height: int) -> str:
  """The outlines of windows `box` float [V,4] over a picture of `width` × `height` pixels."""
  return f'<path class="grid" d="{_boxes(box, width, height)}"/>'


def survivors(name: str, corners: np.ndarray, kept: np.ndarray, w: Walkthrough) -> str:
  """The crops drawn apart; patches that no window reads are dark. `kept` bool [n,P]."""
  size = w.run.preprocess.image.patch_size
  side, gap = w.grid * size, w.grid * size * .05
  columns = len(np.unique(corners[:, 1]))
  lines = ''.join(f'M0 {k * size}h{side}M{k * size} 0v{side}' for k in range(1, w.grid))
  out = [f'<defs><path id="{name}-lines" class="fine" d="{lines}"/></defs>']
  for number, ((y, x), flags) in enumerate(zip(corners.tolist(), kept, strict=True)):
    row, column = divmod(number, columns)
    out.append(
        f'<svg x="{column * (side + gap):g}" y="{row * (side + gap):g}" width="{side}" height="{side}" viewBox="0 0 {side} {side}"><use href="#{name}" x="{-x}" y="{-y}"/><use href="#{name}-lines"/><path class="gone" d="{_cells(~flags.reshape(w.grid, w.grid), size)}"/>{_label(side / 2, side / 2, side * .13, str(number + 1))}</svg>')
  rows = -(-len(corners) // columns)
  return svg(columns * (side + gap) - gap, rows * (side + gap) - gap,
             'patches of the crops that survive', *out)


def windows(name: str, shape: tuple[int, int], view_: View, w: Walkthrough) -> tuple[str, int]:
  """The pooled grid over the canvas, every other crop tinted, and the number of windows that span
  two crops or more.
  """
  height, width = shape
  box, index = w.encoded.layout_box[view_.rows], w.encoded.pool_index[view_.rows]
  patches = w.grid ** 2
  crop = np.where(index >= 0, index // patches, -1)
  first = crop.max(axis=1)
  straddles = (crop != first[:, None]).any(axis=1, where=crop >= 0)
  number = w.encoded.layout_index[view_.rows, 2] - 1   # crop, from 0
  columns = _columns_of_tiling(w, view_)
  odd = (number // columns + number % columns) % 2 == 1
  return svg(width, height, f'{view_.grid[0]} × {view_.grid[1]} pooling windows',
             f'<use href="#{name}"/>',
             f'<path class="odd" d="{_boxes(box[odd], width, height)}"/>',
             f'<path class="straddle" d="{_boxes(box[straddles], width, height)}"/>',
             grid(box, width, height)), int(straddles.sum())


def _columns_of_tiling(w: Walkthrough, view_: View) -> int:
  return next(part.tiling[1] for part in w.parts if view_ in part.views)


def close_up(name: str, box: np.ndarray, shape: tuple[int, int], size: int) -> str:
  """One pooling window with its surroundings: `box` float [4] of `layout_box`, `size` the side of a
  patch, pixels.
  """
  height, width = shape
  x0, y0, x1, y1 = (box * [width, height, width, height]).tolist()
  reach = min(10 * size, width, height)
  left = min(max(round((x0 + x1 - reach) / 2 / size) * size, 0), width - reach)
  top = min(max(round((y0 + y1 - reach) / 2 / size) * size, 0), height - reach)
  lines = ''.join(f'M0 {k}h{reach}M{k} 0v{reach}' for k in range(size, int(reach), size))
  return svg(reach, reach, 'one pooling window',
             f'<use href="#{name}" x="{-left:g}" y="{-top:g}"/>',
             f'<path class="grid" d="{lines}"/>',
             f'<path class="window" d="{rectangle(x0 - left, y0 - top, x1 - x0, y1 - y0)}"/>')


def rectangle(x: float, y: float, width: float, height: float) -> str:
  return f'M{x:.5g} {y:.5g}h{width:.4g}v{height:.4g}h{-width:.4g}z'


def _boxes(box: np.ndarray, width: int, height: int) -> str:
  corners = box * np.asarray([width, height, width, height], np.float32)
  return ''.join(rectangle(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in corners.tolist())


def _cells(flags: np.ndarray, size: int) -> str:
  """Rectangles over the true cells of bool [h,w], neighbours of a row in one."""
  out = []
  for row, line in enumerate(flags):
    edges = np.flatnonzero(np.diff(line.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    out += [rectangle(start * size, row * size, (stop - start) * size, size)
            for start, stop in edges.tolist()]
  return ''.join(out)


def _label(x: float, y: float, size: float, text: str) -> str:
  style = f'font-size:{size:.3g}px;stroke-width:{size / 7:.2g}px'
  return f'<text x="{x:g}" y="{y:g}" style="{style}">{html.escape(text)}</text>'
