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
from jax.sharding import Mesh

from molmo_jax.data.batching import Row, bucket, pad_row, shape_of, stack_rows
from molmo_jax.model.molmo import Network
from molmo_jax.parallel.sharding import shard_batch
from molmo_jax.preprocess.types import VISUAL_FIELDS

FIELDS = ('crops', 'patch_mask', *VISUAL_FIELDS)


class Vision:
  """The vision tower and the connector, with a memory of the media last asked about.

  The features of one prompt's media are [V,D], whatever the question. They are computed prompt by
  prompt: one program for every bucketed number of crops and visual tokens.
  """

  def __init__(self, model: Network, params: Any, mesh: Mesh, smallest: tuple[int, int, int],
               kept: int, note: Callable[[str], None]):
    """
    Args:
      model, params: the network and its weights.
      mesh: what they lie on.
      smallest: least bucketed sizes: tokens, crops, visual tokens.
      kept: media whose features are remembered.
      note: is told the name of every program before it is used.
    """
    self._model, self._params, self._mesh = model, params, mesh
    self._smallest, self._kept, self._note = smallest, kept, note
    self._memory: OrderedDict[bytes, Array] = OrderedDict()

  def features(self, rows: Sequence[Row], count: int) -> Array:
    """The features of every row, [count, V, D] with a bucketed V; V = 0 where no row has media."""
    keys = [media_key(row) for row in rows]
    found: dict[bytes, Array] = {}
    for key, row in zip(keys, rows):
      if key and key not in found:
        known = self._memory.pop(key, None)
        found[key] = self._compute(row) if known is None else known
    size = max((x.shape[1] for x in found.values()), default=0)
    dtype = next((x.dtype for x in found.values()), jnp.float32)
    all_features = shard_batch(np.zeros((count, size, self._model.config.llm.width), dtype),
                               self._mesh, whole=True)
    for i, key in enumerate(keys):
      if key:
        all_features = _write(all_features, found[key], np.int32(i))
    self._memory.update(found)
    while len(self._memory) > self._kept:
      self._memory.popitem(last=False)
    return all_features

  def _compute(self, row: Row) -> Array:
    """[1,V,D]."""
    crops = int(row['pool_index'].max()) // self._model.config.tower.patches + 1
    used = _without_padding(row, crops)
    shape = bucket(shape_of(used, row['pool_index'].shape[1]), self._smallest)
    self._note(f'vision crops={shape.crops} visual={shape.visual}')
    batch = shard_batch(stack_rows([pad_row(used, shape)]), self._mesh, whole=True)
    return _visual_features(self._model, self._params, batch)


def media_key(row: Row) -> bytes:
  """Equal for rows about the same pixels, cut and pooled in the same way; empty without media."""
  if not (row['pool_index'] >= 0).any():
    return b''
  # a row of a batch ends with crops that are black throughout
  filled = np.flatnonzero(row['crops'].reshape(len(row['crops']), -1).any(axis=1))
  used = _without_padding(row, int(filled[-1]) + 1 if len(filled) else 0)
  digest = hashlib.blake2b(digest_size=16)
  for x in used.values():
    digest.update(np.ascontiguousarray(x).tobytes())
  return digest.digest()


def _without_padding(row: Row, crops: int) -> dict[str, np.ndarray]:
  """The visual fields of a row: its first `crops` crops, and windows up to the last used one."""
  windows = int(np.flatnonzero((row['pool_index'] >= 0).any(axis=-1))[-1]) + 1
  return {name: row[name][:windows if name in VISUAL_FIELDS else crops] for name in FIELDS
          if row.get(name) is not None}


@functools.partial(jax.jit, static_argnames='model')
def _visual_features(model: Network, params: Any, batch: Mapping[str, Array]) -> Array:
  features: Any = model.apply({'params': params}, batch, method='visual_features')
  return features


@functools.partial(jax.jit, donate_argnums=0)
def _write(all_features: Array, features: Array, row: Array) -> Array:
  return jax.lax.dynamic_update_slice(all_features, features.astype(all_features.dtype),
                                      (row, 0, 0))
