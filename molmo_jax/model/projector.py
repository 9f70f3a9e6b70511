"""Projectors from pooled features to the width of the language model (docs/model.md §3.1, §3.3)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Float

from molmo_jax.model.config import ConnectorConfig
from molmo_jax.model.layers import ACTIVATIONS, Einsum


class GatedMlp(nn.Module):
  """down( silu(gate x) ⊙ (up x) ), no biases; the decoder's MLP is the same layer."""
  hidden: int
  width: int
  dtype: jnp.dtype = jnp.float32
  down_init: Callable | None = None

  @nn.compact
  def __call__(self, x: Float[Array, 'B S I']) -> Float[Array, 'B S D']:
    gate, up = (Einsum('bsi,if->bsf', (x.shape[-1], self.hidden), None, self.dtype, name=name)(x)
                for name in ('gate', 'up'))
    return Einsum('bsf,fd->bsd', (self.hidden, self.width), None, self.dtype, self.down_init,
                  name='down')(ACTIVATIONS['silu'](gate) * up)


def _uniform(key: Array, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
  return jax.random.uniform(key, shape, dtype, -0.02, 0.02)


class Projector(nn.Module):
  """`mlp`: gated. `linear`: one matrix. `random_linear`: one that is never trained. `2mlp`: y +
  mlp₂(y), y = mlp(x).
  """
  config: ConnectorConfig
  width: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'B V I']) -> Float[Array, 'B V D']:
    kind, shape = self.config.projector, (x.shape[-1], self.width)
    if kind == 'linear':
      return Einsum('bvi,id->bvd', shape, None, self.dtype, nn.initializers.xavier_uniform(),
                    name='linear')(x)
    if kind == 'random_linear':
      kernel = jax.lax.stop_gradient(self.param('kernel', _uniform, shape))
      return jnp.einsum('bvi,id->bvd', x.astype(self.dtype), kernel.astype(self.dtype))
    y = GatedMlp(self.config.hidden, self.width, self.dtype, name='mlp')(x)
    if kind == '2mlp':
      y = y + GatedMlp(self.config.hidden, self.width, self.dtype, name='residual_mlp')(y)
    return y
