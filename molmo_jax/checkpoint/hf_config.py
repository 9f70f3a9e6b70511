"""`config.json` of a Hugging Face checkpoint ↔ `ModelConfig`.

Molmo2 comes in two sets of keys: those of the released files ('hub') and those of transformers' own
classes ('native'); a file may mix them. Molmo v1 is in `hf_config_v1`. Every value that changes the
computation is read or checked, and keys that the model does not depend on are ignored. Sources:
docs/model.md §1, §4.3, §9.2, §10.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from molmo_jax.checkpoint.hf_config_v1 import KEYS, is_v1, read_v1, write_v1
from molmo_jax.configuration import Positive, convert
from molmo_jax.errors import CheckpointError
from molmo_jax.json_section import Section, keys, written
from molmo_jax.model.config import (
  ConnectorConfig,
  LlmConfig,
  ModelConfig,
  Theta,
  VitConfig,
  YarnConfig,
)

# Names of a checkpoint's tensors and keys: the released ones, or those of transformers' classes.
Naming = Literal['hub', 'native']

VIT, CONNECTOR = keys(VitConfig, KEYS['vit']), keys(ConnectorConfig, KEYS['connector'])
LLM, YARN = keys(LlmConfig, KEYS['llm']), keys(YarnConfig, KEYS['yarn'])
QK_NORMS = {'qwen3': 'head', 'olmo': 'full'}
TOKEN_IDS: dict[str, tuple[str, int]] = KEYS['token_ids']
NOT_NATIVE = ('image_high_res_id', 'image_col_id', 'image_low_res_id')
MAX_POSITIONS = 36864   # of the releases without YaRN; with it, what it was scaled to
# Settings that no file has to express: choices of a run, and what has no influence on the model.
FREE = {*(f'model.{name}' for name in ('attention', 'dtype', 'residual_dtype', 'remat', 'unroll')),
        *(f'model.connector.{name}' for name in ('feature_dropout', 'layout_grid', 'layout_crops')),
        *(f'model.llm.{name}' for name in ('residual_dropout', 'response_residual_dropout'))}


def read_model_config(folder: str | Path) -> ModelConfig:
  """The model that `<folder>/config.json` describes; what a run chooses has its default.

  Raises:
    CheckpointError: no such file, a key that is missing, or a value that is not supported.
  """
  return _read(Section.read(Path(folder) / 'config.json'))


def _read(top: Section) -> ModelConfig:
  read = top.choose('model_type', words=READERS)
  try:
    return convert(ModelConfig, read(top), f'{top.file}: model')
  except CheckpointError:
    raise
  except ValueError as error:   # the checks of ModelConfig itself
    raise CheckpointError(f'{top.file}: {error}') from None


def read_serving_settings(folder: str | Path) -> dict[str, Any]:
  """What config.json tells other programs only: the arguments `special`, `max_positions` and, for
  Molmo v1, `source` of `hf.save_params`.
  """
  top = Section.read(Path(folder) / 'config.json')
  text = top.section('text_config') if top.has('text_config') else top
  settings = dict(special={token: top.take(key) for key, (token, _) in TOKEN_IDS.items()
                           if top.has(key)},
                  max_positions=text.size('max_position_embeddings', default=None))
  return settings | ({'source': top.values} if top.values.get('model_type') == 'molmo' else {})


def _read_molmo2(top: Section) -> ModelConfig:
  vit, connector = top.section('vit_config', 'vision_config'), top.section('adapter_config')
  llm = top.section('text_config')
  for s in (vit, connector, llm):
    s.demand(attention_dropout=0)
  for s in (vit, connector):
    s.demand(attention_bias=True, residual_dropout=0)
  for s in (connector, llm):
    s.demand(hidden_act='silu')
  connector.demand(text_hidden_size=llm.size('hidden_size'), mlp_bias=False)
  llm.demand(embedding_dropout=0)
  return ModelConfig(vit=_vit(vit), llm=_llm(llm, top), connector=ConnectorConfig(
    vit_layers=connector.take('vit_layers', 'vision_feature_layer', kind=tuple[int, ...]),
    pooling='attention_meanq', **connector.fields(CONNECTOR)))


def _vit(s: Section) -> VitConfig:
  found = s.fields(VIT)
  s.demand(num_key_value_heads=found['heads'], num_channels=3)
  side = s.square('image_default_input_size', 'image_size')
  positions = s.size('image_num_pos', 'num_position_embeddings')
  is_own = positions == (side // found['patch_size']) ** 2
  return VitConfig(image_size=side, positions=None if is_own else positions, **found)


def _llm(s: Section, top: Section) -> LlmConfig:
  tied = [part.take('tie_word_embeddings', kind=bool) for part in (top, s)
          if 'tie_word_embeddings' in part.values]
  if len(set(tied)) > 1:
    s.fail('tie_word_embeddings',
           f'but at the top of the file it is {tied[0]!r}: they must be equal')
  found = s.fields(LLM)
  theta, yarn = read_rope(s, found['layers'])
  has_norm = s.take('use_qk_norm', kind=bool, default=True)
  qk_norm: Any = s.choose('qk_norm_type', words=QK_NORMS) if has_norm else 'none'
  return LlmConfig(rope_theta=theta, yarn=yarn, qk_norm=qk_norm, tied=bool(tied and tied[0]),
                   **found)


def read_rope(s: Section, layers: int) -> tuple[float, YarnConfig]:
  """θ and the YaRN layers: all of them where a scaling is given without `rope_scaling_layers`."""
  given = [key for key in ('rope_scaling', 'rope_parameters') if s.has(key)]
  rope = s.section(*given) if given else Section(s.file, {}, s.name)
  theta = (rope if 'rope_theta' in rope.values else s).take('rope_theta', kind=Theta)
  if s.take('rope_theta', kind=Theta, default=theta) != theta:
    s.fail('rope_theta', f'but {rope.name}.rope_theta is {theta!r}: they must be equal')
  if rope.choose('rope_type', 'type', default='default', words={'default': True, 'yarn': False}):
    return theta, YarnConfig()
  rope.demand(truncate=True, partial_rotary_factor=1)
  scaled = s.take('rope_scaling_layers', kind=tuple[int, ...], default=tuple(range(layers)))
  if not set(scaled) <= set(range(layers)):
    s.fail('rope_scaling_layers', f'it must list layers from 0 to {layers - 1}')
  factor = rope.take('factor', kind=Positive)
  usual = 0.1 * math.log(factor) + 1 if factor > 1 else 1.0
  yarn = YarnConfig(layers=scaled, **rope.fields(YARN, attention_factor=usual))
  rope.finish(())
  return theta, yarn


READERS: dict[str, Callable[[Section], ModelConfig]] = {'molmo2': _read_molmo2, 'molmo': read_v1}


def model_config_dict(config: ModelConfig, layout: Naming, dtype: str,
                      special: Mapping[str, int] | None = None, max_positions: int | None = None,
                      source: Mapping[str, Any] | None = None) -> dict[str, Any]:
  """What `config.json` holds; `read_model_config` reads the same model from it.

  Args:
    config: the model.
    layout: the released keys, or those of transformers' classes; Molmo v1 has only 'hub'.
    dtype: of the tensors, such as 'float32'.
    special: ids of the extra tokens by their text; those that are not given have the order of
      docs/model.md §10.
    max_positions: longest sequence, for programs that size their buffers by it; None: that of the
      releases.
    source: the file that a Molmo v1 came from. If it describes this model it is returned with the
      new dtype.

  Raises:
    CheckpointError: settings that no such file can express; the message names all of them.
  """
  if source is not None and is_v1(config) and not _differences(config, source):
    return {**source, 'torch_dtype': dtype}
  out = (write_v1(config, dtype, max_positions) if is_v1(config) else
         _write_molmo2(config, layout == 'native', dtype, special or {}, max_positions))
  wrong = _differences(config, out)
  if wrong:
    raise CheckpointError(f'config.json of {"Molmo v1" if is_v1(config) else "Molmo2"} ({layout}) '
      f'cannot express {", ".join(wrong)}; keep this model as a checkpoint of its run')
  return out


def _differences(config: ModelConfig, contents: Mapping[str, Any]) -> list[str]:
  """The settings that the contents of a config.json express differently."""
  found = _read(Section(Path('config.json'), dict(contents)))
  ours, theirs = (_settings(_canonical(c)) for c in (config, found))
  return [f'{name}={value!r} (only {theirs[name]!r})' for name, value in ours.items()
          if value != theirs[name]]


def _canonical(c: ModelConfig) -> ModelConfig:
  """The same model, with one form of what can be said in several ways."""
  llm, vit = c.llm, dataclasses.replace(c.vit, positions=c.vit.positions or c.vit.patches)
  llm = dataclasses.replace(
    llm, extra_from=llm.first_extra_id, yarn=llm.yarn if llm.yarn.layers else YarnConfig(),
    experts_per_token=llm.experts_per_token if llm.experts else 0)
  if is_v1(c):
    return dataclasses.replace(c, llm=llm, vit=vit)
  return dataclasses.replace(
    c, llm=llm, vit=dataclasses.replace(vit, layers=max(c.read) + 1),
    connector=dataclasses.replace(c.connector, vit_layers=c.read, pool_slots=0))


def _settings(config: Any, path: str = 'model') -> dict[str, Any]:
  """All that a file must express, by the names of a run's configuration."""
  out = {}
  for field in dataclasses.fields(config):
    name, value = f'{path}.{field.name}', getattr(config, field.name)
    if dataclasses.is_dataclass(value):
      out |= _settings(value, name)
    elif name not in FREE:
      out[name] = value
  return out


