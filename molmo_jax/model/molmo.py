"""The whole model: crops and tokens → hidden states → logits. Pure: parameters, cache and keys are
arguments.

    crops u8 [B,C,h,w,3] ─ Tower ─ features [B,C·P,F] ─ Connector ─ visual [B,V,D]
                                                           │ gather by feature_index, add
    tokens i32 [B,S] ─────── Embedding ────────── [B,S,D] ─⊕─ Decoder ─ hidden [B,S,D] ─ logits
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Float, Int

from molmo_jax.configuration import ConfigError
from molmo_jax.kernels.mask import MaskInfo, mask_info
from molmo_jax.model.cache import Cache, append, extend_cache
from molmo_jax.model.config import ModelConfig
from molmo_jax.model.connector import Connector
from molmo_jax.model.llm import Decoder, Embedding
from molmo_jax.model.tower import Tower
from molmo_jax.model.vit import Vit
from molmo_jax.parallel.activations import (
  crops_per_row,
  shard_crops,
  shard_rows,
  shard_sequence,
  take_rows,
)

Batch = Mapping[str, Array]

# the kinds of image towers, `model.vit.kind`
TOWERS: dict[str, type[Tower]] = {'vit': Vit}


class Network(nn.Module):
  """Molmo2. `apply({'params': params}, batch)`; docs/data.md has the fields of a batch."""
  config: ModelConfig

  def setup(self):
    """Makes the submodules; their names are the tops of parameter paths."""
    c = self.config
    dtype = jnp.dtype(c.dtype)
    if c.tower.kind not in TOWERS:
      raise ConfigError(f'model.vit.kind={c.tower.kind!r} must be one of {", ".join(TOWERS)}')
    self.vit = TOWERS[c.tower.kind](c.tower, c.read, dtype, c.remat, c.unroll)
    connector = Connector if c.remat == 'none' else nn.remat(Connector)
    self.connector = connector(c.connector, c.llm.width, dtype)
    self.embedding = Embedding(c.llm)
    self.decoder = Decoder(c)

  def visual_features(self, batch: Batch, dropout_key: Array | None = None
                      ) -> Float[Array, 'B V D']:
    """One vector per visual token; zeros when the model is blind."""
    c, pool_index = self.config, batch['pool_index']
    if (c.blind and not self.is_initializing()) or pool_index.shape[1] == 0:
      return jnp.zeros((*pool_index.shape[:2], c.llm.width))
    rows, crops = batch['crops'].shape[:2]
    spread = crops_per_row(rows, crops)   # windows never point to the crops that are added
    add = lambda x: jnp.pad(x, ((0, 0), (0, spread - crops), *((0, 0),) * (x.ndim - 2)))
    pixels = shard_crops(add(batch['crops']).reshape(rows * spread, *batch['crops'].shape[2:]))
    features = self.vit(pixels)
    features = shard_rows(features.reshape(rows, -1, features.shape[-1]))
    mask = add(batch['patch_mask']).reshape(rows, -1) if 'patch_mask' in batch else None
    visual = self.connector(features, shard_sequence(pool_index), batch.get('layout_index'),
                            batch.get('layout_box'), mask, dropout_key)
    return shard_rows(shard_sequence(visual))

  def embed(self, batch: Batch, dropout_key: Array | None = None,
            features: Float[Array, 'B V D'] | None = None) -> Float[Array, 'B S D']:
    """Token embeddings plus, at every `<im_patch>`, its visual feature: a gather with a static
    shape, no scatter.

    `features` are those that `visual_features` gave for these rows, where they are known already;
    the batch needs no crops then.
    """
    x = shard_sequence(self.embedding(shard_sequence(batch['tokens'])))
    x = x.astype(self.config.residual_dtype)
    if features is None:
      features = self.visual_features(batch, dropout_key)
    if features.shape[1] == 0:
      return x
    index = shard_sequence(batch['feature_index'])
    added = take_rows(features, jnp.maximum(index, 0))
    return x + jnp.where((index >= 0)[..., None], added, 0).astype(x.dtype)

  def __call__(self, batch: Batch, dropout_key: Array | None = None) -> Float[Array, 'B S D']:
    """Hidden states after the final norm. With a key, dropout is on (training)."""
    keys = (None, None) if dropout_key is None else jax.random.split(dropout_key)
    x = self.embed(batch, keys[0])
    info = mask_info(batch['segments'], batch['visual'])
    hidden, _ = self.decoder(x, batch['positions'], info, batch.get('loss_weights'), keys[1])
    return hidden

  def head_kernel(self) -> Float[Array, 'vocab D']:
    """The matrix of the head, in the compute dtype."""
    return self.embedding.head_kernel().astype(self.config.dtype)

  def logits(self, hidden: Float[Array, '... D']) -> Float[Array, '... vocab']:
    """float32 scores of the base vocabulary; extra (visual) tokens cannot be predicted."""
    kernel = self.head_kernel()
    return jnp.einsum('...d,vd->...v', hidden.astype(kernel.dtype), kernel,
                      preferred_element_type=jnp.float32)

  def prefill(self, batch: Batch, new_tokens: int, features: Float[Array, 'B V D'] | None = None,
              cache_dtype: str | None = None) -> tuple[Float[Array, 'B vocab'], Cache]:
    """Logits after the last real token of every row, and a cache with room for `new_tokens` more.

    `features` as in `embed`; `cache_dtype` as in `extend_cache`.
    """
    info = mask_info(batch['segments'], batch['visual'])
    x = self.embed(batch, features=features)
    hidden, (keys, values) = self.decoder(x, batch['positions'], info)
    last = jnp.max(jnp.where(info.segments >= 0, info.index, 0), axis=1)
    return (self.logits(jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]),
            extend_cache(keys, values, info, new_tokens, cache_dtype))

  def decode(self, tokens: Int[Array, 'B'], positions: Int[Array, 'B'], segments: Int[Array, 'B'],
             cache: Cache) -> tuple[Float[Array, 'B vocab'], Cache]:
    """One more text token per row: its logits, and the cache that holds it. `segments` −1 hides the
    token.
    """
    new = MaskInfo(segments[:, None], jnp.zeros_like(tokens)[:, None],
                   jnp.broadcast_to(cache.length, tokens.shape)[:, None])
    x = self.embedding(tokens[:, None]).astype(self.config.residual_dtype)
    hidden, key_values = self.decoder(x, positions[:, None], new, cache=cache)
    return self.logits(hidden[:, 0]), append(cache, key_values, new, after=hidden[0, 0])
