"""`ModelConfig` → `config.json` of a Hugging Face checkpoint, in released or transformers' keys
(docs/model.md §9.2).

Molmo v1 has a writer of its own, `hf_config_v1_writer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from molmo_jax.checkpoint.hf_config import ACTIVATIONS, QK_NORMS, TOKEN_IDS
from molmo_jax.checkpoint.hf_config_v1_writer import v1_config_dict
from molmo_jax.errors import CheckpointError
from molmo_jax.model.config import ModelConfig, resolve_vit_layers

Layout = Literal['hub', 'native']

NATIVE_TOKEN_IDS = ('image_start_token_id', 'image_end_token_id', 'image_patch_id',
                    'low_res_image_start_token_id',
                    'frame_start_token_id', 'frame_end_token_id')
MAX_POSITIONS = 36864   # of the releases without YaRN; with it, what it was scaled to


def tensor_layout(config: ModelConfig, layout: Layout) -> str:
  """The key of `hf_table.LAYOUTS` under whose names a model is written.

  Raises:
    CheckpointError: transformers has no classes of its own for this model.
  """
  # all blocks of the tower are stored: what Molmo v1 does and Molmo2 does not
  if not config.vit.keep_unread:
    return layout
  if layout == 'native':
    raise CheckpointError("transformers has no classes of its own for Molmo v1 "
      "(model.vit.keep_unread=True); write it with layout 'hub', as it was released")
  return 'v1 experts hub' if config.llm.experts else 'v1 hub'


def model_config_dict(config: ModelConfig, layout: Layout, dtype: str,
                      special: Mapping[str, int] | None = None,
                      max_positions: int | None = None,
                      source: Mapping[str, Any] | None = None) -> dict[str, Any]:
  """What `config.json` holds; `hf_config.read_model_config` reads the same model from it.

  Args:
    dtype: of the tensors, 'float32' for example.
    special: ids of the extra tokens by their text; those that are not given have the order of
      docs/model.md §10.
    max_positions: longest sequence, for programs that set their buffers by it; None: that of the
      releases.
    source: the file that a Molmo v1 came from, see `hf_config_v1_writer.v1_config_dict`.

  Raises:
    CheckpointError: settings that no Hugging Face configuration of the model can express; names all
      of them.
  """
  if tensor_layout(config, layout) != layout:
    return v1_config_dict(config, dtype, max_positions, source)
  _check_expressible(config, layout)
  llm = config.llm
  ids = {key: (special or {}).get(token, llm.first_extra_id + n)
         for key, (token, n) in TOKEN_IDS.items()}
  if max_positions is None:
    max_positions = int(llm.yarn.factor
                        * llm.yarn.original_length) if llm.yarn.layers else MAX_POSITIONS
  head = dict(architectures=['Molmo2ForConditionalGeneration'], model_type='molmo2', dtype=dtype)
  tail = dict(initializer_range=0.02, tie_word_embeddings=llm.tied)
  if layout == 'native':
    return head | _native_sections(config,
                                   max_positions) | {k: ids[k] for k in NATIVE_TOKEN_IDS} | tail
  return head | _hub_sections(config, max_positions) | ids | dict(use_frame_special_tokens=True,
                                                                  use_cache=True) | tail


def _check_expressible(config: ModelConfig, layout: Layout) -> None:
  vit, connector, llm = config.vit, config.connector, config.llm
  wanted = [
    ('vit.class_token', vit.class_token, False), ('vit.patch_bias', vit.patch_bias, True),
    ('vit.pre_norm', vit.pre_norm, False), ('vit.layer_scale', vit.layer_scale, False),
    ('vit.normalize', vit.normalize, 'siglip'),
    ('connector.pooling', connector.pooling, 'attention_meanq'),
    ('connector.projector', connector.projector, 'mlp'),
    ('connector.padding_embed', connector.padding_embed, None),
    ('connector.layout_embedding', connector.layout_embedding, False),
    ('llm.experts', llm.experts, 0),
    ('llm.extra_from', llm.first_extra_id, llm.vocab),
    ('bidirectional', config.bidirectional, 'image_tokens'),
    ('blind', config.blind, False)]
  if layout == 'native':
    wanted += [('vit.positions', vit.positions, None),
               ('connector.pooling_mask', connector.pooling_mask, True),
               ('llm.qk_norm', llm.qk_norm if llm.qk_norm == 'none' else '', '')]
  wrong = [f'model.{name}={value!r}' + (f' (only {right!r})' if right != '' else '')
           for name, value, right in wanted if value != right]
  if wrong:
    raise CheckpointError(f'the {layout} layout of Hugging Face checkpoints has no words for: '
      f'{", ".join(wrong)}; keep such a model as a checkpoint of its run')


def _attention(heads: int, kv_heads: int, head_dim: int) -> dict[str, int]:
  return dict(num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=head_dim)


def _text(config: ModelConfig, max_positions: int) -> dict[str, Any]:
  """What both layouts call the same."""
  c = config.llm
  names = {ours: theirs for theirs, ours in QK_NORMS.items()} | {'none': 'qwen3'}
  return dict(
    model_type='molmo2_text', hidden_size=c.width, intermediate_size=c.mlp, hidden_act='silu',
    vocab_size=c.vocab,
    additional_vocab_size=c.extra_vocab, num_hidden_layers=c.layers,
    **_attention(c.heads, c.kv_heads, c.head_dim),
    qk_norm_type=names[c.qk_norm], norm_after=c.norm_order == 'post',
    max_position_embeddings=max_positions,
    attention_dropout=0.0, initializer_range=0.02, use_cache=True, tie_word_embeddings=c.tied)


def _yarn(config: ModelConfig) -> dict[str, Any]:
  y = config.llm.yarn
  return dict(rope_type='yarn', factor=y.factor, attention_factor=y.attention_factor,
              beta_fast=y.beta_fast,
              beta_slow=y.beta_slow, original_max_position_embeddings=y.original_length)


def _tower(config: ModelConfig) -> dict[str, Any]:
  c = config.vit
  activation = next(theirs for theirs, ours in ACTIVATIONS.items() if ours == c.activation)
  return dict(hidden_size=c.width, intermediate_size=c.mlp,
              **_attention(c.heads, c.heads, c.head_dim),
              hidden_act=activation, layer_norm_eps=c.norm_eps, attention_dropout=0.0,
              initializer_range=0.02)


def _adapter(config: ModelConfig) -> dict[str, Any]:
  c = config.connector
  return dict(hidden_size=c.width, **_attention(c.heads, c.kv_heads, c.head_dim), hidden_act='silu',
              intermediate_size=c.hidden, text_hidden_size=config.llm.width, attention_dropout=0.0,
              initializer_range=0.02)


def _hub_sections(config: ModelConfig, max_positions: int) -> dict[str, Any]:
  vit, llm, side = config.vit, config.llm, config.vit.image_size
  scaled = bool(llm.yarn.layers)
  return dict(
    vit_config=_tower(config) | dict(
      model_type='molmo2', num_hidden_layers=vit.layers, image_default_input_size=[side, side],
      image_patch_size=vit.patch_size, image_num_pos=vit.positions or vit.patches,
      residual_dropout=0.0,
      float32_attention=True),
    adapter_config=_adapter(config) | dict(
      model_type='molmo2', vit_layers=list(config.connector.vit_layers), residual_dropout=0.0,
      float32_attention=True,
      pooling_attention_mask=config.connector.pooling_mask,
      image_feature_dropout=config.connector.feature_dropout),
    text_config=_text(config, max_positions) | dict(
      use_qk_norm=llm.qk_norm != 'none', qkv_bias=llm.qkv_bias, layer_norm_eps=llm.norm_eps,
      rope_theta=llm.rope_theta,
      rope_scaling=_yarn(config) if scaled else None,
      rope_scaling_layers=list(llm.yarn.layers) if scaled else None,
      residual_dropout=llm.residual_dropout, embedding_dropout=0.0))


def _native_sections(config: ModelConfig, max_positions: int) -> dict[str, Any]:
  vit, llm, side = config.vit, config.llm, config.vit.image_size
  read = resolve_vit_layers(config.connector.vit_layers, vit.layers)
  rope = _yarn(config) if llm.yarn.layers else dict(rope_type='default')
  return dict(
    vision_config=_tower(config) | dict(
      model_type='molmo2_vision', num_hidden_layers=max(read) + 1, image_size=[side, side],
      patch_size=vit.patch_size,
      num_position_embeddings=vit.patches, num_channels=3, attention_bias=True),
    adapter_config=_adapter(config) | dict(
      model_type='molmo2_adapter', vision_feature_layer=list(read), attention_bias=True,
      mlp_bias=False),
    text_config=_text(config, max_positions) | dict(
      attention_bias=llm.qkv_bias, rms_norm_eps=llm.norm_eps,
      rope_parameters=rope | dict(rope_theta=llm.rope_theta),
      rope_scaling_layers=list(llm.yarn.layers or range(llm.layers))))
