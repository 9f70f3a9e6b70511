"""Arithmetic of a batch: pairs against the mask, totals against XLA's own count."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from molmo_jax.kernels.mask import MODES, mask_info, visible
from molmo_jax.training.flops import Work, forward_flops, peak_of, visible_pairs, work_of
from tests.model.tiny import CONFIG, batch, build, row


@pytest.mark.parametrize('bidirectional', MODES)
def test_pairs_are_those_of_the_mask(bidirectional):
  rng = np.random.default_rng(0)
  for _ in range(20):
    length = 60
    example = np.sort(rng.integers(0, 3, length))
    prefix = rng.random(length) < 0.5
    segments = 100_000 * example + np.where(prefix, 10_000, rng.integers(0, 3, length))
    segments[rng.integers(40, 60):] = -1
    visual = np.where(rng.random(length) < 0.5, 1 + np.cumsum(rng.random(length) < 0.1), 0)
    info = mask_info(segments[None], visual[None])
    expected = np.asarray(visible(info, info, bidirectional)[0])[segments >= 0].sum()
    assert visible_pairs(segments, visual, bidirectional) == expected


def test_an_example_of_36k_tokens_takes_no_time():
  segments = np.zeros(36_864, np.int64)
  assert visible_pairs(segments, np.ones(36_864, np.int64), 'image_tokens') == 36_864 ** 2


def test_work_leaves_padding_out():
  rows = batch(row(2, -2, 3), row(3, -2, 1))
  work = work_of(rows, CONFIG.vit.patches, CONFIG.bidirectional)
  assert work.tokens == (rows['segments'] >= 0).sum() < work.capacity
  assert work.visual == (rows['pool_index'] >= 0).any(-1).sum()
  assert (work + work).tokens == 2 * work.tokens


def test_operations_are_those_that_xla_counts():
  """On a batch without padding, text alone and with pictures; XLA also counts norms and
  activations: a few per cent.
  """
  config = dataclasses.replace(CONFIG, remat='none', unroll=8, bidirectional='none',
                               attention='reference',
                               llm=dataclasses.replace(CONFIG.llm, width=128, mlp=512, vocab=1024))
  model, params = build(config)
  length = 64
  rows = {k: np.repeat(v[:1], 2, 0) for k, v in batch(row(2, -2, 3)).items()}
  text = dict(rows, **{k: np.zeros((2, length), np.int32)
                       for k in ('tokens', 'segments', 'visual')},
              positions=np.tile(np.arange(length), (2, 1)), feature_index=np.full((2, length), -1),
              pool_index=np.zeros((2, 0, rows['pool_index'].shape[2]), np.int32))
  def forward(p, b):
    return model.apply({'params': p}, model.apply({'params': p}, b), method='logits')
  analysis = jax.jit(forward).lower(params,
                                    jax.tree.map(jnp.asarray, text)).compile().cost_analysis()
  work = work_of(dict(text, targets=text['tokens']), config.vit.patches, 'none')
  assert work == Work(2 * length, 0, 0, 0, 2 * length * (length + 1) // 2, 2 * length,
                      work.crop_capacity)
  work = dataclasses.replace(work, pairs=2 * length ** 2)   # XLA multiplies what is masked, too
  ours = forward_flops(params, config, work)
  assert ours == pytest.approx(analysis['flops'], rel=0.06)


def test_known_chips_have_a_peak():
  assert peak_of('NVIDIA H200') == 989e12
  assert peak_of('TPU v5p') == 459e12
  assert peak_of('TPU v5 lite') == 197e12
  assert peak_of('cpu') is None
