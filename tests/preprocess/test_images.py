"""Tilings, crops, overlap removal and pooling windows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from molmo_jax.preprocess.images import (
  crop_frames,
  crop_image,
  grid_layout,
  image_tiling,
  normalize,
  pool_windows,
  select_tiling,
  stitched_patches,
)
from molmo_jax.preprocess.types import MOLMO_V1, ImageConfig

MOLMO2 = ImageConfig()
RELEASED = ImageConfig(clamp_small_sides=False)
TINY = ImageConfig(crop_size=48, patch_size=8, overlap_margins=(1, 1))

# width, height, config, tiling and grid with K = 8, the same with K = 24 (docs/model.md §6.5)
TABLE = [
    (1920, 1080, MOLMO2, (2, 4), (23, 42), (4, 6), (42, 61)),
    (640, 480, MOLMO2, (2, 2), (23, 23), (2, 2), (23, 23)),
    (378, 378, MOLMO2, (1, 1), (14, 14), (1, 1), (14, 14)),
    (336, 336, MOLMO2, (1, 1), (14, 14), (1, 1), (14, 14)),
    (379, 379, MOLMO2, (2, 2), (23, 23), (2, 2), (23, 23)),
    (100, 3000, RELEASED, (1, 1), (14, 14), (1, 1), (14, 14)),
    (100, 3000, MOLMO2, (8, 1), (80, 14), (11, 1), (109, 14)),
    (3000, 100, RELEASED, (1, 1), (14, 14), (1, 1), (14, 14)),
    (3000, 100, MOLMO2, (1, 8), (14, 80), (1, 11), (14, 109)),
    (500, 111, RELEASED, (1, 1), (14, 14), (1, 1), (14, 14)),
    (500, 111, MOLMO2, (1, 2), (14, 23), (1, 2), (14, 23)),
    (900, 600, MOLMO2, (2, 3), (23, 33), (2, 3), (23, 33)),
    (1280, 720, MOLMO2, (2, 4), (23, 42), (3, 5), (33, 52)),
    (1000, 1000, MOLMO2, (2, 2), (23, 23), (4, 4), (42, 42)),
    (1000, 113, MOLMO2, (1, 4), (14, 42), (1, 4), (14, 42)),
    (50, 50, MOLMO2, (1, 1), (14, 14), (1, 1), (14, 14)),
    (50, 50, RELEASED, (1, 1), (14, 14), (1, 1), (14, 14)),
    (112, 112, MOLMO2, (1, 1), (14, 14), (1, 1), (14, 14)),
    (112, 112, RELEASED, (1, 1), (14, 14), (1, 1), (14, 14)),
]

# Molmo v1: width, height, tiling and grid with K = 12, the same with K = 36 (docs/model.md §6.5)
V1_TABLE = [
    (1920, 1080, (3, 4), (28, 36), (4, 8), (36, 68)),
    (640, 480, (2, 3), (20, 28), (2, 3), (20, 28)),
    (378, 378, (2, 2), (20, 20), (2, 2), (20, 20)),
    (336, 336, (1, 1), (12, 12), (1, 1), (12, 12)),
    (100, 3000, (1, 1), (12, 12), (1, 1), (12, 12)),
    (3000, 100, (1, 1), (12, 12), (1, 1), (12, 12)),
    (900, 600, (3, 4), (28, 36), (3, 4), (28, 36)),
    (1280, 720, (3, 4), (28, 36), (3, 6), (28, 52)),
]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize('width, height, config, tiling, grid, tiling_24, grid_24', TABLE)
def test_worked_examples_of_the_specification(width, height, config, tiling, grid, tiling_24,
                                              grid_24):
  assert image_tiling(height, width, config, 8) == tiling
  assert image_tiling(height, width, config, 24) == tiling_24
  crops = crop_image(np.zeros((height, width, 3), np.uint8), config, 8)
  assert crops.grids == ((14, 14), grid)
  assert crops.crops.shape == (1 + tiling[0] * tiling[1], 378, 378,
                               3) and crops.crops.dtype == np.uint8
  assert crops.pool_index.shape == (196 + grid[0] * grid[1], 4)
  stitched = stitched_patches(*tiling_24, config)
  assert (-(-stitched.shape[0] // 2), -(-stitched.shape[1] // 2)) == grid_24


@pytest.mark.parametrize('width, height, tiling, grid, tiling_36, grid_36', V1_TABLE)
def test_worked_examples_of_molmo_v1(width, height, tiling, grid, tiling_36, grid_36):
  image = np.zeros((height, width, 3), np.uint8)
  for limit, (rows, cols), shape in ((12, tiling, grid), (36, tiling_36, grid_36)):
    assert image_tiling(height, width, MOLMO_V1.image, limit) == (rows, cols)
    if limit == 12 or (rows, cols) != tiling:
      crops = crop_image(image, MOLMO_V1.image, limit)
      assert crops.grids == ((12, 12), shape)
      assert crops.crops.shape == (1 + rows * cols, 336, 336, 3)
      assert crops.pool_index.shape == (144 + shape[0] * shape[1], 4)
      assert crops.patch_mask.shape == (1 + rows * cols, 576)


def test_tiling_equals_a_direct_reading_of_the_rule_on_random_sizes():
  rng = np.random.default_rng(0)
  for _ in range(200):
    height, width = (int(v) for v in rng.integers(-100, 3000, 2))
    window, limit = int(rng.choice([16, 224, 266])), int(rng.integers(1, 37))
    options = sorted(((i, j) for i in range(1, limit + 1) for j in range(1, limit + 1)
                      if i * j <= limit),
                     key=lambda p: (p[0] * p[1], p[0]))
    with np.errstate(divide='ignore'):
      scales = [min(np.float32(i * window) / np.float32(height),
                    np.float32(j * window) / np.float32(width))
                for i, j in options]
    large = [s for s in scales if s >= 1]
    assert select_tiling(height, width, window,
                         limit) == options[scales.index(min(large) if large else max(scales))]


def test_a_limit_below_one_crop_is_an_error():
  with pytest.raises(ValueError, match='max_crops is 0'):
    select_tiling(100, 100, 266, 0)


@pytest.mark.parametrize('config', [
    MOLMO2, TINY, dataclasses.replace(TINY, overlap_margins=(1, 2), pooling=(3, 2)),
    ImageConfig(crop_size=126, overlap_margins=(2, 2)),
    ImageConfig(crop_size=336, overlap_margins=(2, 4))])
@pytest.mark.parametrize('rows, cols', [(1, 1), (1, 3), (2, 1), (3, 2), (2, 4)])
def test_stitched_patches_are_the_patches_of_the_canvas_each_once(config, rows, cols):
  """Cuts a canvas whose patches carry their own number and finds every number where it belongs."""
  grid, step = config.grid, config.grid - sum(config.overlap_margins)
  high, wide = step * rows + sum(config.overlap_margins), step * cols + sum(config.overlap_margins)
  canvas = np.arange(high * wide).reshape(high, wide)
  crops = np.stack([canvas[i * step:i * step + grid, j * step:j * step + grid]
                    for i in range(rows) for j in range(cols)])
  stitched = stitched_patches(rows, cols, config)
  np.testing.assert_array_equal(crops.ravel()[stitched], canvas)
  before, after = config.overlap_margins
  if rows > 1:   # the first tile keeps its top margin and gives up its bottom one
    assert (stitched[grid - after - 1] // grid ** 2 < cols).all()
    assert (stitched[grid - after] // grid ** 2 >= cols).all()


def test_every_crop_shows_its_window_of_the_canvas():
  # exactly the canvas of 3 × 2 tiles: nothing is resampled
  image = noise(48 + 4 * 8 * 2, 48 + 4 * 8)
  crops = crop_image(image, TINY, 6)
  assert crops.grids == ((3, 3), (7, 5))
  for i in range(3):
    for j in range(2):
      np.testing.assert_array_equal(crops.crops[1 + i * 2 + j],
                                    image[i * 32:i * 32 + 48, j * 32:j * 32 + 48])


def test_pooled_features_lie_where_their_layout_says():
  """Pools the patch means of every window and finds them at the window's box of the canvas."""
  image = noise(48 + 32, 48 + 64)
  crops = crop_image(image, TINY, 6)
  patches = crops.crops.reshape(-1, 6, 8, 6, 8, 3).mean(axis=(2, 4)).reshape(-1, 3)
  for row, (index, box) in enumerate(zip(crops.pool_index, crops.layout_box, strict=True)):
    if crops.layout_index[row, 3] == 1:
      x0, y0, x1, y1 = np.rint(box * [112, 80, 112, 80]).astype(int)
      np.testing.assert_allclose(patches[index[index >= 0]].mean(axis=0),
                                 image[y0:y1, x0:x1].mean(axis=(0, 1)))


