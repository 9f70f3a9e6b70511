"""`config.json` of a Hugging Face checkpoint → `ModelConfig`: released keys and transformers' own,
any mix of them.

Every value that changes the computation is read or checked; what is wrong is one error that names
file, key, value and what would be right. Keys that the model does not depend on are ignored.
Sources: docs/model.md §1, §4.3, §9.2, §10.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from molmo_jax.checkpoint.hf_config_v1 import read_v1
from molmo_jax.checkpoint.hf_section import Section, read_json
from molmo_jax.errors import CheckpointError
from molmo_jax.model.config import ConnectorConfig, LlmConfig, ModelConfig, VitConfig, YarnConfig

ACTIVATIONS = {'gelu_pytorch_tanh': 'gelu_tanh', 'quick_gelu': 'quick_gelu', 'gelu': 'gelu'}
QK_NORMS = {'qwen3': 'head', 'olmo': 'full'}
ROPE_KEYS = {'rope_type', 'type', 'rope_theta', 'factor', 'attention_factor', 'beta_fast',
             'beta_slow',
             'original_max_position_embeddings'}
# Keys that name ids of extra tokens: the token, and its number among them (docs/model.md §10).
TOKEN_IDS = {'image_start_token_id': ('<im_start>', 0), 'image_end_token_id': ('<im_end>', 1),
             'image_patch_id': ('<im_patch>', 2), 'image_high_res_id': ('<im_patch>', 2),
             'image_col_id': ('<im_col>', 3),
             'low_res_image_start_token_id': ('<low_res_im_start>', 4),
             'image_low_res_id': ('<im_low>', 6), 'frame_start_token_id': ('<frame_start>', 7),
             'frame_end_token_id': ('<frame_end>', 8)}


def read_model_config(folder: str | Path) -> ModelConfig:
  """The model that `<folder>/config.json` describes, with the precision and rematerialisation of
  the defaults.

  Raises:
    CheckpointError: no such file, a key that is missing or has a value that this program does not
      compute.
  """
  file = Path(folder) / 'config.json'
  top = Section(file, '', read_json(file))
  read = top.choose('model_type', table=READERS)
  try:
    return read(top)
  except CheckpointError:
    raise
  except ValueError as error:   # the checks of ModelConfig itself
    raise CheckpointError(f'{file}: {error}') from None


def read_serving_settings(folder: str | Path) -> dict[str, Any]:
  """What config.json says to other programs alone: the arguments `special`, `max_positions` and,
  for Molmo v1, `source` of `hf.save_params`."""
  top = Section(Path(folder) / 'config.json', '', read_json(Path(folder) / 'config.json'))
  ids = {token: top.take(key) for key, (token, _) in TOKEN_IDS.items()
         if top.values.get(key) is not None}
  text = top.section('text_config') if 'text_config' in top.values else top
  serving = dict(special=ids, max_positions=text.take('max_position_embeddings', default=None))
  return serving | ({'source': top.values} if top.values.get('model_type') == 'molmo' else {})


def _read_molmo2(top: Section) -> ModelConfig:
  vit, adapter = top.section('vit_config', 'vision_config'), top.section('adapter_config')
  text = top.section('text_config')
  return ModelConfig(vit=_vit(vit), connector=_connector(adapter, text), llm=_llm(text, top))


def _vit(s: Section) -> VitConfig:
  side = s.take('image_default_input_size', 'image_size', kind=(list, int))
  height, width = (side, side) if isinstance(side, int) else side if len(side) == 2 else (0, 0)
  if height != width or not isinstance(height, int) or height < 1:
    s.fail('image_default_input_size' if 'image_default_input_size' in s.values else 'image_size',
           side,
           'it must be [n, n]: crops are square')
  heads = s.size('num_attention_heads')
  s.demand('num_key_value_heads', value=heads)
  s.demand('num_channels', value=3)
  s.demand('attention_bias', value=True)
  for key in ('attention_dropout', 'residual_dropout'):
    s.demand(key, value=0)
  patch = s.size('image_patch_size', 'patch_size')
  positions = s.size('image_num_pos', 'num_position_embeddings')
  return VitConfig(
    image_size=height, patch_size=patch, width=s.size('hidden_size'),
    layers=s.size('num_hidden_layers'), heads=heads, head_dim=s.size('head_dim'),
    mlp=s.size('intermediate_size'),
    activation=s.choose('hidden_act', table=ACTIVATIONS),
    norm_eps=s.take('layer_norm_eps', kind=float),
    positions=None if positions == (height // patch) ** 2 else positions)


def _connector(s: Section, text: Section) -> ConnectorConfig:
  layers = s.take('vit_layers', 'vision_feature_layer', kind=list)
  if not layers or any(isinstance(i, bool) or not isinstance(i, int) for i in layers):
    s.fail('vit_layers' if 'vit_layers' in s.values else 'vision_feature_layer', layers,
           'it must be a list of blocks')
  s.demand('hidden_act', value='silu')
  s.demand('text_hidden_size', value=text.size('hidden_size'))
  s.demand('attention_bias', value=True)
  s.demand('mlp_bias', value=False)
  for key in ('attention_dropout', 'residual_dropout'):
    s.demand(key, value=0)
  return ConnectorConfig(
    vit_layers=tuple(layers), pooling='attention_meanq', width=s.size('hidden_size'),
    pooling_mask=s.take('pooling_attention_mask', kind=bool, default=True),
    heads=s.size('num_attention_heads'),
    kv_heads=s.size('num_key_value_heads'), head_dim=s.size('head_dim'),
    hidden=s.size('intermediate_size'),
    feature_dropout=s.take('image_feature_dropout', kind=float, default=0.0))


def _llm(s: Section, top: Section) -> LlmConfig:
  s.demand('hidden_act', value='silu')
  for key in ('attention_dropout', 'embedding_dropout'):
    s.demand(key, value=0)
  tied = [place.take('tie_word_embeddings', kind=bool) for place in (top, s)
          if 'tie_word_embeddings' in place.values]
  if len(set(tied)) > 1:
    s.fail('tie_word_embeddings', tied[1],
           f'but at the top of the file it is {tied[0]!r}: they must be equal')
  layers = s.size('num_hidden_layers')
  theta, yarn = read_rope(s, layers)
  qk_norm = s.choose('qk_norm_type', table=QK_NORMS) if s.take('use_qk_norm', kind=bool,
                                                               default=True) else 'none'
  return LlmConfig(
    vocab=s.size('vocab_size'), extra_vocab=s.take('additional_vocab_size'),
    width=s.size('hidden_size'),
    layers=layers, heads=s.size('num_attention_heads'), kv_heads=s.size('num_key_value_heads'),
    head_dim=s.size('head_dim'), mlp=s.size('intermediate_size'), rope_theta=theta, yarn=yarn,
    qk_norm=qk_norm,
    norm_order='post' if s.take('norm_after', kind=bool) else 'pre',
    norm_eps=s.take('layer_norm_eps', 'rms_norm_eps', kind=float),
    qkv_bias=s.take('qkv_bias', 'attention_bias', kind=bool), tied=tied[0] if tied else False,
    residual_dropout=s.take('residual_dropout', kind=float, default=0.0))


def read_rope(s: Section, layers: int) -> tuple[float, YarnConfig]:
  """θ and the YaRN layers: all of them where a scaling is given without `rope_scaling_layers`."""
  given = [key for key in ('rope_scaling', 'rope_parameters') if s.values.get(key) is not None]
  rope = s.section(*given) if given else Section(s.file, s.name, {})
  theta = (rope if 'rope_theta' in rope.values else s).take('rope_theta', kind=float)
  if 'rope_theta' in rope.values and s.take('rope_theta', kind=float, default=theta) != theta:
    s.fail('rope_theta', s.values['rope_theta'],
           f'but {rope.name}.rope_theta is {theta!r}: they must be equal')
  kind = rope.take('rope_type', 'type', kind=str, default='default')
  if kind == 'default':
    return theta, YarnConfig()
  if kind != 'yarn':
    rope.fail('rope_type', kind, "this program knows 'default' and 'yarn'")
  rope.demand('truncate', value=True)
  rope.demand('partial_rotary_factor', value=1)
  unknown = sorted(rope.values.keys() - ROPE_KEYS - {'truncate', 'partial_rotary_factor'})
  if unknown:
    rope.fail(unknown[0], rope.values[unknown[0]],
              f'it is not known here; a yarn section has {", ".join(ROPE_KEYS)}')
  scaled = s.take('rope_scaling_layers', kind=list, default=list(range(layers)))
  if any(not isinstance(i, int) or not 0 <= i < layers for i in scaled):
    s.fail('rope_scaling_layers', scaled, f'it must list layers from 0 to {layers - 1}')
  factor = rope.take('factor', kind=float)
  return theta, YarnConfig(
    layers=tuple(scaled), factor=factor,
    original_length=rope.size('original_max_position_embeddings'),
    beta_fast=rope.take('beta_fast', kind=float, default=32.0),
    beta_slow=rope.take('beta_slow', kind=float, default=1.0),
    attention_factor=rope.take('attention_factor', kind=float,
                               default=0.1 * math.log(factor) + 1 if factor > 1 else 1.0))


READERS: dict[str, Callable[[Section], ModelConfig]] = {'molmo2': _read_molmo2, 'molmo': read_v1}
