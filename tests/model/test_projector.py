"""Every value of `connector.projector`."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from molmo_jax.model.config import ConnectorConfig
from molmo_jax.model.projector import Projector

X = jax.random.normal(jax.random.key(0), (2, 3, 6))


def make(kind):
  projector = Projector(dataclasses.replace(ConnectorConfig(), projector=kind, hidden=10), width=5)
  return projector, projector.init(jax.random.key(1), X)['params']


def gated(p, x):
  gate, up, down = (np.asarray(p[n]['kernel']) for n in ('gate', 'up', 'down'))
  z = x @ gate
  return (z / (1 + np.exp(-z)) * (x @ up)) @ down


def test_mlp_is_gated_by_silu_of_the_gate():
  projector, params = make('mlp')
  assert np.allclose(projector.apply({'params': params}, X), gated(params['mlp'], np.asarray(X)),
                     atol=1e-5)


def test_2mlp_adds_a_second_mlp_to_the_first():
  projector, params = make('2mlp')
  y = gated(params['mlp'], np.asarray(X))
  assert np.allclose(projector.apply({'params': params}, X), y + gated(params['residual_mlp'], y),
                     atol=1e-5)


def test_linear_is_one_matrix_with_xavier_bounds():
  projector, params = make('linear')
  kernel = params['linear']['kernel']
  assert np.allclose(projector.apply({'params': params}, X), X @ kernel, atol=1e-5)
  assert np.abs(kernel).max() <= np.sqrt(6 / (6 + 5))
  assert len(jax.tree.leaves(params)) == 1


def test_random_linear_is_never_trained_but_passes_gradients_on():
  projector, params = make('random_linear')
  assert np.abs(params['kernel']).max() <= 0.02
  weights, inputs = jax.grad(lambda p, x: jnp.sum(projector.apply({'params': p}, x) ** 2),
                             (0, 1))(params, X)
  assert not weights['kernel'].any()
  assert inputs.any()


@pytest.mark.parametrize('kind', ['mlp', 'linear', '2mlp'])
def test_the_others_are_trained_in_every_weight(kind):
  projector, params = make(kind)
  gradients = jax.grad(lambda p: jnp.sum(projector.apply({'params': p}, X) ** 2))(params)
  assert all(np.isfinite(g).all() and g.any() for g in jax.tree.leaves(gradients))


@pytest.mark.parametrize('kind', ['mlp', 'linear', 'random_linear', '2mlp'])
def test_no_projector_has_a_bias_or_another_width_than_the_language_model(kind):
  projector, params = make(kind)
  assert projector.apply({'params': params}, X).shape == (2, 3, 5)
  assert not projector.apply({'params': params}, jnp.zeros_like(X)).any()
