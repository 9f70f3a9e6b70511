"""A mask mode is one entry of `MODES`: every form of attention and the FLOP count follow it."""

from __future__ import annotations

import typing

import jax.numpy as jnp
import numpy as np
import pytest

from molmo_jax.configuration import ConfigError, build
from molmo_jax.kernels.blockwise import attend_blockwise
from molmo_jax.kernels.cached import attend_cached
from molmo_jax.kernels.cpu import attend_short
from molmo_jax.kernels.mask import MODES, Bidirectional, MaskInfo, Mode, visible
from molmo_jax.kernels.reference import attend_reference
from molmo_jax.model.config import ModelConfig
from molmo_jax.training.flops import visible_pairs
from tests.kernels.rows import draw_rows

ROW = 'p222111aabb|p33tt111t_'   # image 2 first: 'within_image' lets it see image 1


@pytest.fixture
def same_image(monkeypatch):
  """Visual tokens see ahead in their own image and in no other, whatever its number."""
  monkeypatch.setitem(MODES, 'same_image', Mode(lambda q, k: k.visual == q.visual, ''))
  return 'same_image'


def written_out(info: MaskInfo) -> np.ndarray:
  """The mask of `same_image`, pair by pair."""
  segment, visual = np.asarray(info.segments)[0], np.asarray(info.visual)[0]
  def sees(q, k):
    related = (segment[q] >= 0 and segment[k] >= 0 and segment[q] <= segment[k]
               and segment[q] // 100_000 == segment[k] // 100_000)
    return related and (k <= q or (visual[q] > 0 and visual[q] == visual[k]))
  size = range(len(segment))
  return np.array([[sees(q, k) for k in size] for q in size])


def test_a_new_mode_is_followed_by_every_form_and_by_the_count(same_image):
  info = draw_rows(ROW)
  mask, length = written_out(info), len(ROW.replace('|', ''))
  assert np.array_equal(visible(info, info, same_image)[0], mask)
  assert not any(np.array_equal(visible(info, info, mode)[0], mask) for mode in MODES
                 if mode != same_image)
  rng = np.random.default_rng(0)
  q, k, v = (jnp.asarray(rng.normal(size=(1, length, 2, 4)), jnp.float32) for _ in range(3))
  scores = jnp.where(mask, jnp.einsum('bqnh,bknh->bnqk', q, k) / 2, -jnp.inf)
  weights = jnp.where(mask.any(-1)[:, None], jnp.exp(scores - scores.max(-1, keepdims=True)), 0)
  weights /= jnp.maximum(weights.sum(-1, keepdims=True), 1e-9)
  expected = jnp.einsum('bnqk,bknh->bqnh', weights, v)
  for form in (attend_reference, attend_short):
    assert np.allclose(form(q, k, v, info, info, same_image), expected, atol=1e-5)
  small = attend_blockwise(q, k, v, info, info, same_image, blocks=(4, 3))
  assert np.allclose(small, expected, atol=1e-5)

  token = 2                                    # a visual token that sees one ahead
  one = MaskInfo(*(x[:, token:token + 1] for x in (info.segments, info.visual, info.index)))
  seen = visible(one, info, same_image)[:, 0].at[:, token].set(False)   # itself is not in the cache
  found = attend_cached(q[:, token], k[:, token], v[:, token], k.transpose(0, 2, 3, 1),
                        v.transpose(0, 2, 1, 3), seen)
  assert mask[token, token + 1]
  assert np.allclose(found, expected[:, token], atol=1e-5)
  row = [np.asarray(x)[0] for x in (info.segments, info.visual)]
  assert visible_pairs(*row, same_image) == mask.sum()


def test_the_count_changes_with_the_rule(monkeypatch):
  row = [np.asarray(x)[0] for x in (draw_rows(ROW).segments, draw_rows(ROW).visual)]
  before = visible_pairs(*row, 'image_tokens')
  monkeypatch.setitem(MODES, 'image_tokens', MODES['none'])
  assert visible_pairs(*row, 'image_tokens') == visible_pairs(*row, 'none') < before


def test_the_modes_are_those_of_the_configuration():
  assert tuple(MODES) == typing.get_args(Bidirectional)
  assert all(mode.meaning for mode in MODES.values())


def test_an_unknown_mode_fails_everywhere():
  info = draw_rows(ROW)
  x = jnp.zeros((1, info.index.shape[1], 1, 4))
  for call in (lambda: visible(info, info, 'all'),
               lambda: attend_reference(x, x, x, info, info, 'all'),
               lambda: attend_blockwise(x, x, x, info, info, 'all'),
               lambda: attend_short(x, x, x, info, info, 'all'),
               lambda: visible_pairs(np.zeros(3, np.int32), np.zeros(3, np.int32), 'all')):
    with pytest.raises(ValueError, match="'all'; it must be one of none, image_tokens, within_im"):
      call()
  with pytest.raises(ConfigError, match="bidirectional is 'all'"):
    build(ModelConfig, {'bidirectional': 'all'})
