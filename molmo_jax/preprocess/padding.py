"""How a field of a row or a batch is filled up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from molmo_jax.preprocess.types import PADDING_VALUES


def pad_field(name: str, x: np.ndarray, sizes: Sequence[int], left: bool = False) -> np.ndarray:
  """`x` as an array of shape `sizes`, its unused part filled with the field's padding.

  Args:
    left: `x` is put at the end of every axis, not at the beginning.
  """
  # memory of zeros costs nothing before it is touched
  value = PADDING_VALUES[name]
  out = np.full(sizes, value, x.dtype) if value else np.zeros(sizes, x.dtype)
  out[tuple(slice(size - n, size) if left else slice(0, n) for n, size in zip(x.shape, sizes))] = x
  return out
