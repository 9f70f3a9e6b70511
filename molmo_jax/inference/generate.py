"""Generation: one prefill over the prompts, then a loop on the device that adds a token to every
row.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

from molmo_jax.inference.sampling import GREEDY, Rules, next_tokens, step_keys
from molmo_jax.inference.unstack import unstack_blocks
from molmo_jax.model.cache import Cache
from molmo_jax.model.molmo import Batch, Molmo

PADDING = -1   # after the end of an answer


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Answers:
  """Answers in the making: what a step of the loop takes and gives."""
  tokens: Int[Array, 'B T']              # new tokens so far, then −1
  length: Int[Array, '']                 # columns of `tokens` in use
  done: Bool[Array, 'B']                 # rows that have ended
  scores: Float[Array, 'B vocab']        # of the next token
  cache: Cache
  segment: Int[Array, 'B']               # of the prompt's last token: the answer continues it
  position: Int[Array, 'B']              # of the answer's first token


def generate(model: Molmo, params: Any, batch: Batch, *, max_new_tokens: int,
             eos_ids: tuple[int, ...],
             rules: Rules = GREEDY, keys: Array | None = None,
             cache_dtype: str | None = None) -> Int[Array, 'B T']:
  """The next token, again and again, until one of `eos_ids` or `max_new_tokens`: the most likely
  one, or one drawn.

  Prompts are padded on either side; their padding has segment −1. Rows that have ended stay in the
  batch and give −1; the loop ends when all have. Rows without any prompt have ended before the
  first token.

  Args:
    rules: constraints, penalties and how tokens are drawn; greedy by default.
    keys: a `jax.random` key for every row, where the rules draw: a row's tokens depend on its own
      key alone.
    cache_dtype: of stored keys and values; None: the model's.

  Returns:
    int32 [B, max_new_tokens]: new tokens, the ending one included, then −1.

  Raises:
    ValueError: the rules draw, and there are no keys.
  """
  check_keys(rules, keys)
  answers = begin(model, params, batch, max_new_tokens, cache_dtype=cache_dtype)
  return extend(model, unstack_blocks(params), answers, max_new_tokens, eos_ids, rules, keys).tokens


def stream(model: Molmo, params: Any, batch: Batch, *, max_new_tokens: int,
           eos_ids: tuple[int, ...], chunk: int = 1,
           rules: Rules = GREEDY, keys: Array | None = None) -> Iterator[Int[np.ndarray, 'B n']]:
  """Like `generate`, but gives every `chunk` tokens as soon as they are made: int32 [B, ≤ chunk],
  −1 after the end.
  """
  check_keys(rules, keys)
  answers, params = begin(model, params, batch, max_new_tokens), unstack_blocks(params)
  for start in range(0, max_new_tokens, chunk):
    end = min(start + chunk, max_new_tokens)
    answers = extend(model, params, answers, end, eos_ids, rules, keys)
    yield np.asarray(answers.tokens)[:, start:end]
    if np.asarray(answers.done).all():
      return


def check_keys(rules: Rules, keys: Array | None) -> None:
  """Raises ValueError where tokens are to be drawn without keys."""
  if rules.draws and keys is None:
    raise ValueError('temperature asks for drawn tokens, which need a jax.random key for every '
      'row: pass keys')


@functools.partial(jax.jit, static_argnames=('model', 'room', 'cache_dtype'))
def begin(model: Molmo, params: Any, batch: Batch, room: int,
          features: Float[Array, 'B V D'] | None = None,
          cache_dtype: str | None = None) -> Answers:
  """Reads the prompts, with room for `room` new tokens per row.

  `features` are the visual features of every row where they are known; then the batch needs neither
  crops nor windows.
  """
  scores, cache = model.apply({'params': params}, batch, room, features, cache_dtype,
                              method='prefill')
  real = batch['segments'] >= 0
  last = jnp.max(jnp.where(real, jnp.arange(real.shape[1]), 0), axis=1)[:, None]
  take = lambda x: jnp.take_along_axis(x, last, axis=1)[:, 0]
  return Answers(jnp.full((real.shape[0], room), PADDING, jnp.int32), jnp.int32(0),
                 ~real.any(axis=1), scores, cache,
                 take(batch['segments']), take(batch['positions']) + 1)


@functools.partial(jax.jit, static_argnames=('model', 'eos_ids'), donate_argnames='answers')
def extend(model: Molmo, params: Any, answers: Answers, length: Array | int,
           eos_ids: tuple[int, ...],
           rules: Rules = GREEDY, keys: Array | None = None) -> Answers:
  """Adds tokens until every answer has ended or has `length` tokens; `answers` is donated."""
  def unfinished(a: Answers) -> Array:
    return (a.length < length) & ~jnp.all(a.done)

  def add_token(a: Answers) -> Answers:
    drawn = step_keys(keys, a.length) if rules.draws else None
    token = next_tokens(a.scores, a.tokens, a.length, rules, eos_ids, drawn)
    token = jnp.where(a.done, PADDING, token)
    scores, cache = model.apply({'params': params}, jnp.maximum(token, 0), a.position + a.length,
                                jnp.where(a.done, -1, a.segment), a.cache, method='decode')
    tokens = jax.lax.dynamic_update_slice(a.tokens, token[:, None], (0, a.length))
    done = a.done | jnp.isin(token, jnp.array(eos_ids, jnp.int32))
    return dataclasses.replace(a, tokens=tokens, length=a.length + 1, done=done, scores=scores,
                               cache=cache)

  return jax.lax.while_loop(unfinished, add_token, answers)
