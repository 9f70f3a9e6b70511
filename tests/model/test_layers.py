"""The elementary layers, and a stack of blocks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from molmo_jax.model.layers import (
  ACTIVATIONS,
  Einsum,
  LayerNorm,
  RMSNorm,
  apply_stack,
  dropout,
  init_stack,
)
from molmo_jax.model.projector import GatedMlp
from tests.model.tiny import close


def test_rms_norm_divides_by_the_root_mean_square_and_multiplies_by_the_weight():
  x = jnp.array([[3.0, 4.0]])
  y = RMSNorm(0.5).apply({'params': {'scale': jnp.array([2.0, 10.0])}}, x)
  # mean of squares 12.5, plus 0.5
  assert np.allclose(y, [[2 * 3 / np.sqrt(13), 10 * 4 / np.sqrt(13)]], atol=1e-6)


def test_rms_norm_casts_back_before_it_multiplies_by_the_weight():
  x = (jax.random.normal(jax.random.key(0), (64, 256)) * 3).astype(jnp.bfloat16)
  scale = jax.random.normal(jax.random.key(1), (256,)) + 1
  y = RMSNorm(1e-6).apply({'params': {'scale': scale}}, x)
  wide = x.astype(jnp.float32)
  normed = wide / jnp.sqrt(jnp.mean(wide ** 2, -1, keepdims=True) + 1e-6)
  assert y.dtype == jnp.bfloat16
  # How a root is rounded depends on the processor: a few values fall on the other side.
  assert np.mean(y == normed.astype(jnp.bfloat16) * scale.astype(jnp.bfloat16)) > 0.99
  assert np.mean(y == (normed * scale).astype(jnp.bfloat16)) < 0.9


def test_rms_norm_squares_in_float32():
  # read off the program: old processors cannot compute in half precision, which would show it
  run = lambda x: RMSNorm(1e-12).apply({'params': {'scale': jnp.ones(4)}}, x)
  steps = jax.make_jaxpr(run)(jnp.ones((1, 4), jnp.bfloat16)).eqns
  squared = [step.invars[0].aval.dtype for step in steps
             if step.primitive.name in ('square', 'integer_pow', 'mul')]
  assert squared[0] == jnp.float32


def test_layer_norm_takes_mean_and_variance_and_adds_the_bias():
  x = jnp.array([[1.0, 3.0, 5.0]])
  y = LayerNorm(0.0).apply(
    {'params': {'scale': jnp.array([1.0, 2.0, 3.0]), 'bias': jnp.array([0.0, 1.0, 0.0])}}, x)
  assert np.allclose(y, [[-np.sqrt(1.5), 1, 3 * np.sqrt(1.5)]], atol=1e-6)


def test_einsum_is_the_product_of_its_equation_in_its_dtype():
  x = jax.random.normal(jax.random.key(0), (2, 3, 4))
  kernel, bias = jax.random.normal(jax.random.key(1), (4, 5, 6)), jnp.arange(30.0).reshape(5, 6)
  layer = Einsum('bsd,dnh->bsnh', (4, 5, 6), (5, 6))
  y = layer.apply({'params': {'kernel': kernel, 'bias': bias}}, x)
  assert np.allclose(y, np.einsum('bsd,dnh->bsnh', x, kernel) + bias, atol=1e-5)
  low = Einsum('bsd,dnh->bsnh', (4, 5, 6), dtype=jnp.bfloat16)
  params = low.init_with_output(jax.random.key(0), x)[1]['params']
  assert low.apply({'params': params}, x).dtype == jnp.bfloat16
  assert params['kernel'].dtype == jnp.float32


@pytest.mark.parametrize('equation, x_shape, shape', [
  ('bsd,dnh->bsnh', (2, 3, 4), (4, 5, 6)), ('bsnh,nhd->bsd', (2, 3, 5, 6), (5, 6, 4)),
  ('bvwf,fkh->bvwkh', (2, 3, 4, 5), (5, 2, 3))])
def test_gradients_of_einsum_are_those_of_a_plain_product(equation, x_shape, shape):
  x, kernel = jax.random.normal(jax.random.key(0), x_shape), jax.random.normal(jax.random.key(1),
                                                                               shape)
  layer = Einsum(equation, shape)
  ours = jax.grad(lambda k, x: jnp.sum(jnp.sin(layer.apply({'params': {'kernel': k}}, x))),
                  (0, 1))(kernel, x)
  plain = jax.grad(lambda k, x: jnp.sum(jnp.sin(jnp.einsum(equation, x, k))), (0, 1))(kernel, x)
  assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(ours, plain))


@pytest.mark.parametrize('equation, x_shape, shape, fan_in', [
  ('bsd,dnh->bsnh', (1, 1, 64), (64, 8, 64), 64),
  ('bsnh,nhd->bsd', (1, 1, 8, 64), (8, 64, 64), 512)])
def test_kernels_start_with_deviation_one_over_root_fan_in(equation, x_shape, shape, fan_in):
  made = Einsum(equation, shape).init_with_output(jax.random.key(0), jnp.zeros(x_shape))[1]
  kernel = made['params']['kernel']
  assert np.std(kernel) == pytest.approx(fan_in ** -0.5, rel=0.05)


def test_activations_have_their_known_values_at_one():
  known = dict(gelu_tanh=0.841192, gelu=0.841345, quick_gelu=0.845796, silu=0.731059)
  assert {n: round(float(f(jnp.float32(1))), 6) for n, f in ACTIVATIONS.items()} == known


def test_dropout_keeps_the_mean_and_drops_its_rate():
  x = jnp.ones((100, 100))
  y = dropout(x, 0.25, jax.random.key(0))
  assert np.mean(y == 0) == pytest.approx(0.25, abs=0.02)
  assert np.allclose(y[y != 0], 4 / 3)
  assert dropout(x, 0.25, None) is x


def test_dropout_rates_hold_per_position():
  y = dropout(jnp.ones((2, 2000)), jnp.array([[0.0], [0.5]]), jax.random.key(0))
  assert np.all(y[0] == 1)
  assert np.mean(y[1] == 0) == pytest.approx(0.5, abs=0.05)


@pytest.fixture(scope='module')
def stack():
  block = GatedMlp(6, 4)
  return block, init_stack(block, 3, jnp.zeros((1, 1, 4)))(jax.random.key(0))


def body_of(block):
  def body(params, x, shift):
    y = jnp.sin(block.apply({'params': params}, x)) + shift
    return x + y, y[0, 0, 0]
  return body


@pytest.mark.parametrize('remat', ['none', 'dots', 'full'])
def test_a_stack_equals_a_loop_over_its_blocks_whatever_is_rematerialised(stack, remat):
  block, params = stack
  body, shifts, x = body_of(block), jnp.array([0.1, 0.2, 0.3]), jnp.ones((1, 2, 4))

  def scanned(params):
    y, outputs = apply_stack(body, params, x, shifts, remat)
    return jnp.sum(y ** 2), (y, outputs)

  def looped(params):
    y, outputs = x, []
    for i in range(3):
      y, out = body(jax.tree.map(lambda w, i=i: w[i], params), y, shifts[i])
      outputs.append(out)
    return jnp.sum(y ** 2), (y, jnp.stack(outputs))

  (_, ours), gradient = jax.jit(jax.value_and_grad(scanned, has_aux=True))(params)
  (_, expected), expected_gradient = jax.jit(jax.value_and_grad(looped, has_aux=True))(params)
  assert np.allclose(ours[0], expected[0], atol=1e-5)
  assert np.allclose(ours[1], expected[1], atol=1e-5)
  assert close(gradient, expected_gradient)


def test_remat_keeps_fewer_numbers_for_the_backward_pass(stack):
  block, params = stack
  wide = jnp.ones((1, 64, 4))

  def kept(remat):
    run = lambda p: jnp.sum(apply_stack(body_of(block), p, wide, jnp.zeros(3), remat)[0])
    _, pullback = jax.vjp(run, params)
    return sum(x.size for x in jax.tree.leaves(pullback))
  assert kept('full') < kept('dots') <= kept('none')


def test_blocks_of_a_stack_start_different(stack):
  kernel = stack[1]['up']['kernel']
  assert kernel.shape == (3, 4, 6)
  assert not np.allclose(kernel[0], kernel[1])
