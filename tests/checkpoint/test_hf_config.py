"""config.json ↔ ModelConfig: both spellings mean the same model, and what cannot be computed is
refused by name.
"""

from __future__ import annotations

import json

import pytest

from molmo_jax.checkpoint.hf_config import model_config_dict, read_model_config
from molmo_jax.errors import CheckpointError
from molmo_jax.model.config import (
  ConnectorConfig,
  LlmConfig,
  ModelConfig,
  VitConfig,
  YarnConfig,
  resolve_vit_layers,
)
from tests.checkpoint.hub import RELEASED

QWEN, OLMO = RELEASED
NATIVE = {   # as transformers 5.23's Molmo2Config writes it, for the sizes of QWEN
  'model_type': 'molmo2', 'tie_word_embeddings': False, 'dtype': 'float32',
  'vision_config': dict(attention_bias=True, attention_dropout=0.0, head_dim=12,
                        hidden_act='gelu_pytorch_tanh',
                        hidden_size=48, image_size=[378, 378], intermediate_size=80,
                        layer_norm_eps=1e-6,
                        num_attention_heads=4, num_channels=3, num_hidden_layers=4,
                        num_key_value_heads=4,
                        num_position_embeddings=729, patch_size=14, model_type='molmo2_vision'),
  'adapter_config': dict(attention_bias=True, attention_dropout=0.0, head_dim=12, hidden_act='silu',
                         hidden_size=48,
                         intermediate_size=80, mlp_bias=False, num_attention_heads=4,
                         num_key_value_heads=4,
                         text_hidden_size=64, vision_feature_layer=[3, 1],
                         model_type='molmo2_adapter'),
  'text_config': dict(additional_vocab_size=128, attention_bias=False, attention_dropout=0.0,
                      head_dim=24,
                      hidden_act='silu', hidden_size=64, intermediate_size=80,
                      max_position_embeddings=36864,
                      norm_after=False, num_attention_heads=4, num_hidden_layers=3,
                      num_key_value_heads=2,
                      qk_norm_type='qwen3', rms_norm_eps=1e-6, rope_scaling_layers=[0, 1, 2],
                      vocab_size=512,
                      rope_parameters=dict(rope_theta=5e6, rope_type='default'),
                      tie_word_embeddings=False)}


def write(folder, contents):
  (folder / 'config.json').write_text(json.dumps(contents))
  return folder


def changed(source, key, value):
  """The contents of a config.json with one dotted key set, or removed with ..."""
  contents = json.loads((source / 'config.json').read_text()) if not isinstance(
    source, dict) else json.loads(
      json.dumps(source))
  *sections, last = key.split('.')
  place = contents
  for section in sections:
    place = place[section]
  if value is ...:
    del place[last]
  else:
    place[last] = value
  return contents


def test_released_keys_are_read():
  c = read_model_config(QWEN)
  assert c.vit == VitConfig(378, 14, 48, layers=6, heads=4, head_dim=12, mlp=80)
  assert c.connector == ConnectorConfig((-3, -5), heads=4, kv_heads=4, head_dim=12, width=48,
                                        hidden=80)
  assert c.llm == LlmConfig(512, 128, width=64, layers=3, heads=4, kv_heads=2, head_dim=24, mlp=80,
                            rope_theta=5e6)
  assert c.bidirectional == 'image_tokens'


def test_yarn_post_norm_and_full_width_norms_are_read():
  llm = read_model_config(OLMO).llm
  assert (llm.qk_norm, llm.norm_order, llm.rope_theta) == ('full', 'post', 5e5)
  assert llm.yarn == YarnConfig((3,), 8.0, 8192, 32.0, 1.0, 1.2079441541679836)


def test_the_keys_of_transformers_describe_the_same_model(tmp_path):
  hub, native = read_model_config(QWEN), read_model_config(write(tmp_path, NATIVE))
  assert native.llm == hub.llm
  assert resolve_vit_layers(native.connector.vit_layers, native.vit.layers) == resolve_vit_layers(
    hub.connector.vit_layers, hub.vit.layers) == (3, 1)


@pytest.mark.parametrize('key,value,section,field,expected', [
  ('adapter_config.pooling_attention_mask', False, 'connector', 'pooling_mask', False),
  ('adapter_config.pooling_attention_mask', ..., 'connector', 'pooling_mask', True),
  ('adapter_config.image_feature_dropout', 0.25, 'connector', 'feature_dropout', 0.25),
  ('text_config.residual_dropout', 0.1, 'llm', 'residual_dropout', 0.1),
  ('text_config.qkv_bias', True, 'llm', 'qkv_bias', True),
  ('text_config.use_qk_norm', False, 'llm', 'qk_norm', 'none'),
  ('text_config.rope_theta', 10000, 'llm', 'rope_theta', 1e4),
  ('vit_config.hidden_act', 'quick_gelu', 'vit', 'activation', 'quick_gelu'),
  ('vit_config.image_num_pos', 576, 'vit', 'positions', 576),
  ('text_config.a_key_of_tomorrow', 1, 'llm', 'vocab', 512)])
