"""Forms that exist for XLA:CPU alone, where it is faster with one plain 2-D product after another.

Everything here computes what a general form computes, too. `on_cpu` chooses between the two where
the program is lowered, so that compiling ahead of time for another platform is right as well; only
`attend_short` is chosen by a configuration.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero

from molmo_jax.kernels.mask import Bidirectional, MaskInfo, visible
from molmo_jax.kernels.reference import check_shapes

# From this number of patches on, the CPU goes head by head. Measured on 8 crops × 6 heads × 64,
# fp32, 2 cores, forward / forward + backward, all heads in one einsum against head by head:
#   P = 36    0.9 / 2.0 ms      1.3 / 3.5 ms          P = 196    43 / 72 ms       10 / 46 ms
#   P = 64    1.1 / 2.8 ms      1.4 / 5.4 ms          P = 324   122 / 231 ms      21 / 80 ms
#   P = 128    15 / 15 ms       4.5 / 13 ms           P = 729   502 / 957 ms     115 / 507 ms
# and 43 MiB instead of 407 at P = 729
HEAD_BY_HEAD_FROM = 128
# finite: a query that sees nothing gets an even softmax, and its row is set to zero afterwards
_HIDDEN = -1e30


def on_cpu(form: Callable[..., Array], otherwise: Callable[..., Array],
           prevent_cse: bool = True) -> Callable[..., Array]:
  """`form` in programs for the CPU, `otherwise` in those for anything else.

  Rematerialised: else each form would keep what the other needs for its backward pass.
  `prevent_cse` as in `jax.checkpoint`.
  """
  return jax.checkpoint(
    lambda *args: jax.lax.platform_dependent(*args, cpu=form, default=otherwise),
    prevent_cse=prevent_cse)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def product(equation: str, x: Array, kernel: Array) -> Array:
  """`einsum(equation, x, kernel)` where the kernel's contracted axes lead it and are x's last:
  'bsd,dnh->bsnh'.

  XLA:CPU fuses the transposition that the kernel's gradient needs with the elementwise work before
  it, which then reads its inputs against their order (measured on the scenes model: a training step
  takes 1.4 times as long). There, the kernel's part of the derivative is one plain 2-D product of
  operands that are written out first, and so is its transpose, the gradient. Other backends get
  einsum's own derivatives.
  """
  return jnp.einsum(equation, x, kernel)


def _product_jvp(equation: str, primals: tuple[Array, Array], tangents: tuple) -> tuple:
  (x, kernel), (dx, dkernel) = primals, tangents
  einsum = functools.partial(jnp.einsum, equation)
  changes = []
  if not isinstance(dx, SymbolicZero):
    changes.append(einsum(dx, kernel))
  if not isinstance(dkernel, SymbolicZero):
    changes.append(on_cpu(functools.partial(_product_2d, equation), otherwise=einsum,
                          prevent_cse=False)(x, dkernel))
  out = einsum(x, kernel)   # not `product`: remat policies must see the dot
  return out, sum(changes) if changes else jnp.zeros_like(out)


product.defjvp(_product_jvp, symbolic_zeros=True)


def _product_2d(equation: str, x: Array, kernel: Array) -> Array:
  inputs, out = equation.split('->')
  x_axes, kernel_axes = inputs.split(',')
  size = dict(zip(x_axes + kernel_axes, x.shape + kernel.shape))
  rows = math.prod(n for axis, n in zip(x_axes, x.shape, strict=True) if axis in out)
  x = jax.lax.optimization_barrier(x).reshape(rows, -1)
  y = jax.lax.optimization_barrier(x @ kernel.reshape(x.shape[1], -1))
  return y.reshape([size[axis] for axis in out])


def attend_short(q: Array, k: Array, v: Array, q_info: MaskInfo, k_info: MaskInfo,
                 bidirectional: Bidirectional, scale: float | None = None) -> Array:
  """Attention for short rows, one row and key/value head at a time: like `attend_reference`.

  A whole short row is one block, so nothing is gained by cutting it, and XLA:CPU runs one plain
  product after another faster than a batch of small ones (measured on the scenes model, 160 tokens:
  a training step takes 0.8 of the time). Nothing of the size batch × S × S exists: scores and mask
  live for one row and head.

  Args, Returns and Raises: as `attend_reference`.
  """
  check_shapes(q, k, v, q_info, k_info)
  rows, length, heads, width = q.shape
  kv_heads = k.shape[2]
  group = heads // kv_heads
  q = (q * (1 / math.sqrt(width) if scale is None else scale)).astype(q.dtype)

  def split(x: Array) -> Array:   # [B,S,K·g,H] → [B·K, g·S, H], query heads of a key head together
    x = x.reshape(rows, x.shape[1], kv_heads, -1, width).transpose(0, 2, 3, 1, 4)
    return x.reshape(rows * kv_heads, -1, width)

  q_rows, k_rows, v_rows = jax.lax.optimization_barrier((split(q), split(k), split(v)))

  def one(item: tuple) -> Array:
    q, k, v, i = item
    row = lambda info: jax.tree.map(
      lambda x: jax.lax.dynamic_slice_in_dim(x, i // kv_heads, 1), info)
    mask = visible(row(q_info), row(k_info), bidirectional)[0]
    return _attend(q, k, v, mask, group)

  out = jax.lax.map(one, (q_rows, k_rows, v_rows, jnp.arange(rows * kv_heads)))
  out = jax.lax.optimization_barrier(out).reshape(rows, kv_heads, group, length, width)
  return out.transpose(0, 3, 1, 2, 4).reshape(rows, length, heads, width)


_matmul = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def _attend(q: Array, k: Array, v: Array, mask: Array, group: int) -> Array:
  """One row, one key/value head: q [g·S,H], k and v [T,H], mask bool [S,T] → [g·S,H]."""
  return _matmul(_weights(q, k, mask, group).astype(v.dtype), v).astype(v.dtype)


def _weights(q: Array, k: Array, mask: Array, group: int) -> Array:
  scores = jnp.where(mask, _matmul(q, k.T).reshape(group, *mask.shape), _HIDDEN)
  weights = jax.nn.softmax(scores, axis=-1) * mask.any(-1, keepdims=True)
  return weights.reshape(-1, mask.shape[1])


@_attend.defjvp
def _attend_jvp(group: int, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """Saves nothing but the weights, which autodiff would save together with masks and exponents."""
  (q, k, v, mask), (dq, dk, dv, _) = primals, tangents
  weights = _weights(q, k, mask, group).astype(v.dtype)
  d_scores = _matmul(dq, k.T) + _matmul(q, dk.T)
  d_weights = weights * (d_scores - jnp.sum(weights * d_scores, axis=-1, keepdims=True))
  change = _matmul(d_weights.astype(v.dtype), v) + _matmul(weights, dv)
  return _matmul(weights, v).astype(v.dtype), change.astype(v.dtype)


def attend_crops(q: Array, k: Array, v: Array) -> Array:
  """Attention among the patches of a crop, without a mask: [C,P,N,H] → [C,P,N,H]."""
  if q.shape[1] >= HEAD_BY_HEAD_FROM:
    return _attend_head_by_head(q, k, v)
  scores = jnp.einsum('cpnh,csnh->cnps', q, k, preferred_element_type=jnp.float32)
  weights = jax.nn.softmax(scores * q.shape[-1] ** -0.5, axis=-1).astype(v.dtype)
  return jnp.einsum('cnps,csnh->cpnh', weights, v,
                    preferred_element_type=jnp.float32).astype(v.dtype)


def _attend_head_by_head(q: Array, k: Array, v: Array) -> Array:
  """2-D products of one head of one crop at a time; the backward pass keeps no scores."""
  crops, patches, heads, dim = q.shape

  @jax.checkpoint
  def attend_head(head: tuple[Array, Array, Array]) -> Array:
    q, k, v = head
    weights = jax.nn.softmax(_matmul(q, k.T) * dim ** -0.5, axis=-1).astype(v.dtype)
    return _matmul(weights, v).astype(v.dtype)

  split = tuple(x.transpose(0, 2, 1, 3).reshape(crops * heads, patches, dim) for x in (q, k, v))
  return jax.lax.map(attend_head, split).reshape(crops, heads, patches, dim).transpose(0, 2, 1, 3)