@pytest.mark.parametrize('seed', range(6))
def test_windows_use_every_patch_once_and_their_boxes_tile_the_image(seed):
  rng = np.random.default_rng(seed)
  margins = tuple(int(m) for m in rng.integers(0, 3, 2))
  config = ImageConfig(crop_size=56, patch_size=8, overlap_margins=margins,
                       pooling=tuple(int(p) for p in rng.integers(1, 4, 2)))
  (height, width), limit = rng.integers(1, 300, 2), int(rng.integers(1, 9))
  crops = crop_image(noise(height, width), config, limit)
  used = crops.pool_index[crops.pool_index >= 0]
  assert len(np.unique(used)) == len(used) and used.max() < len(crops.crops) * 49
  start = 0
  for kind, (rows, cols) in enumerate(crops.grids):
    part = slice(start, start + rows * cols)
    index, box = crops.layout_index[part], crops.layout_box[part].astype(np.float64)
    assert (index[:, 3] == kind).all()
    np.testing.assert_array_equal(index[:, 0] * cols + index[:, 1], np.arange(rows * cols))
    areas = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    assert (areas > 0).all() and box.min() >= 0 and box.max() <= 1
    assert areas.sum() == pytest.approx(1, abs=1e-5)
    first = np.take_along_axis(crops.pool_index[part],
                               (crops.pool_index[part] >= 0).argmax(1)[:, None], 1)[:, 0]
    np.testing.assert_array_equal(index[:, 2], first // 49)
    start = part.stop
  assert start == len(crops.pool_index)
  stitched = crops.pool_index[crops.layout_index[:, 3] == 1]
  step, total = 7 - sum(margins), sum(margins)
  tiles = image_tiling(height, width, config, limit)
  assert (stitched >= 0).sum() == (step * tiles[0] + total) * (step * tiles[1] + total)


def test_two_tiles_share_a_window_across_their_border():
  windows = pool_windows(stitched_patches(1, 2, MOLMO2), (2, 2))
  assert windows[11].tolist() == [22, 729 + 4, 27 + 22, 729 + 27 + 4]


def test_pooling_crops_one_by_one_equals_pooling_the_canvas_where_nothing_is_odd():
  image = np.zeros((500, 900, 3), np.uint8)
  one_by_one = crop_image(image, MOLMO_V1.image, 12)
  stitched = crop_image(image, dataclasses.replace(MOLMO_V1.image, pool_per_crop=False), 12)
  for name in ('pool_index', 'layout_index', 'layout_box'):
    np.testing.assert_array_equal(getattr(one_by_one, name), getattr(stitched, name))
  assert one_by_one.grids == stitched.grids


def test_pooling_crops_one_by_one_keeps_ten_of_fourteen_windows_of_a_middle_crop():
  """27 patches and margins of 4: windows of the first crop 0–11, of a middle one 2–11, of the last
  2–13.
  """
  config = dataclasses.replace(MOLMO2, pool_per_crop=True)
  crops = crop_image(np.zeros((378, 900, 3), np.uint8), config, 3)
  assert crops.grids == ((14, 14), (14, 34))
  # the first row of windows: patch rows 0 and 1 of three crops
  row = crops.pool_index[196:196 + 34]
  assert (row >= 0)[:-1].all() and (row[-1] >= 0).tolist() == [True, False, True, False]
  crop, patch = np.divmod(row[:, 0], 729)
  assert crop.tolist() == [1] * 12 + [2] * 10 + [3] * 12
  assert patch.tolist() == [*range(0, 24, 2), *range(4, 24, 2), *range(4, 28, 2)]
  np.testing.assert_allclose(crops.layout_box[196:196 + 34, 0] * (19 * 3 + 8),
                             patch + 19 * (crop - 1), atol=1e-5)
  np.testing.assert_array_equal(crops.layout_index[196:196 + 34, 2], crop)
  assert (crops.layout_index[196:, 3] == 1).all()


def test_the_released_mask_belongs_to_the_next_crop():
  config = dataclasses.replace(TINY, resize='letterbox')
  image = np.full((60, 90, 3), 255, np.uint8)
  right = crop_image(image, config, 4).patch_mask
  shifted = crop_image(image, dataclasses.replace(config, shift_patch_mask=True), 4).patch_mask
  assert len(right) > 2 and len({mask.tobytes() for mask in right}) > 2
  np.testing.assert_array_equal(shifted[:-1], right[1:])
  assert (shifted[-1] == -1).all()
  alone = dataclasses.replace(config, mode='resize')
  np.testing.assert_array_equal(
    crop_image(image, dataclasses.replace(alone, shift_patch_mask=True), 4).patch_mask,
    crop_image(image, alone, 4).patch_mask)


def test_a_mask_is_given_where_there_is_padding_or_where_it_is_asked_for():
  image, letterboxed = noise(40, 90), dataclasses.replace(TINY, resize='letterbox')
  assert crop_image(image, TINY, 4).patch_mask is None
  assert crop_image(image, dataclasses.replace(letterboxed, patch_mask=False), 4).patch_mask is None
  full = crop_image(image, dataclasses.replace(TINY, patch_mask=True), 4)
  assert full.patch_mask.shape == (len(full.crops), 36) and (full.patch_mask == 1).all()
  frames = crop_frames(np.stack([image, image]), letterboxed, (3, 3))
  assert frames.patch_mask.shape == (2, 36) and 0 < frames.patch_mask.mean() < 1


def test_missing_patches_are_minus_one_after_an_odd_grid():
  windows = pool_windows(np.arange(9, dtype=np.int32).reshape(3, 3), (2, 2))
  assert windows.tolist() == [[0, 1, 3, 4], [2, -1, 5, -1], [6, 7, -1, -1], [8, -1, -1, -1]]
  # two missing: one before, one after
  windows = pool_windows(np.arange(4, dtype=np.int32).reshape(2, 2), (4, 4))
  assert windows.tolist() == [[-1, -1, -1, -1, -1, 0, 1, -1, -1, 2, 3, -1, -1, -1, -1, -1]]


def test_boxes_of_partial_windows_end_at_the_image():
  place, box = grid_layout((3, 3), (2, 2))
  assert place.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
  edge = 2 / 3
  np.testing.assert_allclose(
    box, [[0, 0, edge, edge], [edge, 0, 1, edge], [0, edge, edge, 1], [edge, edge, 1, 1]])


def test_crops_of_one_image_may_be_changed_without_effect_on_the_next():
  first, image = crop_image(noise(100, 200), TINY, 4), noise(100, 200)
  kept = first.pool_index.copy(), first.layout_index.copy(), first.layout_box.copy()
  for array in (first.pool_index, first.layout_index, first.layout_box):
    array[:] = 7
  again = crop_image(image, TINY, 4)
  for array, expected in zip((again.pool_index, again.layout_index, again.layout_box), kept,
                             strict=True):
    np.testing.assert_array_equal(array, expected)


def test_mode_resize_makes_one_crop():
  crops = crop_image(noise(100, 333), dataclasses.replace(TINY, mode='resize'), 8)
  assert crops.crops.shape == (1, 48, 48, 3) and crops.grids == ((3, 3),)
  assert (crops.layout_index[:, 2:] == 0).all()


def test_letterbox_crops_are_floats_with_the_share_of_real_pixels():
  crops = crop_image(np.full((30, 90, 3), 255, np.uint8),
                     dataclasses.replace(TINY, resize='letterbox'), 4)
  assert crops.crops.dtype == np.float32 and crops.patch_mask.shape == (len(crops.crops), 36)
  pixels = crops.crops[..., 0].reshape(len(crops.crops), 6, 8, 6, 8).mean(axis=(2, 4)).reshape(-1,
                                                                                               36)
  np.testing.assert_allclose(crops.patch_mask, pixels, atol=1e-6)   # a white image on black
  assert 0 < crops.patch_mask.mean() < 1


def test_bicubic_crops_are_uint8():
  assert crop_image(noise(30, 90), dataclasses.replace(TINY, resize='stretch_bicubic'),
                    4).crops.dtype == np.uint8


def test_frames_are_pooled_one_by_one():
  crops = crop_frames(np.stack([noise(20, 30, k) for k in range(3)]), TINY, (4, 4))
  assert crops.crops.shape == (3, 48, 48, 3) and crops.grids == ((2, 2),) * 3
  first, second = crops.pool_index[:4], crops.pool_index[4:8]
  np.testing.assert_array_equal(second, np.where(first < 0, -1, first + 36))
  assert crops.layout_index.tolist()[4:8] == [[0, 0, 1, 2], [0, 1, 1, 2], [1, 0, 1, 2],
                                              [1, 1, 1, 2]]


@pytest.mark.parametrize('kind, value, expected', [
    ('siglip', 255, [1, 1, 1]), ('siglip', 0, [-1, -1, -1]),
    ('openai', 0, [-1.7922626, -1.7520971, -1.4802197]),
    ('dino', 0, [-2.117904, -2.0357141, -1.8044444])])
def test_normalisation_uses_the_towers_mean_and_deviation(kind, value, expected):
  np.testing.assert_allclose(normalize(np.full((1, 1, 1, 3), value, np.uint8), kind)[0, 0, 0],
                             expected, rtol=1e-6)


@pytest.mark.parametrize('image, config, words', [
    (np.zeros((4, 4), np.uint8), TINY, 'uint8'), (np.zeros((4, 4, 3)), TINY, 'float64'),
    (np.zeros((0, 4, 3), np.uint8), TINY, 'at least one pixel'),
    (noise(4, 4), dataclasses.replace(TINY, crop_size=50), 'no multiple'),
    (noise(4, 4), dataclasses.replace(TINY, overlap_margins=(3, 3)), 'overlap_margins'),
    (noise(4, 4), dataclasses.replace(TINY, resize='squash'), "'squash'")])
def test_unusable_input_is_refused(image, config, words):
  with pytest.raises(ValueError, match=words):
    crop_image(image, config, 4)


def test_normalisation_of_many_pixels_is_that_of_each():
  # several blocks
  crops = np.random.default_rng(0).integers(0, 256, (3, 97, 101, 3), dtype=np.uint8)
  levels = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
  np.testing.assert_array_equal(normalize(crops, 'openai'),
                                normalize(levels, 'openai')[crops, np.arange(3)])


def test_normalisation_refuses_other_than_three_channels():
  with pytest.raises(ValueError, match='3'):
    normalize(np.zeros((3, 4, 4), np.uint8), 'siglip')
