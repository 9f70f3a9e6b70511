"""`config.json` of Molmo v1 → `ModelConfig` (docs/model.md §1, §9.3, §10).

The file comes in two dialects. That of Molmo-7B-D, 7B-O and 72B (`hidden_size`, …) leaves out what
the three have in
common: the tower and the connector. That of MolmoE has the words of the training code (`d_model`,
…), tower and connector included. The words of the training code are understood in either; what a
file leaves out has the value of the releases in the first dialect, and the training code's default
in the second.
"""

from __future__ import annotations

from typing import Any

from molmo_jax.checkpoint.hf_section import Section
from molmo_jax.model.config import ConnectorConfig, LlmConfig, ModelConfig, VitConfig

ACTIVATIONS = {'quick_gelu': 'quick_gelu', 'gelu': 'gelu', 'gelu_pytorch_tanh': 'gelu_tanh',
               'gelu_tanh': 'gelu_tanh'}
POOLINGS = {word: word.replace('-', '_')
            for word in ('attention-meanq', 'attention_meanq', 'attention', 'stack',
                         'none')}
PROJECTORS = {'mlp': 'mlp', 'linear': 'linear'}
PADDING = {'pad_and_partial_pad': 'pad_and_partial_pad', 'pad_embed': 'pad_embed',
           'regress': 'regress', '': None}
# What belongs to a kind of tower. Its blocks, all of which are stored, have biases everywhere.
TOWERS = {'openai': dict(class_token=True, patch_bias=False, pre_norm=True, layer_scale=False),
          'siglip': dict(class_token=False, patch_bias=True, pre_norm=False, layer_scale=False),
          'dino': dict(class_token=True, patch_bias=True, pre_norm=False, layer_scale=True)}
CLIP = VitConfig(image_size=336, patch_size=14, width=1024, layers=23, heads=16, head_dim=64,
                 mlp=4096,
                 activation='quick_gelu', norm_eps=1e-5, normalize='openai', keep_unread=True,
                 **TOWERS['openai'])
# of all releases; of the training code where a file leaves it out
EXTRA_VOCAB, TABLE_ROWS = 128, 50304

# Computations that are built in one way: the key, that way, and what the training code does where
# the key is left out.
FIXED: tuple[tuple[str, Any, Any], ...] = (
  ('activation_type', 'swiglu', 'swiglu'), ('layer_norm_type', 'rms', 'default'),
  ('rope', True, False),
  ('include_bias', False, True), ('bias_for_layer_norm', False, False),
  ('layer_norm_with_affine', True, True),
  ('attention_layer_norm_with_affine', True, True), ('alibi', False, False),
  ('clip_qkv', None, None),
  ('scale_logits', False, False), ('normalize_input_embeds', False, False),
  ('use_cls_feature', False, False),
  ('unconditioned', False, False), ('use_position_ids', True, True),
  ('attn_logit_softcapping', None, None),
  ('final_logit_softcapping', None, None))
FIXED_EXPERTS: tuple[tuple[str, Any, Any], ...] = (
  ('moe_shared_expert', False, False), ('moe_interleave', False, False),
  ('moe_dropless', True, True))


def is_training_dialect(values: dict[str, Any]) -> bool:
  """Whether a file has the words of the training code."""
  return 'd_model' in values


def read_v1(top: Section) -> ModelConfig:
  """The model that a configuration of Molmo v1 describes.

  Raises:
    CheckpointError: a key that is missing, or has a value that this program does not compute.
  """
  block = top.take('block_type', kind=str, default='sequential')
  if block not in ('sequential', 'moe'):
    top.fail('block_type', block, "this program knows 'sequential', 'moe'")
  has_experts = block == 'moe' or ('block_type' not in top.values
                                   and top.take('moe_num_experts', default=0) > 0)
  trained = is_training_dialect(top.values)
  for key, value, unsaid in FIXED + (FIXED_EXPERTS if has_experts else ()):
    top.demand(key, value=value, default=unsaid if trained else value)
  llm = _llm(top, has_experts, trained)
  vit = _vit(top.section('vision_backbone')) if top.values.get(
    'vision_backbone') is not None else CLIP
  return ModelConfig(vit=vit, connector=_connector(top, vit, llm, trained), llm=llm,
                     bidirectional='none')


