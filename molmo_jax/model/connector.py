"""The connector: ViT features → visual tokens of the language model's width (docs/model.md §3).

    features [B,M,F] ─ padding embedding ─ gather windows ─ pooling ─ projector → [B,V,D]
                                                         layout embedding (optional) ─⊕
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Float, Int

from molmo_jax.model.config import ConnectorConfig
from molmo_jax.model.layers import dropout
from molmo_jax.model.layout import LayoutEmbedding
from molmo_jax.model.pooling import Pooling
from molmo_jax.model.projector import Projector


class PaddingEmbedding(nn.Module):
  """Tells patches of padding from real ones (letterboxed images only); `patch_mask` is the fraction
  of real pixels.
  """
  config: ConnectorConfig

  @nn.compact
  def __call__(self, features: Float[Array, 'B M F'], patch_mask: Float[Array, 'B M']
               ) -> Float[Array, 'B M F']:
    kind, mask = self.config.padding_embed, patch_mask[..., None]
    shape = (2, features.shape[-1]) if kind == 'pad_and_partial_pad' else features.shape[-1:]
    vectors = self.param('vectors', nn.initializers.normal(0.02), shape)
    if kind == 'pad_and_partial_pad':
      added = vectors[0] * (mask == 0) + vectors[1] * ((mask < 1) & (mask != 0))
    else:
      added = vectors * ((mask == 0) if kind == 'pad_embed' else jnp.maximum(mask, 0))
    return features + added.astype(features.dtype)


class Connector(nn.Module):
  """Pools and projects; rows of `pool_index` that are empty give vectors that nobody reads.

  Shapes: features [B,M,F], all patches of a row, crop by crop; pool_index [B,V,W] into M;
  layout_index [B,V,4] and layout_box [B,V,4] (needed with `layout_embedding`); patch_mask [B,M]
  (needed with `padding_embed`); returns [B,V,D].
  """
  config: ConnectorConfig
  width: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, features: Float[Array, 'B M F'], pool_index: Int[Array, 'B V W'],
               layout_index: Array | None = None, layout_box: Array | None = None,
               patch_mask: Array | None = None, dropout_key: Array | None = None
               ) -> Float[Array, 'B V D']:
    """Visual tokens from the features of patches.

    Args:
      features: of the M patches of all crops of a row, F wide.
      pool_index: which patches each visual token pools; −1: an empty slot.
      layout_index: place of each visual token in its grid, for the layout embedding.
      layout_box: its normalised box in the image, for the layout embedding.
      patch_mask: part of each patch that is image and not padding, for `padding_embed`.
      dropout_key: random key of the feature dropout; None: no dropout.

    Raises:
      ValueError: the configuration needs a field of the batch that is not given.
    """
    c = self.config
    if c.padding_embed is not None:
      if patch_mask is None:
        raise ValueError(f'model.connector.padding_embed={c.padding_embed} needs the batch field '
          'patch_mask')
      features = PaddingEmbedding(c, name='padding')(features, patch_mask)
    if c.feature_dropout:
      features = dropout(features, c.feature_dropout, dropout_key)
    pooled = Pooling(c, self.dtype, name='pooling')(features, pool_index)
    tokens = Projector(c, self.width, self.dtype, name='projector')(pooled)
    if c.layout_embedding:
      if layout_index is None or layout_box is None:
        raise ValueError('model.connector.layout_embedding needs the batch fields layout_index and '
          'layout_box')
      tokens = tokens + LayoutEmbedding(c, self.width, name='layout')(
        layout_index, layout_box).astype(tokens.dtype)
    return tokens
