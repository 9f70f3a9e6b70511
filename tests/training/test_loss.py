"""The chunked loss."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from molmo_jax.training.loss import loss_sums

B, S, D, VOCAB = 2, 7, 4, 11
HIDDEN = jax.random.normal(jax.random.key(0), (B, S, D))
HEAD = jax.random.normal(jax.random.key(1), (VOCAB, D))
TARGETS = jax.random.randint(jax.random.key(2), (B, S), 0, VOCAB)
WEIGHTS = jnp.array([[0, 0, 1, 0.5, 2, 0, 1], [0, 1, 1, 0, 0, 0, 0.25]])


def by_hand(hidden, targets, weights):
  scores = np.asarray(hidden, np.float64) @ np.asarray(HEAD, np.float64).T
  log_z = np.log(np.exp(scores).sum(-1))
  picked = np.take_along_axis(scores, np.asarray(targets)[..., None], -1)[..., 0]
  weights = np.asarray(weights)
  return ((weights * (log_z - picked)).sum(), (weights * log_z ** 2).sum(),
          (weights * (scores.argmax(-1) == np.asarray(targets))).sum(), weights.sum())


@pytest.mark.parametrize('chunk', [1, 3, 7, 100])
def test_sums_and_gradients_do_not_depend_on_the_chunk(chunk):
  def run(hidden, head):
    sums = loss_sums(hidden, head, TARGETS, WEIGHTS, chunk)
    return sums.cross_entropy + sums.z, sums
  (_, sums), gradients = jax.jit(jax.value_and_grad(run, (0, 1), has_aux=True))(HIDDEN, HEAD)
  assert np.allclose(jax.tree.leaves(sums), by_hand(HIDDEN, TARGETS, WEIGHTS), rtol=1e-5)

  def plain(hidden, head):
    scores = hidden @ head.T
    log_z = jax.nn.logsumexp(scores, axis=-1)
    picked = jnp.take_along_axis(scores, TARGETS[..., None], -1)[..., 0]
    return jnp.sum(WEIGHTS * (log_z - picked + log_z ** 2))
  for found, expected in zip(gradients, jax.grad(plain, (0, 1))(HIDDEN, HEAD), strict=True):
    assert np.allclose(found, expected, atol=1e-4)


def test_targets_without_weight_do_not_count_even_outside_the_vocabulary():
  outside = jnp.where(WEIGHTS == 0, -1, TARGETS)
  found, expected = (loss_sums(HIDDEN, HEAD, targets, WEIGHTS, 3) for targets in (outside, TARGETS))
  assert np.allclose(jax.tree.leaves(found), jax.tree.leaves(expected))


def test_accuracy_counts_weights_of_right_tokens():
  scores = HIDDEN @ HEAD.T
  best = jnp.argmax(scores, axis=-1)
  second, first = np.sort(scores)[..., -2:].transpose(2, 0, 1)
  assert (first - second).min() > 1e-3            # rounding decides nothing
  sums = loss_sums(HIDDEN, HEAD, best, WEIGHTS, 4)
  assert float(sums.correct) == float(sums.weight) == float(WEIGHTS.sum())
  wrong = loss_sums(HIDDEN, HEAD, best.at[0, 4].add(1) % VOCAB, WEIGHTS, 4)
  assert float(wrong.correct) == float(WEIGHTS.sum()) - 2


def test_scores_are_float32_when_the_head_is_not():
  sums = loss_sums(HIDDEN, HEAD.astype(jnp.bfloat16), TARGETS, WEIGHTS, 4)
  assert {x.dtype for x in jax.tree.leaves(sums)} == {jnp.dtype('float32')}
  assert np.isclose(float(sums.cross_entropy), by_hand(HIDDEN, TARGETS, WEIGHTS)[0], rtol=2e-2)


def test_logits_of_the_whole_row_never_exist():
  jaxpr = str(jax.make_jaxpr(
    jax.grad(lambda h: loss_sums(h, HEAD, TARGETS, WEIGHTS, 2).cross_entropy))(HIDDEN))
  assert f'{B},2,{VOCAB}' in jaxpr
  assert f'{B},{S},{VOCAB}' not in jaxpr
  assert f'4,{B},2,{VOCAB}' not in jaxpr   # all chunks kept for the backward pass would be the same
