"""The whole model: where features go, who sees whom, packing, padding, rematerialisation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from molmo_jax.model.molmo import Network
from tests.model.tiny import IM_PATCH, batch, build, close, config, logits, pack, row

TWO_IMAGES = row(2, -2, 1, -3, 3)   # tokens: 2 text, image of 2, 1 text, image of 3, 3 text


@pytest.fixture(scope='module')
def tiny():
  return build()


def test_logits_are_float32_over_the_base_vocabulary(tiny):
  model, params = tiny
  found = logits(model, params, batch(TWO_IMAGES))
  assert found.shape == (1, 11, model.config.llm.vocab)
  assert found.dtype == jnp.float32


def test_feature_i_is_added_to_the_ith_patch_token_of_its_row(tiny):
  model, params = tiny
  rows = batch(TWO_IMAGES, row(1, -1, 2))

  @jax.jit
  def run(params, rows):
    apply = lambda method, *args: model.apply({'params': params}, *args, method=method)
    return apply('embed', rows), apply('visual_features', rows)
  embedded, features = run(params, rows)
  tables = params['embedding']
  for b, tokens in enumerate(rows['tokens']):
    count = 0
    for s, token in enumerate(tokens):
      if token == IM_PATCH:
        assert np.allclose(embedded[b, s], tables['extra'][2] + features[b, count], atol=1e-5)
        count += 1
      else:
        assert np.allclose(embedded[b, s], tables['base'][max(token, 0)], atol=1e-6)
  assert np.abs(features[0, :5]).min(-1).all()


def test_features_come_from_the_windows_of_the_row_itself(tiny):
  model, params = tiny
  first, second = row(1, -2, 1), row(2, -2, 2)
  both = jax.jit(lambda p, r: model.apply({'params': p}, r, method='visual_features'))
  assert close(both(params, batch(first, second))[1], both(params, batch(second))[0])


def test_a_blind_model_has_the_same_parameters_but_sees_nothing(tiny):
  _, params = tiny
  blind = Network(config(blind=True))
  assert jax.tree.map(jnp.shape, build(blind.config)[1]) == jax.tree.map(jnp.shape, params)
  rows = batch(TWO_IMAGES)
  other = rows | {'crops': 255 - rows['crops'], 'pool_index': rows['pool_index'][:, ::-1]}
  assert np.array_equal(logits(blind, params, rows), logits(blind, params, other))
  seeing = Network(config())
  assert not close(logits(seeing, params, rows), logits(seeing, params, other), 1e-2)
  features = blind.apply({'params': params}, rows, method='visual_features')
  assert features.shape == (1, 5, 16)
  assert not features.any()


V1 = config(
  vit=dict(class_token=True, pre_norm=True, patch_bias=False, activation='quick_gelu',
           normalize='openai',
           keep_unread=True),
  connector=dict(pooling_mask=False, padding_embed='pad_and_partial_pad'),
  llm=dict(qkv_bias=True, qk_norm='none', experts=4, experts_per_token=2, mlp=6),
  bidirectional='none')


def test_crops_of_padding_are_never_read():
  model, params = build(V1)
  # the second row has one crop of its own, and one of padding
  first = batch(TWO_IMAGES, row(1, -1, 2))
  patches = V1.vit.patches
  mask = np.random.default_rng(0).random((2, first['crops'].shape[1], patches)).astype(np.float32)
  rows = first | {'patch_mask': mask}
  own = rows['pool_index'][1].max() // patches + 1
  assert own < rows['crops'].shape[1]
  other = {name: x.copy() for name, x in rows.items()}
  other['crops'][1, own:] = 255
  other['patch_mask'][1, own:] = -1

  @jax.jit
  def run(params, rows):
    def score(params, crops, patch_mask):
      hidden = model.apply({'params': params}, rows | {'crops': crops, 'patch_mask': patch_mask})
      return jnp.sum(model.apply({'params': params}, hidden, method='logits') ** 2)
    shares = rows['crops'] / 255
    return jax.value_and_grad(score, (0, 1))(params, shares, rows['patch_mask'])

  (value, (gradients, pixels)), changed = run(params, rows), run(params, other)
  assert np.array_equal(value, changed[0])
  assert close(gradients, changed[1][0], 1e-4)
  assert not np.any(pixels[1, own:])
  assert np.any(pixels[1, :own])


def test_text_alone_needs_no_crops(tiny):
  model, params = tiny
  text = row(6)
  assert text['crops'].shape[0] == 0
  alone, beside = logits(model, params, batch(text)), logits(model, params,
                                                             batch(text, row(1, -2, 1)))
  assert close(alone[0], beside[0, :6])


def changed_queries(mode, params, token):
  """Which tokens' logits change when another token is exchanged for one of its kind."""
  model = Network(config(bidirectional=mode))
  rows = batch(TWO_IMAGES)
  tokens = rows['tokens'].copy()
  tokens[0, token] = tokens[0, token] + 1 if tokens[0, token] == IM_PATCH else (tokens[0, token]
                                                                                + 7) % 40
  before, after = (logits(model, params, r) for r in (rows, rows | {'tokens': tokens}))
  return (np.abs(before - after).max(-1)[0] > 1e-4).astype(int).tolist()