def test_a_setting_reaches_the_model(tmp_path, key, value, section, field, expected):
  c = read_model_config(write(tmp_path, changed(QWEN, key, value)))
  assert getattr(getattr(c, section), field) == expected


def test_ties_are_read_from_both_places(tmp_path):
  both = changed(changed(QWEN, 'tie_word_embeddings', True), 'text_config.tie_word_embeddings',
                 True)
  assert read_model_config(write(tmp_path, both)).llm.tied
  assert read_model_config(
    write(tmp_path, changed(both, 'text_config.tie_word_embeddings', ...))).llm.tied
  with pytest.raises(CheckpointError, match='text_config.tie_word_embeddings is False; but at the '
                     'top'):
    read_model_config(write(tmp_path, changed(QWEN, 'tie_word_embeddings', True)))


def test_a_scaling_without_layers_applies_to_all_and_has_the_usual_factor(tmp_path):
  contents = changed(changed(OLMO, 'text_config.rope_scaling_layers', None),
                     'text_config.rope_scaling.attention_factor', ...)
  yarn = read_model_config(write(tmp_path, contents)).llm.yarn
  assert yarn.layers == (0, 1, 2, 3)
  assert yarn.attention_factor == pytest.approx(1.2079441541679836, abs=1e-15)


@pytest.mark.parametrize('source,key,value,message', [
  (QWEN, 'model_type', 'llava', "model_type is 'llava'; it must be one of 'molmo2'"),
  (QWEN, 'text_config', ..., 'no section text_config'),
  (QWEN, 'text_config', 3, 'text_config is 3; it must be an object'),
  (QWEN, 'vision_config', {}, 'both vit_config and vision_config'),
  (QWEN, 'text_config.hidden_size', ..., 'hidden_size is missing in text_config'),
  (QWEN, 'text_config.layer_norm_eps', ...,
   r'layer_norm_eps \(or rms_norm_eps\) is missing in text_config'),
  (QWEN, 'text_config.rms_norm_eps', 1e-5,
   'layer_norm_eps is 1e-06; but rms_norm_eps is 1e-05: they must be equal'),
  (QWEN, 'text_config.hidden_size', '64',
   "text_config.hidden_size is '64'; it must be of type int"),
  (QWEN, 'text_config.norm_after', 1, 'text_config.norm_after is 1; it must be one of True, False'),
  (QWEN, 'text_config.num_hidden_layers', 0,
   'num_hidden_layers is 0; it must be of type int from 1 to 1024'),
  (QWEN, 'text_config.hidden_act', 'gelu',
   "text_config.hidden_act is 'gelu'; only 'silu' is supported"),
  (QWEN, 'adapter_config.hidden_act', 'gelu', "adapter_config.hidden_act is 'gelu'; only 'silu'"),
  (QWEN, 'vit_config.hidden_act', 'relu',
   "vit_config.hidden_act is 'relu'; it must be one of 'gelu_pytorch_tanh'"),
  (QWEN, 'text_config.qk_norm_type', 'rms',
   "qk_norm_type is 'rms'; it must be one of 'qwen3', 'olmo'"),
  (QWEN, 'text_config.attention_dropout', 0.1,
   'text_config.attention_dropout is 0.1; only 0 is supported'),
  (QWEN, 'text_config.embedding_dropout', 0.1, 'text_config.embedding_dropout is 0.1; only 0'),
  (QWEN, 'vit_config.residual_dropout', 0.1, 'vit_config.residual_dropout is 0.1; only 0'),
  (QWEN, 'vit_config.num_key_value_heads', 2,
   'vit_config.num_key_value_heads is 2; only 4 is supported'),
  (QWEN, 'vit_config.image_default_input_size', [378, 336],
   r'is \[378, 336\]; it must be \[n, n\]'),
  (QWEN, 'vit_config.image_default_input_size', [380, 380],
   'image_size=380 must be a multiple of patch_size=14'),
  (QWEN, 'adapter_config.vit_layers', [-7], r'vit_layers=\(-7,\): a tower of 6 blocks'),
  (QWEN, 'adapter_config.vit_layers', 'all', "vit_layers is 'all'; it must be of type several int"),
  (QWEN, 'adapter_config.text_hidden_size', 65,
   'adapter_config.text_hidden_size is 65; only 64 is supported'),
  (QWEN, 'adapter_config.num_key_value_heads', 3,
   'model.connector.heads=4 must be a multiple of kv_heads=3'),
  (QWEN, 'text_config.num_hidden_layers', 10 ** 9,
   'num_hidden_layers is 1000000000; it must be of type int from 1 to 1024'),
  (QWEN, 'text_config.rope_theta', -1, 'rope_theta is -1; it must be of type float from 1 to'),
  (QWEN, 'vit_config.layer_norm_eps', float('nan'), 'layer_norm_eps is nan; it must be of type'),
  (QWEN, 'text_config.layer_norm_eps', 0, 'layer_norm_eps is 0; .* from 0 to 1, not 0'),
  (QWEN, 'text_config.residual_dropout', -0.1, 'residual_dropout is -0.1; .* from 0 to 1, not 1'),
  (QWEN, 'text_config.num_key_value_heads', 3, 'heads=4 must be a multiple of kv_heads=3'),
  (OLMO, 'text_config.rope_scaling.rope_type', 'linear',
   "rope_scaling.rope_type is 'linear'; it must be one of"),
  (OLMO, 'text_config.rope_scaling.truncate', False,
   'rope_scaling.truncate is False; only True is supported'),
  (OLMO, 'text_config.rope_scaling.mscale', 1.0,
   'rope_scaling.mscale is 1.0; this key is unknown'),
  (OLMO, 'text_config.rope_scaling_layers', [4],
   r'rope_scaling_layers is \[4\]; it must list layers from 0 to 3'),
  (NATIVE, 'vision_config.attention_bias', False,
   'vision_config.attention_bias is False; only True is supported'),
  (NATIVE, 'adapter_config.mlp_bias', True,
   'adapter_config.mlp_bias is True; only False is supported'),
  (NATIVE, 'text_config.rope_parameters.rope_theta', ..., 'rope_theta is missing in text_config')])
