"""The image tower: patches of a crop → features of the chosen blocks (docs/model.md §2)."""

from __future__ import annotations

import math

import einops
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Float

from molmo_jax.kernels.attention import attend_patches
from molmo_jax.model.config import VitConfig
from molmo_jax.model.layers import (
  ACTIVATIONS,
  Einsum,
  LayerNorm,
  apply_stack,
  fan_in_normal,
  init_stack,
)
from molmo_jax.model.tower import Tower
from molmo_jax.parallel.activations import shard_crops


def patchify(crops: Float[Array, '... h w 3'], patch: int) -> Float[Array, '... P pixels']:
  """Patches in raster order, each flattened as row, column, channel."""
  return einops.rearrange(crops, '... (gh p) (gw q) c -> ... (gh gw) (p q c)', p=patch, q=patch)


def fit_positions(table: Float[Array, 'rows E'], patches: int,
                  class_token: bool) -> Float[Array, 'P E']:
  """The position table for a square grid of `patches`: interpolated (bicubic, antialiased) where it
  has another one.

  The row of the class token stays as it is (docs/model.md §2.3).
  """
  own = table.shape[0] - class_token
  if own == patches:
    return table
  old, new = math.isqrt(own), math.isqrt(patches)
  grid = table[int(class_token):].reshape(old, old, -1)
  grid = jax.image.resize(grid, (new, new, grid.shape[-1]), 'bicubic', antialias=True)
  return jnp.concatenate([table[:int(class_token)], grid.reshape(patches, -1).astype(table.dtype)])


class VitBlock(nn.Module):
  """x + Attn(LN x), then x + MLP(LN x); biases everywhere, attention over all patches of the crop.

  With `layer_scale` what is added is multiplied by λ₁ and λ₂, one number per channel.
  """
  config: VitConfig
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'C P E']) -> Float[Array, 'C P E']:
    c = self.config
    heads, dtype = (c.heads, c.head_dim), self.dtype
    h = LayerNorm(c.norm_eps, name='attention_norm')(x)
    q, k, v = (Einsum('cpe,enh->cpnh', (c.width, *heads), heads, dtype, name=n)(h)
               for n in ('query', 'key', 'value'))
    h = attend_patches(q, k, v)
    h = Einsum('cpnh,nhe->cpe', (*heads, c.width), (c.width,), dtype,
               fan_in_normal(c.heads * c.head_dim, c.layers), name='out')(h)
    x = x + self._scaled('attention_scale', h).astype(x.dtype)
    h = LayerNorm(c.norm_eps, name='mlp_norm')(x)
    h = Einsum('cpe,ef->cpf', (c.width, c.mlp), (c.mlp,), dtype, name='up')(h)
    h = ACTIVATIONS[c.activation](h)
    h = Einsum('cpf,fe->cpe', (c.mlp, c.width), (c.width,), dtype, fan_in_normal(c.mlp, c.layers),
               name='down')(h)
    return x + self._scaled('mlp_scale', h).astype(x.dtype)

  def _scaled(self, name: str, x: Float[Array, 'C P E']) -> Float[Array, 'C P E']:
    if not self.config.layer_scale:
      return x
    return x * self.param(name, nn.initializers.ones, (self.config.width,)).astype(x.dtype)


class Vit(Tower):
  """A vision transformer: patch embedding, positions, and the blocks up to the deepest one that is
  read; with `keep_unread` all blocks.
  """
  config: VitConfig

  def features(self, pixels: Float[Array, 'C h w 3']) -> Float[Array, 'C P F']:
    """The outputs of the blocks `read`, without the class token."""
    return self.encode(patchify(pixels, self.config.patch_size))

  @nn.compact
  def encode(self, patches: Float[Array, 'C P pixels']) -> Float[Array, 'C P F']:
    """The features of patches that are normalised and flattened already, see `patchify`."""
    c = self.config
    pixels = c.patch_size ** 2 * 3
    x = Einsum('cpi,ie->cpe', (pixels, c.width), (c.width,) if c.patch_bias else None, self.dtype,
               name='patch_embedding')(patches)
    if c.class_token:
      token = self.param('class_embedding', fan_in_normal(c.width), (c.width,)).astype(x.dtype)
      x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, c.width)), x], axis=1)
    positions = self.param('position_embedding', fan_in_normal(c.width),
                           ((c.positions or c.patches) + c.class_token, c.width))
    x = x + fit_positions(positions, c.patches, c.class_token).astype(x.dtype)
    if c.pre_norm:
      x = LayerNorm(c.norm_eps, name='pre_norm')(x)

    block = VitBlock(c, self.dtype, parent=None)
    stack = self.param('blocks', init_stack(block, c.built(self.read), jnp.zeros((1, 1, c.width))))

    outputs, start = {}, 0
    # a scan per stretch between two blocks that are read: none else is kept
    for end in sorted(set(self.read)):
      stretch = jax.tree.map(lambda w, part=slice(start, end + 1): w[part], stack)
      x, _ = apply_stack(lambda p, x, _: (block.apply({'params': p}, shard_crops(x)), None),
                         stretch, x, None, self.remat, self.unroll)
      outputs[end], start = x, end + 1
    features = jnp.concatenate([outputs[i] for i in self.read], axis=-1)
    return features[:, 1:] if c.class_token else features
