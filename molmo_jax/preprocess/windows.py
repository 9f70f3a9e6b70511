"""Pooling windows over a grid of patches, and their places (docs/model.md §6.3). numpy only."""

from __future__ import annotations

import numpy as np


def pooled_grid(shape: tuple[int, ...], pooling: tuple[int, int]) -> tuple[int, int]:
  """Rows and columns of pooling windows over a patch grid of `shape`."""
  return -(-shape[0] // pooling[0]), -(-shape[1] // pooling[1])


def pool_windows(patches: np.ndarray, pooling: tuple[int, int]) -> np.ndarray:
  """Cuts a grid of patch numbers int32 [gh,gw] into windows, row-major: int32 [V, rows * columns].

  Where the grid is no multiple of the window, −1 fills ⌊missing/2⌋ rows or columns before it and
  the rest after it.
  """
  (rows, cols), (high, wide) = pooled_grid(patches.shape, pooling), pooling
  top, left = leading_pad(patches.shape, pooling)
  padded = np.full((rows * high, cols * wide), -1, np.int32)
  padded[top:top + patches.shape[0], left:left + patches.shape[1]] = patches
  return padded.reshape(rows, high, cols, wide).transpose(0, 2, 1, 3).reshape(rows * cols,
                                                                              high * wide)


def grid_layout(shape: tuple[int, ...], pooling: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
  """Where each pooling window over a patch grid of `shape` lies.

  Returns:
    int32 [V,2]: row and column of the window; float32 [V,4]: x0, y0, x1, y1 of its part inside the
    grid, as fractions.
  """
  (rows, cols), (top, left) = pooled_grid(shape, pooling), leading_pad(shape, pooling)
  return window_layout(np.arange(rows) * pooling[0] - top, np.arange(cols) * pooling[1] - left,
                       shape, pooling)


def window_layout(y: np.ndarray, x: np.ndarray, shape: tuple[int, ...], pooling: tuple[int, int]
                  ) -> tuple[np.ndarray, np.ndarray]:
  """`grid_layout` of windows whose rows start at patches `y`, and columns at patches `x`."""
  row, col = (axis.ravel() for axis in np.mgrid[:len(y), :len(x)].astype(np.int32))
  y0, x0 = y[row], x[col]
  edges = np.stack([x0, y0, x0 + pooling[1], y0 + pooling[0]], axis=1).astype(np.float32)
  extent = np.asarray([shape[1], shape[0], shape[1], shape[0]], np.float32)
  return np.stack([row, col], axis=1), np.clip(edges, 0, extent) / extent


def leading_pad(shape: tuple[int, ...], pooling: tuple[int, int]) -> tuple[int, int]:
  """Empty rows above and columns left of a grid of `shape` patches: half of the missing ones."""
  return (-shape[0] % pooling[0]) // 2, (-shape[1] % pooling[1]) // 2


def window_index(place: np.ndarray, windows: np.ndarray, patches: int, kind: int) -> np.ndarray:
  """int32 [V,4]: row, column (`place`, int32 [V,2]), crop of the first filled slot, and kind."""
  first = np.take_along_axis(windows, (windows >= 0).argmax(axis=1)[:, None], axis=1)
  return np.concatenate([place, first // patches, np.full_like(first, kind)],
                        axis=1).astype(np.int32)


def shift_windows(windows: np.ndarray, first: int | np.ndarray) -> np.ndarray:
  """Windows int32 […,W] whose patches are counted from `first` on; empty slots stay −1."""
  return np.where(windows >= 0, windows + first, -1).astype(np.int32)
