"""From scores to the next token: constraints, penalties, and sampling. Pure functions of arrays.

Letters of shapes: `R` rows (prompts, or all beams of all prompts), `T` slots for new tokens.
`tokens` int32 [R,T] are the answers so far, −1 where there is none yet; the prompt takes no part.
Log-probabilities are float32 [R,vocab], and a token that must not come has −inf.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

from molmo_jax.inference.settings import GenerationConfig


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rules:
  """The part of the settings that a step of the loop needs.

  `numbers` holds only what differs from the defaults. Its keys and the other fields decide which
  program is compiled, its values do not: another temperature needs no new program.
  """
  numbers: dict[str, Array] = dataclasses.field(default_factory=dict)
  top_k: int = dataclasses.field(default=0, metadata=dict(static=True))
  no_repeat_ngram: int = dataclasses.field(default=0, metadata=dict(static=True))

  @property
  def samples(self) -> bool:
    """Whether tokens are sampled, rather than the best one taken."""
    return 'temperature' in self.numbers


GREEDY = Rules()
_NUMBERS = ('min_new_tokens', 'temperature', 'top_p', 'repetition_penalty', 'frequency_penalty',
            'length_penalty')


def rules_of(settings: GenerationConfig) -> Rules:
  """The rules of `settings`; those of the default settings are `GREEDY`."""
  default = GenerationConfig()
  numbers: dict[str, Any] = {
    name: (np.int32 if name == 'min_new_tokens' else np.float32)(getattr(settings, name))
    for name in _NUMBERS if getattr(settings, name) != getattr(default, name)}
  if settings.beams == 1:   # orders beams alone
    numbers.pop('length_penalty', None)
  return Rules(numbers, settings.top_k, settings.no_repeat_ngram)


def next_tokens(scores: Float[Array, 'R vocab'], tokens: Int[Array, 'R T'], length: Int[Array, ''],
                rules: Rules, eos_ids: tuple[int, ...], keys: Array | None = None
                ) -> Int[Array, 'R']:
  """The token that follows `length` tokens of every answer.

  Args:
    scores: of the model, unnormalised.
    tokens, length: the answers so far; `length` columns are in use.
    rules: which tokens may follow, and how one is chosen.
    eos_ids: tokens that end an answer.
    keys: a `jax.random` key for every row, of this step alone; needed where the rules
      sample, else unused.
  """
  if not (rules.numbers or rules.no_repeat_ngram):
    return jnp.argmax(scores, axis=-1).astype(jnp.int32)
  log_p = constrain(jax.nn.log_softmax(scores.astype(jnp.float32)), tokens, length, rules, eos_ids)
  if not rules.samples:
    return jnp.argmax(log_p, axis=-1).astype(jnp.int32)
  log_p = log_p / rules.numbers['temperature']
  if rules.top_k:
    log_p = keep_top_k(log_p, rules.top_k)
  if 'top_p' in rules.numbers:
    log_p = keep_top_p(log_p, rules.numbers['top_p'])
  assert keys is not None, 'rules that sample need keys'
  return jax.vmap(jax.random.categorical)(keys, log_p).astype(jnp.int32)


def constrain(log_p: Float[Array, 'R vocab'], tokens: Int[Array, 'R T'], length: Int[Array, ''],
              rules: Rules, eos_ids: tuple[int, ...]) -> Float[Array, 'R vocab']:
  """Log-probabilities under the rules that hold for greedy, sampled and beam-searched tokens."""
  numbers = rules.numbers
  if 'repetition_penalty' in numbers:
    log_p = penalise_repetition(log_p, tokens, numbers['repetition_penalty'])
  if 'frequency_penalty' in numbers:
    log_p = penalise_frequency(log_p, tokens, numbers['frequency_penalty'])
  if rules.no_repeat_ngram:
    log_p = block_repeated_ngrams(log_p, tokens, length, rules.no_repeat_ngram)
  if 'min_new_tokens' in numbers and eos_ids:
    log_p = jnp.where(length < numbers['min_new_tokens'], forbid(log_p, eos_ids), log_p)
  return log_p


def forbid(log_p: Float[Array, '*rows vocab'], ids: tuple[int, ...]) -> Float[Array, '*rows vocab']:
  """−inf for some tokens."""
  return log_p.at[..., jnp.asarray(ids, jnp.int32)].set(-jnp.inf)


def count_tokens(tokens: Int[Array, 'R T'], vocab: int) -> Int[Array, 'R vocab']:
  """How often every token of the vocabulary is in every answer; −1 is not counted."""
  rows = jnp.arange(tokens.shape[0])[:, None]
  return jnp.zeros((tokens.shape[0], vocab),
                   jnp.int32).at[rows, tokens].add((tokens >= 0).astype(jnp.int32))


def penalise_repetition(log_p: Float[Array, 'R vocab'], tokens: Int[Array, 'R T'],
                        penalty: float | Array) -> Float[Array, 'R vocab']:
  """Log-probabilities, which are never positive, times `penalty` for the tokens that the answer has
  already.
  """
  return jnp.where(count_tokens(tokens, log_p.shape[-1]) > 0, log_p * penalty, log_p)


def penalise_frequency(log_p: Float[Array, 'R vocab'], tokens: Int[Array, 'R T'],
                       penalty: float | Array) -> Float[Array, 'R vocab']:
  """Log-probabilities minus `penalty` for every time that the answer has the token already."""
  return log_p - penalty * count_tokens(tokens, log_p.shape[-1])


def block_repeated_ngrams(log_p: Float[Array, 'R vocab'], tokens: Int[Array, 'R T'],
                          length: Int[Array, ''], n: int) -> Float[Array, 'R vocab']:
  """−inf for every token that would end a sequence of `n` tokens which the answer has already."""
  rows, slots = tokens.shape
  if n > slots:
    return log_p
  start = jnp.maximum(length - (n - 1), 0)
  # the last n − 1 tokens
  suffix = jax.lax.dynamic_slice_in_dim(tokens, start, n - 1, axis=1)
  # where an n-gram can begin
  starts = slots - n + 1
  same: Bool[Array, 'R starts'] = jnp.arange(starts) + n <= length
  for i in range(n - 1):
    same = same & (tokens[:, i:i + starts] == suffix[:, i:i + 1])
  last = tokens[:, n - 1:]
  blocked = jnp.zeros(log_p.shape, bool).at[jnp.arange(rows)[:, None], last].max(same & (last >= 0))
  return jnp.where(blocked, -jnp.inf, log_p)


def keep_top_k(log_p: Float[Array, 'R vocab'], k: int) -> Float[Array, 'R vocab']:
  """−inf for all but the `k` best tokens of a row; those that equal the last of them stay, too."""
  lowest = jax.lax.top_k(log_p, min(k, log_p.shape[-1]))[0][:, -1:]
  return jnp.where(log_p < lowest, -jnp.inf, log_p)


def keep_top_p(log_p: Float[Array, 'R vocab'], p: float | Array) -> Float[Array, 'R vocab']:
  """−inf for all but the fewest best tokens whose probabilities add up to at least `p`; at least
  one stays.

  The log-probabilities need not be normalised. Tokens that equal the last of them stay, too.
  """
  ordered = jnp.sort(log_p, axis=-1, descending=True)
  probabilities = jax.nn.softmax(ordered, axis=-1)
  before = jnp.cumsum(probabilities, axis=-1) - probabilities     # of all better tokens
  lowest = jnp.min(jnp.where((before < p) | (jnp.arange(log_p.shape[-1]) == 0), ordered, jnp.inf),
                   -1, keepdims=True)
  return jnp.where(log_p < lowest, -jnp.inf, log_p)


def row_keys(seed: int, rows: Int[Array, 'R']) -> Array:
  """A `jax.random` key for every row from the run's seed and a number of the row's own, wherever it
  lies in a batch.
  """
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(seed),
                                                         jnp.asarray(rows, jnp.uint32))


def step_keys(keys: Array, length: Int[Array, '']) -> Array:
  """The keys of the sample that follows `length` tokens."""
  return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, length)
