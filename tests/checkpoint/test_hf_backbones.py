"""Plain language models and image towers: every tensor at its place, or a clear error. tests/oracle
has numbers.
"""

from __future__ import annotations

import io

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from molmo_jax.checkpoint.hf_backbones import resize_grid
from molmo_jax.errors import CheckpointError
from molmo_jax.model.molmo import Network
from molmo_jax.parallel.mesh import MeshConfig, make_mesh
from molmo_jax.parallel.sharding import shardings_of
from molmo_jax.parameters import flatten_paths
from molmo_jax.terminal import Terminal
from molmo_jax.training.state import init_state
from tests.checkpoint.backbones import FAMILIES, KEY, image_tower, language_model, load, write
from tests.model.tiny import config

CLIP = dict(class_token=True, patch_bias=False, pre_norm=True, activation='quick_gelu',
            norm_eps=1e-5,
            normalize='openai')
DINOV2 = dict(class_token=True, layer_scale=True, activation='gelu', normalize='dino')
TOWERS = {'siglip': {}, 'clip': CLIP, 'dinov2': DINOV2}
CONFIG = config()   # Qwen3-like, SigLIP-like; blocks 1 and 2 of 3 are read


def spoil(tmp_path, message, llm=None, vit=None, c=CONFIG):
  """Asserts that a folder, whose config.json and tensors a function has changed, is refused with
  this message.
  """
  parts = {}
  for name, change, (settings, tensors) in (('llm', llm, language_model(c.llm, 'qwen3')),
                                            ('vit', vit, image_tower(c.vit, c.vit.layers))):
    if change:
      change(settings, tensors)
      parts[name] = write(tmp_path / name, settings, tensors)
  with pytest.raises(CheckpointError, match=message):
    load(c, **parts)


@pytest.mark.parametrize('family', FAMILIES)
def test_every_tensor_of_a_language_model_has_its_place(tmp_path, family):
  c = config(llm=FAMILIES[family])
  settings, tensors = language_model(c.llm, family)
  params = flatten_paths(load(c, llm=write(tmp_path / 'llm', settings, tensors)))
  layers = lambda name: np.stack([tensors[f'model.layers.{i}.{name}'] for i in range(c.llm.layers)])
  d, heads, kv_heads, h = c.llm.width, c.llm.heads, c.llm.kv_heads, c.llm.head_dim
  block = 'decoder/blocks'
  want = {'embedding/base': tensors['model.embed_tokens.weight'],
          'embedding/head': tensors['lm_head.weight'],
          'decoder/norm/scale': tensors['model.norm.weight'],
          f'{block}/attention/query/kernel': layers('self_attn.q_proj.weight').swapaxes(
            1, 2).reshape(-1, d, heads, h),
          f'{block}/attention/key/kernel': layers('self_attn.k_proj.weight').swapaxes(1, 2).reshape(
            -1, d, kv_heads, h),
          f'{block}/attention/value/kernel': layers('self_attn.v_proj.weight').swapaxes(1,
                                                                                        2).reshape(
                                                                                          -1, d,
                                                                                          kv_heads,
                                                                                          h),
          f'{block}/attention/out/kernel': layers('self_attn.o_proj.weight').swapaxes(1, 2).reshape(
            -1, heads, h, d)}
  post = c.llm.norm_order == 'post'
  first, second = (('post_attention_layernorm', 'post_feedforward_layernorm') if post else
                   ('input_layernorm', 'post_attention_layernorm'))
  want |= {f'{block}/attention_norm/scale': layers(f'{first}.weight'),
           f'{block}/mlp_norm/scale': layers(f'{second}.weight')}
  if c.llm.qk_norm != 'none':
    want |= {f'{block}/attention/{ours}_norm/scale': layers(f'self_attn.{theirs}_norm.weight')
             for ours, theirs in (('query', 'q'), ('key', 'k'))}
  if c.llm.qkv_bias:
    want |= {f'{block}/attention/{ours}/bias': layers(f'self_attn.{theirs}_proj.bias').reshape(
      -1, n, h)
             for ours, theirs, n in (('query', 'q', heads), ('key', 'k', kv_heads),
                                     ('value', 'v', kv_heads))}
  for part in ('gate', 'up', 'down'):
    if c.llm.experts:
      want[f'{block}/mlp/{part}'] = np.stack(
        [layers(f'mlp.experts.{e}.{part}_proj.weight') for e in range(3)],
        1).swapaxes(2, 3)
      want[f'{block}/mlp/router/kernel'] = layers('mlp.gate.weight').swapaxes(1, 2)
    else:
      want[f'{block}/mlp/{part}/kernel'] = layers(f'mlp.{part}_proj.weight').swapaxes(1, 2)
  assert want.keys() == {p for p in params
                         if p.startswith(('decoder/', 'embedding/'))} - {'embedding/extra'}
  for path, value in want.items():
    assert np.array_equal(params[path], value), path


