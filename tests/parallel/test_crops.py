"""Crops are spread evenly, wherever images begin; the released code deals out whole images
(docs/training.md §8).
"""

from __future__ import annotations

import jax
import numpy as np
import pytest

from molmo_jax.parallel.activations import crops_per_row, shard_crops
from molmo_jax.parallel.mesh import MeshConfig, make_mesh
from tests.golden.runners.image_split import whole_images
from tests.model.tiny import batch, build, config, row

# crops of the images of a row, and of each crop its pooled tokens
IMAGES = {'images of several crops': (5, 1, 2), 'one image of many': (8,),
          'frames of a video': (1,) * 8}
POOLED = (2, 3, 1, 2, 4, 1, 2, 3)
MODEL, PARAMS = build(config())
MESH = MeshConfig(fsdp=2, context=4)


@jax.jit
def features(rows):
  return MODEL.apply({'params': PARAMS}, rows, method='visual_features')


def shares_of(images):
  pooled = np.cumsum(POOLED)
  crops = np.cumsum(images)
  return whole_images(crops.tolist(), pooled[crops - 1].tolist(), MESH.context)


def by_whole_images(rows, images):
  """Features [V,D] of a row of which every rank encodes its own images alone, gathered in the order
  of the images.
  """
  parts = []
  for share in sorted(shares_of(images), key=lambda s: s.start_pool_idx):
    if share.end_image_idx == share.start_image_idx:
      continue
    pooled = slice(share.start_pool_idx, share.end_pool_idx)
    mine = {name: rows[name][:, pooled] for name in ('layout_index', 'layout_box')}
    mine['pool_index'] = rows['pool_index'][
      :, pooled] - share.start_image_idx * MODEL.config.vit.patches
    mine['crops'] = rows['crops'][:, share.start_image_idx:share.end_image_idx]
    parts.append(np.asarray(features(mine))[0])
  return np.concatenate(parts)


@pytest.mark.parametrize('images', IMAGES.values(), ids=IMAGES)
def test_features_are_those_of_ranks_that_encode_whole_images(images):
  rows = batch(*(row(1, *(-n for n in POOLED), 1, seed=seed) for seed in range(2)))
  expected = [by_whole_images({name: x[i:i + 1] for name, x in rows.items()}, images)
              for i in range(2)]
  with jax.set_mesh(make_mesh(MESH)):
    found = np.asarray(features(rows))
  assert found.std() > 0.1
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('images', IMAGES.values(), ids=IMAGES)
def test_no_device_has_more_crops_than_another(images):
  """Of whole images the busiest rank has up to all crops of a row."""
  with jax.set_mesh(make_mesh(MESH)):
    crops = jax.jit(shard_crops)(np.zeros((2 * sum(images), 1)))
  ours = {shard.data.shape[0] for shard in crops.addressable_shards}
  assert ours == {2}
  assert max(s.end_image_idx - s.start_image_idx for s in shares_of(images)) == max(*images, 2)


def test_crops_are_padded_until_they_spread_evenly():
  assert crops_per_row(3, 5) == 5                                  # no mesh
  with jax.set_mesh(make_mesh(MESH)):                              # 8 devices
    assert [crops_per_row(*n) for n in ((2, 8), (2, 5), (8, 5), (1, 1), (4, 3))] == [8, 8, 5, 8, 4]
