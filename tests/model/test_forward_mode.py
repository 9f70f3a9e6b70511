"""Forward-mode derivatives of the whole model's loss, by whatever form attention is computed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from molmo_jax.training.step import batch_loss
from tests.model.tiny import batch, build, config, row


def loss_and_direction(attention: str = 'auto', **fields):
  """The loss as a function of all parameters, parameters, and a direction among them."""
  model, params = build(config(attention=attention, **fields))
  rows = batch(row(2, -2, 3, -2, 2), row(3, -2, 4))
  rng = np.random.default_rng(1)
  direction = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 1, x.shape), x.dtype), params)
  return (lambda p: batch_loss(model, p, rows, 1e-4, 4)[0]), params, direction


@pytest.mark.parametrize('fields', [
  dict(), dict(attention='short'), dict(attention='blockwise'), dict(remat='full'),
  dict(remat='dots'),
  dict(llm=dict(experts=4, experts_per_token=2))],
  ids=['default', 'short rows', 'blocks', 'remat', 'dots kept', 'experts'])
def test_the_derivative_along_a_direction_is_the_gradient_times_the_direction(fields):
  loss, params, direction = loss_and_direction(**fields)
  value, along = jax.jit(lambda p, d: jax.jvp(loss, (p,), (d,)))(params, direction)
  gradient = jax.jit(jax.grad(loss))(params)
  products = jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, direction)
  assert np.allclose(value, loss(params), rtol=1e-5)
  assert np.allclose(along, sum(jax.tree.leaves(products)), rtol=1e-3, atol=1e-5)


def test_the_derivative_along_a_direction_is_that_of_finite_differences():
  loss, params, direction = loss_and_direction()
  moved = jax.jit(lambda t: loss(jax.tree.map(lambda p, d: p + t * d, params, direction)))
  along = jax.jvp(moved, (0.0,), (1.0,))[1]
  assert np.allclose(along, (moved(1e-3) - moved(-1e-3)) / 2e-3, rtol=2e-2)


def test_jacfwd_gives_the_gradient():
  loss, params, _ = loss_and_direction()
  def of_norm(scale):
    return loss({**params, 'decoder': {**params['decoder'], 'norm': {'scale': scale}}})
  scale = params['decoder']['norm']['scale']
  assert np.allclose(jax.jit(jax.jacfwd(of_norm))(scale), jax.jit(jax.grad(of_norm))(scale),
                     atol=1e-5)
