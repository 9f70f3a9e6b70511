"""Pooling windows: gather the patches of every visual token and reduce them to one vector
(docs/model.md §3.1, §3.3).

    features [M, F]          pool_index [V, W]         gathered [V, W, F]     pooled [V, width]
    all patches of a row ──  4 or 9 patches a token ── empty slots are zero ─ one query, W keys
                             −1 = empty slot

A window is a square of neighbouring patches, 2×2 in images and 3×3 in videos: the language model
reads one token for it. Which patches belong together is decided by the preprocessing, so the same
weights serve windows of any size and shape, and crops and frames need no case of their own here.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Bool, Float, Int

from molmo_jax.model.config import ConnectorConfig
from molmo_jax.model.layers import Einsum
from molmo_jax.parallel.activations import take_rows

# width and head size of the pooling attention, relative to the configured ones
SCALE = {'attention_meanq': 1, 'attention': 1, 'attention_meanq_2x': 2, 'attention_meanq_4x': 4,
         'attention_2wide': 2}
MEAN_QUERY = ('attention_meanq', 'attention_meanq_2x', 'attention_meanq_4x')


def gather_windows(features: Float[Array, 'B M F'], pool_index: Int[Array, 'B V W']
                   ) -> tuple[Float[Array, 'B V W F'], Bool[Array, 'B V W']]:
  """The patches of every window, zeros in empty slots, and which slots are filled."""
  valid = pool_index >= 0
  gathered = take_rows(features, jnp.maximum(pool_index, 0))
  return jnp.where(valid[..., None], gathered, jnp.zeros((), features.dtype)), valid


def mean_over_slots(windows: Float[Array, 'B V W F'],
                    valid: Bool[Array, 'B V W']) -> Float[Array, 'B V F']:
  """Mean over the filled slots; an empty window gives zero."""
  count = jnp.maximum(jnp.sum(valid, axis=-1, keepdims=True), 1).astype(jnp.float32)
  return (jnp.sum(windows.astype(jnp.float32), axis=2) / count).astype(windows.dtype)


class AttentionPooling(nn.Module):
  """Attention of one query over the slots of each window; the same weights for 2×2 and 3×3 windows.
  """
  config: ConnectorConfig
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, query: Float[Array, 'B V F'], windows: Float[Array, 'B V W F'],
               valid: Bool[Array, 'B V W']) -> Float[Array, 'B V width']:
    c, scale = self.config, SCALE[self.config.pooling]
    features, head_dim, width = windows.shape[-1], c.head_dim * scale, c.width * scale
    heads, kv_heads = (c.heads, head_dim), (c.kv_heads, head_dim)
    q = Einsum('bvf,fnh->bvnh', (features, *heads), heads, self.dtype, name='query')(query)
    k, v = (Einsum('bvwf,fkh->bvwkh', (features, *kv_heads), kv_heads, self.dtype, name=name)(
      windows) for name in ('key', 'value'))

    # one query and 4 or 9 keys per window: attention here is a small softmax for every visual
    # token, and no window sees another
    q = q.reshape(*q.shape[:2], c.kv_heads, c.heads // c.kv_heads, head_dim)
    scores = jnp.einsum('bvkgh,bvwkh->bvkgw', q, k, preferred_element_type=jnp.float32)
    scores = scores / math.sqrt(head_dim)
    # a large finite number: an empty window gets an even softmax over its zeros, never NaN
    if c.pooling_mask:
      scores = jnp.where(valid[:, :, None, None, :], scores, -1e30)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    pooled = jnp.einsum('bvkgw,bvwkh->bvkgh', weights, v).reshape(*q.shape[:2], *heads)
    return Einsum('bvnh,nhd->bvd', (*heads, width), (width,), self.dtype, name='out')(pooled)


class Pooling(nn.Module):
  """Every value of `connector.pooling`; see `ConnectorConfig`. Unparametrised ones have no weights.
  """
  config: ConnectorConfig
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, features: Float[Array, 'B M F'],
               pool_index: Int[Array, 'B V W']) -> Float[Array, 'B V pooled']:
    kind, slots = self.config.pooling, pool_index.shape[-1]
    windows, valid = gather_windows(features, pool_index)
    if kind == 'mean':
      return mean_over_slots(windows, valid)
    if kind == 'stack':
      if slots != self.config.pool_slots:
        raise ValueError('pooling=stack is built for windows of '
          f'model.connector.pool_slots={self.config.pool_slots}, the batch has {slots} slots')
      return windows.reshape(*windows.shape[:2], -1)
    if kind == 'none':
      if slots != 1:
        raise ValueError('pooling=none keeps every patch, so windows must be 1×1, but the batch '
          f'has {slots} slots: set preprocess.image.pooling=(1,1) and '
          'preprocess.video.pooling=(1,1)')
      return windows[:, :, 0]
    if kind in MEAN_QUERY:
      query = mean_over_slots(windows, valid if self.config.pooling_mask else jnp.ones_like(valid))
    else:
      query = windows[:, :, 0]
    return AttentionPooling(self.config, self.dtype, name='attention')(query, windows, valid)
