"""One training step: what it changes, what it reports, and that it repeats itself."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from molmo_jax.model.molmo import Network
from molmo_jax.training.optimizer import GroupConfig, OptimizerConfig, make_optimizer, warmup_cosine
from molmo_jax.training.state import TrainState, abstract_params, init_state
from molmo_jax.training.step import TrainingConfig, batch_loss, make_train_step
from tests.model.tiny import CONFIG, batch, build, close, config, logits, row

GROUPS = {'frozen': GroupConfig('embedding/base$', frozen=True),
          'all': GroupConfig('.*', learning_rate=0.01, warmup=2)}
TRAINING = TrainingConfig(steps=10, loss_chunk=4)
ROWS = jax.tree.map(jnp.asarray, batch(row(2, -2, 3), row(3, -2, 1)))


def setup(c=CONFIG, training=TRAINING, eps=1e-6):
  model, params = build(c)
  optimizer_config = OptimizerConfig(groups=GROUPS, eps=eps)
  optimizer = make_optimizer(optimizer_config, training.steps, params)
  state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params),
                     jax.random.key_data(jax.random.key(0)))
  return model, state, jax.jit(make_train_step(model, optimizer, training, optimizer_config))


@pytest.fixture(scope='module')
def trained():
  """Model, the states before and after one, two and three steps, the metrics of each step, and the
  step itself.
  """
  model, state, step = setup()
  states, metrics = [state], []
  for _ in range(3):
    state, values = step(state, ROWS)
    states.append(state)
    metrics.append(values)
  return model, states, metrics, step


def test_steps_lower_the_loss_of_their_own_batch(trained):
  losses = [float(values['loss']) for values in trained[2]]
  assert losses[2] < losses[1] < losses[0]


def test_a_frozen_group_does_not_change_and_the_others_do(trained):
  before, after = trained[1][:2]
  assert np.array_equal(after.params['embedding']['base'], before.params['embedding']['base'])
  for name in ('vit', 'connector', 'decoder'):
    same = jax.tree.map(np.array_equal, before.params[name], after.params[name])
    assert not all(jax.tree.leaves(same)), name


def test_the_step_is_counted_and_the_key_stays(trained):
  states = trained[1]
  assert [int(s.step) for s in states] == [0, 1, 2, 3]
  assert np.array_equal(states[0].rng, states[2].rng)


def test_metrics_are_of_the_batch_and_the_step(trained):
  model, states, (metrics, *_), _ = trained
  expected, parts = batch_loss(model, states[0].params, ROWS, 0.0, 100)
  assert np.isclose(metrics['loss'], expected, rtol=1e-5)
  assert np.isclose(metrics['accuracy'], parts['accuracy'])
  assert float(metrics['tokens']) == 7 + 6
  assert float(metrics['loss_weight']) == float(ROWS['loss_weights'].sum())
  assert np.isclose(metrics['learning_rate/all'], warmup_cosine(0.01, 2, 10, 0.1)(0))
  assert 'learning_rate/frozen' not in metrics
  assert float(metrics['gradient_norm']) > 0


def test_the_loss_is_a_mean_over_all_weights_of_the_batch():
  model, params = build()
  parts = [batch(row(2, -2, 3)), batch(row(3, -2, 2))]
  both = batch(row(2, -2, 3), row(3, -2, 2))
  losses, weights = [], []
  run = jax.jit(lambda p, b: batch_loss(model, p, b, 0.0, 100))
  for part in parts:
    loss, metrics = run(params, part)
    losses.append(float(loss))
    weights.append(float(metrics['loss_weight']))
  assert np.isclose(run(params, both)[0], np.average(losses, weights=weights), rtol=1e-5)
  assert np.isclose(run(params, both | {'loss_weights': both['loss_weights'] * 3})[0],
                    run(params, both)[0], rtol=1e-5)


def test_z_loss_adds_its_share_of_the_squared_logsumexp():
  model, params = build()
  run = jax.jit(lambda z: batch_loss(model, params, ROWS, z, 100)[0])
  log_z = jax.nn.logsumexp(logits(model, params, ROWS), axis=-1)
  expected = float(jnp.average(log_z ** 2, weights=ROWS['loss_weights']))
  assert np.isclose((run(0.5) - run(0.0)) / 0.5, expected, rtol=1e-3)


def test_dropout_differs_from_step_to_step_but_not_from_run_to_run():
  _, state, step = setup(config(llm=dict(residual_dropout=0.3)))
  losses = [float(step(TrainState(jnp.int32(i), state.params, state.opt_state, state.rng),
                       ROWS)[1]['loss'])
            for i in (0, 1, 0)]
  assert losses[0] == losses[2] != losses[1]


def test_a_batch_without_loss_tokens_gives_no_gradient(trained):
  _, states, _, step = trained
  _, metrics = step(states[0], ROWS | {'loss_weights': ROWS['loss_weights'] * 0})
  assert float(metrics['loss']) == float(metrics['gradient_norm']) == 0


def test_a_fresh_state_depends_on_its_seed_alone():
  model = Network(CONFIG)
  shapes = abstract_params(model.config)
  optimizer = make_optimizer(OptimizerConfig(groups=GROUPS), 10, shapes)
  make = jax.jit(lambda seed: init_state(model, optimizer, jax.random.key(seed)))
  first, same, other = make(0), make(0), make(1)
  assert close(first.params, same.params, 0)
  assert not np.array_equal(first.params['embedding']['base'], other.params['embedding']['base'])
  assert not np.array_equal(first.rng, other.rng)
  assert int(first.step) == 0
  assert jax.tree.map(jnp.shape, first.params) == jax.tree.map(jnp.shape, shapes)
  assert np.std(first.params['embedding']['extra']) == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize('parts', [2, 4])
def test_a_batch_in_parts_gives_the_same_update(parts):
  # The bias of a key has no gradient (softmax does not see it): what is computed for it is
  # rounding, another one on every processor. With Adam's usual eps the update would be rounding
  # divided by rounding; with a large one it is about proportional to the gradient, which both ways
  # of summing determine.
  eps = 1e-2
  rows = jax.tree.map(jnp.asarray,
                      batch(row(2, -2, 3), row(3, -2, 1), row(1, -2, 5), row(4, -2, 2)))
  _, state, whole = setup(eps=eps)
  _, _, in_parts = setup(training=dataclasses.replace(TRAINING, accumulate=parts), eps=eps)
  (first, metrics), (second, metrics_in_parts) = whole(state, rows), in_parts(state, rows)
  assert not close(first.params, state.params, 1e-4)
  assert close(first.params, second.params, 1e-6)
  assert close(metrics, metrics_in_parts, 1e-5)


def test_a_number_of_parts_that_does_not_divide_the_rows_is_refused():
  _, state, step = setup(training=dataclasses.replace(TRAINING, accumulate=3))
  with pytest.raises(ValueError, match='training.accumulate=3 must divide the 2 rows'):
    step(state, ROWS)


def test_gradient_norms_of_groups_make_up_the_whole(trained):
  metrics = trained[2][0]
  norms = [float(metrics[name]) for name in metrics if name.startswith('gradient_norm/')]
  assert len(norms) == 1   # one group is not frozen
  assert 0 < norms[0] <= float(metrics['gradient_norm'])


@pytest.mark.parametrize('profile', [(0, 3), (4, 3), (3, 11)])
def test_a_profile_window_outside_of_the_run_is_refused(profile):
  with pytest.raises(ValueError, match='training.profile=.* must be two steps of the run'):
    TrainingConfig(steps=10, profile=profile)
