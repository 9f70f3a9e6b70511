"""Resampling of images to a fixed size, exact against the released processors. numpy only.

Three filters (docs/model.md §6.2): bilinear without antialias on uint8 (`stretch`, Molmo2),
bilinear with antialias in float32 (`letterbox`, the CLIP towers) and bicubic with antialias on
uint8 (`stretch_bicubic`, the ablation towers).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

# values of an array in one pass, about: all arrays together stay in the cache of a core
_BLOCK = 2**16
# numpy's buffer, values: one that holds several rows would be filled with copies of the weights
_CHUNK = 2048
# shrinkage from which it pays to pick columns of the image instead of columns of the lines
_EARLY = 5
_SMALL = 128         # height + width up to which the reference sums the four neighbours at once
# a float32 value this close to a half may round to another level than the fused arithmetic
_NEAR_TIE = 2.0**-12


def resize_bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
  """Resizes an image, bilinear without antialias, rounded as in the released Molmo2 processors.

  Both axes are interpolated in float32 (horizontal first) where `p·a + q·b` rounds the second
  product and then the fused sum once; the result is rounded half to even. Plain float32 arithmetic
  in any order differs from that by some 1e-5, which matters only next to a half; those few values
  are computed again in the exact way. Here the vertical axis comes first: its neighbours are whole
  rows, so that columns are picked out of fewer of them. The reference has another program for
  results of `height + width` ≤ 128, which weights the four neighbours in one sum; so is it done
  here.

  Args:
    image: uint8 [h,w,c].
    height, width: size of the result, pixels.

  Returns:
    uint8 [height,width,c]; `image` itself where the size is already right.
  """
  if image.shape[:2] == (height, width):
    return image
  if height + width <= _SMALL:
    return _resize_small(image, height, width)
  h, w, channels = image.shape
  flat, columns = image.reshape(h, w * channels), width * channels
  upper, lower, y_near, y_far = _neighbours(h, height, 1)
  left, right, x_near, x_far = _neighbours(w, width, channels)
  rows, y_weights = np.stack([upper, lower]), np.stack([y_near, y_far])
  picked = np.concatenate([left, right]) if _EARLY * width < w else None
  # of a line: a row between two rows of the image
  length = flat.shape[1] if picked is None else picked.size
  step = min(max(_BLOCK // max(length, columns), 1), height)
  sources = np.empty((2, step, flat.shape[1]), np.uint8)
  lines, sides = np.empty((2, step, length), np.float32), np.empty((2, step, columns), np.float32)
  # whole words, so that they are compared as such
  levels = np.empty((2, -(-height * columns // 8) * 8), np.uint8)
  levels[:, height * columns:] = 0
  out, above = levels[:, :height * columns].reshape(2, height, columns)
  with np.errstate():   # its end restores the size of numpy's buffer
    np.setbufsize(_CHUNK)
    for start in range(0, height, step):
      block = slice(start, min(start + step, height))
      count = block.stop - start
      source, (line, other), (value, far) = sources[:, :count], lines[:, :count], sides[:, :count]
      # 'raise' would write by way of a copy
      np.take(flat, rows[:, block], axis=0, out=source, mode='wrap')
      if picked is not None:
        source = np.take(source, picked, axis=2, mode='wrap')
      np.multiply(source, y_weights[:, block, None], out=lines[:, :count])
      line += other
      if picked is not None:
        np.multiply(line[:, :columns], x_near, out=value)
        np.multiply(line[:, columns:], x_far, out=far)
      else:
        np.take(line, left, axis=1, out=value, mode='wrap')
        np.take(line, right, axis=1, out=far, mode='wrap')
        value *= x_near
        far *= x_far
      value += far
      # Casts to uint8 cut the fraction off: a value is rounded to the same level from both sides,
      # or it is near a tie.
      np.add(value, np.float32(0.5 - _NEAR_TIE), out=out[block], casting='unsafe')
      np.add(value, np.float32(0.5 + _NEAR_TIE), out=above[block], casting='unsafe')
  words = np.flatnonzero(np.not_equal(*levels.view(np.uint64)))
  places = (words[:, None] * 8 + np.arange(8)).reshape(-1)
  row, col = np.divmod(places[levels[0, places] != levels[1, places]], columns)
  out[row, col] = _fused_values(flat, rows[:, row], np.stack([left[col], right[col]]),
                                y_weights[:, row], np.stack([x_near[col], x_far[col]]))
  return out.reshape(height, width, channels)


def _resize_small(image: np.ndarray, height: int, width: int) -> np.ndarray:
  """`resize_bilinear` for small results: a sum of four weighted neighbours with fused rounding."""
  *rows, y_near, y_far = _neighbours(image.shape[0], height, 1)
  *cols, x_near, x_far = _neighbours(image.shape[1], width, 1)
  total = None
  # The second product is rounded on its own, the others are added to it in this order.
  for row, col, y, x in ((0, 1, y_near, x_far), (0, 0, y_near, x_near), (1, 0, y_far, x_near),
                         (1, 1, y_far, x_far)):
    weight = (y[:, None] * x[None, :])[..., None].astype(np.float64)
    product = weight * image[rows[row]][:, cols[col]]
    total = (product if total is None else product + total).astype(np.float32)
  return np.rint(total).clip(0, 255).astype(np.uint8)


def _fused_values(flat: np.ndarray, rows: np.ndarray, columns: np.ndarray, y_weights: np.ndarray,
                  x_weights: np.ndarray) -> np.ndarray:
  """Single values of the result, float32 [n], from their neighbours on each axis, [2,n]."""
  upper, lower = (_fused(flat[row, columns[0]], x_weights[0], flat[row, columns[1]], x_weights[1])
                  for row in rows)
  return np.rint(_fused(upper, y_weights[0], lower, y_weights[1]))


def _fused(p: np.ndarray, a: np.ndarray, q: np.ndarray, b: np.ndarray) -> np.ndarray:
  """fma(p, a, fl(q·b)) in float32: the product of two float32 numbers is exact in float64."""
  return (p.astype(np.float64) * a + q.astype(np.float32) * b).astype(np.float32)


@functools.lru_cache(maxsize=64)
def _neighbours(n_in: int, n_out: int,
                channels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Indices (int64) left and right of every target pixel's centre, and their float32 weights."""
  scale = np.float64(np.float32(n_in) / np.float32(n_out))
  centre = np.maximum((scale * (np.arange(n_out) + 0.5) - 0.5).astype(np.float32), np.float32(0))
  near = np.minimum(centre.astype(np.int64), n_in - 1)
  weight = np.clip(centre - near.astype(np.float32), 0, 1).astype(np.float32)
  spread = lambda index: (index[:, None] * channels + np.arange(channels)).reshape(-1)
  found = (spread(near), spread(np.minimum(near + 1, n_in - 1)),
           np.repeat(np.float32(1) - weight, channels), np.repeat(weight, channels))
  for array in found:   # they are remembered
    array.flags.writeable = False
  return found


