"""Attention on a mesh: every device sees the whole sequence of its rows, for some of the heads
(Ulysses).

                       all-to-all                                       all-to-all
    [B, S/context, N/tensor, H]  ──►  [B, S, N/(tensor·context), H]  attend  ──►  [B, S/context, N/tensor, H]

The mask needs nothing new: its O(S) metadata are whole on every device, so it is exact whatever the
mesh. Inside `shard_map` each device skips the blocks that its own rows leave empty, and no loop
waits for another device.
"""

from __future__ import annotations

import functools

import jax
from jax.sharding import PartitionSpec as P

from molmo_jax.kernels.dispatch import attend
from molmo_jax.kernels.mask import Bidirectional, MaskInfo
from molmo_jax.kernels.patches import attend_patches
from molmo_jax.parallel.activations import (
  CROPS,
  HEADS,
  ROWS,
  constrain,
  current_mesh,
  devices_along,
)
from molmo_jax.parallel.mesh import check_heads


def attend_on_mesh(q: jax.Array, k: jax.Array, v: jax.Array, info: MaskInfo, *,
                   bidirectional: Bidirectional,
                   impl: str = 'auto') -> jax.Array:
  """Self-attention of whole rows, `attend` without a mesh: q [B,S,N,H], k and v [B,S,K,H] →
  [B,S,N,H] in v's dtype.

  Raises:
    ConfigError: the mesh cuts heads into more parts than there are key/value heads.
  """
  run = functools.partial(attend, bidirectional=bidirectional, impl=impl)
  mesh = current_mesh()
  if mesh is None:
    return run(q, k, v, info, info)
  check_heads(k.shape[2], mesh.shape['context'], mesh.shape['tensor'])
  rows = ROWS if q.shape[0] % devices_along(ROWS) == 0 else None
  before = functools.partial(constrain, axes=(ROWS, 'context', 'tensor'))
  heads = P(rows, None, HEADS)
  whole = jax.shard_map(lambda q, k, v, info: run(q, k, v, info, info),
                        in_specs=(heads, heads, heads, P(rows)),
                        out_specs=heads, check_vma=False)
  return before(whole(before(q), before(k), before(v), info))


def attend_patches_on_mesh(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
  """`attend_patches` with crops spread over data, fsdp and context, heads over tensor: [C,P,N,H] →
  [C,P,N,H].
  """
  mesh = current_mesh()
  if mesh is None:
    return attend_patches(q, k, v)
  crops = CROPS if q.shape[0] % devices_along(CROPS) == 0 else None
  heads = 'tensor' if q.shape[2] % mesh.shape['tensor'] == 0 else None
  spec = P(crops, None, heads)
  return jax.shard_map(attend_patches, in_specs=(spec, spec, spec), out_specs=spec,
                       check_vma=False)(q, k, v)
