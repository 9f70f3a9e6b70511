"""The key/value cache of the decoder: arguments and results, never hidden state."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from molmo_jax.kernels.mask import PADDING_SEGMENT, MaskInfo


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
  """Keys and values of all layers for the first `length` slots, and what the mask needs to know of
  every slot.

  A list over layers rather than one stacked array: each step then writes its slot in place instead
  of copying a layer's slice out and back (measured: half the time of a decoding step on CPU). Heads
  lie before slots, and slots are the last axis of the keys: the products of a decoding step then
  need no transposed copy.
  """
  keys: tuple[Float[Array, 'B K H M'], ...]
  values: tuple[Float[Array, 'B K M H'], ...]
  # fields [B, M]; unused slots have segment −1 and are seen by nobody
  info: MaskInfo
  # slots in use, the same for all rows (shorter prompts are padded)
  length: Int[Array, '']


def extend_cache(keys: Float[Array, 'L B S K H'], values: Float[Array, 'L B S K H'], info: MaskInfo,
                 slots: int, dtype: jnp.dtype | str | None = None) -> Cache:
  """A cache with room for `slots` more tokens after the S of the prefill.

  Args:
    dtype: of the stored keys and values; None keeps theirs, the dtype of the computation.
      'bfloat16' halves the memory of a float32 model's cache.
  """
  (rows, length), dtype = info.index.shape, dtype or keys.dtype

  def with_room(x: Array, axis: int, fill: int = 0) -> Array:
    widths = [(0, slots if i == axis else 0) for i in range(x.ndim)]
    return jnp.pad(x, widths, constant_values=fill)

  grown = MaskInfo(with_room(info.segments, 1, PADDING_SEGMENT), with_room(info.visual, 1),
                   jnp.broadcast_to(jnp.arange(length + slots), (rows, length + slots)))
  return Cache(tuple(with_room(x.transpose(0, 2, 3, 1), 3) for x in keys.astype(dtype)),
               tuple(with_room(x.swapaxes(1, 2), 2) for x in values.astype(dtype)), grown,
               jnp.asarray(length, jnp.int32))


def append(cache: Cache, new: Sequence[tuple[Array, Array]], info: MaskInfo,
           after: Float[Array, 'D']) -> Cache:
  """The cache with one more token in slot `length` of every row.

  Args:
    new: key and value of every layer, [B,1,K,H] each.
    info: of the token, fields [B,1].
    after: any numbers that exist only when all reading of the cache is done. The slot is made to
      depend on them: otherwise XLA, which does not know the order of reading and writing, copies
      every array in every step.
  """
  slot = cache.length + (jnp.argmax(after) < 0)   # never true, which the compiler cannot know

  def write(stored: Array, x: Array, start: tuple[Array | int, ...]) -> Array:
    return jax.lax.dynamic_update_slice(stored, x.astype(stored.dtype), start)

  infos = jax.tree.map(lambda old, x: write(old, x, (0, cache.length)), cache.info, info)
  keys = tuple(write(k, key.transpose(0, 2, 3, 1), (0, 0, 0, slot))
               for k, (key, _) in zip(cache.keys, new, strict=True))
  values = tuple(write(v, value.swapaxes(1, 2), (0, 0, slot, 0))
                 for v, (_, value) in zip(cache.values, new, strict=True))
  return Cache(keys, values, infos, cache.length + 1)
