"""Generation: one prefill over the prompts, then a loop on the device that adds a token to every row (greedy)."""

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


@functools.partial(jax.jit, static_argnames=('model', 'max_new_tokens', 'eos_ids'))
def generate(model: Molmo, params: Any, batch: Batch, *, max_new_tokens: int, eos_ids: tuple[int, ...]
             ) -> Int[Array, 'B T']:
  """The most likely next token, again and again, until one of `eos_ids` or `max_new_tokens`.

  Prompts are padded on either side; their padding has segment −1. Rows that have ended stay in the batch and give −1;
  the loop ends when all have.

  Returns:
    int32 [B, max_new_tokens]: new tokens, the ending one included, then −1.
  """
  return extend(model, params, begin(model, params, batch, max_new_tokens), max_new_tokens, eos_ids).tokens


def stream(model: Molmo, params: Any, batch: Batch, *, max_new_tokens: int, eos_ids: tuple[int, ...], chunk: int = 1
           ) -> Iterator[Int[np.ndarray, 'B n']]:
  """Like `generate`, but gives every `chunk` tokens as soon as they are made: int32 [B, ≤ chunk], −1 after the end."""
  answers = _begin(model, params, batch, max_new_tokens)
  for start in range(0, max_new_tokens, chunk):
    end = min(start + chunk, max_new_tokens)
    answers = _extend(model, params, answers, end, eos_ids)
    yield np.asarray(answers.tokens)[:, start:end]
    if np.asarray(answers.done).all():
      return


def begin(model: Molmo, params: Any, batch: Batch, room: int) -> Answers:
  """Reads the prompts, with room for `room` new tokens per row."""
  scores, cache = model.apply({'params': params}, batch, room, method='prefill')
  real = batch['segments'] >= 0
  last = jnp.max(jnp.where(real, jnp.arange(real.shape[1]), 0), axis=1)[:, None]
  take = lambda x: jnp.take_along_axis(x, last, axis=1)[:, 0]
  rows = real.shape[0]
  return Answers(jnp.full((rows, room), PADDING, jnp.int32), jnp.int32(0), jnp.zeros(rows, bool), scores, cache,
                 take(batch['segments']), take(batch['positions']) + 1)


def extend(model: Molmo, params: Any, answers: Answers, length: Array | int, eos_ids: tuple[int, ...]) -> Answers:
  """Adds tokens until every answer has ended or has `length` tokens."""
  def unfinished(a: Answers) -> Array:
    return (a.length < length) & ~jnp.all(a.done)

  def add_token(a: Answers) -> Answers:
    token = jnp.where(a.done, PADDING, jnp.argmax(a.scores, axis=-1).astype(jnp.int32))
    scores, cache = model.apply({'params': params}, jnp.maximum(token, 0), a.position + a.length,
                                jnp.where(a.done, -1, a.segment), a.cache, method='decode')
    tokens = jax.lax.dynamic_update_slice(a.tokens, token[:, None], (0, a.length))
    done = a.done | jnp.isin(token, jnp.array(eos_ids, jnp.int32))
    return dataclasses.replace(a, tokens=tokens, length=a.length + 1, done=done, scores=scores, cache=cache)

  return jax.lax.while_loop(unfinished, add_token, answers)


_begin = jax.jit(begin, static_argnames=('model', 'room'))
_extend = jax.jit(extend, static_argnames=('model', 'eos_ids'), donate_argnames='answers')
