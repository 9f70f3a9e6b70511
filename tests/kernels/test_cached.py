"""Attention over the cache equals plain attention over cache and token together."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from molmo_jax.kernels.cached import attend_cached
from molmo_jax.kernels.mask import mask_info
from molmo_jax.kernels.reference import attend_reference


@pytest.mark.parametrize('heads, kv_heads', [(4, 4), (6, 2), (3, 1)])
def test_one_token_over_a_cache_equals_plain_attention_over_both(heads, kv_heads):
  rng, rows, slots, dim = np.random.default_rng(0), 3, 7, 8
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  q, key, value = draw(rows, heads, dim), draw(rows, kv_heads, dim), draw(rows, kv_heads, dim)
  keys, values = draw(rows, kv_heads, slots, dim), draw(rows, kv_heads, slots, dim)
  used = np.array([7, 3, 0])[:, None] > np.arange(slots)       # the last row sees itself alone
  found = attend_cached(q, key, value, keys.swapaxes(2, 3), values, jnp.asarray(used))
  segments = np.concatenate([np.where(used, 0, -1), np.zeros((rows, 1))], axis=1).astype(np.int32)
  info = mask_info(segments, np.zeros_like(segments))
  new = mask_info(segments[:, -1:], np.zeros((rows, 1), np.int32),
                  np.full((rows, 1), slots, np.int32))
  join = lambda stored, own: np.concatenate([stored.swapaxes(1, 2), own[:, None]], axis=1)
  plain = attend_reference(q[:, None], join(keys, key), join(values, value), new, info, 'none')
  assert np.allclose(found, plain[:, 0], atol=1e-6)
  assert np.allclose(found[2], np.repeat(value[2], heads // kv_heads, axis=0), atol=1e-6)


def test_scores_that_would_overflow_stay_finite():
  huge = jnp.full((1, 1, 4), 1e4)
  found = attend_cached(huge, huge, huge, huge[..., None], huge[:, :, None], jnp.ones((1, 1), bool))
  assert np.allclose(found, 1e4)
