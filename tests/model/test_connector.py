"""The connector as a whole: every pooling with every projector, and what is added before and after.
"""

from __future__ import annotations

import dataclasses
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from molmo_jax.model.config import ConnectorConfig, PaddingEmbed
from molmo_jax.model.config import Pooling as PoolingName
from molmo_jax.model.config import Projector as ProjectorName
from molmo_jax.model.connector import Connector

SMALL = ConnectorConfig(heads=2, kv_heads=2, head_dim=4, width=8, pool_slots=4, hidden=6,
                        layout_grid=4, layout_crops=2)
FEATURES = jax.random.normal(jax.random.key(0), (1, 8, 6))
INDEX = jnp.array([[[0, 1, 2, 3], [4, 7, -1, -1], [-1, -1, -1, -1]]])
PAIRS = [(pooling, projector) for pooling in typing.get_args(PoolingName)
         for projector in typing.get_args(ProjectorName)]


def make(inputs=(), **fields):
  connector = Connector(dataclasses.replace(SMALL, **fields), width=5)
  index = INDEX[..., :1] if fields.get('pooling') == 'none' else INDEX
  shapes = jax.eval_shape(connector.init, jax.random.key(0), FEATURES, index, *inputs)['params']
  rng = np.random.default_rng(0)
  return connector, jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.3, x.shape), x.dtype),
                                 shapes), index


@pytest.mark.parametrize('pooling, projector', PAIRS)
def test_every_pooling_runs_with_every_projector_forwards_and_backwards(pooling, projector):
  connector, params, index = make(pooling=pooling, projector=projector)

  def loss(params, features):
    tokens = connector.apply({'params': params}, features, index)
    return jnp.sum(tokens ** 2), tokens
  gradient = jax.grad(loss, (0, 1), has_aux=True)
  (weights, features), tokens = jax.jit(gradient)(params, FEATURES)
  assert tokens.shape == (1, 3, 5)
  assert np.isfinite(tokens).all()
  assert all(np.isfinite(g).all() for g in jax.tree.leaves((weights, features)))
  assert features.any()
  trained = projector != 'random_linear'
  assert all(g.any() == trained for g in jax.tree.leaves(weights['projector']))


def test_a_layout_embedding_changes_nothing_until_it_is_trained():
  layout = (jnp.zeros((1, 3, 4), jnp.int32), jnp.ones((1, 3, 4)))
  plain, params, index = make()
  with_layout = Connector(dataclasses.replace(plain.config, layout_embedding=True), 5)
  fresh = jax.jit(with_layout.init)(jax.random.key(0), FEATURES, index, *layout)['params']
  expected = plain.apply({'params': params}, FEATURES, index)
  found = with_layout.apply({'params': params | {'layout': fresh['layout']}}, FEATURES, index,
                            *layout)
  assert np.allclose(found, expected, atol=1e-6)
  # row, column, crop, kind and the four numbers of the box
  moved = jax.tree.map(lambda x: x + 1, fresh['layout'])
  trained = with_layout.apply({'params': params | {'layout': moved}}, FEATURES, index, *layout)
  assert np.allclose(trained, expected + 8, atol=1e-4)


@pytest.mark.parametrize('kind', typing.get_args(PaddingEmbed))
def test_padding_embeddings_mark_padded_patches(kind):
  mask = jnp.array([[0.0, 0.5, 1.0, -1.0, 0.25, 0.0, 1.0, 1.0]])
  connector, params, index = make((None, None, mask), pooling='none', projector='linear',
                                  padding_embed=kind,
                                  pool_slots=1)
  windows = jnp.arange(8)[None, :, None]
  found = connector.apply({'params': params}, FEATURES, windows, patch_mask=mask)
  vectors, m = np.asarray(params['padding']['vectors']), np.asarray(mask)[..., None]
  added = {'pad_embed': lambda: vectors * (m == 0), 'regress': lambda: vectors * np.maximum(m, 0),
           'pad_and_partial_pad': lambda: vectors[0] * (m == 0) + vectors[1]
           * ((m < 1) & (m != 0))}[kind]()
  assert np.allclose(found, (FEATURES + added) @ params['projector']['linear']['kernel'], atol=1e-5)


@pytest.mark.parametrize('fields, name', [(dict(padding_embed='regress'), 'patch_mask'),
                                          (dict(layout_embedding=True),
                                           'layout_index and layout_box')])
def test_an_option_without_its_batch_field_is_an_error_that_names_both(fields, name):
  with pytest.raises(ValueError, match=f'model.connector.{next(iter(fields))}.* needs the batch '
                     f'fields? {name}'):
    make(**fields)


def test_feature_dropout_acts_with_a_key_only():
  connector, params, index = make(pooling='mean', projector='linear', feature_dropout=0.5)
  quiet = connector.apply({'params': params}, FEATURES, index)
  assert np.allclose(quiet[0, 0], FEATURES[0, :4].mean(0) @ params['projector']['linear']['kernel'],
                     atol=1e-5)
  noisy = [connector.apply({'params': params}, FEATURES, index, dropout_key=jax.random.key(i))
           for i in range(2)]
  assert not np.allclose(noisy[0], quiet)
  assert not np.allclose(noisy[0], noisy[1])
