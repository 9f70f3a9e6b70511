"""A dropless mixture of experts in place of a decoder layer's MLP (docs/model.md §1.3, MolmoE).

    x ─ router ─ softmax over all experts ─ the top k ─┐
    └── each token through its k gated MLPs ───────────⊗── Σ

The weights are not renormalised, and no token is dropped.

Shapes: x [B,S,D]; weights and chosen [B,S,k]; gate and up [E,D,F], down [E,F,D], E experts of
hidden width F.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.sharding import PartitionSpec as P
from jaxtyping import Float, Int

from molmo_jax.kernels.cpu import on_cpu
from molmo_jax.model.layers import ACTIVATIONS, Einsum, fan_in_normal
from molmo_jax.parallel.activations import ROWS, current_mesh, devices_along

# gate, up, down
Kernels = tuple[Float[Array, 'E D F'], Float[Array, 'E D F'], Float[Array, 'E F D']]


class MixtureOfExperts(nn.Module):
  """Σ over the k most likely experts e of p(e) · down_e( silu(gate_e x) ⊙ (up_e x) ), p a softmax
  over all of them.

  The router works in float32: a token near the border of two experts must not change sides by
  rounding.
  """
  experts: int
  per_token: int
  hidden: int
  dtype: jnp.dtype = jnp.float32
  down_init: Callable | None = None

  @nn.compact
  def __call__(self, x: Float[Array, 'B S D']) -> Float[Array, 'B S D']:
    width, hidden = x.shape[-1], self.hidden
    scores = Einsum('bsd,de->bse', (width, self.experts), None, jnp.float32, name='router')(x)
    weights, chosen = jax.lax.top_k(jax.nn.softmax(scores, axis=-1), self.per_token)
    into, out = (self.experts, width, hidden), (self.experts, hidden, width)
    kernels = (*(self.param(name, fan_in_normal(width), into) for name in ('gate', 'up')),
               self.param('down', self.down_init or fan_in_normal(hidden), out))
    return mix(x.astype(self.dtype), weights, chosen, tuple(k.astype(self.dtype) for k in kernels))


def mix(x: Float[Array, 'B S D'], weights: Float[Array, 'B S k'], chosen: Int[Array, 'B S k'],
        kernels: Kernels) -> Float[Array, 'B S D']:
  """The weighted sum of every token's experts, in x's dtype; each device works on its own rows.

  Tokens are sorted by expert for a ragged product, but on CPU, where XLA computes that product with
  one copy of all tokens per expert, every expert sees all tokens.
  """
  either = on_cpu(mix_every_expert, otherwise=mix_sorted)
  return per_device(either)(x, weights, chosen, *kernels)


def per_device(form: Callable[..., Array]) -> Callable[..., Array]:
  """`form`, run on a mesh by each device on its rows of the batch and its slice of the experts'
  hidden width.

  Left to itself the compiler would sort the tokens of all devices together; so it does where rows
  or the hidden width do not divide.
  """
  mesh = current_mesh()

  def local(*args: Array) -> Array:
    return jax.lax.psum(form(*args), 'tensor')

  def run(x: Array, weights: Array, chosen: Array, gate: Array, up: Array, down: Array) -> Array:
    args = (x, weights, chosen, gate, up, down)
    if (mesh is None or x.shape[0] % devices_along(ROWS) or gate.shape[-1] % mesh.shape['tensor']):
      return form(*args)
    into, rows = P(None, None, 'tensor'), P(ROWS)
    return jax.shard_map(local, in_specs=(rows, rows, rows, into, into, P(None, 'tensor')),
                         out_specs=rows, check_vma=False)(*args)

  return run


def mix_sorted(x: Array, weights: Array, chosen: Array, gate: Array, up: Array,
               down: Array) -> Array:
  """`mix` by sorting: each token k times, sorted by expert, through ragged products whose groups
  are as long as experts are chosen.

  Args: as `mix`.
  """
  (rows, length, width), k = x.shape, chosen.shape[-1]
  experts = chosen.reshape(-1)
  order = jnp.argsort(experts)
  sizes = jnp.bincount(experts, length=gate.shape[0]).astype(jnp.int32)
  tokens = jnp.repeat(x.reshape(-1, width), k, axis=0).at[order].get(unique_indices=True)
  h = ACTIVATIONS['silu'](jax.lax.ragged_dot(tokens, gate, sizes))
  h = h * jax.lax.ragged_dot(tokens, up, sizes)
  # back in the order of tokens
  y = jax.lax.ragged_dot(h, down, sizes).at[jnp.argsort(order)].get(unique_indices=True)
  y = y.reshape(rows, length, k, width).astype(jnp.float32)
  return jnp.sum(y * weights[..., None], axis=2).astype(x.dtype)


def mix_every_expert(x: Array, weights: Array, chosen: Array, gate: Array, up: Array,
                     down: Array) -> Array:
  """`mix` without sorting: all tokens through all experts, one expert after the other; those that a
  token did not choose weigh 0.

  Args: as `mix`.
  """
  is_chosen = jax.nn.one_hot(chosen, gate.shape[0], dtype=jnp.float32)
  of_expert = jnp.sum(is_chosen * weights[..., None], axis=2)

  @jax.checkpoint
  def add_expert(total: Array, expert: tuple[Array, ...]) -> tuple[Array, None]:
    weight, gate, up, down = expert
    y = (ACTIVATIONS['silu'](x @ gate) * (x @ up)) @ down
    return total + y.astype(jnp.float32) * weight[..., None], None

  total = jnp.zeros_like(x, jnp.float32)
  return jax.lax.scan(add_expert, total,
                      (jnp.moveaxis(of_expert, -1, 0), gate, up, down))[0].astype(x.dtype)
