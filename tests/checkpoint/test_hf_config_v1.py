"""config.json of Molmo v1 ↔ ModelConfig: the released files, both dialects, and what is refused."""

from __future__ import annotations

import dataclasses
import json

import pytest

from configs import molmo_v1
from molmo_jax import experiment
from molmo_jax.checkpoint.hf_config import (
  model_config_dict,
  read_model_config,
  read_serving_settings,
)
from molmo_jax.errors import CheckpointError
from molmo_jax.model.config import ConnectorConfig, LlmConfig, ModelConfig, VitConfig
from tests.checkpoint.v1_hub import EXPERTS

RELEASED = dict(   # Molmo-7B-D
  architectures=['MolmoForCausalLM'], attention_layer_norm=False,
                auto_map={'AutoConfig': 'config_molmo.MolmoConfig'},
  clip_qkv=None, embedding_size=152064, hidden_size=3584, initializer_range=0.02,
                intermediate_size=37888,
  layer_norm_eps=1e-6, layer_norm_type='rms', max_position_embeddings=4096, model_type='molmo',
                norm_after=False,
  num_attention_heads=28, num_hidden_layers=28, num_key_value_heads=4, qkv_bias=True,
                rope_theta=1000000.0,
  tie_word_embeddings=False, torch_dtype='float32', use_cache=True, use_position_ids=True,
                vocab_size=152064,
  weight_tying=False)
SIZES = {   # of the others by docs/model.md §1.3, §9.3
  '7b_d': RELEASED,
  '7b_o': RELEASED | dict(
    attention_layer_norm=True, embedding_size=100352, hidden_size=4096, intermediate_size=22016,
    norm_after=True,
    num_attention_heads=32, num_hidden_layers=32, num_key_value_heads=None, qkv_bias=False,
    rope_theta=500000.0,
    vocab_size=100278),
  '72b': RELEASED | dict(hidden_size=8192, intermediate_size=59136, layer_norm_eps=1e-5,
                         num_attention_heads=64,
                         num_hidden_layers=80, num_key_value_heads=8),
  '1b_e': EXPERTS | dict(
    d_model=2048, n_heads=16, n_kv_heads=None, n_layers=16, mlp_hidden_size=2048,
    moe_num_experts=64, moe_top_k=8,
    vocab_size=50280, embedding_size=50304, additional_vocab_size=128, vit_layers=[-2, -9],
    vision_backbone=dict(
      image_model_type='openai', image_default_input_size=[336, 336], image_patch_size=14,
      image_pos_patch_size=14,
      image_emb_dim=1024, image_num_heads=16, image_num_key_value_heads=16, image_num_layers=23,
      image_head_dim=64,
      image_mlp_dim=4096, image_mlp_activations='quick_gelu', image_num_pos=577,
      image_norm_eps=1e-5))}
TINY = ModelConfig(
  vit=VitConfig(30, 6, 24, layers=4, heads=2, head_dim=12, mlp=40, positions=16, keep_unread=True),
  connector=ConnectorConfig((-1, -3), 'attention', False, 2, 2, 12, 24, 4, hidden=48,
                            padding_embed=None),
  llm=LlmConfig(176, 16, 160, width=32, layers=3, heads=4, kv_heads=1, head_dim=8, mlp=48,
                rope_theta=5e5,
                qk_norm='full', norm_order='post', norm_eps=1e-4, tied=True), bidirectional='none')


def read(folder, contents):
  (folder / 'config.json').write_text(json.dumps(contents))
  return read_model_config(folder)


def architecture(c):
  return c.vit, c.connector, c.llm, c.bidirectional


@pytest.mark.parametrize('size', SIZES)
def test_released_files_describe_the_models_of_the_configurations(tmp_path, size):
  model = experiment.from_config(molmo_v1.get_config(f'size={size},stage=multitask')).model
  # choices of a run
  llm = dataclasses.replace(model.llm, residual_dropout=0.0, response_residual_dropout=0.0)
  assert architecture(read(tmp_path, SIZES[size])) == (model.vit, model.connector, llm, 'none')


@pytest.mark.parametrize('size', SIZES)
def test_a_file_is_given_back_as_it_came_with_the_new_dtype(tmp_path, size):
  model = read(tmp_path, SIZES[size])
  settings = read_serving_settings(tmp_path)
  assert settings['max_positions'] == SIZES[size].get('max_position_embeddings')
  assert model_config_dict(model, 'hub', 'bfloat16',
                           **settings) == SIZES[size] | {'torch_dtype': 'bfloat16'}


@pytest.mark.parametrize('size', SIZES)
def test_what_is_written_without_a_source_means_the_same(tmp_path, size):
  model = read(tmp_path, SIZES[size])
  written = model_config_dict(model, 'hub', 'float32')
  assert architecture(read(tmp_path, written)) == architecture(model)
  assert ('vision_backbone' in written) == ('d_model' in written) == (size == '1b_e')