def _write_molmo2(config: ModelConfig, native: bool, dtype: str, special: Mapping[str, int],
                  max_positions: int | None) -> dict[str, Any]:
  llm, yarn = config.llm, config.llm.yarn
  vit, connector, text = _native(config) if native else _hub(config)
  if max_positions is None:
    max_positions = int(yarn.factor * yarn.original_length) if yarn.layers else MAX_POSITIONS
  usual = dict(attention_dropout=0.0, initializer_range=0.02)
  adapter = dict(hidden_act='silu', text_hidden_size=llm.width)
  decoder = dict(model_type='molmo2_text', hidden_act='silu', max_position_embeddings=max_positions,
                 qk_norm_type='olmo' if llm.qk_norm == 'full' else 'qwen3', use_cache=True,
                 tie_word_embeddings=llm.tied)
  ids = {key: special.get(token, llm.first_extra_id + n) for key, (token, n) in TOKEN_IDS.items()
         if not (native and key in NOT_NATIVE)}
  tower = written(VIT, config.vit, native) | dict(num_key_value_heads=config.vit.heads)
  return dict(
    architectures=['Molmo2ForConditionalGeneration'], model_type='molmo2', dtype=dtype,
    **{'vision_config' if native else 'vit_config': tower | usual | vit},
    adapter_config=written(CONNECTOR, config.connector, native) | adapter | usual | connector,
    text_config=written(LLM, llm, native) | decoder | usual | text,
    **ids, **{} if native else dict(use_frame_special_tokens=True, use_cache=True),
    initializer_range=0.02, tie_word_embeddings=llm.tied)


