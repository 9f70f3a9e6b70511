"""The product with a weight: einsum in values and derivatives, whatever the form of its backward
pass.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from molmo_jax.kernels.cpu import product

CASES = [('bsd,dnh->bsnh', (2, 5, 6), (6, 3, 4)), ('bsnh,nhd->bsd', (2, 5, 3, 4), (3, 4, 6)),
         ('bvwf,fkh->bvwkh', (2, 3, 4, 5), (5, 2, 3)), ('cpe,ef->cpf', (2, 3, 4), (4, 5))]


@pytest.mark.parametrize('equation, x_shape, kernel_shape', CASES, ids=[c[0] for c in CASES])
def test_values_and_gradients_equal_einsum(equation, x_shape, kernel_shape):
  rng = np.random.default_rng(0)
  x, kernel = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in (x_shape, kernel_shape))
  def scalar(f):
    return jax.jit(jax.value_and_grad(lambda x, k: jnp.sin(f(equation, x, k)).sum(), (0, 1)))(
      x, kernel)
  for ours, expected in zip(jax.tree.leaves(scalar(product)), jax.tree.leaves(scalar(jnp.einsum)),
                            strict=True):
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_a_program_for_another_platform_keeps_einsums_own_gradients():
  x, kernel = jnp.ones((2, 3, 4)), jnp.ones((4, 5))
  gradient = jax.jit(jax.grad(lambda k: product('bsd,df->bsf', x, k).sum()))
  tpu = jax.export.export(gradient, platforms=['tpu'])(kernel).mlir_module()
  cpu = jax.export.export(gradient, platforms=['cpu'])(kernel).mlir_module()
  assert 'optimization_barrier' in cpu and 'optimization_barrier' not in tpu


@pytest.mark.parametrize('equation, x_shape, kernel_shape', CASES, ids=[c[0] for c in CASES])
def test_forward_mode_equals_einsum(equation, x_shape, kernel_shape):
  rng = np.random.default_rng(0)
  primals, tangents = ([jnp.asarray(rng.normal(size=s), jnp.float32)
                        for s in (x_shape, kernel_shape)] for _ in range(2))
  def change(f):
    return jax.jit(lambda p, t: jax.jvp(lambda *x: f(equation, *x), p, t))(primals, tangents)
  for ours, expected in zip(change(product), change(jnp.einsum), strict=True):
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