@pytest.mark.parametrize('family', TOWERS)
def test_every_tensor_of_a_tower_up_to_the_last_block_that_is_read_has_its_place(tmp_path, family):
  c = config(vit=dict(TOWERS[family], layers=4), connector=dict(vit_layers=(-2, -3)))
  settings, tensors = image_tower(c.vit, 4)
  params = flatten_paths(load(c, vit=write(tmp_path / 'vit', settings, tensors)))
  dino, p, e = family == 'dinov2', c.vit.patch_size, c.vit.width
  embeddings = 'embeddings' if dino else 'vision_model.embeddings'
  pixels = tensors[
    f'{embeddings}.{"patch_embeddings.projection" if dino else "patch_embedding"}.weight']
  by_hand = np.stack([pixels[:, colour, row, column] for row in range(p) for column in range(p)
                      for colour in range(3)])
  assert np.array_equal(params['vit/patch_embedding/kernel'], by_hand)
  positions = tensors[
    f'{embeddings}.{"position_embeddings" if dino else "position_embedding.weight"}']
  assert np.array_equal(params['vit/position_embedding'], positions.reshape(-1, e))
  if c.vit.class_token:
    token = tensors[f'{embeddings}.{"cls_token" if dino else "class_embedding"}']
    assert np.array_equal(params['vit/class_embedding'], token.reshape(-1))
  if c.vit.pre_norm:
    assert np.array_equal(params['vit/pre_norm/bias'], tensors['vision_model.pre_layrnorm.bias'])
  block = 'encoder.layer' if dino else 'vision_model.encoder.layers'
  # block 3 is not read
  layers = lambda name: np.stack([tensors[f'{block}.{i}.{name}'] for i in range(3)])
  value = 'attention.attention.value' if dino else 'self_attn.v_proj'
  heads = (c.vit.heads, c.vit.head_dim)
  kernel = layers(f'{value}.weight').swapaxes(1, 2).reshape(3, e, *heads)
  assert np.array_equal(params['vit/blocks/value/kernel'], kernel)
  assert np.array_equal(params['vit/blocks/value/bias'], layers(f'{value}.bias').reshape(3, *heads))
  assert np.array_equal(params['vit/blocks/mlp_norm/scale'],
                        layers(f'{"norm2" if dino else "layer_norm2"}.weight'))
  if c.vit.layer_scale:
    assert np.array_equal(params['vit/blocks/mlp_scale'], layers('layer_scale2.lambda1'))


def test_what_no_folder_fills_is_as_the_seed_makes_it(tmp_path):
  c = config(connector=dict(layout_embedding=True))
  llm, vit = (write(tmp_path / name, *made) for name, made in (
    ('llm', language_model(c.llm, 'qwen3')), ('vit', image_tower(c.vit, 3))))
  seeded = flatten_paths(jax.jit(lambda: init_state(Network(c), optax.identity(), KEY))().params)
  for flags, prefixes in ((dict(llm=llm), ('decoder/', 'embedding/base', 'embedding/head')),
                          (dict(vit=vit), ('vit/',)),
                          (dict(llm=llm, vit=vit), ('decoder/', 'embedding/base', 'embedding/head',
                                                    'vit/'))):
    params = flatten_paths(load(c, **flags))
    assert params.keys() == seeded.keys()
    same = {path for path in params if np.array_equal(params[path], seeded[path])}
    assert same == {path for path in params if not path.startswith(prefixes)}