def resize_bicubic(image: np.ndarray, height: int, width: int) -> np.ndarray:
  """Resizes uint8 [h,w,3], bicubic (a = −0.5) with antialias, rounded once at the end."""
  if image.shape[:2] == (height, width):
    return image
  stretched = _antialias(image.astype(np.float32), height, width, _cubic, 2)
  return np.clip(np.rint(stretched), 0, 255).astype(np.uint8)


def resize_antialias(image: np.ndarray, height: int, width: int) -> np.ndarray:
  """Resizes float32 [h,w,3] with a triangle filter as wide as the reduction."""
  if image.shape[:2] == (height, width):
    return image
  return _antialias(image, height, width, lambda x: np.maximum(np.float32(1) - x, np.float32(0)), 1)


def _cubic(x: np.ndarray) -> np.ndarray:
  """The cubic convolution kernel with a = −0.5 at distances `x` ≥ 0, float32."""
  near = (np.float32(1.5) * x - np.float32(2.5)) * x * x + np.float32(1)
  far = ((np.float32(-0.5) * x + np.float32(2.5)) * x - np.float32(4)) * x + np.float32(2)
  return np.where(x < 1, near, np.where(x < 2, far, np.float32(0)))


def _antialias(image: np.ndarray, height: int, width: int,
               kernel: Callable[[np.ndarray], np.ndarray], reach: int) -> np.ndarray:
  """Separable filter of `reach` target (or larger source) pixels to each side, horizontal first."""
  lines = _filter_rows(np.ascontiguousarray(image.transpose(1, 0, 2)), width, kernel, reach)
  return _filter_rows(np.ascontiguousarray(lines.transpose(1, 0, 2)), height, kernel, reach)


def _filter_rows(image: np.ndarray, n_out: int, kernel: Callable[[np.ndarray], np.ndarray],
                 reach: int) -> np.ndarray:
  """Resamples the first axis of float32 [n,…] to `n_out`, with float32 weights as the reference."""
  n_in = len(image)
  scale = np.float32(n_in) / np.float32(n_out)
  stretch = max(scale, np.float32(1))
  centre = scale * (np.arange(n_out, dtype=np.float32) + np.float32(0.5))
  first = np.maximum((centre - reach * stretch + np.float32(0.5)).astype(np.int64), 0)
  stop = np.minimum((centre + reach * stretch + np.float32(0.5)).astype(np.int64), n_in)
  taps = first[:, None] + np.arange((stop - first).max())
  weights = kernel(np.abs((taps.astype(np.float32) - centre[:, None] + np.float32(0.5)) / stretch))
  weights = np.where(taps < stop[:, None], weights, np.float32(0)).astype(np.float32)
  weights /= weights.sum(axis=1, keepdims=True)
  taps = np.minimum(taps, n_in - 1)
  out = np.zeros((n_out, *image.shape[1:]), np.float32)
  for tap in range(taps.shape[1]):
    out += image[taps[:, tap]] * weights[:, tap].reshape(-1, *[1] * (image.ndim - 1))
  return out


def letterbox(image: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
  """Fits an image into a canvas, centred in zeros, with its aspect (docs/model.md §6.2, CLIP).

  Args:
    image: uint8 [h,w,3].
    height, width: size of the canvas, pixels.

  Returns:
    The canvas, float32 [height,width,3] in 0..1, and a bool [height,width] that is true on the
    image's own pixels.
  """
  h, w = image.shape[:2]
  scale = min(np.float32(height) / np.float32(h), np.float32(width) / np.float32(w))
  inner_h, inner_w = (max(int(np.float32(n) * scale), 1) for n in (h, w))
  inner = resize_antialias(image.astype(np.float32) / np.float32(255), inner_h, inner_w)
  top, left = (height - inner_h) // 2, (width - inner_w) // 2
  canvas = np.zeros((height, width, image.shape[2]), np.float32)
  real = np.zeros((height, width), bool)
  canvas[top:top + inner_h, left:left + inner_w] = np.clip(inner, 0, 1)
  real[top:top + inner_h, left:left + inner_w] = True
  return canvas, real
