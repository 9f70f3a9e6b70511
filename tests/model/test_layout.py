"""The layout embedding: silent until it is trained, then the sum of five vectors."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from molmo_jax.model.config import ConnectorConfig
from molmo_jax.model.layout import KINDS, LayoutEmbedding

CONFIG = ConnectorConfig(layout_grid=4, layout_crops=3)
INDEX = jnp.array([[[1, 2, 0, 1], [3, 0, 2, 2]]])
BOX = jnp.array([[[0.0, 0.25, 0.5, 0.75], [0.1, 0.2, 0.3, 0.4]]])


def make():
  layout = LayoutEmbedding(CONFIG, 5)
  return layout, layout.init(jax.random.key(0), INDEX, BOX)['params']


def trained():
  layout, params = make()
  return layout, {n: jax.random.normal(jax.random.key(i), x.shape)
                  for i, (n, x) in enumerate(sorted(params.items()))}


def test_it_is_zero_at_the_start():
  layout, params = make()
  assert not layout.apply({'params': params}, INDEX, BOX).any()
  assert all(not x.any() for x in params.values())


def test_every_table_is_reached_by_gradients_at_the_start():
  layout, params = make()
  gradients = jax.grad(lambda p: jnp.sum(layout.apply({'params': p}, INDEX, BOX)))(params)
  assert set(gradients) == {'row', 'column', 'crop', 'kind', 'box'}
  assert all(g.any() for g in gradients.values())


def test_it_is_the_sum_of_row_column_crop_kind_and_box():
  layout, p = trained()
  found = layout.apply({'params': p}, INDEX, BOX)
  expected = p['row'][1] + p['column'][2] + p['crop'][0] + p['kind'][1] + BOX[0, 0] @ p['box']
  assert np.allclose(found[0, 0], expected, atol=1e-5)
  expected = p['row'][3] + p['column'][0] + p['crop'][2] + p['kind'][2] + BOX[0, 1] @ p['box']
  assert np.allclose(found[0, 1], expected, atol=1e-5)


def test_tables_have_the_configured_sizes():
  _, params = make()
  assert {n: x.shape for n, x in params.items()} == {'row': (4, 5), 'column': (4, 5),
                                                     'crop': (3, 5),
                                                     'kind': (KINDS, 5), 'box': (4, 5)}


def test_indices_past_the_end_share_the_last_entry():
  layout, p = trained()
  far = layout.apply({'params': p}, jnp.array([[[99, 99, 99, 2]]]), BOX[:, :1])
  last = layout.apply({'params': p}, jnp.array([[[3, 3, 2, 2]]]), BOX[:, :1])
  assert np.allclose(far, last)
