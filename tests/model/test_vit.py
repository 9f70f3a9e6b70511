"""The image tower: what it builds, which blocks it returns, and the pixels that it sees."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from molmo_jax.configuration import ConfigError
from molmo_jax.model.config import VitConfig, resolve_vit_layers
from molmo_jax.model.tower import VITS, normalize_crops
from molmo_jax.model.vit import Vit, VitBlock, fit_positions, patchify
from molmo_jax.training.state import abstract_params
from tests.model.tiny import config

SMALL = VitConfig(image_size=8, patch_size=4, width=8, layers=4, heads=2, head_dim=4, mlp=16)
PATCHES = jax.random.normal(jax.random.key(7), (2, 4, 48))


def shapes_of(vit):
  start = functools.partial(vit.init, method='encode')
  return jax.eval_shape(start, jax.random.key(0), PATCHES)['params']


def encode(vit, params, patches=PATCHES):
  return jax.jit(functools.partial(vit.apply, method='encode'))({'params': params}, patches)


def init(config, read):
  vit = Vit(config, read)
  shapes = shapes_of(vit)
  rng = np.random.default_rng(0)   # no zeros and ones that could be forgotten
  return vit, jax.tree.map(lambda x: jnp.asarray(rng.normal(0.2, 0.4, x.shape), x.dtype), shapes)


def outputs_one_by_one(config, params, x):
  """The output of every block, run without a scan."""
  out, block = [], jax.jit(VitBlock(config).apply)
  for i in range(params['blocks']['up']['kernel'].shape[0]):
    x = block({'params': jax.tree.map(lambda w, i=i: w[i], params['blocks'])}, x)
    out.append(x)
  return out


def embedded(config, params, patches):
  x = patches @ params['patch_embedding']['kernel']
  if config.patch_bias:
    x = x + params['patch_embedding']['bias']
  return x + params['position_embedding']


@pytest.mark.parametrize('read', [(3, 1), (0, 2), (1, 1)])
def test_features_are_the_outputs_of_the_read_blocks_in_the_order_of_reading(read):
  vit, params = init(SMALL, read)
  blocks = outputs_one_by_one(SMALL, params, embedded(SMALL, params, PATCHES))
  expected = jnp.concatenate([blocks[i] for i in read], axis=-1)
  assert np.allclose(encode(vit, params, PATCHES), expected, atol=1e-5)


@pytest.mark.parametrize('read', [(3, 1), (0,)])
def test_only_blocks_up_to_the_deepest_read_one_are_built(read):
  params = shapes_of(Vit(SMALL, read))
  assert {x.shape[0] for x in jax.tree.leaves(params['blocks'])} == {max(read) + 1}


def test_a_block_adds_attention_and_then_a_perceptron():
  _, params = init(SMALL, (0,))
  p = jax.tree.map(lambda w: np.asarray(w[0]), params['blocks'])
  x = np.asarray(jax.random.normal(jax.random.key(2), (1, 4, 8)))

  def norm(x, p):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred ** 2).mean(-1, keepdims=True) + 1e-6) * p['scale'] + p['bias']

  h = norm(x, p['attention_norm'])
  q, k, v = (np.einsum('cpe,enh->cnph', h, p[n]['kernel']) + p[n]['bias'][:, None]
             for n in ('query', 'key', 'value'))
  weights = np.asarray(jax.nn.softmax(q @ k.swapaxes(-1, -2) / np.sqrt(4), axis=-1))
  x = x + np.einsum('cnph,nhe->cpe', weights @ v, p['out']['kernel']) + p['out']['bias']
  h = norm(x, p['mlp_norm']) @ p['up']['kernel'] + p['up']['bias']
  expected = x + np.asarray(
    jax.nn.gelu(h, approximate=True)) @ p['down']['kernel'] + p['down']['bias']
  start = jax.random.normal(jax.random.key(2), (1, 4, 8))
  found = VitBlock(SMALL).apply({'params': jax.tree.map(lambda w: w[0], params['blocks'])}, start)
  assert np.allclose(found, expected, atol=1e-5)


def test_layer_scale_multiplies_what_a_block_adds():
  config = dataclasses.replace(SMALL, layer_scale=True)
  _, params = init(config, (0,))
  p = jax.tree.map(lambda w: w[0], params['blocks'])
  assert p['attention_scale'].shape == p['mlp_scale'].shape == (8,)
  plain = {name: x for name, x in p.items() if not name.endswith('_scale')}
  # as if its last product were scaled
  for name, layer in (('attention_scale', 'out'), ('mlp_scale', 'down')):
    plain |= {layer: jax.tree.map(lambda w, name=name: w * p[name], p[layer])}
  start = jax.random.normal(jax.random.key(2), (2, 4, 8))
  scaled = VitBlock(config).apply({'params': p}, start)
  assert np.allclose(scaled, VitBlock(SMALL).apply({'params': plain}, start), atol=1e-5)
  assert not np.allclose(scaled, VitBlock(SMALL).apply({'params': p}, start), atol=1e-2)


def test_blocks_that_nobody_reads_are_built_only_on_demand_and_change_nothing():
  vit, params = init(dataclasses.replace(SMALL, keep_unread=True), (1, 0))
  assert {x.shape[0] for x in jax.tree.leaves(params['blocks'])} == {4}
  fewer = params | {'blocks': jax.tree.map(lambda w: w[:2], params['blocks'])}
  # two programs: on some processors they round differently
  assert np.allclose(encode(vit, params), encode(Vit(SMALL, (1, 0)), fewer), atol=1e-5)
  gradient = jax.grad(lambda p: jnp.sum(encode(vit, p)))(params)
  assert all(not np.any(g[2:]) for g in jax.tree.leaves(gradient['blocks']))


def bicubic(x, size):
  """Cubic convolution (a = −½) along the first axis, with the kernel widened where it shrinks, in
  plain numpy.
  """
  scale = max(len(x) / size, 1.0)
  out = []
  for i in range(size):
    t = np.abs((i + 0.5) * len(x) / size - 0.5 - np.arange(len(x))) / scale
    near, far = 1.5 * t ** 3 - 2.5 * t ** 2 + 1, -0.5 * t ** 3 + 2.5 * t ** 2 - 4 * t + 2
    weights = np.where(t < 1, near, np.where(t < 2, far, 0))
    out.append(np.tensordot(weights / weights.sum(), x, 1))
  return np.stack(out)


@pytest.mark.parametrize('class_token', [True, False])
@pytest.mark.parametrize('side', [5, 3])
def test_a_position_table_of_another_grid_is_interpolated_but_for_the_class_token(side,
                                                                                  class_token):
  table = np.asarray(jax.random.normal(jax.random.key(0), (16 + class_token, 6)))
  found = np.asarray(fit_positions(jnp.asarray(table), side * side, class_token))
  grid = table[int(class_token):].reshape(4, 4, 6)
  expected = bicubic(bicubic(grid, side).swapaxes(0, 1), side).swapaxes(0, 1)
  assert np.allclose(found[int(class_token):], expected.reshape(-1, 6), atol=1e-5)
  assert np.array_equal(found[:int(class_token)], table[:int(class_token)])


def test_a_position_table_of_the_same_grid_is_used_as_it_is():
  table = jnp.arange(20.0).reshape(5, 4)
  assert fit_positions(table, 4, True) is table
  vit, params = init(dataclasses.replace(SMALL, positions=9), (0,))
  assert params['position_embedding'].shape == (9, 8)
  assert encode(vit, params).shape == (2, 4, 8)


@pytest.mark.parametrize('fields, message',
                         [(dict(positions=8), 'model.vit.positions=8 must be a square number'),
                          (dict(image_size=9), 'model.vit.image_size=9 must be a multiple')])
def test_sizes_that_make_no_grid_are_an_error(fields, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(SMALL, **fields)


def test_crops_do_not_see_each_other():
  vit, params = init(SMALL, (2, 1))
  both = encode(vit, params, PATCHES)
  alone = encode(vit, params, PATCHES[1:])
  assert np.allclose(both[1:], alone, atol=1e-5)


def test_the_class_token_takes_part_and_is_dropped_at_the_end():
  config = dataclasses.replace(SMALL, class_token=True, pre_norm=True, patch_bias=False,
                               activation='quick_gelu')
  vit, params = init(config, (1, 0))
  assert params['position_embedding'].shape == (5, 8)
  assert 'bias' not in params['patch_embedding']
  assert 'pre_norm' in params
  features = encode(vit, params, PATCHES)
  assert features.shape == (2, 4, 16)
  moved = params | {'class_embedding': params['class_embedding'][::-1]}
  assert not np.allclose(encode(vit, moved, PATCHES), features, atol=1e-3)


def test_negative_layers_count_from_the_declared_number_of_blocks():
  assert resolve_vit_layers((-3, -9), 27) == (24, 18)
  assert resolve_vit_layers((-2, -9), 23) == (21, 14)
  assert resolve_vit_layers((0, 3), 4) == (0, 3)


@pytest.mark.parametrize('layers', [(), (4,), (-5,), (0, 9)])
def test_layers_that_a_tower_does_not_have_are_an_error(layers):
  with pytest.raises(ValueError,
                     match='model.connector.vit_layers=.* a tower of 4 blocks has -4…3'):
    resolve_vit_layers(layers, 4)


def test_patches_are_in_raster_order_flattened_by_row_column_channel():
  crop = np.arange(4 * 6 * 3, dtype=np.float32).reshape(4, 6, 3)
  patches = patchify(jnp.asarray(crop), 2)
  assert patches.shape == (6, 12)
  assert np.array_equal(patches[1], crop[0:2, 2:4].reshape(-1))
  assert np.array_equal(patches[3], crop[2:4, 0:2].reshape(-1))


def test_a_tower_takes_crops_of_whole_numbers():
  vit, params = init(SMALL, (1, 0))
  crops = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
  expected = encode(vit, params, patchify(normalize_crops(jnp.asarray(crops), 'siglip'), 4))
  assert expected.shape == (2, SMALL.patches, 2 * SMALL.width)
  assert np.allclose(vit.apply({'params': params}, jnp.asarray(crops)), expected, atol=1e-5)


def test_an_unknown_kind_of_tower_is_an_error_that_lists_the_known_ones():
  with pytest.raises(ConfigError, match="model.vit.kind='conv' must be one of vit"):
    abstract_params(config(vit=dict(kind='conv')))


@pytest.mark.parametrize('name', VITS)
def test_every_row_of_the_table_is_a_tower(name):
  tower = VitConfig(**VITS[name])
  assert tower.patches == {336: 576, 378: 729}[tower.image_size]
  assert tower.tokens == tower.patches + (name != 'siglip')
  assert tower.width == tower.heads * tower.head_dim


def test_pixels_are_normalised_as_the_towers_were_trained():
  crop = jnp.array([[[0, 128, 255]]], jnp.uint8)
  assert np.allclose(normalize_crops(crop, 'siglip'), [[[-1, 128 / 255 * 2 - 1, 1]]], atol=1e-6)
  assert np.allclose(normalize_crops(crop, 'openai')[0, 0, 0], -0.48145466 / 0.26862954, atol=1e-5)
  assert np.allclose(normalize_crops(crop, 'dino')[0, 0, 2], (1 - 0.406) / 0.225, atol=1e-5)
  shares = jnp.array([[[0.0, 0.5, 1.0]]])
  assert np.allclose(normalize_crops(shares, 'siglip'), [[[-1, 0, 1]]])
