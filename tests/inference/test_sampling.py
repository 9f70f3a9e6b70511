"""Every rule against numbers worked by hand, and the draws against their probabilities."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from molmo_jax.inference import sampling
from molmo_jax.inference.sampling import next_tokens, rules_of
from molmo_jax.inference.settings import GenerationConfig

P = np.array([0.4, 0.3, 0.2, 0.1])
block = jax.jit(sampling.block_repeated_ngrams, static_argnums=3)
LOG_P = jnp.log(jnp.asarray(P, jnp.float32))[None]


def answers(*tokens, room=6):
  return jnp.asarray([list(tokens) + [-1] * (room - len(tokens))], jnp.int32)


def allowed(log_p):
  return np.flatnonzero(np.isfinite(log_p[0])).tolist()


def test_a_repetition_penalty_multiplies_the_log_probability_of_what_the_answer_has():
  found = sampling.penalise_repetition(LOG_P, answers(1, 3, 1), 1.5)
  assert np.allclose(found, np.log(P) * [1, 1.5, 1, 1.5])


def test_a_frequency_penalty_is_taken_for_every_time():
  found = sampling.penalise_frequency(LOG_P, answers(1, 3, 1), 0.5)
  assert np.allclose(found, np.log(P) - [0, 1, 0, 0.5])


@pytest.mark.parametrize('tokens, n, left', [
  ((1, 2, 1), 2, [0, 1, 3]),            # 1 2 would come again
  ((1, 2, 1), 1, [0, 3]),               # no token twice
  ((1, 2, 1), 3, [0, 1, 2, 3]),
  ((1, 2, 3, 1, 2), 3, [0, 1, 2]),
  ((1, 1), 2, [0, 2, 3]),               # an n-gram may overlap the one it repeats
  ((), 2, [0, 1, 2, 3]), ((1,), 2, [0, 1, 2, 3]), ((0, 1, 0, 2, 0), 2, [0, 3]),
  ((1, 2), 9, [0, 1, 2, 3])])
def test_ngrams_do_not_come_twice(tokens, n, left):
  assert allowed(block(LOG_P, answers(*tokens), jnp.int32(len(tokens)), n)) == left


def test_ngram_rule_equals_a_direct_reading_on_random_answers():
  rng = np.random.default_rng(0)
  for length, n in ((12, 2), (9, 3)):
    tokens = np.full((20, 16), -1)
    tokens[:, :length] = rng.integers(0, 3, (20, length))
    found = block(jnp.zeros((20, 3)), jnp.asarray(tokens), jnp.int32(length), n)
    for row, log_p in zip(tokens, np.asarray(found), strict=True):
      made = row[:length].tolist()
      grams = {tuple(made[i:i + n]) for i in range(length - n + 1)}
      banned = [tuple(made[length - n + 1:] + [t]) in grams for t in range(3)]
      assert np.array_equal(np.isinf(log_p), banned)


@pytest.mark.parametrize('k, left', [(1, [0]), (2, [0, 1]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])])
def test_top_k_keeps_the_best(k, left):
  assert allowed(sampling.keep_top_k(LOG_P, k)) == left


@pytest.mark.parametrize(
  'p, left', [(0.01, [0]), (0.39, [0]), (0.41, [0, 1]), (0.69, [0, 1]), (0.71, [0, 1, 2]),
              (0.95, [0, 1, 2, 3]), (1.0, [0, 1, 2, 3])])
def test_top_p_keeps_the_fewest_that_reach_the_sum(p, left):
  assert allowed(sampling.keep_top_p(LOG_P, p)) == left
  # neither order nor normalisation matters
  shuffled = sampling.keep_top_p(LOG_P[:, ::-1] - 7, p)
  assert allowed(shuffled[:, ::-1]) == left


def draw(count=4000, seed=0, made=(), **settings):
  tokens = answers(*made)
  rules = rules_of(GenerationConfig(seed=seed, **settings))
  keys = sampling.row_keys(seed, np.arange(count))
  length = jnp.int32((np.asarray(tokens)[0] >= 0).sum())
  scores, tokens = jnp.tile(LOG_P + 3, (count, 1)), jnp.tile(tokens, (count, 1))
  return np.asarray(jax.jit(next_tokens, static_argnums=4)(scores, tokens, length, rules, (0,),
                                                           sampling.step_keys(keys, length)))


@pytest.mark.parametrize('settings, expected', [
  (dict(temperature=1.0), P), (dict(temperature=0.5), P ** 2 / (P ** 2).sum()),
  (dict(temperature=1.0, top_k=2), np.array([4, 3, 0, 0]) / 7),
  (dict(temperature=2.0, top_p=0.6), np.sqrt([0.4, 0.3, 0, 0]) / np.sqrt([0.4, 0.3]).sum()),
  (dict(temperature=1.0, top_k=3, top_p=0.5), np.array([4, 3, 0, 0]) / 7),
  (dict(temperature=1.0, min_new_tokens=1), np.array([0, 3, 2, 1]) / 6)])
def test_draws_follow_the_probabilities_from_the_first_token_on(settings, expected):
  shares = np.bincount(draw(**settings), minlength=4) / 4000
  assert np.abs(shares - expected).max() < 0.03
  assert (shares[expected == 0] == 0).all()


def test_a_draw_depends_on_seed_row_and_step_alone():
  assert np.array_equal(draw(temperature=1.0), draw(temperature=1.0))
  assert not np.array_equal(draw(temperature=1.0), draw(temperature=1.0, seed=1))
  assert not np.array_equal(draw(temperature=1.0), draw(temperature=1.0, made=(2,)))
  assert np.array_equal(draw(temperature=1.0)[:7], draw(7, temperature=1.0))


def test_without_a_temperature_the_best_token_is_taken_under_the_rules():
  choose = lambda tokens, **settings: int(next_tokens(
    LOG_P, answers(*tokens), jnp.int32(len(tokens)), rules_of(GenerationConfig(**settings)),
    (0,))[0])
  assert choose(()) == 0
  assert choose((), min_new_tokens=1) == 1
  assert choose((0,), min_new_tokens=1) == 0
  assert choose((0,), repetition_penalty=1.5) == 1
  assert choose((0,), frequency_penalty=1.0) == 1
  assert choose((0, 1, 0), no_repeat_ngram=2) == 0
  assert choose((0, 1, 2, 0), no_repeat_ngram=2) == 0
  assert choose((1, 0, 0, 1), no_repeat_ngram=2) == 1