def test_a_padded_vocabulary_is_read_as_far_as_it_is_used(tmp_path):
  settings, tensors = language_model(CONFIG.llm, 'qwen3', rows=CONFIG.llm.vocab + 24)
  text = io.StringIO()
  params = load(CONFIG, llm=write(tmp_path / 'llm', settings, tensors),
                console=Terminal(file=text, width=200))
  for ours, theirs in (('base', 'model.embed_tokens.weight'), ('head', 'lm_head.weight')):
    assert np.array_equal(params['embedding'][ours], tensors[theirs][:CONFIG.llm.vocab])
  assert (
    'model.embed_tokens.weight has 64 rows, model.llm.vocab=40 of them are read' in text.getvalue())
  assert 'connector, embedding/extra, vit: random initial values' in text.getvalue()


def test_a_vocabulary_that_is_too_small_is_an_error(tmp_path):
  def cut(settings, tensors):
    tensors['model.embed_tokens.weight'] = tensors['model.embed_tokens.weight'][:39]
  spoil(tmp_path,
        r'model\.embed_tokens\.weight: stored \[39, 16\], the configuration makes \[40, 16\]',
        llm=cut)


def test_a_head_that_is_the_embedding_is_copied_or_stays_tied(tmp_path):
  settings, tensors = language_model(CONFIG.llm, 'qwen3')
  settings['tie_word_embeddings'] = True
  del tensors['lm_head.weight']
  folder = write(tmp_path / 'llm', settings, tensors)
  params = load(CONFIG, llm=folder)
  assert np.array_equal(params['embedding']['head'], tensors['model.embed_tokens.weight'])
  assert 'head' not in load(config(llm=dict(tied=True)), llm=folder)['embedding']


def test_a_head_of_its_own_does_not_fit_a_tied_model(tmp_path):
  spoil(tmp_path, r'lm_head\.weight: differs from the embedding', llm=lambda *_: None,
        c=config(llm=dict(tied=True)))


def test_a_head_that_is_missing_is_an_error_if_it_is_not_the_embedding(tmp_path):
  spoil(tmp_path, r'missing: lm_head\.weight \[40, 16\]', llm=lambda _,
        tensors: tensors.pop('lm_head.weight'))


@pytest.mark.parametrize('change, message', [
  (dict(rope_theta=5e6), r'model\.llm\.rope_theta=10000\.0: the language model has 5000000\.0'),
  (dict(rms_norm_eps=1e-5), r'model\.llm\.norm_eps=1e-06: the language model has 1e-05'),
  (dict(num_attention_heads=2, head_dim=16), r'(?s)model\.llm\.heads=4.*model\.llm\.head_dim=8'),
  (dict(model_type='qwen2'),
   r'(?s)model\.llm\.qkv_bias=False: .* True.*model\.llm\.qk_norm=head: .* none'),
  (dict(model_type='llama'),
   r"model_type is 'llama'; it must be one of 'qwen2', 'qwen3', 'olmo2', 'olmo3', 'olmoe'"),
  (dict(hidden_act='gelu'), r"hidden_act is 'gelu'; only 'silu' is supported"),
  (dict(use_sliding_window=True), 'use_sliding_window is True'),
  (dict(clip_qkv=8.0), 'clip_qkv is 8.0')])
def test_a_language_model_that_computes_something_else_is_refused(tmp_path, change, message):
  def edit(settings, tensors):
    settings.update(change)
    tensors.clear()   # it is not looked at
  spoil(tmp_path, message, llm=edit)


@pytest.mark.parametrize('change, message', [
  (dict(hidden_act='quick_gelu'),
   r'model\.vit\.activation=gelu_tanh: the image tower has quick_gelu'),
  (dict(num_hidden_layers=2), r'the image tower has 2 blocks, but model\.vit\.layers=3'),
  (dict(patch_size=2), r'model\.vit\.patch_size=4: the image tower has 2'),
  (dict(num_attention_heads=4), r'(?s)model\.vit\.heads=2.*model\.vit\.head_dim=4')])
def test_a_tower_that_computes_something_else_is_refused(tmp_path, change, message):
  spoil(tmp_path, message, vit=lambda settings, _: settings['vision_config'].update(change))


def test_tensors_that_nobody_knows_are_left_over(tmp_path):
  spoil(tmp_path, r'left over: model\.layers\.0\.self_attn\.o_proj\.bias \[16\]',
        llm=lambda _, t: t.update({'model.layers.0.self_attn.o_proj.bias': t['model.norm.weight']}))
  block = 'vision_model.encoder.layers.3'   # config.json says three
  spoil(tmp_path, rf'left over: {block}\.mlp\.fc2\.bias',
        vit=lambda _, t: t.update({f'{block}.mlp.fc2.bias': t['vision_model.post_layernorm.bias']}))


