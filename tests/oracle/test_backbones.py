"""Plain language models and image towers that transformers writes: the same scores and features
after loading ours.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from molmo_jax.checkpoint.hf_backbones import resize_grid
from molmo_jax.model.config import YarnConfig
from molmo_jax.model.molmo import Network
from molmo_jax.model.vit import Vit, patchify
from tests.checkpoint.backbones import load
from tests.model import tiny
from tests.model.tiny import config
from tests.oracle.reference import torch, transformers

TOLERANCE = 1e-5   # of scores and features whose standard deviation is about 1
WIDTH, HEADS, LENGTH = 48, 4, 40
SIZES = dict(vocab_size=96, hidden_size=WIDTH, intermediate_size=56, num_hidden_layers=4,
             num_attention_heads=HEADS,
             max_position_embeddings=256, tie_word_embeddings=False, rms_norm_eps=1e-6,
             pad_token_id=None,
             bos_token_id=None, eos_token_id=None)
LLM = dict(vocab=96, width=WIDTH, mlp=56, layers=4, heads=HEADS)
PLAIN = dict(rope_type='default', rope_theta=1e6)
YARN = dict(rope_type='yarn', rope_theta=5e5, factor=4.0, original_max_position_embeddings=32,
            beta_fast=16.0,
            beta_slow=1.0, attention_factor=1.15)
# transformers' class and keyword arguments, and ours; windows are longer than the text: Molmo2 has
# none
MODELS = {
  'qwen2': ('Qwen2', dict(num_key_value_heads=2, rope_parameters=PLAIN),
            dict(kv_heads=2, head_dim=12, rope_theta=1e6, qk_norm='none', qkv_bias=True)),
  'qwen3': ('Qwen3', dict(num_key_value_heads=2, head_dim=16,
                          rope_parameters=dict(PLAIN, rope_theta=5e6)),
            dict(kv_heads=2, head_dim=16, rope_theta=5e6, qk_norm='head')),
  'qwen3 tied': ('Qwen3', dict(num_key_value_heads=2, head_dim=16, rope_parameters=PLAIN,
                               tie_word_embeddings=True),
                 dict(kv_heads=2, head_dim=16, rope_theta=1e6, qk_norm='head')),
  'olmo2': ('Olmo2', dict(num_key_value_heads=4, rope_parameters=dict(PLAIN, rope_theta=5e5)),
            dict(kv_heads=4, head_dim=12, rope_theta=5e5, qk_norm='full', norm_order='post')),
  'olmo3': ('Olmo3', dict(num_key_value_heads=2, sliding_window=64, rope_parameters=dict(
              full_attention=YARN, sliding_attention=dict(PLAIN, rope_theta=5e5))),
            dict(kv_heads=2, head_dim=12, rope_theta=5e5, qk_norm='full', norm_order='post',
                 yarn=YarnConfig(
                   layers=(3,), factor=4.0, original_length=32, beta_fast=16.0,
                   attention_factor=1.15))),
  'olmoe': ('Olmoe', dict(num_key_value_heads=4, num_experts=6, num_experts_per_tok=2,
                          rope_parameters=dict(PLAIN, rope_theta=1e4)),
            dict(kv_heads=4, head_dim=12, rope_theta=1e4, qk_norm='full', experts=6,
                 experts_per_token=2)),
}
TOWER = dict(hidden_size=32, num_hidden_layers=4, num_attention_heads=2, patch_size=6,
             layer_norm_eps=1e-6)
VIT = dict(width=32, layers=4, heads=2, head_dim=16, mlp=64, patch_size=6, image_size=30)
OF_CLIP = dict(class_token=True, patch_bias=False, pre_norm=True, activation='quick_gelu',
               normalize='openai')
SMALL_TEXT = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1,
                  vocab_size=20)
# a model of transformers, and our tower
TOWERS = {
  'siglip': (lambda: transformers.SiglipModel(transformers.SiglipConfig(
               vision_config=dict(TOWER, intermediate_size=64, image_size=32),
               text_config=SMALL_TEXT)), {}),
  'siglip alone': (lambda: transformers.SiglipVisionModel(transformers.SiglipVisionConfig(
                     **TOWER, intermediate_size=64, image_size=32)), {}),
  'clip': (lambda: transformers.CLIPModel(transformers.CLIPConfig(
             vision_config=dict(TOWER, intermediate_size=64, image_size=30),
             text_config=SMALL_TEXT)), OF_CLIP),
  'clip alone': (lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(
                   **TOWER, intermediate_size=64, image_size=30)), OF_CLIP),
  'dinov2': (lambda: transformers.Dinov2Model(
    transformers.Dinov2Config(**TOWER, mlp_ratio=2, image_size=30)),
             dict(class_token=True, layer_scale=True, activation='gelu', normalize='dino')),
}


def randomize(model):
  """Every parameter drawn, norms and biases included, at a scale that keeps activations near one.
  """
  rng = np.random.default_rng(17)
  with torch.no_grad():
    for name, x in sorted(model.named_parameters()):
      drawn = rng.standard_normal(tuple(x.shape))
      scale = 0.2 if x.ndim < 2 else 0.6 if 'embed' in name else 1 / np.sqrt(x.shape[-1])
      x.copy_(torch.as_tensor(drawn * scale + ('norm' in name and name.endswith('weight'))))
  return model.eval()


@pytest.mark.parametrize('name', MODELS)
def test_scores_of_a_language_model(tmp_path, name):
  kind, theirs, ours = MODELS[name]
  settings = getattr(transformers, f'{kind}Config')(**SIZES | theirs)
  model = randomize(getattr(transformers, f'{kind}ForCausalLM')(settings))
  model.save_pretrained(tmp_path, max_shard_size='60KB')
  assert len(list(tmp_path.glob('*.safetensors'))) > 1
  c = config(llm=LLM | ours, bidirectional='none')
  params = load(c, llm=tmp_path)
  tokens = np.random.default_rng(3).integers(0, 96, (2, LENGTH))
  with torch.no_grad():
    want = model(torch.from_numpy(tokens)).logits.numpy()
  places = np.broadcast_to(np.arange(LENGTH, dtype=np.int32), tokens.shape)
  batch = dict(tokens=tokens.astype(np.int32), positions=places, segments=np.zeros_like(places),
               visual=np.zeros_like(places), feature_index=np.full_like(places, -1),
               crops=np.zeros((2, 0, 12, 12, 3), np.uint8),
               pool_index=np.zeros((2, 0, 4), np.int32))
  got = np.asarray(tiny.logits(Network(c), params, batch))
  assert want.std() > 0.3
  assert np.abs(got - want).max() <= TOLERANCE * want.std()


@pytest.mark.parametrize('name', TOWERS)
def test_features_of_every_block_of_a_tower(tmp_path, name):
  make, ours = TOWERS[name]
  model = randomize(make())
  model.save_pretrained(tmp_path)
  c = config(vit=VIT | ours, connector=dict(vit_layers=(3, 2, 1, 0)))
  params = load(c, vit=tmp_path)
  pixels = np.random.default_rng(5).normal(0, 1, (2, 30, 30, 3)).astype(np.float32)
  if 'siglip' in name:   # 32 px hold five patches of 6: the rest is not looked at
    pixels = np.pad(pixels, ((0, 0), (0, 2), (0, 2), (0, 0)), constant_values=9)
  with torch.no_grad():
    vision = getattr(model, 'vision_model', model)
    states = vision(pixel_values=torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()),
                    output_hidden_states=True).hidden_states
  want = np.concatenate([states[i].numpy()[:, int(c.vit.class_token):] for i in (4, 3, 2, 1)], -1)
  tower = Vit(c.vit, (3, 2, 1, 0), remat='none')
  got = np.asarray(tower.apply({'params': params['vit']}, patchify(pixels[:, :30, :30], 6),
                               method='encode'))
  assert want.std() > 0.3
  assert np.abs(got - want).max() <= TOLERANCE * want.std()


@pytest.mark.parametrize('old, new', [(37, 24), (16, 24), (5, 6)])
def test_position_tables_are_resized_as_upstream_does(old, new):
  table = np.random.default_rng(old).normal(size=(old * old, 3)).astype(np.float32)
  grid = torch.from_numpy(table).reshape(1, old, old, 3).permute(0, 3, 1, 2)
  want = torch.nn.functional.interpolate(grid, scale_factor=(new + 0.1) / old, mode='bicubic')
  want = want.permute(0, 2, 3, 1).reshape(new * new, 3).numpy()
  # torch has the places in float32
  assert np.abs(resize_grid(table, new * new) - want).max() < 3e-5


def test_a_tower_of_another_resolution(tmp_path):
  """DINOv2 is trained on larger pictures than Molmo shows it: its table is cut down once, when the
  run starts.
  """
  make, ours = TOWERS['dinov2']
  model = randomize(make())
  model.save_pretrained(tmp_path)
  c = config(vit=VIT | ours)
  smaller = dataclasses.replace(c, vit=dataclasses.replace(c.vit, image_size=18))
  table = load(smaller, vit=tmp_path)['vit']['position_embedding']
  # of the class token
  assert np.array_equal(table[0], load(c, vit=tmp_path)['vit']['position_embedding'][0])
  assert table.shape == (10, 32)