def test_what_cannot_be_computed_is_refused_by_name(tmp_path, source, key, value, message):
  with pytest.raises(CheckpointError, match=message) as error:
    read_model_config(write(tmp_path, changed(source, key, value)))
  assert str(tmp_path / 'config.json') in str(error.value)


def test_a_missing_or_broken_file_is_one_clear_error(tmp_path):
  with pytest.raises(CheckpointError, match=r'config.json: cannot be read \(No such file'):
    read_model_config(tmp_path)
  (tmp_path / 'config.json').write_text('{')
  with pytest.raises(CheckpointError, match='config.json: not valid JSON'):
    read_model_config(tmp_path)
  with pytest.raises(CheckpointError, match='must be an object with keys'):
    read_model_config(write(tmp_path, [1]))


@pytest.mark.parametrize('folder', RELEASED, ids=lambda f: f.name)
def test_the_released_file_is_written_word_for_word(folder):
  contents = json.loads((folder / 'config.json').read_text())
  assert model_config_dict(read_model_config(folder), 'hub', 'float32') == contents


def test_transformers_own_file_is_written_word_for_word(tmp_path):
  written = model_config_dict(read_model_config(QWEN), 'native', 'float32')
  assert all(written[name].items() >= section.items() for name, section in NATIVE.items()
             if isinstance(section, dict))
  assert written['image_patch_id'] == 514
  assert read_model_config(write(tmp_path, written)).llm == read_model_config(QWEN).llm


@pytest.mark.parametrize('layout', ['hub', 'native'])
def test_every_setting_that_a_file_can_express_comes_back(tmp_path, layout):
  c = ModelConfig(
    vit=VitConfig(28, 7, 6, layers=2, heads=3, head_dim=2, mlp=5, activation='gelu', norm_eps=1e-4),
    connector=ConnectorConfig((1, 0), heads=6, kv_heads=2, head_dim=4, width=10, hidden=11),
    llm=LlmConfig(50, 7, width=12, layers=3, heads=6, kv_heads=2, head_dim=8, mlp=9,
                  rope_theta=123.0,
                  yarn=YarnConfig((1, 2), 4.0, 100, 16.0, 2.0, 1.5), qk_norm='full',
                  norm_order='post', norm_eps=1e-5,
                  qkv_bias=True, tied=True))
  assert read_model_config(write(tmp_path, model_config_dict(c, layout, 'float32'))) == c


def test_ids_of_extra_tokens_and_the_longest_sequence_are_written():
  c = read_model_config(QWEN)
  special = {token: 1000 + i for i, token in enumerate(
    ['<im_start>', '<im_end>', '<im_patch>', '<im_col>', '<low_res_im_start>', '<|image|>',
     '<im_low>', '<frame_start>',
     '<frame_end>'])}
  written = model_config_dict(c, 'hub', 'bfloat16', special, max_positions=99)
  assert (written['image_low_res_id'], written['frame_end_token_id'],
          written['dtype']) == (1006, 1008, 'bfloat16')
  assert written['text_config']['max_position_embeddings'] == 99