def _llm(s: Section, has_experts: bool, trained: bool) -> LlmConfig:
  width, heads = s.size('hidden_size', 'd_model'), s.size('num_attention_heads', 'n_heads')
  vocab = s.size('vocab_size')
  rows = s.take('embedding_size',
                default=TABLE_ROWS if trained and 'embedding_size' not in s.values else vocab)
  if rows < vocab:
    s.fail('embedding_size', rows,
           f'the table must have a row for each of the vocab_size={vocab} tokens')
  if width % heads:
    s.fail('num_attention_heads' if 'num_attention_heads' in s.values else 'n_heads', heads,
           f'the width {width} must be a multiple of it')
  s.demand('head_dim', value=width // heads)
  many = s.take('multi_query_attention', kind=bool, default=False)
  # transformers writes its own word for it without being asked, so the other one decides
  tied = s.take('weight_tying', kind=bool,
                default=True if trained else s.take('tie_word_embeddings', kind=bool,
                                                    default=False))
  extra = s.size('additional_vocab_size') if trained else s.take('additional_vocab_size',
                                                                 default=EXTRA_VOCAB)
  return LlmConfig(
    vocab=rows, extra_vocab=extra,
    extra_from=None if rows == vocab else vocab, width=width,
    layers=s.size('num_hidden_layers', 'n_layers'),
    heads=heads, kv_heads=s.take('num_key_value_heads', 'n_kv_heads', default=1 if many else heads),
    head_dim=width // heads, mlp=_half(s, width),
    experts=s.size('moe_num_experts') if has_experts else 0,
    experts_per_token=s.size('moe_top_k') if has_experts else LlmConfig.experts_per_token,
    rope_theta=s.take('rope_theta', kind=float, default=10000.0),
    qk_norm='full' if s.take('attention_layer_norm', kind=bool, default=False) else 'none',
    norm_order='post' if s.take('norm_after', kind=bool, default=False) else 'pre',
    norm_eps=s.take('layer_norm_eps', kind=float, default=1e-5),
    qkv_bias=s.take('qkv_bias', kind=bool, default=False),
    tied=tied)


def _half(s: Section, width: int) -> int:
  """Width of an MLP: the file counts up and gate together."""
  both = s.take('intermediate_size', 'mlp_hidden_size', default=None)
  if both is None:
    both = s.size('mlp_ratio') * width if 'mlp_ratio' in s.values else s.size('intermediate_size',
                                                                              'mlp_hidden_size')
  if both < 2 or both % 2:
    s.fail('intermediate_size' if 'intermediate_size' in s.values else 'mlp_hidden_size', both,
           'it counts two matrices (up and gate) of one size, so it must be even')
  return both // 2


def _vit(s: Section) -> VitConfig:
  kind = s.take('image_model_type', kind=str, default='openai')
  parts = s.choose('image_model_type', table=TOWERS, default='openai')
  side = s.take('image_default_input_size', kind=list)
  if len(side) != 2 or side[0] != side[1] or not isinstance(side[0], int) or side[0] < 1:
    s.fail('image_default_input_size', side, 'it must be [n, n]: crops are square')
  patch, heads = s.size('image_patch_size'), s.size('image_num_heads')
  s.demand('image_num_key_value_heads', value=heads)
  s.demand('image_pos_patch_size', value=patch)
  table = s.size('image_num_pos') - parts['class_token']
  return VitConfig(
    image_size=side[0], patch_size=patch, width=s.size('image_emb_dim'),
    layers=s.size('image_num_layers'),
    heads=heads, head_dim=s.size('image_head_dim'), mlp=s.size('image_mlp_dim'),
    activation=s.choose('image_mlp_activations', table=ACTIVATIONS),
    norm_eps=s.take('image_norm_eps', kind=float),
    normalize=kind, positions=None if table == (side[0] // patch) ** 2 else table, keep_unread=True,
    **parts)


def _connector(s: Section, vit: VitConfig, llm: LlmConfig, trained: bool) -> ConnectorConfig:
  layers = s.take('vit_layers', kind=list, default=[-1] if trained else [-2, -9])
  if not layers or any(isinstance(i, bool) or not isinstance(i, int) for i in layers):
    s.fail('vit_layers', layers, 'it must be a list of blocks')
  # null says that there is none, which is not the same as to say nothing
  unpadded = 'image_padding_embed' in s.values or trained
  return ConnectorConfig(
    vit_layers=tuple(layers), pooling_mask=False, heads=vit.heads, kv_heads=vit.heads,
    head_dim=vit.head_dim,
    width=vit.width, pool_slots=s.take('image_pooling_h', default=2)
    * s.take('image_pooling_w', default=2),
    pooling=s.choose('image_pooling_2d', table=POOLINGS,
                     default='attention' if trained else 'attention_meanq'),
    projector=s.choose('image_projector', table=PROJECTORS, default='mlp'), hidden=llm.mlp,
    padding_embed=s.choose('image_padding_embed', table=PADDING,
                           default='' if unpadded else 'pad_and_partial_pad'),
    feature_dropout=s.take('image_feature_dropout', kind=float, default=0.0))
