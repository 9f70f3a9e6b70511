"""Attention in the plainest form: the scores of all queries and keys at once. The only place with
an [Sq,Sk] array.

Letters of shapes: `B` rows, `Sq` queries, `Sk` keys, `N` query heads, `K` key/value heads, `G` = N
/ K, `H` head dim.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from molmo_jax.kernels.mask import Bidirectional, MaskInfo, visible


def attend_reference(q: Array, k: Array, v: Array, q_info: MaskInfo, k_info: MaskInfo,
                     bidirectional: Bidirectional, scale: float | None = None) -> Array:
  """Softmax attention under the mask of `visible` (docs/model.md §4.2, §5.2).

  Query head h uses key/value head h // G. Scores and softmax are float32 whatever the inputs are. A
  query that sees no key (padding) gets zeros, and zero gradients.

  Args:
    q: [B,Sq,N,H]; k, v: [B,Sk,K,H], N a multiple of K.
    q_info, k_info: metadata of the queries [B,Sq] and of the keys [B,Sk].
    bidirectional: which visual tokens see each other, see `visible`.
    scale: of the scores; 1/√H if not given.

  Returns:
    [B,Sq,N,H] in the dtype of `v`.

  Raises:
    ValueError: shapes that do not fit together, or an unknown `bidirectional`.
  """
  check_shapes(q, k, v, q_info, k_info)
  rows, queries, heads, dim = q.shape
  kv_heads = k.shape[2]
  scale = dim ** -0.5 if scale is None else scale
  grouped = q.reshape(rows, queries, kv_heads, heads // kv_heads, dim)
  scores = scale * jnp.einsum('bqkgh,bskh->bkgqs', grouped, k, preferred_element_type=jnp.float32)
  mask = visible(q_info, k_info, bidirectional)[:, None, None]
  highest = jnp.max(jnp.where(mask, scores, -jnp.inf), axis=-1, keepdims=True)
  highest = jax.lax.stop_gradient(jnp.where(jnp.isfinite(highest), highest, 0.0))
  weights = jnp.exp(jnp.where(mask, scores - highest, -jnp.inf))
  total = jnp.sum(weights, axis=-1, keepdims=True)
  weights = weights / jnp.where(total > 0, total, 1.0)
  out = jnp.einsum('bkgqs,bskh->bqkgh', weights.astype(v.dtype), v,
                   preferred_element_type=jnp.float32)
  return out.reshape(rows, queries, heads, dim).astype(v.dtype)


def check_shapes(q: Array, k: Array, v: Array, q_info: MaskInfo, k_info: MaskInfo) -> None:
  """Raises ValueError, with the shapes, unless q [B,Sq,N,H], k = v [B,Sk,K,H] and the metadata fit
  together.
  """
  fits = (q.ndim == 4 and k.ndim == 4 and k.shape == v.shape
          and (q.shape[0], q.shape[3]) == (k.shape[0], k.shape[3])
          and k.shape[2] > 0 and q.shape[2] % k.shape[2] == 0
          and q_info.segments.shape == q.shape[:2] and k_info.segments.shape == k.shape[:2])
  if not fits:
    raise ValueError('attention needs q [B,Sq,N,H], k and v [B,Sk,K,H] with N a multiple of K, '
      f'and metadata [B,Sq] and [B,Sk]; got q {q.shape}, k {k.shape}, v {v.shape}, metadata '
      f'{q_info.segments.shape} and {k_info.segments.shape}')
