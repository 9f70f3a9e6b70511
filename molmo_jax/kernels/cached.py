"""Attention of one new token per row over a key/value cache: the decoding step.

Letters of shapes: `B` rows, `M` slots of the cache, `N` query heads, `K` key/value heads, `H` head
dim.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def attend_cached(q: Array, key: Array, value: Array, keys: Array,
                  values: Array, mask: Array) -> Array:
  """Softmax attention of one token per row over itself and a cache without it, scores scaled by
  1/√H (docs/model.md §4).

  The token's own key and value are apart from the cache, so that the cache can be written after all
  reading, in place. Heads lie before slots there, and slots are the last axis of the keys, so both
  products are plain batches of matrices and nothing is transposed (measured, fp32, CPU, 1,088 slots
  × 4 heads × 64, with writing: 0.3 ms against 2.2 for writing first; a step of 16 rows, twelve
  layers, 576 slots: 65 ms against 82 – 95 with slots before H in the keys). Scores and softmax are
  float32.

  Args:
    q: [B,N,H]; query head h uses key/value head h // (N / K).
    key, value: [B,K,H], of the token itself, which it always sees.
    keys: [B,K,H,M]; values: [B,K,M,H]; cast to q's dtype.
    mask: bool [B,M], the slots that the token sees.

  Returns:
    [B,N,H] in the dtype of `q`.
  """
  rows, heads, dim = q.shape
  product = lambda equation, *operands: jnp.einsum(equation, *operands,
                                                   preferred_element_type=jnp.float32)
  grouped = q.reshape(rows, keys.shape[1], heads // keys.shape[1], dim)
  scores = product('bkgh,bkhm->bkgm', grouped, keys.astype(q.dtype)) * dim ** -0.5
  scores = jnp.where(mask[:, None, None], scores, -jnp.inf)
  own = product('bkgh,bkh->bkg', grouped, key.astype(q.dtype))[..., None] * dim ** -0.5
  highest = jnp.maximum(jnp.max(scores, axis=-1, keepdims=True), own)
  weights, own = jnp.exp(scores - highest), jnp.exp(own - highest)
  total = jnp.sum(weights, axis=-1, keepdims=True) + own
  out = product('bkgm,bkmh->bkgh', (weights / total).astype(q.dtype), values.astype(q.dtype))
  out += (own / total).astype(q.dtype) * value.astype(q.dtype)[:, :, None]
  return out.reshape(rows, heads, dim).astype(q.dtype)
