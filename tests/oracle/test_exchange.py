"""Checkpoints go both ways: what we write is loaded by transformers, what transformers writes is
loaded by us.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import molmo_jax
from molmo_jax.model.config import (
  ConnectorConfig,
  LlmConfig,
  ModelConfig,
  VitConfig,
  YarnConfig,
  resolve_vit_layers,
)
from molmo_jax.model.molmo import Network
from molmo_jax.parallel.mesh import MeshConfig, make_mesh
from molmo_jax.parameters import path_name
from molmo_jax.preprocess.tokenizer import Tokenizer, train_tokenizer
from molmo_jax.preprocess.types import ImageConfig, PreprocessConfig, VideoConfig
from molmo_jax.processor.processor import Processor
from molmo_jax.training.state import init_params
from tests.oracle import reference
from tests.oracle.checkpoints import TEXT, design
from tests.oracle.conversations import everyday
from tests.oracle.reference import torch

SHARD = 60_000   # bytes: several files


@pytest.mark.parametrize('layout', ['hub', 'native'])
def test_our_export_is_the_same_model_in_transformers(pair, layout, tmp_path):
  folder = tmp_path / layout
  pair.ours.save_pretrained(folder, layout=layout, max_shard_size=SHARD)
  assert len(list(folder.glob('*.safetensors'))) > 2
  model, processor = reference.load_model(folder), reference.load_processor(folder)
  before, after = pair.theirs.state_dict(), model.state_dict()
  assert before.keys() == after.keys() and all(torch.equal(before[name], after[name])
                                               for name in before)
  for conversation in everyday(pair.design).values():
    old, new = reference.prepare(pair.processor, conversation), reference.prepare(processor,
                                                                                  conversation)
    assert old.keys() == new.keys() and all(torch.equal(old[name], new[name]) for name in old)
    assert np.array_equal(reference.logits(pair.theirs, old), reference.logits(model, new))
  assert model.generation_config.eos_token_id == pair.theirs.generation_config.eos_token_id


def with_read_blocks_alone(config):
  """The same computation, written like transformers does: it counts stored blocks, the releases
  declared ones.
  """
  read = resolve_vit_layers(config.connector.vit_layers, config.vit.layers)
  return dataclasses.replace(config, vit=dataclasses.replace(config.vit, layers=max(read) + 1),
                             connector=dataclasses.replace(config.connector, vit_layers=read))


@pytest.mark.parametrize('original_format', [True, False])
def test_what_transformers_writes_is_the_same_model_here(pair, original_format, tmp_path):
  """In the original format transformers cuts the embedding in equal halves, whatever the base
  vocabulary is.
  """
  pair.theirs.save_pretrained(tmp_path, save_original_format=original_format,
                              max_shard_size='100KB')
  pair.processor.save_pretrained(tmp_path)
  again = molmo_jax.from_pretrained(tmp_path, dtype='float32')
  assert with_read_blocks_alone(again.config) == with_read_blocks_alone(pair.ours.config)
  assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), again.params,
                                   pair.ours.params))
  conversation = everyday(pair.design)['images']
  before, after = pair.ours.processor(conversation), again.processor(conversation)
  assert all(np.array_equal(before[name], after[name]) for name in before)


PLAIN = LlmConfig(vocab=420, extra_vocab=32, width=48, layers=3, heads=4, kv_heads=2, head_dim=16,
                  mlp=72,
                  rope_theta=1e5)
OWN = {
  'pre-norm': PLAIN,
  'post-norm': LlmConfig(
    vocab=380, extra_vocab=14, width=40, layers=3, heads=2, kv_heads=2, head_dim=24, mlp=64,
    rope_theta=5e5,
    qk_norm='full', norm_order='post', norm_eps=1e-5, qkv_bias=True,
    yarn=YarnConfig(layers=(1,), factor=4.0, original_length=512, attention_factor=1.13)),
}


def own_model(llm, folder):
  """A model of our own configuration with random parameters, as after training from scratch."""
  config = ModelConfig(
    vit=VitConfig(image_size=126, width=24, layers=5, heads=2, head_dim=12, mlp=56),
    connector=ConnectorConfig(vit_layers=(-2, -4), width=24, heads=2, kv_heads=2, head_dim=12,
                              hidden=60), llm=llm,
    remat='none')
  rng = np.random.default_rng(79)
  def draw(path, leaf):
    kind = path_name(path).rpartition('/')[2]
    scale = {'scale': 0.3, 'bias': 0.2, 'base': 0.6, 'extra': 0.6}.get(kind, 0.2)
    return jnp.asarray(rng.normal(float(kind == 'scale'), scale, leaf.shape), jnp.float32)
  shapes = jax.eval_shape(lambda: init_params(Network(config), jax.random.key(0)))
  train_tokenizer(TEXT.splitlines(), 340, folder / 'tokenizer.json')
  preprocess = PreprocessConfig(
    image=ImageConfig(crop_size=126, overlap_margins=(2, 2), max_crops_eval=6,
                      clamp_small_sides=False),
    video=VideoConfig(max_frames_eval=12))
  processor = Processor(Tokenizer.from_file(folder / 'tokenizer.json', base_vocab_size=llm.vocab),
                        preprocess)
  return molmo_jax.Molmo(config, jax.tree_util.tree_map_with_path(draw, shapes), processor,
                         make_mesh(MeshConfig(), jax.devices()[:1]))


@pytest.mark.parametrize('kind', OWN)
def test_a_model_of_our_own_is_the_same_in_transformers(kind, tmp_path):
  ours = own_model(OWN[kind], tmp_path)
  ours.save_pretrained(tmp_path / 'hub')
  model, processor = reference.load_model(tmp_path / 'hub'), reference.load_processor(tmp_path
                                                                                      / 'hub')
  for name, conversation in everyday(design(0)).items():
    inputs = ours.processor(conversation)
    theirs = reference.prepare(processor, conversation)
    assert inputs['tokens'].tolist() == theirs['input_ids'][0].tolist(), name
    # the weights drawn here are larger than those of the other checkpoints, and so is the rounding
    # of both sides
    assert np.abs(ours.logits(inputs) - reference.logits(model, theirs)[0]).max() < 1e-4, name
    if name == 'images':
      assert ours.generate_ids(inputs, 6).tolist() == reference.greedy(model, theirs, 6)[0]