def _hub(config: ModelConfig) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
  """What only the released files have: of the tower, of the connector and of the decoder."""
  vit, llm, usual = config.vit, config.llm, dict(residual_dropout=0.0, float32_attention=True)
  return (dict(model_type='molmo2', image_default_input_size=[vit.image_size] * 2,
               image_num_pos=vit.positions or vit.patches, **usual),
          dict(model_type='molmo2', vit_layers=list(config.connector.vit_layers), **usual),
          dict(use_qk_norm=llm.qk_norm != 'none', rope_theta=llm.rope_theta, embedding_dropout=0.0,
               rope_scaling=_yarn(llm), rope_scaling_layers=list(llm.yarn.layers) or None))


def _native(config: ModelConfig) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
  """What only the files of transformers' classes have; see `_hub`."""
  vit, llm = config.vit, config.llm
  read = config.read
  rope = _yarn(llm) or dict(rope_type='default')
  return (
    dict(model_type='molmo2_vision', num_hidden_layers=max(read) + 1, num_channels=3,
         image_size=[vit.image_size] * 2, num_position_embeddings=vit.patches, attention_bias=True),
    dict(model_type='molmo2_adapter', vision_feature_layer=list(read), attention_bias=True,
         mlp_bias=False), dict(rope_parameters=rope | dict(rope_theta=llm.rope_theta),
                               rope_scaling_layers=list(llm.yarn.layers or range(llm.layers))))


def _yarn(llm: LlmConfig) -> dict[str, Any] | None:
  return dict(rope_type='yarn', **written(YARN, llm.yarn)) if llm.yarn.layers else None
