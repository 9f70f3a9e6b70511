"""Visual features of images and videos, computed once for all questions about them."""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from molmo_jax.data.batching import RowShape, bucket
from molmo_jax.model.molmo import Molmo
from molmo_jax.preprocess.types import PADDING, VISUAL_FIELDS

Row = Mapping[str, np.ndarray]
FIELDS = ('crops', 'patch_mask', *VISUAL_FIELDS)


class Vision:
  """The vision tower and the connector, with a memory of the media last asked about.

  The features of one prompt's media are [V,D], whatever the question. They are computed prompt by
  prompt: one program for every bucketed number of crops and visual tokens.
  """

  def __init__(self, model: Molmo, params: Any, smallest: tuple[int, int, int], kept: int,
               place: Callable[[np.ndarray], Array], note: Callable[[str], None]):
    """
    Args:
      smallest: sizes that are not undercut: tokens, crops, visual tokens.
      kept: media whose features are remembered.
      place: puts an array with a leading row axis onto the devices.
      note: is told the name of every program before it is used.
    """
    self._model, self._params, self._smallest, self._kept = model, params, smallest, kept
    self._place, self._note = place, note
    self._memory: OrderedDict[bytes, Array] = OrderedDict()

  def features(self, rows: Sequence[Row], count: int) -> Array:
    """The features of every row, [count, V, D] with a bucketed V; V = 0 where no row has media."""
    width = self._model.config.llm.width
    found = {}
    for row in rows:
      key = media_key(row)
      if key and key not in found:
        found[key] = self._memory.pop(key, None)
        if found[key] is None:
          found[key] = self._compute(row)
    size = max((x.shape[1] for x in found.values()), default=0)
    dtype = next((x.dtype for x in found.values()), jnp.float32)
    all_features = self._place(np.zeros((count, size, width), dtype))
    for i, row in enumerate(rows):
      if media_key(row):
        all_features = _write(all_features, found[media_key(row)], np.int32(i))
    self._memory.update(found)
    while len(self._memory) > self._kept:
      self._memory.popitem(last=False)
    return all_features

  def _compute(self, row: Row) -> Array:
    """[1,V,D]."""
    windows = row['pool_index']
    used = RowShape(1, int(windows.max()) // self._model.config.vit.patches + 1, _used_windows(row),
                    windows.shape[1])
    shape = bucket(used, self._smallest)
    self._note(f'vision crops={shape.crops} visual={shape.visual}')

    def pad(name: str) -> Array:
      x = row[name]
      size, filled = (shape.visual, used.visual) if name in VISUAL_FIELDS else (shape.crops,
                                                                                used.crops)
      out = np.full((1, size, *x.shape[1:]), PADDING[name], x.dtype)
      out[0, :filled] = x[:filled]
      return self._place(out)

    return _visual_features(self._model, self._params,
                            {n: pad(n) for n in FIELDS if row.get(n) is not None})


def media_key(row: Row) -> bytes:
  """Equal for rows about the same pixels, cut and pooled in the same way; empty without media."""
  if not (row['pool_index'] >= 0).any():
    return b''
  digest = hashlib.blake2b(digest_size=16)
  for name in FIELDS:
    if row.get(name) is not None:   # what fills a row up to the size of a batch does not count
      used = _used_windows(row) if name in VISUAL_FIELDS else _used_crops(row)
      digest.update(np.ascontiguousarray(row[name][:used]).tobytes())
  return digest.digest()


def _used_windows(row: Row) -> int:
  return int(np.flatnonzero((row['pool_index'] >= 0).any(axis=-1))[-1]) + 1


def _used_crops(row: Row) -> int:
  """Crops up to the last one that is not black throughout, as those are that fill a row."""
  filled = np.flatnonzero(row['crops'].reshape(len(row['crops']), -1).any(axis=1))
  return int(filled[-1]) + 1 if len(filled) else 0


@functools.partial(jax.jit, static_argnames='model')
def _visual_features(model: Molmo, params: Any, batch: Mapping[str, Array]) -> Array:
  return model.apply({'params': params}, batch, method='visual_features')


@functools.partial(jax.jit, donate_argnums=0)
def _write(all_features: Array, features: Array, row: Array) -> Array:
  return jax.lax.dynamic_update_slice(all_features, features.astype(all_features.dtype),
                                      (row, 0, 0))
