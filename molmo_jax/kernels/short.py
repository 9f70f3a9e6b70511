"""Attention for short rows on CPU: one row and key/value head at a time, in 2-D products.

A whole short row is one block, so nothing is gained by cutting it, and XLA:CPU runs one plain
product after another faster than a batch of small ones (measured on the scenes model, 160 tokens: a
training step takes 0.8 of the time). Nothing of the size batch × S × S exists: scores and mask live
for one row and head.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp

from molmo_jax.kernels.mask import Bidirectional, MaskInfo, visible
from molmo_jax.kernels.reference import check_shapes

# finite: a query that sees nothing gets an even softmax, and its row is set to zero afterwards
_HIDDEN = -1e30


def attend_short(q: jax.Array, k: jax.Array, v: jax.Array, q_info: MaskInfo, k_info: MaskInfo,
                 bidirectional: Bidirectional, scale: float | None = None) -> jax.Array:
  """Like `attend_reference`: q [B,Sq,N,H], k and v [B,Sk,K,H] → [B,Sq,N,H], v's dtype; zeros where
  nothing is seen.
  """
  check_shapes(q, k, v, q_info, k_info)
  rows, length, heads, width = q.shape
  kv_heads = k.shape[2]
  group = heads // kv_heads
  q = (q * (1 / math.sqrt(width) if scale is None else scale)).astype(q.dtype)

  # [B,S,K·g,H] → [B·K, g·S, H], query heads of one key head together
  def split(x: jax.Array) -> jax.Array:
    x = x.reshape(rows, x.shape[1], kv_heads, -1, width).transpose(0, 2, 3, 1, 4)
    return x.reshape(rows * kv_heads, -1, width)

  q_rows, k_rows, v_rows = jax.lax.optimization_barrier((split(q), split(k), split(v)))

  def one(item: tuple) -> jax.Array:
    q, k, v, i = item
    row = lambda info: jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, i // kv_heads, 1),
                                    info)
    mask = visible(row(q_info), row(k_info), bidirectional)[0]
    return _attend(q, k, v, mask, group)

  out = jax.lax.map(one, (q_rows, k_rows, v_rows, jnp.arange(rows * kv_heads)))
  out = jax.lax.optimization_barrier(out).reshape(rows, kv_heads, group, length, width)
  return out.transpose(0, 3, 1, 2, 4).reshape(rows, length, heads, width)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array, group: int) -> jax.Array:
  return _forward(q, k, v, mask, group)[0]


def _forward(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array,
             group: int) -> tuple[jax.Array, tuple]:
  scores = jnp.matmul(q, k.T, preferred_element_type=jnp.float32)
  scores = jnp.where(mask, scores.reshape(group, *mask.shape), _HIDDEN)
  weights = jax.nn.softmax(scores, axis=-1) * mask.any(-1, keepdims=True)
  weights = weights.reshape(-1, mask.shape[1]).astype(v.dtype)
  return jnp.matmul(weights, v, preferred_element_type=jnp.float32).astype(v.dtype), (q, k, v,
                                                                                      weights)


def _backward(group: int, saved: tuple, gradient: jax.Array) -> tuple[jax.Array | None, ...]:
  q, k, v, weights = saved
  product = functools.partial(jax.lax.dot_general, preferred_element_type=jnp.float32)
  dv = product(weights, gradient, (((0,), (0,)), ((), ())))
  dw = product(gradient, v, (((1,), (1,)), ((), ())))
  ds = (weights * (dw - jnp.sum(dw * weights, axis=-1, keepdims=True))).astype(q.dtype)
  dq = product(ds, k, (((1,), (0,)), ((), ())))
  dk = product(ds, q, (((0,), (0,)), ((), ())))
  return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype), None


_attend.defvjp(_forward, _backward)
