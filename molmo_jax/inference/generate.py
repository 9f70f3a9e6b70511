"""Generation: one prefill over the prompts, then a loop on the device that adds a token to every row (greedy)."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Int

from molmo_jax.model.molmo import Batch, Molmo

PADDING = -1   # after the end of an answer


@functools.partial(jax.jit, static_argnames=('model', 'max_new_tokens', 'eos_id'))
def generate(model: Molmo, params: Any, batch: Batch, *, max_new_tokens: int, eos_id: int) -> Int[Array, 'B T']:
  """The most likely next token, again and again, until `eos_id` or `max_new_tokens`.

  Prompts are padded on the right; their padding has segment −1. Rows that have ended stay in the batch and give −1;
  the loop ends when all have.

  Returns:
    int32 [B, max_new_tokens]: new tokens, `eos_id` included, then −1.
  """
  variables = {'params': params}
  real = batch['segments'] >= 0
  logits, cache = model.apply(variables, batch, max_new_tokens, method='prefill')
  # an answer continues the last segment and the positions of its prompt
  last = jnp.max(jnp.where(real, jnp.arange(real.shape[1]), 0), axis=1)[:, None]
  segment = jnp.take_along_axis(batch['segments'], last, axis=1)[:, 0]
  position = jnp.take_along_axis(batch['positions'], last, axis=1)[:, 0] + 1
  rows = batch['tokens'].shape[0]

  def unfinished(carry: tuple) -> Array:
    step, _, _, done, _ = carry
    return (step < max_new_tokens) & ~jnp.all(done)

  def add_token(carry: tuple) -> tuple:
    step, logits, cache, done, out = carry
    token = jnp.where(done, PADDING, jnp.argmax(logits, axis=-1).astype(jnp.int32))
    out = jax.lax.dynamic_update_slice(out, token[:, None], (0, step))
    hidden_segment = jnp.where(done, -1, segment)
    logits, cache = model.apply(variables, jnp.maximum(token, 0), position + step, hidden_segment, cache,
                                method='decode')
    return step + 1, logits, cache, done | (token == eos_id), out

  start = (jnp.int32(0), logits, cache, jnp.zeros(rows, bool), jnp.full((rows, max_new_tokens), PADDING, jnp.int32))
  return jax.lax.while_loop(unfinished, add_token, start)[4]
