"""`config.json` of Molmo v1 ↔ `ModelConfig` (docs/model.md §1, §9.3, §10).

The file comes in two dialects. That of Molmo-7B-D, 7B-O and 72B (`hidden_size`, …) leaves out what
the three have in common: the tower and the connector. That of MolmoE has the keys of the training
code (`d_model`, …), tower and connector included. The keys of the training code are understood in
either; what a file leaves out has the value of the releases in the first dialect, and the training
code's default in the second.
"""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

from molmo_jax.json_section import Section, keys, written
from molmo_jax.model.config import ConnectorConfig, LlmConfig, ModelConfig, VitConfig
from molmo_jax.model.tower import VITS

KEYS = tomllib.loads(Path(__file__).with_name('keys.toml').read_text(encoding='utf-8'))
LLM, EXPERTS = keys(LlmConfig, KEYS['v1_llm']), keys(LlmConfig, KEYS['v1_experts'])
VIT, CONNECTOR = keys(VitConfig, KEYS['v1_vit']), keys(ConnectorConfig, KEYS['v1_connector'])
FIXED = KEYS['v1_fixed'] | dict.fromkeys(
  ('clip_qkv', 'attn_logit_softcapping', 'final_logit_softcapping'))
# What belongs to a kind of tower. Its blocks, all of which are stored, have biases everywhere.
TOWERS = {row['normalize']: {name: row[name] for name in (
  'class_token', 'patch_bias', 'pre_norm', 'layer_scale')} for row in VITS.values()}
CLIP = VitConfig(**VITS['clip'], keep_unread=True)
# Of all releases; of the training code where a file leaves it out.
EXTRA_VOCAB, TABLE_ROWS = 128, 50304


def is_v1(config: ModelConfig) -> bool:
  """Whether a model is written as Molmo v1: it stores all blocks of its tower, Molmo2 does not."""
  return config.vit.keep_unread


def read_v1(top: Section) -> ModelConfig:
  """The model that a configuration of Molmo v1 describes.

  Raises:
    CheckpointError: a key that is missing, or has a value that is not supported.
  """
  is_moe = top.choose('block_type', words={'sequential': False, 'moe': True}, default=(
    'moe' if top.take('moe_num_experts', default=0) else 'sequential'))
  is_training = 'd_model' in top.values   # the dialect of the training code
  top.demand(KEYS['v1_training_defaults'] if is_training else None, **FIXED,
             **KEYS['v1_fixed_experts'] if is_moe else {})
  llm = _llm(top, is_moe, is_training)
  vit = _vit(top.section('vision_backbone')) if top.has('vision_backbone') else CLIP
  return ModelConfig(vit=vit, llm=llm, connector=_connector(top, vit, llm, is_training),
                     bidirectional='none')