@pytest.mark.parametrize('mode, token, changed', [
  # tokens             t  t  1  1  t  2  2  2  t  t  t
  ('none',         6, [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1]),
  ('within_image', 6, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]),
  # the text between sees it through the first image
  ('image_tokens', 6, [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
  ('within_image', 3, [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
  ('none',         3, [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]),
  # the second image sees the text, the first image sees it
  ('image_tokens', 4, [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
])
def test_visual_tokens_see_each_other_as_the_mode_says(tiny, mode, token, changed):
  assert changed_queries(mode, tiny[1], token) == changed


def test_packed_examples_equal_separate_rows(tiny):
  model, params = tiny
  first, second = row(2, -2, 1, -2, 2), row(1, -2, 2, -3, 1)
  packed = logits(model, params, batch(pack(first, second)))
  n = len(first['tokens'])
  assert close(packed[0, :n], logits(model, params, batch(first))[0])
  assert close(packed[0, n:], logits(model, params, batch(second))[0])


def test_padding_changes_nothing(tiny):
  model, params = tiny
  plain, padded = (logits(model, params, batch(TWO_IMAGES, extra=extra)) for extra in (0, 3))
  assert close(plain, padded[:, :plain.shape[1]])
  assert np.isfinite(padded).all()


def test_what_stands_in_padding_does_not_matter(tiny):
  model, params = tiny
  rows = batch(TWO_IMAGES, extra=2)
  noise = {name: x.copy() for name, x in rows.items()}
  noise['tokens'][:, -2:] = 5
  noise['positions'][:, -2:] = 9
  noise['crops'][:, -2:] = 200
  real = TWO_IMAGES['tokens'].size
  assert close(logits(model, params, rows)[:, :real], logits(model, params, noise)[:, :real])


def gradient_of(c, params, rows):
  model = Network(c)
  run = lambda p: jnp.mean(model.apply({'params': p}, rows) ** 2)
  return jax.jit(jax.value_and_grad(run))(params)


def test_values_and_gradients_do_not_depend_on_what_is_rematerialised_or_unrolled(tiny):
  _, params = tiny
  rows = jax.tree.map(jnp.asarray, batch(row(1, -2, 2), row(3, -1, 1)))
  expected = gradient_of(config(remat='none'), params, rows)
  assert all(np.isfinite(g).all() and g.any()
             for n, g in expected[1]['decoder']['blocks']['mlp']['up'].items())
  assert close(gradient_of(config(remat='full', unroll=2), params, rows), expected)


def test_all_parts_are_reached_by_gradients(tiny):
  _, params = tiny
  _, gradients = gradient_of(config(connector=dict(layout_embedding=True)), *_with_layout(params))
  flat = jax.tree_util.tree_flatten_with_path(gradients)[0]
  silent = [jax.tree_util.keystr(path) for path, g in flat if not np.abs(g).max() > 1e-9]
  # the bias of keys cancels in a softmax over keys; the head is not part of the hidden states
  assert all('head' in name or "['key']['bias']" in name for name in silent), silent


def _with_layout(params):
  fresh = build(config(connector=dict(layout_embedding=True)))[1]
  return fresh, jax.tree.map(jnp.asarray, batch(TWO_IMAGES))


def test_low_precision_stays_near_and_keeps_a_wide_residual_stream(tiny):
  _, params = tiny
  low = Network(config(dtype='bfloat16'))
  rows = batch(TWO_IMAGES)
  assert low.apply({'params': params}, rows, method='embed').dtype == jnp.float32
  difference = np.abs(logits(low, params, rows) - logits(Network(config()), params, rows))
  assert 1e-4 < difference.mean() < 0.05
