"""Weighted cross-entropy over chunks of the sequence: the logits of a whole row never exist
(docs/training.md §1.3).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec as P
from jaxtyping import Float, Int

from molmo_jax.parallel.activations import ROWS, axes_for, current_mesh, devices_along
from molmo_jax.parallel.sharding import columns_of

# positions are independent here, so the tensor axis takes some of them, too
SEQUENCE = ('context', 'tensor')


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossSums:
  """Sums over all positions, each weighted with its loss weight; divide by `weight` for means."""
  cross_entropy: Float[Array, '']
  z: Float[Array, '']                # logsumexp²
  correct: Float[Array, '']
  weight: Float[Array, '']


def loss_sums(hidden: Float[Array, 'B S D'], head: Float[Array, 'vocab D'],
              targets: Int[Array, 'B S'], weights: Float[Array, 'B S'], chunk: int) -> LossSums:
  """Scores `chunk` positions of every row at a time against `targets`; float32 logits.

  Targets outside the vocabulary (visual tokens, padding) must have weight 0. On a mesh every device
  scores its own positions, `chunk` of them at a time. It gathers the head once, before the first
  chunk, and the head's gradient is reduced once, after the last one: left to the partitioner, both
  would happen in every chunk.
  """
  mesh = current_mesh()
  if mesh is None:
    return _sums(hidden, head, targets, weights, chunk)
  pad = -hidden.shape[1] % devices_along(SEQUENCE)
  hidden, targets, weights = (_pad(x, pad) for x in (hidden, targets, weights))
  columns = columns_of('embedding/head', head)
  positions = P(axes_for(hidden.shape[0], ROWS), SEQUENCE)

  def local(hidden: Array, head: Array, targets: Array, weights: Array) -> LossSums:
    # gathered along its first dimension the parts need not be moved about, nor their gradients
    head = head.T
    if columns:
      head = jax.lax.all_gather(head, columns, axis=0, tiled=True)
    return jax.tree.map(lambda x: x[None, None],
                        _sums(hidden, head, targets, weights, chunk, 'bsd,dv->bsv'))

  of_parts = jax.shard_map(
    local, in_specs=(positions, P(None, columns or None), positions, positions),
    out_specs=positions, check_vma=False)(hidden, head, targets, weights)
  return jax.tree.map(jnp.sum, of_parts)


def _pad(x: Array, positions: int) -> Array:
  """[B,S,…] with `positions` more positions of zeros at the end."""
  return jnp.pad(x, ((0, 0), (0, positions)) + ((0, 0),) * (x.ndim - 2)) if positions else x


def _sums(hidden: Array, head: Array, targets: Array, weights: Array, chunk: int,
          equation: str = 'bsd,vd->bsv') -> LossSums:
  rows, length, width = hidden.shape
  chunk = min(chunk, length)
  chunks = -(-length // chunk)

  def split(x: Array) -> Array:   # [B, S, …] → [chunks, B, chunk, …]
    x = _pad(x, chunks * chunk - length)
    return jnp.moveaxis(x.reshape(rows, chunks, chunk, *x.shape[2:]), 1, 0)

  @jax.checkpoint
  def score(hidden: Array, targets: Array, weights: Array) -> LossSums:
    logits = jnp.einsum(equation, hidden.astype(head.dtype), head,
                        preferred_element_type=jnp.float32)
    log_z = jax.nn.logsumexp(logits, axis=-1)
    # a one-hot product rather than a gather: its gradient is a subtraction, not a scatter
    is_target = jnp.arange(logits.shape[-1]) == targets[..., None]
    picked = jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1)
    correct = jnp.argmax(logits, axis=-1) == targets
    return LossSums(jnp.sum(weights * (log_z - picked)), jnp.sum(weights * log_z ** 2),
                    jnp.sum(weights * correct), jnp.sum(weights))

  def step(total: LossSums, xs: tuple) -> tuple[LossSums, None]:
    return jax.tree.map(jnp.add, total, score(*xs)), None

  zeros = LossSums(*jnp.zeros((4,), jnp.float32))
  return jax.lax.scan(step, zeros, (split(hidden), split(targets), split(weights)))[0]
