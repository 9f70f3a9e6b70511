"""Weighted cross-entropy over chunks of the sequence: the logits of a whole row never exist (spec: §1.3)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossSums:
  """Sums over all positions, each weighted with its loss weight; divide by `weight` for means."""
  cross_entropy: Float[Array, '']
  z: Float[Array, '']                # logsumexp²
  correct: Float[Array, '']
  weight: Float[Array, '']


def loss_sums(hidden: Float[Array, 'B S D'], head: Float[Array, 'vocab D'], targets: Int[Array, 'B S'],
              weights: Float[Array, 'B S'], chunk: int) -> LossSums:
  """Scores `chunk` positions of every row at a time against `targets`; float32 logits.

  Targets outside the vocabulary (visual tokens, padding) must have weight 0.
  """
  rows, length, width = hidden.shape
  chunk = min(chunk, length)
  chunks = -(-length // chunk)
  pad = chunks * chunk - length

  def split(x: Array) -> Array:   # [B, S, …] → [chunks, B, chunk, …]
    x = jnp.pad(x, ((0, 0), (0, pad)) + ((0, 0),) * (x.ndim - 2))
    return jnp.moveaxis(x.reshape(rows, chunks, chunk, *x.shape[2:]), 1, 0)

  @jax.checkpoint
  def score(hidden: Array, targets: Array, weights: Array) -> LossSums:
    logits = jnp.einsum('bsd,vd->bsv', hidden.astype(head.dtype), head, preferred_element_type=jnp.float32)
    log_z = jax.nn.logsumexp(logits, axis=-1)
    # a one-hot product rather than a gather: its gradient is a subtraction, not a scatter
    is_target = jnp.arange(head.shape[0]) == targets[..., None]
    picked = jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1)
    correct = jnp.argmax(logits, axis=-1) == targets
    return LossSums(jnp.sum(weights * (log_z - picked)), jnp.sum(weights * log_z ** 2), jnp.sum(weights * correct),
                    jnp.sum(weights))

  def step(total: LossSums, xs: tuple) -> tuple[LossSums, None]:
    return jax.tree.map(jnp.add, total, score(*xs)), None

  zero = jnp.zeros((), jnp.float32)
  total, _ = jax.lax.scan(step, LossSums(zero, zero, zero, zero), (split(hidden), split(targets), split(weights)))
  return total