def test_tensors_that_are_known_to_be_of_no_use_are_not(tmp_path):
  def add(settings, tensors):
    tensors['vision_model.embeddings.position_ids'] = np.arange(9)
  settings, tensors = image_tower(CONFIG.vit, 3)
  add(settings, tensors)
  load(CONFIG, vit=write(tmp_path / 'vit', settings, tensors))
  settings, tensors = language_model(CONFIG.llm, 'qwen3')
  tensors['model.layers.1.self_attn.rotary_emb.inv_freq'] = np.ones(4, np.float32)
  load(CONFIG, llm=write(tmp_path / 'llm', settings, tensors))


def test_all_problems_are_in_one_error_before_anything_is_read(tmp_path):
  def change(_, tensors):
    del tensors['vision_model.encoder.layers.1.mlp.fc2.weight']
    tensors['vision_model.embeddings.patch_embedding.weight'] = np.zeros((8, 3, 2, 2), np.float32)
    tensors['vision_model.embeddings.position_embedding.weight'] = np.zeros((8, 8), np.float32)
  spoil(tmp_path, r'(?s)missing: vision_model\.encoder\.layers\.1\.mlp\.fc2\.weight \[8, 16\].*'
        r'patch_embedding\.weight: stored \[8, 3, 2, 2\], the configuration makes \[8, 3, 4, 4\].*'
        r'position_embedding\.weight: stored \[8, 8\], the configuration makes '
        r'\[a square number, 8\]', vit=change)


def test_a_folder_of_pickles_says_what_to_do(tmp_path):
  settings, _ = image_tower(CONFIG.vit, 3)
  folder = write(tmp_path / 'vit', settings, {})
  (tmp_path / 'vit/model.safetensors').rename(tmp_path / 'vit/pytorch_model.bin')
  with pytest.raises(CheckpointError, match=r'pickles \(pytorch_model\.bin\).*save_pretrained'):
    load(CONFIG, vit=folder)


def test_a_position_table_of_another_grid_is_resized_unless_the_model_keeps_it(tmp_path):
  settings, tensors = image_tower(CONFIG.vit, 3, positions=25)
  folder = write(tmp_path / 'vit', settings, tensors)
  table = tensors['vision_model.embeddings.position_embedding.weight']
  text = io.StringIO()
  resized = load(CONFIG, vit=folder,
                 console=Terminal(file=text, width=200))['vit']['position_embedding']
  assert np.array_equal(resized, resize_grid(table, 9))
  assert 'resized from 25 to 9 patches; model.vit.positions=25 keeps it as it is' in text.getvalue()
  kept = load(config(vit=dict(positions=25)), vit=folder)['vit']['position_embedding']
  assert np.array_equal(kept, table)


def test_resizing_keeps_constants_and_nearly_keeps_slopes():
  rows, columns = np.mgrid[:10, :10].reshape(2, -1, 1).astype(np.float32)
  table = np.concatenate([np.ones_like(rows), rows, columns], -1)
  small = resize_grid(table, 25).reshape(5, 5, 3)
  assert np.allclose(small[..., 0], 1, atol=1e-6)
  inner = (np.arange(5) + 0.5) * 10 / 5.1 - 0.5
  assert np.allclose(small[1:4, 2, 1], inner[1:4],
                     atol=0.05) and np.allclose(small[2, 1:4, 2], inner[1:4], atol=0.05)


def test_every_device_gets_its_part(tmp_path):
  mesh = make_mesh(MeshConfig(fsdp=-1))
  llm, vit = (write(tmp_path / name, *made) for name, made in (
    ('llm', language_model(CONFIG.llm, 'qwen3')), ('vit', image_tower(CONFIG.vit, 3))))
  spread = load(CONFIG, llm, vit, shardings=lambda tree: shardings_of(tree, mesh))
  alone = load(CONFIG, llm, vit)
  same = jax.tree.map(lambda a, b: bool(jnp.array_equal(np.asarray(a), np.asarray(b))), spread,
                      alone)
  assert all(jax.tree.leaves(same))
  kernel = spread['decoder']['blocks']['attention']['query']['kernel']
  assert kernel.addressable_shards[0].data.size * jax.device_count() == kernel.size
