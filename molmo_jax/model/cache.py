"""The key/value cache of the decoder: arguments and results, never hidden state."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from molmo_jax.kernels.mask import MaskInfo


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
  """Keys and values of all layers for the first `length` slots, and what the mask needs to know of every slot.

  A list over layers rather than one stacked array: each step then writes its slot in place instead of copying a
  layer's slice out and back (measured: half the time of a decoding step on CPU).
  """
  keys: tuple[Float[Array, 'B M K H'], ...]
  values: tuple[Float[Array, 'B M K H'], ...]
  info: MaskInfo                        # fields [B, M]; unused slots have segment −1 and are seen by nobody
  length: Int[Array, '']                # slots in use, the same for all rows (shorter prompts are padded)


def extend_cache(keys: Float[Array, 'L B S K H'], values: Float[Array, 'L B S K H'], info: MaskInfo, slots: int
                 ) -> Cache:
  """A cache with room for `slots` more tokens after the S of the prefill."""
  length = keys.shape[2]
  room = ((0, 0), (0, slots), (0, 0), (0, 0))
  pad = lambda x, value: jnp.pad(x, ((0, 0), (0, slots)), constant_values=value)
  grown = MaskInfo(segments=pad(info.segments, -1), visual=pad(info.visual, 0),
                   index=jnp.broadcast_to(jnp.arange(length + slots), (info.index.shape[0], length + slots)))
  return Cache(tuple(jnp.pad(k, room) for k in keys), tuple(jnp.pad(v, room) for v in values), grown,
               jnp.asarray(length, jnp.int32))


def append(cache: Cache, layer: int, key: Float[Array, 'B 1 K H'], value: Float[Array, 'B 1 K H']
           ) -> tuple[Array, Array]:
  """This layer's keys and values with one more token in slot `length`."""
  at = (0, cache.length, 0, 0)
  return (jax.lax.dynamic_update_slice(cache.keys[layer], key.astype(cache.keys[layer].dtype), at),
          jax.lax.dynamic_update_slice(cache.values[layer], value.astype(cache.values[layer].dtype), at))