def _llm(s: Section, is_moe: bool, is_training: bool) -> LlmConfig:
  heads = s.size('num_attention_heads', 'n_heads')
  found = s.fields(LLM, kv_heads=(
    1 if s.take('multi_query_attention', kind=bool, default=False) else heads))
  width, vocab = found['width'], s.size('vocab_size')
  rows = s.take('embedding_size', default=(
    TABLE_ROWS if is_training and 'embedding_size' not in s.values else vocab))
  if rows < vocab:
    s.fail('embedding_size', f'the table must have a row for each of the vocab_size={vocab} tokens')
  if width % heads:
    s.fail(s.spelling('num_attention_heads', 'n_heads'),
           f'the width {width} must be a multiple of it')
  s.demand(head_dim=width // heads)
  # transformers adds its own key `tie_word_embeddings` to every file, so the other one decides
  tied = s.take('weight_tying', kind=bool, default=(
    is_training or s.take('tie_word_embeddings', kind=bool, default=False)))
  extra = s.size('additional_vocab_size', **{} if is_training else dict(default=EXTRA_VOCAB))
  return LlmConfig(vocab=rows, extra_vocab=extra, extra_from=None if rows == vocab else vocab,
                   head_dim=width // heads, mlp=_mlp_width(s, width), tied=tied, **found,
                   **s.fields(EXPERTS) if is_moe else {})


def _mlp_width(s: Section, width: int) -> int:
  """Width of an MLP: the file counts up and gate together."""
  ratio = s.size('mlp_ratio', default=None)
  both = s.size('intermediate_size', 'mlp_hidden_size',
                **{} if ratio is None else dict(default=ratio * width))
  if both % 2:
    s.fail(s.spelling('intermediate_size', 'mlp_hidden_size'),
           'it counts two matrices (up and gate) of one size, so it must be even')
  return both // 2


def _vit(s: Section) -> VitConfig:
  kind = s.choose('image_model_type', words={name: name for name in TOWERS}, default='openai')
  found, side = s.fields(VIT) | TOWERS[kind], s.square('image_default_input_size')
  s.demand(image_num_key_value_heads=found['heads'], image_pos_patch_size=found['patch_size'])
  positions = s.size('image_num_pos') - found['class_token']
  is_own = positions == (side // found['patch_size']) ** 2
  return VitConfig(image_size=side, positions=None if is_own else positions, normalize=kind,
                   keep_unread=True, **found)


def _connector(s: Section, vit: VitConfig, llm: LlmConfig, is_training: bool) -> ConnectorConfig:
  # null says that there is no padding embedding, which is not the same as to say nothing
  is_unpadded = 'image_padding_embed' in s.values or is_training
  return ConnectorConfig(
    vit_layers=s.take('vit_layers', kind=tuple[int, ...],
                      default=(-1,) if is_training else (-2, -9)),
    pooling_mask=False, heads=vit.heads, kv_heads=vit.heads, head_dim=vit.head_dim, width=vit.width,
    pool_slots=s.size('image_pooling_h', default=2) * s.size('image_pooling_w', default=2),
    hidden=llm.mlp, **s.fields(CONNECTOR, pooling='attention' if is_training else 'attention_meanq',
                               padding_embed=None if is_unpadded else 'pad_and_partial_pad'))


def write_v1(config: ModelConfig, dtype: str, max_positions: int | None = None) -> dict[str, Any]:
  """What `config.json` holds, in the keys of the releases, or of the training code where they have
  none. What no key can express is left out or written as another value: `hf_config` compares.

  Args:
    config: the model.
    dtype: of the tensors, such as 'float32'.
    max_positions: longest sequence, for programs that size their buffers by it; None: that of the
      releases.
  """
  c, is_moe = config.llm, config.llm.experts > 0
  out = dict(
    architectures=['MolmoForCausalLM'], model_type='molmo', torch_dtype=dtype, use_cache=True,
    use_position_ids=True, initializer_range=0.02, weight_tying=c.tied, tie_word_embeddings=c.tied,
    vocab_size=c.first_extra_id, embedding_size=c.vocab, **written(LLM, c, is_moe),
    max_position_embeddings=max_positions or (32768 if is_moe else 4096))
  out['mlp_hidden_size' if is_moe else 'intermediate_size'] = 2 * c.mlp
  if is_moe:   # as MolmoE
    out |= dict(block_type='moe', residual_dropout=c.residual_dropout, attention_dropout=0.0,
                embedding_dropout=0.0, **FIXED, **KEYS['v1_fixed_experts'], **written(EXPERTS, c))
  else:        # as Molmo-7B-D, 7B-O and 72B
    out |= dict(layer_norm_type='rms', clip_qkv=None)
  if is_moe or c.extra_vocab != EXTRA_VOCAB:
    out['additional_vocab_size'] = c.extra_vocab
  released = _connector(Section(Path('config.json'), {}), CLIP, c, is_training=False)
  is_released = (config.vit, config.connector) == (CLIP, released)
  return out if is_released and not is_moe else out | _vision(config.vit, config.connector)


def _vision(vit: VitConfig, connector: ConnectorConfig) -> dict[str, Any]:
  """Tower and connector, in the keys of the training code."""
  side = math.isqrt(connector.pool_slots)
  return written(CONNECTOR, connector) | dict(
    vit_layers=list(connector.vit_layers), image_pooling_h=side, image_pooling_w=side,
    vision_backbone=written(VIT, vit) | dict(
      image_model_type=vit.normalize, image_default_input_size=[vit.image_size] * 2,
      image_pos_patch_size=vit.patch_size, image_num_key_value_heads=vit.heads,
      image_num_pos=(vit.positions or vit.patches) + vit.class_token,
      resize_mode='default' if vit.normalize == 'openai' else vit.normalize))
