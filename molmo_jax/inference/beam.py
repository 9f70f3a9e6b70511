"""Beam search on the device: several continuations of every prompt at once, the most probable
first.

Letters of shapes: `B` prompts, `K` beams, `T` new tokens. Beams are rows of the batch: row b·K + k
is beam k of prompt b.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from molmo_jax.inference.generate import NO_TOKEN, Answers
from molmo_jax.inference.sampling import GREEDY, Rules, constrain
from molmo_jax.model.molmo import Network

# (last tokens [B·K], which beams have ended [B·K], number of tokens so far, state) → (scores
# [B·K,vocab], state)
Step = Callable[[Array, Array, Array, Any], tuple[Array, Any]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Beams:
  """Continuations of every prompt, best first."""
  tokens: Int[Array, 'B K T']        # the ending token included, then −1
  scores: Float[Array, 'B K']        # by which they are ordered


@functools.partial(jax.jit, static_argnames=('model', 'beams', 'max_new_tokens', 'eos_ids'))
def search_from(model: Network, params: Any, answers: Answers, rules: Rules, *, beams: int,
                max_new_tokens: int, eos_ids: tuple[int, ...]) -> Beams:
  """The `beams` best continuations that a beam search finds for every prompt (`search`).

  All beams of all prompts take part in every step, and each holds its own copy of its prompt's
  keys and values.

  Args:
    model, params: the network and its weights, as `unstack_blocks` gives them.
    answers: prompts that `begin` has read, with room for `max_new_tokens` at least.
    rules, beams, max_new_tokens, eos_ids: see `search`.
  """
  repeat = lambda x: jnp.repeat(x, beams, axis=0) if x.ndim else x
  # the same for all beams of a prompt
  segments, positions = repeat(answers.segment), repeat(answers.position)

  def step(tokens: Array, done: Array, length: Array, cache: Any) -> tuple[Array, Any]:
    # token number `length` stands `length − 1` places behind the first one of the answer
    return model.apply({'params': params}, tokens, positions + length - 1,
                       jnp.where(done, -1, segments), cache, method='decode')

  return search(step, answers.scores, jax.tree.map(repeat, answers.cache), beams=beams,
                max_new_tokens=max_new_tokens, eos_ids=eos_ids, rules=rules, done=answers.done)


def check_beams(beams: int, vocab: int, eos_ids: tuple[int, ...], rules: Rules) -> None:
  """Raises ValueError unless 1 ≤ `beams` ≤ `vocab`, a token ends answers, and no rule samples."""
  if not 1 <= beams <= vocab:
    raise ValueError(f'beams={beams} must be from 1 to the size of the vocabulary, {vocab}')
  if not eos_ids:
    raise ValueError('a beam search needs the id of at least one token that ends an answer: '
      'eos_ids is empty')
  if rules.samples:
    raise ValueError('a beam search samples no tokens: temperature must be 0')


def search(step: Step, scores: Float[Array, 'B vocab'], state: Any, *, beams: int,
           max_new_tokens: int, eos_ids: tuple[int, ...], rules: Rules = GREEDY,
           done: Bool[Array, 'B'] | None = None) -> Beams:
  """Beam search over any model (docs/training.md §6).

  The first tokens are the `beams` best ones. After that the best `beams` of all continuations of
  all beams survive, by the sum of their log-probabilities (float32), which the penalties of `rules`
  change and its n-gram rule forbids, each beam by its own tokens. A beam that has ended stays as it
  is, and competes on. The search ends with `max_new_tokens`, or when all beams of all prompts have
  ended; then beams are ordered by sum / length^length_penalty, where the ending token counts.

  Args:
    step: one more token for every beam, see `Step`; it gets `state` in the order of the surviving
      beams.
    scores: unnormalised, of the first token.
    state: arrays whose first axis is the beams, B·K, or that have no axes at all.
    beams: K.
    max_new_tokens: T.
    eos_ids: tokens that end a continuation.
    rules: penalties, `min_new_tokens` and `length_penalty` (`sampling.rules_of`).
    done: prompts that get no continuation (rows that only fill a batch).

  Raises:
    ValueError: as `check_beams`.
  """
  (rows, vocab), ends = scores.shape, jnp.array(eos_ids, jnp.int32)
  check_beams(beams, vocab, eos_ids, rules)
  # what may follow an end; it is not written down
  only_end = jnp.full(vocab, -jnp.inf).at[ends[0]].set(0.0)

  def log_probabilities(scores: Array, tokens: Array, length: Array) -> Array:
    log_p = jax.nn.log_softmax(scores.astype(jnp.float32), axis=-1)
    return constrain(log_p, tokens.reshape(-1, max_new_tokens), length, rules, eos_ids)

  def add(carry: tuple) -> tuple:
    length, tokens, last, sums, done, state = carry
    scores, state = step(last.reshape(-1), done.reshape(-1), length, state)
    log_p = log_probabilities(scores, tokens, length).reshape(rows, beams, vocab)
    log_p = jnp.where(done[..., None], only_end, log_p)
    sums, best = jax.lax.top_k((sums[..., None] + log_p).reshape(rows, -1), beams)
    parents, last = best // vocab, (best % vocab).astype(jnp.int32)
    row = (parents + beams * jnp.arange(rows)[:, None]).reshape(-1)
    state = jax.tree.map(lambda x: x[row] if x.ndim else x, state)
    done = jnp.take_along_axis(done, parents, axis=1)
    tokens = jnp.take_along_axis(tokens, parents[..., None], axis=1)
    new = jnp.where(done, NO_TOKEN, last)[..., None]
    tokens = jax.lax.dynamic_update_slice(tokens, new, (0, 0, length))
    return length + 1, tokens, last, sums, done | jnp.isin(last, ends), state

  def unfinished(carry: tuple) -> Bool[Array, '']:
    return (carry[0] < max_new_tokens) & ~jnp.all(carry[4])

  empty = jnp.full((rows, beams, max_new_tokens), NO_TOKEN, jnp.int32)
  sums, last = jax.lax.top_k(log_probabilities(scores, empty[:, 0], jnp.int32(0)), beams)
  ended = jnp.zeros((rows, 1), bool) if done is None else done[:, None]
  tokens = empty.at[..., 0].set(jnp.where(ended, NO_TOKEN, last))
  carry = (jnp.int32(1), tokens, last.astype(jnp.int32), sums, jnp.isin(last, ends) | ended, state)
  _, tokens, _, sums, _, _ = jax.lax.while_loop(unfinished, add, carry)

  lengths = jnp.maximum(jnp.sum(tokens != NO_TOKEN, axis=-1), 1)
  scores = sums / lengths ** jnp.asarray(rules.numbers.get('length_penalty', 0.0), jnp.float32)
  scores, order = jax.lax.top_k(scores, beams)
  return Beams(jnp.take_along_axis(tokens, order[..., None], axis=1), scores)
