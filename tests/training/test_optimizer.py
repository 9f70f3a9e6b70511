"""Groups of parameters, schedules and clipping (docs/training.md §1.2)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from molmo_jax.training.optimizer import (
  GroupConfig,
  OptimizerConfig,
  clip_by_norm,
  group_norms,
  label_parameters,
  make_optimizer,
  warmup_cosine,
)

PARAMS = {'vit': {'up': jnp.ones(3)}, 'embedding': {'base': jnp.ones(2), 'extra': jnp.ones(2)},
          'connector': {'out': jnp.ones((2, 2))}}
GROUPS = {'frozen': GroupConfig('embedding/base$', frozen=True),
          'connector': GroupConfig('connector/|embedding/extra$', learning_rate=0.1, warmup=0),
          'rest': GroupConfig('.*', learning_rate=0.01, warmup=0)}


def test_the_first_group_that_matches_takes_a_parameter():
  assert label_parameters(PARAMS, GROUPS) == {
    'vit': {'up': 'rest'}, 'embedding': {'base': 'frozen', 'extra': 'connector'},
    'connector': {'out': 'connector'}}


def test_patterns_match_from_the_start_of_a_path():
  groups = {'base': GroupConfig('base'), 'rest': GroupConfig('.*')}
  with pytest.raises(ValueError, match="optimizer.groups.base.pattern='base' matches no parameter"):
    label_parameters(PARAMS, groups)


def test_a_group_that_matches_nothing_is_an_error():
  with pytest.raises(ValueError,
                     match=r"groups.typo.pattern='vti/' matches no parameter "
                           r".*'connector', 'embedding'"):
    label_parameters(PARAMS, {'typo': GroupConfig('vti/'), **GROUPS})


def test_an_optional_group_may_match_nothing():
  groups = {'absent': GroupConfig('vti/', optional=True), **GROUPS}
  optimizer = make_optimizer(OptimizerConfig(groups), 10, PARAMS)
  updates, _ = optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS)
  assert jax.tree.structure(updates) == jax.tree.structure(PARAMS)
  assert float(group_norms(PARAMS, groups)['absent']) == 0.0


def test_a_group_whose_parameters_an_earlier_one_takes_is_an_error():
  with pytest.raises(ValueError, match='groups.late.pattern'):
    label_parameters(PARAMS, {**GROUPS, 'late': GroupConfig('vit/')})


def test_a_parameter_of_no_group_is_an_error():
  groups = {name: group for name, group in GROUPS.items() if name != 'rest'}
  with pytest.raises(ValueError, match="no group of optimizer.groups matches 1 parameters, the "
                     "first is 'vit/up'"):
    label_parameters(PARAMS, groups)


@pytest.mark.parametrize('warmup, values', [
  (200, (.005, .5, 1, .998503, .992437, .793288, .554590, .508748, .1)),
  (2000, (.0005, .05, .1, .5, 1, .841324, .598654, .550000, .1))])
def test_the_schedule_has_the_values_of_the_released_recipe(warmup, values):
  steps = np.array([1, 100, 200, 1000, 2000, 10000, 15500, 16500, 31000])
  found = jax.vmap(warmup_cosine(1.0, warmup, 31000, 0.1))(steps - 1)
  assert np.allclose(found, values, atol=2e-6)


def test_the_schedule_stays_at_its_last_value():
  schedule = warmup_cosine(2.0, 10, 100, 0.1)
  assert np.allclose([schedule(99), schedule(100), schedule(5000)], 0.2)


def test_clipping_scales_to_the_norm_but_never_up():
  clip = clip_by_norm(1.0)
  large, _ = clip.update({'a': jnp.array([3.0]), 'b': jnp.array([4.0])}, clip.init(None))
  assert np.allclose([large['a'][0], large['b'][0]], [0.6, 0.8], atol=1e-5)
  small, _ = clip.update({'a': jnp.array([0.3])}, clip.init(None))
  assert np.allclose(small['a'], 0.3)


def one_update(gradients, **fields):
  config = OptimizerConfig(groups=GROUPS, **fields)
  optimizer = make_optimizer(config, 1000, PARAMS)
  updates, state = jax.jit(optimizer.update)(gradients, optimizer.init(PARAMS), PARAMS)
  return optax.apply_updates(PARAMS, updates), state


def test_frozen_parameters_stay_and_keep_no_state():
  params, state = one_update(jax.tree.map(jnp.ones_like, PARAMS), weight_decay=0.5)
  assert np.array_equal(params['embedding']['base'], PARAMS['embedding']['base'])
  assert not np.array_equal(params['embedding']['extra'], PARAMS['embedding']['extra'])
  assert not any(isinstance(x, jax.Array) for x in jax.tree.leaves(state.inner_states['frozen']))


def test_every_group_has_its_own_learning_rate():
  # the first step of Adam moves by the learning rate
  params, _ = one_update(jax.tree.map(jnp.ones_like, PARAMS))
  peak = warmup_cosine(1.0, 0, 1000, 0.1)(0)
  assert np.allclose(1 - params['connector']['out'], 0.1 * peak, rtol=1e-4)
  assert np.allclose(1 - params['vit']['up'], 0.01 * peak, rtol=1e-4)


def test_every_group_is_clipped_on_its_own():
  gradients = jax.tree.map(jnp.ones_like, PARAMS)
  huge = gradients | {'vit': {'up': jnp.full(3, 1e6)}}
  _, state = one_update(huge)
  moments = state.inner_states['connector'].inner_state[1][0].mu
  # 1 − b2… of a norm of one, not of 1e6
  assert np.allclose(moments['connector']['out'], 0.1 / np.sqrt(6), rtol=1e-3)
  moments = state.inner_states['rest'].inner_state[1][0].mu
  assert np.allclose(moments['vit']['up'], 0.1 / np.sqrt(3), rtol=1e-3)


def test_weight_decay_pulls_parameters_to_zero():
  still = jax.tree.map(jnp.zeros_like, PARAMS)
  params, _ = one_update(still, weight_decay=0.5)
  assert np.allclose(params['connector']['out'],
                     1 - 0.5 * 0.1 * warmup_cosine(1.0, 0, 1000, 0.1)(0), rtol=1e-5)
  assert np.array_equal(one_update(still)[0]['connector']['out'], PARAMS['connector']['out'])
