"""Resampling: exact arithmetic, agreement with an independent definition, geometry of the
letterbox.
"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from molmo_jax.preprocess.resize import letterbox, resize_antialias, resize_bicubic, resize_bilinear

SIZES = [(1, 1, 9, 7), (7, 5, 1, 1), (90, 160, 378, 378), (480, 640, 644, 644), (333, 77, 50, 200),
         (64, 64, 32, 128),
         (47, 3000, 33, 1999), (40, 3000, 31, 301), (3, 4001, 211, 1)]


def fused_everywhere(image: np.ndarray, height: int, width: int) -> np.ndarray:
  """The recipe of docs/model.md §6.2 for every pixel, straight from the text, in float64 with
  explicit roundings.
  """
  def axis(n_in, n_out):
    scale = np.float64(np.float32(n_in) / np.float32(n_out))
    x = np.maximum(np.float32(scale * (np.arange(n_out) + 0.5) - 0.5), np.float32(0))
    i0 = np.minimum(np.floor(x).astype(int), n_in - 1)
    b = np.clip(x - np.float32(i0), 0, 1).astype(np.float32)
    return i0, i0 + (i0 < n_in - 1), np.float32(1) - b, b

  def mix(p, a, q, b):
    return (p.astype(np.float64) * a + (q.astype(np.float32) * b)).astype(np.float32)

  y0, y1, ya, yb = axis(image.shape[0], height)
  x0, x1, xa, xb = axis(image.shape[1], width)
  lines = mix(image[:, x0], xa[:, None], image[:, x1], xb[:, None])
  values = mix(lines[y0], ya[:, None, None], lines[y1], yb[:, None, None])
  return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def gradient(height: int, width: int) -> np.ndarray:
  """A picture whose interpolated values often lie exactly between two levels."""
  y, x = np.mgrid[:height, :width]
  return np.stack([3 * x + 5 * y, x * x // 37 + 2 * y, 7 * x - y], axis=-1).astype(np.uint8)


@pytest.mark.parametrize('h, w, height, width', SIZES)
def test_bilinear_equals_the_fused_arithmetic_bit_for_bit(h, w, height, width):
  noise = np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8)
  for image in (noise, gradient(h, w)):
    np.testing.assert_array_equal(resize_bilinear(image, height, width),
                                  fused_everywhere(image, height, width))


def test_bilinear_leaves_the_buffer_size_of_numpy_alone():
  with np.errstate():
    np.setbufsize(4096)
    resize_bilinear(gradient(20, 30), 200, 300)
    assert np.getbufsize() == 4096


def test_small_results_sum_four_neighbours_at_once():
  # values of torch 2.13, whose program for height + width ≤ 128 lands just above these halves
  image = np.asarray([[[130], [207], [163]], [[217], [189], [184]], [[78], [125], [240]]], np.uint8)
  assert resize_bilinear(image, 56, 56)[29, [47, 49, 50, 52], 0].tolist() == [189] * 4


def test_bilinear_returns_the_image_itself_where_the_size_is_right():
  image = gradient(20, 30)
  assert resize_bilinear(image, 20, 30) is image
  assert resize_bicubic(image, 20, 30) is image


def test_bilinear_does_not_antialias():
  stripes = np.zeros((4, 40, 3), np.uint8)
  stripes[:, ::8] = 255
  assert resize_bilinear(stripes, 4, 5).max() == 0   # samples lie between the stripes


@pytest.mark.parametrize('h, w, height, width', SIZES)
def test_antialias_agrees_with_pillow_on_float_images(h, w, height, width):
  image = np.random.default_rng(1).random((h, w, 3), dtype=np.float32)
  expected = np.stack([np.asarray(
    Image.fromarray(image[..., c].copy()).resize((width, height), Image.BILINEAR))
                       for c in range(3)], axis=-1)
  np.testing.assert_allclose(resize_antialias(image, height, width), expected, atol=3e-4)


@pytest.mark.parametrize('h, w, height, width', SIZES)
def test_bicubic_agrees_with_pillow_on_smooth_images(h, w, height, width):
  y, x = np.mgrid[:h, :w]
  image = np.stack([128 + 90 * np.sin(x / 15), 128 + 90 * np.cos(y / 11), 100 + 0 * x],
                   axis=-1).astype(np.uint8)
  expected = np.asarray(Image.fromarray(image).resize((width, height), Image.BICUBIC)).astype(int)
  assert np.abs(resize_bicubic(image, height, width).astype(int) - expected).max() <= 1


def test_bicubic_overshoot_is_clipped_not_wrapped():
  edge = np.zeros((8, 8, 3), np.uint8)
  edge[:, 4:] = 255
  row = resize_bicubic(edge, 8, 32)[0, :, 0].astype(int)
  assert row[:12].max() < 64 and row[20:].min() > 192


@pytest.mark.parametrize('h, w, top, left, inner_h, inner_w', [
    (480, 640, 42, 0, 251, 336), (640, 480, 0, 42, 336, 251),   # float32: 480 * 0.525 is below 252
    (300, 90, 0, 118, 336, 100), (336, 336, 0, 0, 336, 336),
    (1, 3000, 167, 0, 1, 336)])
def test_letterbox_centres_the_image_and_marks_its_pixels(h, w, top, left, inner_h, inner_w):
  canvas, real = letterbox(np.full((h, w, 3), 255, np.uint8), 336, 336)
  expected = np.zeros((336, 336), bool)
  expected[top:top + inner_h, left:left + inner_w] = True
  np.testing.assert_array_equal(real, expected)
  assert canvas.dtype == np.float32
  np.testing.assert_allclose(canvas, np.repeat(expected[..., None], 3, axis=2), atol=1e-6)
