"""An image as crops, and their patches as pooling windows (docs/model.md §6). numpy only.

The image is resized twice: once to a single crop (the global view, crop 0) and once to a canvas of
overlapping crops. The canvas' patches, each taken from one crop only, form a stitched grid; pooling
windows are cut over that grid, so a window may straddle two crops. In Molmo v1 (`pool_per_crop`)
every crop is pooled on its own, and the windows are stitched.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from molmo_jax.normalization import STATISTICS, Normalization
from molmo_jax.preprocess import resize
from molmo_jax.preprocess.types import Crops, ImageConfig, choice
from molmo_jax.preprocess.windows import (
  grid_layout,
  leading_pad,
  pool_windows,
  pooled_grid,
  shift_windows,
  window_index,
  window_layout,
)

GLOBAL, CROP, FRAME = 0, 1, 2   # kinds in the last column of `layout_index`

_BLOCK_PIXELS = 2**14   # pixels that are normalised at once: few enough to stay in the cache

_RESIZE: dict[str, Callable[..., Any]] = {
  'stretch': resize.resize_bilinear, 'stretch_bicubic': resize.resize_bicubic,
  'letterbox': resize.letterbox}

# windows int32 [V,W], their grid (rows, columns), and their places and boxes as in `grid_layout`
_Windows = tuple[np.ndarray, tuple[int, int], np.ndarray, np.ndarray]


def select_tiling(height: int, width: int, window: int, max_crops: int) -> tuple[int, int]:
  """Chooses how many crops (rows, columns) cover an image (docs/model.md §6.1).

  Args:
    height, width: size of the image minus the pixels of its outer margins. Zero and negative sizes
      are allowed: they follow IEEE division, as in the released processors.
    window: side of the part of a crop that no neighbour shares, pixels.
    max_crops: largest number of crops, the global view not counted; at least 1.
  """
  if max_crops < 1:
    raise ValueError(f'max_crops is {max_crops}; it must be at least 1')
  candidates = _tilings(max_crops)
  with np.errstate(divide='ignore', invalid='ignore'):
    scales = (candidates * window).astype(np.float32) / np.asarray([height, width], np.float32)
  scale = scales.min(axis=1)
  enough = np.flatnonzero(scale >= 1)
  best = enough[scale[enough].argmin()] if enough.size else scale.argmax()
  return int(candidates[best, 0]), int(candidates[best, 1])


@functools.lru_cache(maxsize=64)
def _tilings(max_crops: int) -> np.ndarray:
  """All (rows, columns) of at most `max_crops` crops, by crops, then rows: int64 [n,2]."""
  pairs = [(i, j) for i in range(1, max_crops + 1) for j in range(1, max_crops // i + 1)]
  return np.asarray(sorted(pairs, key=lambda p: (p[0] * p[1], p[0])), np.int64)


def fit(image: np.ndarray, height: int, width: int,
        config: ImageConfig) -> tuple[np.ndarray, np.ndarray | None]:
  """Brings an image to `height` × `width` the way of `config.resize`.

  Args:
    image: uint8 [h,w,3].

  Returns:
    uint8 [height,width,3] and None; for 'letterbox' float32 in 0..1 and the bool mask
    [height,width] of real pixels.
  """
  found = choice(config.resize, _RESIZE, 'image.resize')(image, height, width)
  return found if isinstance(found, tuple) else (found, None)


def crop_image(image: np.ndarray, config: ImageConfig, max_crops: int) -> Crops:
  """Cuts an image into global view and overlapping crops with pooling windows (docs/model.md §6).

  Crops are uint8; with `config.resize == 'letterbox'` they are float32 in 0..1, padding 0, and
  still have to be normalised (`normalize`, or the model). Mode 'resize' makes the global view only.

  Args:
    image: uint8 [h,w,3], at least one pixel.
    max_crops: largest number of crops beside the global view.
  """
  _check(image, config)
  size = config.crop_size
  view, real = fit(image, size, size, config)
  views, masks, tiling = [view], [real], None
  if config.mode != 'resize':
    tiling = image_tiling(*image.shape[:2], config, max_crops)
    step = _window_patches(config) * config.patch_size
    canvas, real = fit(image, *(step * n + size - step for n in tiling), config)
    views += _cut(canvas, *tiling, step, size)
    masks += [] if real is None else _cut(real, *tiling, step, size)
  grids, *arrays = _image_windows(tiling, config)
  # the originals are remembered
  pool_index, layout_index, layout_box = (array.copy() for array in arrays)
  return Crops(crops=np.stack(views), pool_index=pool_index, grids=grids, layout_index=layout_index,
               layout_box=layout_box,
               patch_mask=_patch_mask(masks, len(views), config, shift=config.shift_patch_mask))


@functools.lru_cache(maxsize=256)
def _image_windows(tiling: tuple[int, int] | None, config: ImageConfig
                   ) -> tuple[tuple[tuple[int, int], ...], np.ndarray, np.ndarray, np.ndarray]:
  """Grids and arrays of `Crops` for the global view and a tiling; None: no crops."""
  views = [_whole(_crop_patches(config), config)]
  if tiling is not None:
    window, *rest = (_crop_windows if config.pool_per_crop else _canvas_windows)(*tiling, config)
    views.append((shift_windows(window, config.grid ** 2), *rest))
  windows, grids, places, boxes = zip(*views)
  index = [window_index(place, window, config.grid ** 2, kind)
           for place, window, kind in zip(places, windows, (GLOBAL, CROP))]
  return grids, np.concatenate(windows), np.concatenate(index), np.concatenate(boxes)


def _whole(patches: np.ndarray, config: ImageConfig) -> _Windows:
  """Windows over a grid of patch numbers int32 [gh,gw]."""
  return (pool_windows(patches, config.pooling), pooled_grid(patches.shape, config.pooling),
          *grid_layout(patches.shape, config.pooling))


def _crop_patches(config: ImageConfig) -> np.ndarray:
  return np.arange(config.grid ** 2, dtype=np.int32).reshape(config.grid, config.grid)


def crop_frames(frames: np.ndarray, config: ImageConfig, pooling: tuple[int, int]) -> Crops:
  """Resizes every frame of a video to one crop and pools each on its own (docs/model.md §7.3).

  Args:
    frames: uint8 [F,h,w,3], at least one frame.
    pooling: pooling window, patches (rows, columns).
  """
  if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
    raise ValueError(f'frames must be uint8 [F,h,w,3] with at least one frame, not {frames.dtype} '
      f'{frames.shape}')
  _check(frames[0], config)
  views, masks = zip(*(fit(frame, config.crop_size, config.crop_size, config) for frame in frames))
  window, grid, place, box = _whole(_crop_patches(config),
                                    dataclasses.replace(config, pooling=pooling))
  starts = np.arange(len(frames), dtype=np.int32)[:, None, None] * config.grid ** 2
  pool_index = shift_windows(window, starts).reshape(-1, window.shape[1])
  place, box = np.tile(place, (len(frames), 1)), np.tile(box, (len(frames), 1))
  return Crops(crops=np.stack(views), pool_index=pool_index, grids=(grid,) * len(frames),
               layout_index=window_index(place, pool_index, config.grid ** 2, FRAME),
               layout_box=box, patch_mask=_patch_mask(masks, len(frames), config))


def image_tiling(height: int, width: int, config: ImageConfig, max_crops: int) -> tuple[int, int]:
  """The tiling (rows, columns) of an image: `select_tiling` without the outer margins."""
  margin = sum(config.overlap_margins) * config.patch_size
  height, width = height - margin, width - margin
  if config.clamp_small_sides:
    height, width = max(height, 1), max(width, 1)
  return select_tiling(height, width, _window_patches(config) * config.patch_size, max_crops)


def stitched_patches(rows: int, cols: int, config: ImageConfig) -> np.ndarray:
  """Numbers (crop * P + patch) of the patches of the canvas without overlaps: int32 [gh,gw].

  Inner crops give up their margins; the first keeps its left or top margin, the last its right or
  bottom one.
  """
  step, grid = _window_patches(config), config.grid
  before, after = config.overlap_margins

  def split(crops: int) -> tuple[np.ndarray, np.ndarray]:
    place = np.arange(step * crops + before + after, dtype=np.int32)
    crop = np.clip((place - before) // step, 0, crops - 1)
    return crop, place - crop * step

  (crop_row, row), (crop_col, col) = split(rows), split(cols)
  crop = crop_row[:, None] * cols + crop_col[None, :]
  return (crop * grid * grid + row[:, None] * grid + col[None, :]).astype(np.int32)


def _canvas_windows(rows: int, cols: int, config: ImageConfig) -> _Windows:
  """Windows over the canvas, row-major."""
  return _whole(stitched_patches(rows, cols, config), config)


def _crop_windows(rows: int, cols: int, config: ImageConfig) -> _Windows:
  """Windows over each crop without shared margins, row-major over the canvas.

  Results as `_canvas_windows`.

  A crop gives up the windows that start in its first margin, and keeps as many as cover what is
  left without its last. Where margins or crops are no multiple of the window, neighbouring windows
  may overlap a little in the canvas.
  """
  grid, (before, after), step = config.grid, config.overlap_margins, _window_patches(config)
  own, shape, *_ = _whole(_crop_patches(config), config)

  def kept(crops: int, pool: int, pad: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each window's crop, row in that crop, and first patch in the canvas, along one axis."""
    places = []
    for crop in range(crops):
      left, right = before if crop else 0, after if crop < crops - 1 else 0
      first = left // pool
      places += [(crop, first + k) for k in range(-(-(grid - left - right) // pool))]
    crop, place = np.asarray(places, np.int32).T
    return crop, place, crop * step + place * pool - pad

  top, left = leading_pad((grid, grid), config.pooling)
  crop_row, row, y = kept(rows, config.pooling[0], top)
  crop_col, col, x = kept(cols, config.pooling[1], left)
  windows = own.reshape(*shape, -1)[row[:, None], col[None, :]]
  crops = (crop_row[:, None] * cols + crop_col[None, :])[..., None]
  windows = shift_windows(windows, crops * grid ** 2).reshape(-1, own.shape[-1])
  canvas = step * rows + before + after, step * cols + before + after
  return windows, (len(row), len(col)), *window_layout(y, x, canvas, config.pooling)


def normalize(crops: np.ndarray, kind: Normalization) -> np.ndarray:
  """Crops (uint8, or float32 in 0..1) as float32 with a tower's statistics (docs/model.md §1.1)."""
  statistics = choice(kind, STATISTICS, 'normalisation')
  if crops.shape[-1:] != (3,):
    raise ValueError(f'crops must be [...,3], not {crops.shape}')
  mean, deviation = (np.tile(np.asarray(v, np.float32), _BLOCK_PIXELS) for v in statistics)
  out = np.empty(crops.shape, np.float32)
  source, target = crops.reshape(-1), out.reshape(-1)
  for start in range(0, source.size, mean.size):
    values = target[start:start + mean.size]
    values[:] = source[start:start + mean.size]
    if crops.dtype == np.uint8:
      values /= np.float32(255)
    values -= mean[:values.size]
    values /= deviation[:values.size]
  return out


def _check(image: np.ndarray, config: ImageConfig) -> None:
  if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
    raise ValueError(f'an image must be uint8 [h,w,3] with at least one pixel, not {image.dtype} '
      f'{image.shape}')
  if config.crop_size % config.patch_size:
    raise ValueError(f'image.crop_size {config.crop_size} is no multiple of image.patch_size '
      f'{config.patch_size}')
  if config.mode != 'resize' and _window_patches(config) < 1:
    raise ValueError(f'image.overlap_margins {config.overlap_margins} leave no patch of a crop '
      f'that is {config.grid} patches wide')


def _window_patches(config: ImageConfig) -> int:
  return config.grid - sum(config.overlap_margins)


def _cut(canvas: np.ndarray, rows: int, cols: int, step: int, size: int) -> list[np.ndarray]:
  """The overlapping crops of a canvas [h,w,...], raster order: views [size, size, ...] of it."""
  return [canvas[i * step:i * step + size, j * step:j * step + size] for i in range(rows)
          for j in range(cols)]


def _patch_mask(masks: Sequence[np.ndarray | None], crops: int, config: ImageConfig,
                shift: bool = False) -> np.ndarray | None:
  """Fraction of image pixels per patch, float32 [C,P]; `masks` bool [h,w] each, None: no padding.

  With `shift`, the mask of the global view is left out and a row of −1 closes the others: what the
  0924 models were trained on. An image without crops beside its global view keeps its own mask
  there.
  """
  if not config.has_patch_mask:
    return None
  shares = (np.ones((crops, config.grid ** 2), np.float32) if masks[0] is None
            else _patch_shares(np.stack(masks), config.patch_size))
  if shift and crops > 1:
    shares = np.concatenate([shares[1:], np.full_like(shares[:1], -1)])
  return shares


def _patch_shares(mask: np.ndarray, patch: int) -> np.ndarray:
  """Share of true pixels in every patch: bool [C,h,w] → float32 [C,P]."""
  count, height, width = mask.shape
  blocks = mask.reshape(count, height // patch, patch, width // patch, patch)
  return blocks.mean(axis=(2, 4), dtype=np.float32).reshape(count, -1)
