"""Rotary positions and YaRN, against the numbers of docs/model.md §4.3."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from molmo_jax.model.config import YarnConfig
from molmo_jax.model.rotary import inverse_frequencies, rotary_tables, rotate, yarn_frequencies

YARN = YarnConfig(layers=(3,))
POSITIONS = jnp.array([[0, 1, 5, 8000]])


def test_frequencies_fall_from_one_to_almost_one_over_theta():
  f = inverse_frequencies(128, 5e5)
  assert f.shape == (64,)
  assert f[0] == 1
  assert np.allclose(f, [5e5 ** (-2 * i / 128) for i in range(64)], rtol=1e-5)


def test_yarn_keeps_fast_frequencies_up_to_18_and_divides_slow_ones_from_35_by_8():
  base, scaled = inverse_frequencies(128, 5e5), yarn_frequencies(128, 5e5, YARN)
  assert np.array_equal(scaled[:19], base[:19])
  assert np.allclose(scaled[35:], base[35:] / 8, rtol=1e-6)
  ramp = (np.arange(19, 35) - 18) / (35 - 18)
  assert np.allclose(scaled[19:35] / base[19:35], 1 - ramp + ramp / 8, rtol=1e-5)


def test_the_scaled_table_carries_the_attention_factor_and_the_unscaled_does_not():
  tables = rotary_tables(POSITIONS, 128, 5e5, YARN)
  assert tables.shape == (2, 1, 4, 64, 2)
  length = np.sqrt(np.sum(np.square(tables), axis=-1))
  assert np.allclose(length[0], 1, atol=1e-5)
  assert np.allclose(length[1], 0.1 * np.log(8) + 1, atol=1e-5)
  angles = np.arctan2(tables[1, 0, 1, :, 1], tables[1, 0, 1, :, 0])
  assert np.allclose(angles, yarn_frequencies(128, 5e5, YARN), atol=1e-5)


def test_without_scaled_layers_there_is_one_table():
  assert rotary_tables(POSITIONS, 128, 1e6, YarnConfig()).shape[0] == 1


def test_rotation_pairs_the_halves_of_a_head():
  x = jnp.zeros((1, 1, 1, 4)).at[..., 0].set(1.0)
  table = rotary_tables(jnp.array([[1]]), 4, 100.0, YarnConfig())[0]
  assert np.allclose(rotate(x, table)[0, 0, 0], [np.cos(1), 0, np.sin(1), 0], atol=1e-6)
  # partner of the second, which turns by 100^(−1/2)
  y = jnp.zeros((1, 1, 1, 4)).at[..., 3].set(1.0)
  assert np.allclose(rotate(y, table)[0, 0, 0], [0, -np.sin(0.1), 0, np.cos(0.1)], atol=1e-6)


def test_scores_depend_on_the_distance_only():
  q, k = (jax.random.normal(jax.random.key(i), (1, 1, 1, 8)) for i in range(2))
  def score(at_q, at_k):
    table = lambda at: rotary_tables(jnp.array([[at]]), 8, 1e4, YarnConfig())[0]
    return float(jnp.sum(rotate(q, table(at_q)) * rotate(k, table(at_k))))
  assert np.isclose(score(7, 3), score(104, 100), atol=1e-4)
  assert not np.isclose(score(7, 3), score(7, 4), atol=1e-4)


def test_low_precision_input_is_rotated_in_float32():
  x = jax.random.normal(jax.random.key(0), (1, 4, 2, 8)).astype(jnp.bfloat16)
  table = rotary_tables(POSITIONS, 8, 1e4, YarnConfig())[0]
  exact = np.asarray(rotate(x.astype(jnp.float32), table))
  error = np.abs(np.asarray(rotate(x, table), np.float32) - exact)
  # at most what rounding to bfloat16 costs once: half of a last place
  assert (error <= 2.0 ** -8 * np.abs(exact) + 1e-6).all()
