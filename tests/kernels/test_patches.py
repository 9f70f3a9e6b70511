from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from molmo_jax.kernels.attention import attend_patches
from molmo_jax.kernels.cpu import HEAD_BY_HEAD_FROM


@pytest.fixture(autouse=True)
def full_precision():
  with jax.default_matmul_precision('highest'):
    yield


def plain_softmax(q, k, v):
  scores = jnp.einsum('cpnh,csnh->cnps', q, k) / np.sqrt(q.shape[-1])
  weights = jnp.exp(scores - scores.max(-1, keepdims=True))
  return jnp.einsum('cnps,csnh->cpnh', weights / weights.sum(-1, keepdims=True), v)


def arrays(patches, crops=2, heads=3, dim=8, dtype=jnp.float32):
  random = np.random.default_rng(patches)
  return [jnp.asarray(random.standard_normal((crops, patches, heads, dim)), dtype)
          for _ in range(4)]


@pytest.mark.parametrize('patches', [36, HEAD_BY_HEAD_FROM + 1])
def test_values_and_gradients_equal_a_plain_softmax(patches):
  *qkv, direction = arrays(patches)

  def run(attention):
    out, pull = jax.vjp(attention, *qkv)
    return out, *pull(direction)

  got, expected = jax.jit(lambda: run(attend_patches))(), jax.jit(lambda: run(plain_softmax))()
  np.testing.assert_allclose(got[0], expected[0], atol=2e-6)
  for a, b in zip(got[1:], expected[1:], strict=True):
    np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize('patches', [36, 196])
def test_bfloat16_stays_bfloat16_and_close_to_float32(patches):
  q, k, v, _ = arrays(patches, dtype=jnp.bfloat16)
  got = jax.jit(attend_patches)(q, k, v)
  assert got.dtype == jnp.bfloat16
  expected = jax.jit(plain_softmax)(*(x.astype(jnp.float32) for x in (q, k, v)))
  np.testing.assert_allclose(got.astype(jnp.float32), expected, atol=0.03)


def test_gradient_at_729_patches_keeps_the_scores_of_few_heads():
  shape = jax.ShapeDtypeStruct((4, 729, 4, 8), jnp.float32)
  gradient = jax.jit(jax.grad(lambda *x: jnp.sum(attend_patches(*x) ** 2), (0, 1, 2)))
  scores_of_all_heads = 4 * 4 * 729 * 729 * 4
  if jax.default_backend() != 'cpu':
    pytest.skip('the head-by-head form is for the CPU')
  assert gradient.lower(
    shape, shape, shape).compile().memory_analysis().temp_size_in_bytes < scores_of_all_heads / 2


@pytest.mark.parametrize(('platform', 'loops'), [('cpu', True), ('tpu', False), ('cuda', False)])
def test_form_follows_the_platform_that_the_program_is_lowered_for(platform, loops):
  shape = jax.ShapeDtypeStruct((2, 196, 2, 8), jnp.float32)
  module = jax.export.export(jax.jit(attend_patches), platforms=[platform])(shape, shape,
                                                                            shape).mlir_module()
  assert ('stablehlo.while' in module) == loops


def test_arrays_of_different_shapes_are_an_error():
  q, k, _, _ = arrays(4)
  with pytest.raises(ValueError, match=r'\[C,P,N,H\]'):
    attend_patches(q, k, k[:, :3])
