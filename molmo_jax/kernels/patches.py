"""Attention among the patches of one crop: every patch sees every patch, no mask.

Letters of shapes: `C` crops, `P` patches of a crop, `N` heads, `H` head dim.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

# From this number of patches on, the CPU goes head by head. Measured on 8 crops × 6 heads × 64,
# fp32, 2 cores, forward / forward + backward, all heads in one einsum against head by head:
#   P = 36    0.9 / 2.0 ms      1.3 / 3.5 ms          P = 196    43 / 72 ms       10 / 46 ms
#   P = 64    1.1 / 2.8 ms      1.4 / 5.4 ms          P = 324   122 / 231 ms      21 / 80 ms
#   P = 128    15 / 15 ms       4.5 / 13 ms           P = 729   502 / 957 ms     115 / 507 ms, 43 MiB instead of 407
HEAD_BY_HEAD_FROM = 128
CROPS_AT_ONCE = 8       # elsewhere: the scores of so many crops exist together


def attend_patches(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
  """Softmax attention of the vision tower, scores scaled by 1/√H (docs/model.md §2).

  Scores and softmax are float32. Only q, k and v are kept for the backward pass, which computes the
  scores again. The form is chosen where the program is lowered, so that compiling ahead of time for
  another platform is right too: on CPU by the number of patches, elsewhere
  `jax.nn.dot_product_attention`.

  Args:
    q, k, v: [C,P,N,H] of one shape.

  Returns:
    [C,P,N,H] in the dtype of `v`.

  Raises:
    ValueError: the arrays are not [C,P,N,H] of one shape.
  """
  if not (q.ndim == 4 and q.shape == k.shape == v.shape):
    raise ValueError(f'attend_patches needs q, k and v of one shape [C,P,N,H], got {q.shape}, '
      f'{k.shape}, {v.shape}')
  on_cpu = _attend_head_by_head if q.shape[1] >= HEAD_BY_HEAD_FROM else _attend_at_once

  # without it each platform's form would keep what the others need for their backward pass
  @jax.checkpoint
  def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    return jax.lax.platform_dependent(q, k, v, cpu=on_cpu, default=_attend_default)

  return attend(q, k, v)


def _attend_default(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
  """Some crops at a time: the scores of one crop of 729 patches and 16 heads are 34 MB."""
  attend = jax.checkpoint(lambda qkv: jax.nn.dot_product_attention(*(x[None] for x in qkv)).astype(
    v.dtype)[0])
  return jax.lax.map(attend, (q, k, v), batch_size=CROPS_AT_ONCE)


def _attend_at_once(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
  scores = jnp.einsum('cpnh,csnh->cnps', q, k, preferred_element_type=jnp.float32)
  weights = jax.nn.softmax(scores * q.shape[-1] ** -0.5, axis=-1).astype(v.dtype)
  return jnp.einsum('cnps,csnh->cpnh', weights, v,
                    preferred_element_type=jnp.float32).astype(v.dtype)


def _attend_head_by_head(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
  """2-D products of one head of one crop at a time; the backward pass keeps no scores."""
  crops, patches, heads, dim = q.shape

  @jax.checkpoint
  def attend_head(head: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
    q, k, v = head
    scores = jnp.matmul(q, k.T, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scores * dim ** -0.5, axis=-1).astype(v.dtype)
    return jnp.matmul(weights, v, preferred_element_type=jnp.float32).astype(v.dtype)

  split = tuple(x.transpose(0, 2, 1, 3).reshape(crops * heads, patches, dim) for x in (q, k, v))
  return jax.lax.map(attend_head, split).reshape(crops, heads, patches, dim).transpose(0, 2, 1, 3)
