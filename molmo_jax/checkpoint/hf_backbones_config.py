"""`config.json` of a plain language model or image tower, compared with a configuration that is to
start from it.

Tensors tell sizes; what they do not tell, and what would go wrong in silence, is here: heads,
rotary base, epsilons, activations, norms. Keys are those of transformers' classes, with their
defaults where files leave them out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from molmo_jax.checkpoint.hf_backbones import LANGUAGE_MODELS
from molmo_jax.checkpoint.hf_config import ACTIVATIONS, read_rope
from molmo_jax.checkpoint.hf_files import listing
from molmo_jax.checkpoint.hf_section import Section, read_json
from molmo_jax.errors import CheckpointError
from molmo_jax.model.config import LlmConfig, VitConfig

_PRE = dict(norm_order='pre', qkv_bias=False)
# what is the same in all language models of a `model_type`
FAMILIES: dict[str, dict[str, Any]] = {
  'qwen2': dict(_PRE, qk_norm='none', qkv_bias=True), 'qwen3': dict(_PRE, qk_norm='head'),
  'olmo2': dict(norm_order='post', qkv_bias=False, qk_norm='full'),
  'olmo3': dict(norm_order='post', qkv_bias=False, qk_norm='full'),
  'olmoe': dict(_PRE, qk_norm='full')}
_CLIP = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
_CLASS = dict(class_token=True, layer_scale=False, pre_norm=False, patch_bias=True)
# defaults of keys, and what a family has in common
TOWERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
  'clip': (dict(_CLIP, patch_size=32, hidden_act='quick_gelu', layer_norm_eps=1e-5),
           dict(_CLASS, pre_norm=True, patch_bias=False, normalize='openai')),
  'siglip': (dict(_CLIP, patch_size=16, hidden_act='gelu_pytorch_tanh', layer_norm_eps=1e-6),
             dict(_CLASS, class_token=False, normalize='siglip')),
  'dinov2': (dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, patch_size=14,
                  hidden_act='gelu',
                  layer_norm_eps=1e-6, mlp_ratio=4),
             dict(_CLASS, layer_scale=True, normalize='dino'))}
TOWER_TYPES = {'clip': 'clip', 'clip_vision_model': 'clip', 'siglip': 'siglip',
               'siglip_vision_model': 'siglip',
               'dinov2': 'dinov2'}


def check_llm(folder: Path, llm: LlmConfig) -> tuple[str, bool, list[str]]:
  """Compares a language model with the configuration of ours.

  Returns:
    Its `model_type`, whether its head may be its embedding, and remarks on differences that a run
    may choose.

  Raises:
    CheckpointError: not a language model that is known here, or one that computes something else.
  """
  s = _read(folder)
  family = s.choose('model_type', table={name: name for name in LANGUAGE_MODELS})
  s.demand('hidden_act', value='silu')
  s.demand('attention_bias', value=False)
  s.demand('clip_qkv', value=None)
  s.demand('norm_topk_prob', value=False)
  s.demand('use_sliding_window', value=False)
  layers, heads, width = s.size('num_hidden_layers'), s.size('num_attention_heads'), s.size(
    'hidden_size')
  theta, yarn = read_rope(_of_full_attention(s, layers), layers)
  has = dict(
    FAMILIES[family], width=width, layers=layers, heads=heads, mlp=s.size('intermediate_size'),
    rope_theta=theta,
    kv_heads=s.take('num_key_value_heads', default=heads),
    head_dim=s.take('head_dim', default=width // heads),
    norm_eps=s.take('rms_norm_eps', kind=float),
    experts=s.size('num_experts') if family == 'olmoe' else 0)
  if has['experts']:
    has['experts_per_token'] = s.size('num_experts_per_tok')
  _compare(s.file, 'model.llm', llm, has, 'the language model')
  remarks = []
  if yarn != llm.yarn and (yarn.layers or llm.yarn.layers):
    remarks.append(f'rotary scaling: the language model has {yarn}, the run '
      f'model.llm.yarn={llm.yarn}')
  return family, s.take('tie_word_embeddings', kind=bool, default=True), remarks


def check_vit(folder: Path, vit: VitConfig) -> tuple[str, int]:
  """Compares an image tower with the configuration of ours; resolution and depth may differ.

  Returns:
    Its family ('clip', 'siglip', 'dinov2') and its number of blocks.

  Raises:
    CheckpointError: not a tower that is known here, one that computes something else, or one with
      too few blocks.
  """
  top = _read(folder)
  family = top.choose('model_type', table=TOWER_TYPES)
  part = top.section('vision_config') if 'vision_config' in top.values else top
  defaults, fixed = TOWERS[family]
  s = Section(part.file, part.name,
              defaults | {k: v for k, v in part.values.items() if v is not None})
  s.demand('num_channels', value=3)
  s.demand('qkv_bias', value=True)
  s.demand('use_swiglu_ffn', value=False)
  width, heads, layers = s.size('hidden_size'), s.size('num_attention_heads'), s.size(
    'num_hidden_layers')
  mlp = width * s.size('mlp_ratio') if family == 'dinov2' else s.size('intermediate_size')
  has = dict(fixed, width=width, heads=heads, head_dim=width // heads, mlp=mlp,
             patch_size=s.size('patch_size'),
             activation=s.choose('hidden_act', table=ACTIVATIONS),
             norm_eps=s.take('layer_norm_eps', kind=float))
  _compare(s.file, 'model.vit', vit, has, 'the image tower')
  if layers < vit.layers:
    raise CheckpointError(f'{s.file}: the image tower has {layers} blocks, but '
      f'model.vit.layers={vit.layers}')
  return family, layers


def _read(folder: Path) -> Section:
  file = Path(folder) / 'config.json'
  return Section(file, '', read_json(file))


def _of_full_attention(s: Section, layers: int) -> Section:
  """Olmo 3 scales its rotary positions on the layers with full attention alone; the others have the
  same base.
  """
  kinds = s.take('layer_types', kind=list, default=['full_attention'] * layers)
  rope = s.values.get('rope_parameters') or {}
  values = dict(s.values, rope_scaling_layers=[i for i, kind in enumerate(kinds)
                                               if kind == 'full_attention'])
  if isinstance(rope, dict) and 'full_attention' in rope:
    nested = s.section('rope_parameters')
    full, sliding = nested.section('full_attention'), nested.section('sliding_attention')
    sliding.demand('rope_type', value='default')
    sliding.demand('rope_theta', value=full.take('rope_theta', kind=float))
    values['rope_parameters'] = full.values
  return Section(s.file, s.name, values)


def _compare(file: Path, path: str, config: Any, has: dict[str, Any], what: str) -> None:
  wrong = [f'{path}.{name}={getattr(config, name)}: {what} has {value}'
           for name, value in has.items()
           if getattr(config, name) != value]
  if wrong:
    raise CheckpointError(f'{file}: its weights fit another configuration:\n  '
                          + listing(wrong, '\n  '))
