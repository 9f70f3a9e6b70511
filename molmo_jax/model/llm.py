"""The decoder: embeddings, blocks, head (docs/model.md §4)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Float, Int

from molmo_jax.kernels.attention import attend
from molmo_jax.kernels.cached import attend_cached
from molmo_jax.kernels.mask import MaskInfo, visible
from molmo_jax.model.cache import Cache
from molmo_jax.model.config import LlmConfig, ModelConfig
from molmo_jax.model.layers import Einsum, RMSNorm, apply_stack, dropout, fan_in_normal, init_stack
from molmo_jax.model.moe import MixtureOfExperts
from molmo_jax.model.projector import GatedMlp
from molmo_jax.model.rotary import rotary_tables, rotate
from molmo_jax.parallel.activations import shard_sequence, take_columns
from molmo_jax.parallel.sharding import columns_of


class Embedding(nn.Module):
  """Token embeddings: the base table, and a second one for the ids from `vocab` on.

  The head has rows for the base table only, so tokens of the second are never predicted. Id −1
  (padding) looks up row 0. Where the base table is padded beyond the vocabulary, the extra tokens
  lie in it, and the second one is not read (docs/model.md §10: Molmo-7B-O, MolmoE).
  """
  config: LlmConfig

  def setup(self):
    """Makes the two tables, and the output matrix where it is not tied to them."""
    c = self.config
    self.base = self.param('base', fan_in_normal(c.width), (c.vocab, c.width))
    self.extra = self.param('extra', nn.initializers.normal(0.02), (c.extra_vocab, c.width))
    if not c.tied:
      self.head = self.param('head', fan_in_normal(c.width), (c.vocab, c.width))

  def __call__(self, tokens: Int[Array, 'B S']) -> Float[Array, 'B S D']:
    is_extra = tokens >= self.config.vocab
    base_tokens = jnp.where(is_extra, 0, jnp.maximum(tokens, 0))
    base = take_columns(self.base, base_tokens, columns_of('embedding/base', self.base))
    extra = jnp.take(self.extra, jnp.where(is_extra, tokens - self.config.vocab, 0), axis=0,
                     mode='clip')
    return jnp.where(is_extra[..., None], extra, base)

  def head_kernel(self) -> Float[Array, 'vocab D']:
    """The matrix of the head, as it is stored; the base table where the two are tied."""
    return self.base if self.config.tied else self.head


class Attention(nn.Module):
  """Grouped-query attention with rotary positions; returns its output, and the keys and values of
  the tokens in x.
  """
  config: ModelConfig
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'B S D'], table: Float[Array, 'B S half 2'], info: MaskInfo,
               cache: Cache | None = None, layer: int = 0) -> tuple[Array, tuple[Array, Array]]:
    """Attention of the tokens of x to one another, or to those of the cache as well.

    Args:
      x: hidden states [B,S,D].
      table: rotary table of this layer (`rotary_tables`).
      info: what the attention mask is made of, [B,S] each.
      cache: keys and values of the tokens before; None in training.
      layer: index of this layer in the cache.

    Returns:
      The output [B,S,D]; keys and values of the tokens, [B,S,K,H] each.
    """
    c = self.config.llm
    heads, kv_heads = (c.heads, c.head_dim), (c.kv_heads, c.head_dim)
    project = lambda name, shape: Einsum(
      'bsd,dnh->bsnh', (c.width, *shape), shape if c.qkv_bias else None, self.dtype, name=name)(x)
    q, k, v = project('query', heads), project('key', kv_heads), project('value', kv_heads)
    if c.qk_norm != 'none':
      flat = lambda y: y.reshape(*y.shape[:2], -1) if c.qk_norm == 'full' else y
      norm = lambda name, y: RMSNorm(c.norm_eps, name=name)(flat(y)).reshape(y.shape)
      q, k = norm('query_norm', q), norm('key_norm', k)
    q, k = rotate(q, table), rotate(k, table)
    bidirectional = self.config.bidirectional
    if cache is None:
      y = attend(q, k, v.astype(q.dtype), info, bidirectional=bidirectional,
                 impl=self.config.attention)
    else:
      mask = visible(info, cache.info, bidirectional)[:, 0]
      y = attend_cached(q[:, 0], k[:, 0], v[:, 0], cache.keys[layer], cache.values[layer],
                        mask)[:, None]
    init = fan_in_normal(c.heads * c.head_dim, c.layers)
    # einsum contracts in alphabetical order: g for the heads, so that no transposed copy of the
    # kernel is made
    return Einsum('bsgh,ghd->bsd', (*heads, c.width), None, self.dtype, init, name='out')(y), (k, v)


class Block(nn.Module):
  """One decoder layer. Pre-norm: x += Attn(N x), x += MLP(N x). Post-norm: x += N(Attn x), x +=
  N(MLP x).
  """
  config: ModelConfig
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'B S D'], table: Array, info: MaskInfo,
               dropout_rate: Any = None, dropout_key: Array | None = None,
               cache: Cache | None = None, layer: int = 0) -> tuple[Array, tuple[Array, Array]]:
    """One layer: attention and MLP with their residual connections.

    Args:
      x: hidden states.
      table: rotary table of this layer (`rotary_tables`).
      info: what the attention mask is made of, [B,S] each.
      dropout_rate: probability that a value is dropped, a scalar or per token; None: no dropout.
      dropout_key: random key of the dropout.
      cache: keys and values of the tokens before; None in training.
      layer: index of this layer in the cache.

    Returns:
      The hidden states after the layer; keys and values of its tokens, [B,S,K,H] each.
    """
    c = self.config.llm
    attention_norm = RMSNorm(c.norm_eps, name='attention_norm')
    mlp_norm = RMSNorm(c.norm_eps, name='mlp_norm')
    attention = Attention(self.config, self.dtype, name='attention')
    down_init = fan_in_normal(c.mlp, c.layers)
    if c.experts:
      mlp = MixtureOfExperts(c.experts, c.experts_per_token, c.mlp, self.dtype, down_init,
                             name='mlp')
    else:
      mlp = GatedMlp(c.mlp, c.width, self.dtype, down_init, name='mlp')
    keys = (None, None) if dropout_key is None else jax.random.split(dropout_key)
    pre = c.norm_order == 'pre'

    y, key_value = attention(attention_norm(x) if pre else x, table, info, cache, layer)
    x = x + dropout(y if pre else attention_norm(y), dropout_rate, keys[0]).astype(x.dtype)
    y = mlp(mlp_norm(x) if pre else x)
    x = x + dropout(y if pre else mlp_norm(y), dropout_rate, keys[1]).astype(x.dtype)
    return x, key_value


class Decoder(nn.Module):
  """All blocks and the final norm. Without a cache: the whole sequence, scanned. With one: a single
  new token.
  """
  config: ModelConfig

  @nn.compact
  def __call__(self, x: Float[Array, 'B S D'], positions: Int[Array, 'B S'], info: MaskInfo,
               loss_weights: Array | None = None, dropout_key: Array | None = None,
               cache: Cache | None = None) -> tuple[Float[Array, 'B S D'], Any]:
    """All layers and the final norm.

    Args:
      x: embedded tokens, visual features added.
      positions: for the rotary embedding.
      info: what the attention mask is made of, [B,S] each.
      loss_weights: [B,S]; where dropout applies to tokens with a loss only.
      dropout_key: random key of the dropout; None: no dropout.
      cache: keys and values of the tokens before; None in training.

    Returns:
      The hidden states after the final norm; keys and values, [L,B,S,K,H] each, or with a cache a
      list of pairs, one per layer, which `append` writes.
    """
    c, dtype = self.config.llm, jnp.dtype(self.config.dtype)
    block = Block(self.config, dtype, parent=None)
    tables = rotary_tables(positions, c.head_dim, c.rope_theta, c.yarn)
    kinds = jnp.asarray([int(i in c.yarn.layers) for i in range(c.layers)], jnp.int32)
    one = jnp.zeros((1, 1), jnp.int32)
    stack = self.get_variable('params', 'blocks')
    if not isinstance(stack, tuple):   # else the layers are unstacked, see inference/unstack
      stack = self.param('blocks', init_stack(block, c.layers, jnp.zeros((1, 1, c.width)),
                                              jnp.zeros((1, 1, c.head_dim // 2, 2)),
                                              MaskInfo(one, one, one)))
    if cache is None:
      rate, keys = self._dropout(loss_weights, dropout_key)

      def body(params, x, per_layer):
        kind, key = per_layer
        x, key_value = block.apply({'params': params}, shard_sequence(x),
                                   shard_sequence(tables[kind]), info, rate, key)
        return shard_sequence(x), key_value

      x, key_values = apply_stack(body, stack, x, (kinds, keys), self.config.remat,
                                  self.config.unroll)
    else:   # unrolled: a scan would copy each layer's slice of the cache
      key_values = []
      for i in range(c.layers):
        params = stack[i] if isinstance(stack, tuple) else jax.tree.map(lambda w, i=i: w[i], stack)
        table = tables[int(i in c.yarn.layers)]
        x, key_value = block.apply({'params': params}, x, table, info, cache=cache, layer=i)
        key_values.append(key_value)
    return RMSNorm(c.norm_eps, name='norm')(x), key_values

  def _dropout(self, loss_weights: Array | None, key: Array | None
               ) -> tuple[Array | None, Array | None]:
    """The dropout rate of every position [B,S,1] (or a number) and a key per layer (docs/model.md
    §4.2).
    """
    c = self.config.llm
    if key is None or not (c.residual_dropout or c.response_residual_dropout):
      return None, None
    rate = jnp.float32(c.residual_dropout)
    if c.response_residual_dropout:
      if loss_weights is None:
        raise ValueError('model.llm.response_residual_dropout needs loss_weights to know the '
          'responses')
      rate = jnp.where(loss_weights > 0, c.response_residual_dropout, c.residual_dropout)[..., None]
    return rate, jax.random.split(key, c.layers)
