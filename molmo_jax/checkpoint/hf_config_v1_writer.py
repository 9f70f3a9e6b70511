"""`ModelConfig` → `config.json` of Molmo v1; `hf_config_v1` reads the same model from it
(docs/model.md §9.3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from molmo_jax.checkpoint.hf_config_v1 import (
  ACTIVATIONS,
  CLIP,
  EXTRA_VOCAB,
  FIXED,
  FIXED_EXPERTS,
  PADDING,
  POOLINGS,
  PROJECTORS,
  TOWERS,
  read_v1,
)
from molmo_jax.checkpoint.hf_section import Section
from molmo_jax.errors import CheckpointError
from molmo_jax.model.config import ConnectorConfig, ModelConfig

MAX_POSITIONS, MAX_POSITIONS_EXPERTS = 4096, 32768


def v1_config_dict(config: ModelConfig, dtype: str, max_positions: int | None = None,
                   source: Mapping[str, Any] | None = None) -> dict[str, Any]:
  """What `config.json` holds: words of the releases, and where they have none, those of the
  training code.

  Args:
    dtype: of the tensors, 'float32' for example.
    max_positions: longest sequence, for programs that set their buffers by it; None: that of the
      releases.
    source: the file that the model came from. If it describes this model it is given back, with the
      new dtype.

  Raises:
    CheckpointError: settings that no configuration of Molmo v1 can express; names all of them.
  """
  if source is not None and _describes(source, config):
    return {**source, 'torch_dtype': dtype}
  wrong = [f'model.{name}' for name in _inexpressible(config)]
  if wrong:
    raise CheckpointError(f'the hub layout of Molmo v1 has no words for: {", ".join(wrong)}; keep '
      'such a model as a checkpoint of its run')
  head = dict(architectures=['MolmoForCausalLM'], model_type='molmo', torch_dtype=dtype,
              use_cache=True,
              use_position_ids=True, initializer_range=0.02, weight_tying=config.llm.tied,
              tie_word_embeddings=config.llm.tied)
  return head | (_training_words if config.llm.experts else _released_words)(config, max_positions)


def _describes(source: Mapping[str, Any], config: ModelConfig) -> bool:
  try:
    there = read_v1(Section(Path('config.json'), '', dict(source)))
  except ValueError:
    return False
  return (there.vit, there.connector, there.llm, there.bidirectional) == (
    config.vit, config.connector, config.llm, config.bidirectional)


def _inexpressible(config: ModelConfig) -> Iterator[str]:
  """Settings that the file has no words for, with their values."""
  vit, connector, llm = config.vit, config.connector, config.llm
  wanted = [
    *((f'vit.{n}', getattr(vit, n), right) for n, right in TOWERS[vit.normalize].items()),
    ('connector.pooling', connector.pooling,
     connector.pooling if connector.pooling in POOLINGS.values() else
     'attention_meanq'),
    ('connector.projector', connector.projector,
     connector.projector if connector.projector in PROJECTORS else 'mlp'),
    ('connector.pooling_mask', connector.pooling_mask, False),
    ('connector.layout_embedding', connector.layout_embedding, False),
    ('connector.pool_slots', connector.pool_slots, math.isqrt(connector.pool_slots) ** 2),
    *((f'connector.{n}', getattr(connector, n), right) for n, right in (
      ('heads', vit.heads), ('kv_heads', vit.heads), ('head_dim', vit.head_dim),
      ('width', vit.width),
      ('hidden', llm.mlp))),
    ('llm.yarn.layers', llm.yarn.layers, ()),
    ('llm.head_dim', llm.head_dim, llm.width // llm.heads),
    ('llm.qk_norm', llm.qk_norm, 'none' if llm.qk_norm == 'none' else 'full'),
    ('bidirectional', config.bidirectional, 'none'), ('blind', config.blind, False)]
  return (f'{name}={value!r} (only {right!r})' for name, value, right in wanted if value != right)


def _released_words(config: ModelConfig, max_positions: int | None) -> dict[str, Any]:
  """As Molmo-7B-D, 7B-O and 72B; tower and connector are written only where they are others."""
  c = config.llm
  out = dict(
    hidden_size=c.width, intermediate_size=2 * c.mlp, num_hidden_layers=c.layers,
    num_attention_heads=c.heads,
    num_key_value_heads=c.kv_heads, vocab_size=c.first_extra_id, embedding_size=c.vocab,
    layer_norm_type='rms',
    layer_norm_eps=c.norm_eps, rope_theta=c.rope_theta, qkv_bias=c.qkv_bias, clip_qkv=None,
    attention_layer_norm=c.qk_norm == 'full', norm_after=c.norm_order == 'post',
    max_position_embeddings=max_positions or MAX_POSITIONS)
  if c.extra_vocab != EXTRA_VOCAB:
    out['additional_vocab_size'] = c.extra_vocab
  released = ConnectorConfig(
    vit_layers=(-2, -9), pooling_mask=False, heads=CLIP.heads, kv_heads=CLIP.heads,
    head_dim=CLIP.head_dim,
    width=CLIP.width, pool_slots=4, hidden=c.mlp, padding_embed='pad_and_partial_pad')
  return out if (config.vit, config.connector) == (CLIP, released) else out | _vision_words(config)


def _training_words(config: ModelConfig, max_positions: int | None) -> dict[str, Any]:
  """As MolmoE."""
  c = config.llm
  return dict(
    d_model=c.width, mlp_hidden_size=2 * c.mlp, n_layers=c.layers, n_heads=c.heads,
    n_kv_heads=c.kv_heads,
    vocab_size=c.first_extra_id, embedding_size=c.vocab, additional_vocab_size=c.extra_vocab,
    layer_norm_eps=c.norm_eps, rope_theta=c.rope_theta, qkv_bias=c.qkv_bias,
    attention_layer_norm=c.qk_norm == 'full', norm_after=c.norm_order == 'post', block_type='moe',
    moe_num_experts=c.experts, moe_top_k=c.experts_per_token,
    max_position_embeddings=max_positions or MAX_POSITIONS_EXPERTS,
    residual_dropout=c.residual_dropout,
    attention_dropout=0.0, embedding_dropout=0.0,
    **{key: value for key, value, _ in FIXED + FIXED_EXPERTS}) | _vision_words(config)


def _vision_words(config: ModelConfig) -> dict[str, Any]:
  """Tower and connector, in the words of the training code."""
  vit, connector = config.vit, config.connector
  activation = next(word for word, ours in ACTIVATIONS.items() if ours == vit.activation)
  return dict(
    vit_layers=list(connector.vit_layers), image_projector=connector.projector,
    image_pooling_2d=next(word for word, ours in POOLINGS.items() if ours == connector.pooling),
    image_pooling_h=math.isqrt(connector.pool_slots),
    image_pooling_w=math.isqrt(connector.pool_slots),
    image_padding_embed=next(word for word, ours in PADDING.items()
                             if ours == connector.padding_embed) or None,
    image_feature_dropout=connector.feature_dropout,
    vision_backbone=dict(
      image_model_type=vit.normalize, image_default_input_size=[vit.image_size] * 2,
      image_patch_size=vit.patch_size,
      image_pos_patch_size=vit.patch_size, image_emb_dim=vit.width, image_num_heads=vit.heads,
      image_num_key_value_heads=vit.heads, image_num_layers=vit.layers, image_head_dim=vit.head_dim,
      image_mlp_dim=vit.mlp, image_mlp_activations=activation, image_norm_eps=vit.norm_eps,
      image_num_pos=(vit.positions or vit.patches) + vit.class_token,
      resize_mode='default' if vit.normalize == 'openai' else vit.normalize))
