"""The two programs of generation: one reads the prompts, one adds tokens to every row.

`Generator` runs them for whole answers; beam search (beam.py) continues from the same prefill.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from molmo_jax.inference.sampling import GREEDY, Rules, next_tokens, step_keys
from molmo_jax.model.cache import Cache
from molmo_jax.model.molmo import Batch, Network

NO_TOKEN = -1   # after the end of an answer


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Answers:
  """Unfinished answers: what a step of the loop takes and returns."""
  tokens: Int[Array, 'B T']              # new tokens so far, then −1
  length: Int[Array, '']                 # columns of `tokens` in use
  done: Bool[Array, 'B']                 # rows that have ended
  scores: Float[Array, 'B vocab']        # of the next token
  cache: Cache
  segment: Int[Array, 'B']               # of the prompt's last token: the answer continues it
  position: Int[Array, 'B']              # of the answer's first token


@functools.partial(jax.jit, static_argnames=('model', 'room', 'cache_dtype'))
def begin(model: Network, params: Any, batch: Batch, room: int,
          features: Float[Array, 'B V D'] | None = None, cache_dtype: str | None = None) -> Answers:
  """Reads the prompts (prefill).

  Args:
    model, params: the network and its weights.
    batch: prompts padded on either side; their padding has segment −1. Rows without any prompt
      have ended before the first token.
    room: new tokens that each row can hold.
    features: visual features of every row where they are known; then the batch needs neither crops
      nor windows.
    cache_dtype: of the stored keys and values; None: the model's.
  """
  cache: Any
  scores, cache = model.apply({'params': params}, batch, room, features, cache_dtype,
                              method='prefill')
  real = batch['segments'] >= 0
  last = jnp.max(jnp.where(real, jnp.arange(real.shape[1]), 0), axis=1)[:, None]
  take = lambda x: jnp.take_along_axis(x, last, axis=1)[:, 0]
  return Answers(jnp.full((real.shape[0], room), NO_TOKEN, jnp.int32), jnp.int32(0),
                 ~real.any(axis=1), scores, cache, take(batch['segments']),
                 take(batch['positions']) + 1)


@functools.partial(jax.jit, static_argnames=('model', 'eos_ids'), donate_argnames='answers')
def extend(model: Network, params: Any, answers: Answers, length: Array | int,
           eos_ids: tuple[int, ...], rules: Rules = GREEDY, keys: Array | None = None) -> Answers:
  """Adds tokens until every answer has ended or has `length` tokens.

  Rows that have ended stay in the batch and get −1.

  Args:
    model, params: the network and its weights, as `unstack_blocks` gives them.
    answers: is donated.
    length: new tokens per answer at the end, those in `answers` included.
    eos_ids: tokens that end an answer; they are part of it.
    rules: constraints, penalties and how tokens are sampled.
    keys: a `jax.random` key for every row where the rules sample: a row's tokens depend on its own
      key alone.
  """
  def unfinished(a: Answers) -> Array:
    return (a.length < length) & ~jnp.all(a.done)

  def add_token(a: Answers) -> Answers:
    step = step_keys(keys, a.length) if keys is not None and rules.samples else None
    token = next_tokens(a.scores, a.tokens, a.length, rules, eos_ids, step)
    token = jnp.where(a.done, NO_TOKEN, token)
    cache: Any
    scores, cache = model.apply({'params': params}, jnp.maximum(token, 0), a.position + a.length,
                                jnp.where(a.done, -1, a.segment), a.cache, method='decode')
    tokens = jax.lax.dynamic_update_slice(a.tokens, token[:, None], (0, a.length))
    done = a.done | jnp.isin(token, jnp.array(eos_ids, jnp.int32))
    return dataclasses.replace(a, tokens=tokens, length=a.length + 1, done=done, scores=scores,
                               cache=cache)

  return jax.lax.while_loop(unfinished, add_token, answers)
