"""Pooling windows: the same weights for 2×2 and 3×3, empty slots, and every value of
`connector.pooling`.
"""

from __future__ import annotations

import dataclasses
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from molmo_jax.model.config import ConnectorConfig
from molmo_jax.model.config import Pooling as PoolingName
from molmo_jax.model.pooling import Pooling

F = 6
SMALL = ConnectorConfig(heads=2, kv_heads=1, head_dim=4, width=8, pool_slots=4)
FEATURES = jax.random.normal(jax.random.key(0), (2, 10, F))
INDEX = jnp.array([[[0, 1, 4, 5], [2, 3, -1, -1], [9, 9, 8, -1]],
                   [[5, 6, 7, 8], [-1, 2, -1, -1], [0, 1, 2, 3]]])
PADDED = jnp.pad(INDEX, ((0, 0), (0, 0), (0, 5)), constant_values=-1)
ATTENTION = ('attention_meanq', 'attention', 'attention_meanq_2x', 'attention_meanq_4x',
             'attention_2wide')


def make(**fields):
  config = dataclasses.replace(SMALL, **fields)
  pooling = Pooling(config)
  index = INDEX[..., :1] if config.pooling == 'none' else INDEX
  shapes = jax.eval_shape(pooling.init, jax.random.key(1), FEATURES, index).get('params', {})
  rng = np.random.default_rng(1)
  return pooling, jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.4, x.shape), x.dtype), shapes)


def expected_attention(params, mean_query, masked):
  """A plain loop over rows, windows and heads."""
  p = jax.tree.map(np.asarray, params['attention'])
  head_dim = p['query']['kernel'].shape[-1]
  out = np.zeros((*INDEX.shape[:2], p['out']['kernel'].shape[-1]))
  for b, v in np.ndindex(*INDEX.shape[:2]):
    slots = [np.asarray(FEATURES[b, i]) if i >= 0 else np.zeros(F) for i in np.asarray(INDEX[b, v])]
    valid = np.asarray(INDEX[b, v]) >= 0
    x = np.stack(slots)
    query = (x.sum(0) / (valid.sum() if masked else len(x))) if mean_query else x[0]
    for head in range(SMALL.heads):
      kv = head // (SMALL.heads // SMALL.kv_heads)
      q = query @ p['query']['kernel'][:, head] + p['query']['bias'][head]
      k = x @ p['key']['kernel'][:, kv] + p['key']['bias'][kv]
      values = x @ p['value']['kernel'][:, kv] + p['value']['bias'][kv]
      scores = k @ q / np.sqrt(head_dim)
      if masked:
        scores = np.where(valid, scores, -np.inf)
      weights = np.exp(scores - scores.max())
      out[b, v] += (weights / weights.sum()) @ values @ p['out']['kernel'][head]
  return out + p['out']['bias']


@pytest.mark.parametrize('masked', [True, False])
@pytest.mark.parametrize('kind', ATTENTION)
def test_attention_pooling_equals_a_loop_over_windows(kind, masked):
  pooling, params = make(pooling=kind, pooling_mask=masked)
  found = jax.jit(pooling.apply)({'params': params}, FEATURES, INDEX)
  assert np.allclose(found, expected_attention(params, 'meanq' in kind, masked), atol=1e-5)


@pytest.mark.parametrize('kind', [*ATTENTION, 'mean'])
def test_a_2x2_window_equals_the_same_window_in_nine_slots(kind):
  pooling, params = make(pooling=kind)
  small, large = (jax.jit(pooling.apply)({'params': params}, FEATURES, index)
                  for index in (INDEX, PADDED))
  assert np.allclose(small, large, atol=1e-6)


def test_without_the_mask_empty_slots_take_part():
  pooling, params = make(pooling_mask=False)
  small, large = (jax.jit(pooling.apply)({'params': params}, FEATURES, index)
                  for index in (INDEX, PADDED))
  assert not np.allclose(small, large, atol=1e-3)


def test_the_patch_behind_an_empty_slot_is_not_read():
  pooling, params = make(pooling_mask=False)
  changed = FEATURES.at[:, 0].add(100.0)   # −1 must not be the first patch
  windows = jnp.array([[[1, -1, -1, -1]], [[2, -1, -1, -1]]])
  assert np.allclose(jax.jit(pooling.apply)({'params': params}, FEATURES, windows),
                     jax.jit(pooling.apply)({'params': params}, changed, windows))


@pytest.mark.parametrize('masked', [True, False])
@pytest.mark.parametrize('kind', [k for k in typing.get_args(PoolingName) if k != 'none'])
def test_empty_windows_give_finite_values_and_gradients(kind, masked):
  pooling, params = make(pooling=kind, pooling_mask=masked)
  index = jnp.full_like(INDEX, -1).at[0, 0].set(jnp.arange(4))

  def total(params, features):
    return jnp.sum(pooling.apply({'params': params}, features, index) ** 2)
  value, gradients = jax.jit(jax.value_and_grad(total, (0, 1)))(params, FEATURES)
  assert np.isfinite(value)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
  assert not gradients[1][1].any()   # the second row reads nothing


@pytest.mark.parametrize('kind, width', [
  ('attention_meanq', 8), ('attention', 8), ('attention_meanq_2x', 16), ('attention_meanq_4x', 32),
  ('attention_2wide', 16), ('mean', F), ('stack', 4 * F), ('none', F)])
def test_every_pooling_has_its_width(kind, width):
  pooling, params = make(pooling=kind)
  index = INDEX[..., :1] if kind == 'none' else INDEX
  assert jax.jit(pooling.apply)({'params': params}, FEATURES, index).shape == (2, 3, width)


def test_mean_is_over_filled_slots():
  pooling, params = make(pooling='mean')
  found = jax.jit(pooling.apply)({'params': params}, FEATURES, INDEX)
  assert np.allclose(found[0, 1], (FEATURES[0, 2] + FEATURES[0, 3]) / 2, atol=1e-6)
  assert np.allclose(found[1, 1], FEATURES[1, 2], atol=1e-6)


def test_stack_puts_the_slots_side_by_side_with_zeros_for_empty_ones():
  found = make(pooling='stack')[0].apply({}, FEATURES, INDEX)
  assert np.allclose(found[0, 1], np.concatenate([FEATURES[0, 2], FEATURES[0, 3], np.zeros(2 * F)]))


def test_none_keeps_the_patches():
  found = make(pooling='none')[0].apply({}, FEATURES, jnp.array([[[3], [7]], [[0], [1]]]))
  assert np.allclose(found[0], FEATURES[0, jnp.array([3, 7])])


def test_stack_refuses_windows_of_another_size():
  with pytest.raises(ValueError, match='model.connector.pool_slots=4, the batch has 9 slots'):
    Pooling(dataclasses.replace(SMALL, pooling='stack')).apply({}, FEATURES, PADDED)


def test_none_refuses_windows_of_more_than_one_patch():
  with pytest.raises(ValueError,
                     match=r'windows must be 1×1, but the batch has 4 slots: .*pooling=\(1,1\)'):
    Pooling(dataclasses.replace(SMALL, pooling='none')).apply({}, FEATURES, INDEX)