@pytest.mark.parametrize('changes', [
  {}, dict(llm=dict(experts=3, experts_per_token=1, tied=False, norm_order='pre')),
  dict(connector=dict(padding_embed='regress', pooling='stack', pool_slots=9, feature_dropout=0.5)),
  dict(connector=dict(pooling='none', pool_slots=1, projector='linear'), vit=dict(
    positions=None, normalize='dino', class_token=True, layer_scale=True, activation='gelu'))])
def test_every_setting_that_a_file_can_express_comes_back(tmp_path, changes):
  c = dataclasses.replace(TINY, **{part: dataclasses.replace(getattr(TINY, part), **fields)
                                   for part, fields in changes.items()})
  assert read(tmp_path, model_config_dict(c, 'hub', 'float32')) == c


def test_a_source_that_describes_another_model_is_not_given_back():
  other = SIZES['7b_d'] | {'rope_theta': 5.0}
  assert model_config_dict(TINY, 'hub', 'float32', source=other)['rope_theta'] == 5e5


@pytest.mark.parametrize('part, field, value', [
  ('connector', 'pooling_mask', True), ('connector', 'layout_embedding', True),
  ('connector', 'hidden', 7),
  ('connector', 'pooling', 'mean'), ('connector', 'projector', '2mlp'), ('connector', 'heads', 4),
  ('connector', 'pool_slots', 6), ('vit', 'pre_norm', True), ('llm', 'qk_norm', 'head'),
  ('llm', 'head_dim', 16),
  (None, 'bidirectional', 'image_tokens'), (None, 'blind', True)])
def test_settings_without_words_are_named(part, field, value):
  c = dataclasses.replace(TINY, **({field: value} if part is None else {
    part: dataclasses.replace(getattr(TINY, part), **{field: value})}))
  with pytest.raises(CheckpointError,
                     match=rf'cannot express model\.{f"{part}." if part else ""}{field}={value!r}'):
    model_config_dict(c, 'hub', 'float32')


@pytest.mark.parametrize('source, key, value, message', [
  (RELEASED, 'hidden_size', ..., r'hidden_size \(or d_model\) is missing'),
  (RELEASED, 'hidden_size', 3585, 'num_attention_heads is 28; the width 3585 must be a multiple'),
  (RELEASED, 'intermediate_size', 37887, 'intermediate_size is 37887; .*must be even'),
  (RELEASED, 'embedding_size', 100, 'embedding_size is 100; .*vocab_size=152064'),
  (RELEASED, 'clip_qkv', 8.0, 'clip_qkv is 8.0; only None is supported'),
  (RELEASED, 'layer_norm_type', 'default', "layer_norm_type is 'default'; only 'rms' is supported"),
  (RELEASED, 'rope_theta', '1e6', "rope_theta is '1e6'; it must be of type finite float"),
  (RELEASED, 'block_type', 'llama',
   "block_type is 'llama'; it must be one of 'sequential', 'moe'"),
  (RELEASED, 'vit_layers', [-24], r'vit_layers=\(-24,\): a tower of 23 blocks'),
  (RELEASED, 'num_key_value_heads', 3, 'heads=28 must be a multiple of kv_heads=3'),
  (EXPERTS, 'rope', ..., 'rope is False by default; only True is supported'),
  (EXPERTS, 'include_bias', True, 'include_bias is True; only False is supported'),
  (EXPERTS, 'moe_shared_expert', True, 'moe_shared_expert is True; only False is supported'),
  (EXPERTS, 'moe_top_k', 4, 'experts_per_token=4 must be from 1 to experts=3'),
  (EXPERTS, 'image_pooling_2d', 'attention-v2',
   "image_pooling_2d is 'attention-v2'; it must be one of"),
  (EXPERTS, 'image_padding_embed', 'half', "image_padding_embed is 'half'; it must be one of"),
  (EXPERTS, 'additional_vocab_size', ..., 'additional_vocab_size is missing'),
  (EXPERTS, 'vision_backbone.image_model_type', 'eva',
   "vision_backbone.image_model_type is 'eva'; it must be one of"),
  (EXPERTS, 'vision_backbone.image_num_key_value_heads', 1,
   'image_num_key_value_heads is 1; only 2 is supported'),
  (EXPERTS, 'vision_backbone.image_num_pos', 18, 'positions=17 must be a square number'),
  (EXPERTS, 'vision_backbone.image_default_input_size', [56, 42],
   r'is \[56, 42\]; it must be \[n, n\]')])
def test_what_cannot_be_computed_is_refused_by_name(tmp_path, source, key, value, message):
  contents = json.loads(json.dumps(source))
  *sections, last = key.split('.')
  place = contents[sections[0]] if sections else contents
  if value is ...:
    del place[last]
  else:
    place[last] = value
  with pytest.raises(CheckpointError, match=message) as error:
    read(tmp_path, contents)
  assert str(tmp_path / 'config.json') in str(error.value)
