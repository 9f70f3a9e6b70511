"""From examples to batches of static shape."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from molmo_jax.data.batching import RowShape, bucket, pad_row, shape_of, stack_rows
from molmo_jax.preprocess.types import PADDING_VALUES, EncodingError
from tests.model.tiny import row

EXAMPLE = row(3, -2, 2)   # 7 tokens, 1 crop, 2 visual tokens of 4 slots


def test_the_shape_of_an_example_is_what_it_needs():
  assert shape_of(EXAMPLE, 9) == RowShape(7, 1, 2, 9)


def test_every_field_keeps_its_values_and_is_filled_up():
  shape = RowShape(sequence=10, crops=3, visual=5, slots=9)
  padded = pad_row(EXAMPLE, shape)
  assert set(padded) == set(EXAMPLE)
  assert padded['tokens'].shape == (10,)
  assert padded['crops'].shape == (3, 12, 12, 3)
  assert padded['pool_index'].shape == (5, 9)
  assert padded['layout_index'].shape == padded['layout_box'].shape == (5, 4)
  for name, x in padded.items():
    original = EXAMPLE[name]
    inside = tuple(slice(0, n) for n in original.shape)
    assert np.array_equal(x[inside], original), name
    assert x.dtype == original.dtype, name
    rest = np.ones(x.shape, bool)
    rest[inside] = False
    assert rest.any(), name
    assert (x[rest] == PADDING_VALUES[name]).all(), name


def test_a_mask_of_patches_is_filled_up_with_crops_of_padding_and_is_absent_where_there_is_none():
  shape = RowShape(sequence=10, crops=3, visual=5, slots=4)
  mask = np.linspace(-1, 1, 4, dtype=np.float32)[None]
  padded = pad_row(EXAMPLE | {'patch_mask': mask}, shape)['patch_mask']
  assert padded.dtype == np.float32
  np.testing.assert_array_equal(padded, np.concatenate([mask, np.zeros((2, 4), np.float32)]))
  assert 'patch_mask' not in pad_row(EXAMPLE | {'patch_mask': None}, shape)
  text = pad_row({**EXAMPLE, 'patch_mask': np.zeros((0, 4), np.float32)}, shape)['patch_mask']
  assert text.shape == (3, 4) and not text.any()


def test_padding_is_nobody_and_points_nowhere():
  assert {name for name, value in PADDING_VALUES.items() if value == -1} == {'tokens', 'targets',
                                                                      'segments', 'feature_index',
                                                                       'pool_index'}
  assert PADDING_VALUES['loss_weights'] == PADDING_VALUES['visual'] == PADDING_VALUES['crops'] == 0


def test_an_exact_fit_is_unchanged():
  padded = pad_row(EXAMPLE, shape_of(EXAMPLE, 4))
  assert all(np.array_equal(padded[name], EXAMPLE[name]) for name in padded)


@pytest.mark.parametrize('shape, message', [
  (RowShape(6, 3, 5, 4), 'needs 7 sequence.*data.sequence_length=6'),
  (RowShape(9, 0, 5, 4), 'needs 1 crops, more than data.crops=0'),
  (RowShape(9, 3, 1, 4), 'needs 2 visual tokens, more than data.visual_tokens=1')])
def test_an_example_that_does_not_fit_names_the_flag(shape, message):
  with pytest.raises(EncodingError, match=message):
    pad_row(EXAMPLE, shape)


def test_buckets_are_large_enough_and_at_most_half_larger():
  for n in range(1, 3000, 7):
    size = bucket(RowShape(n, n, n, 4))
    for got, least in ((size.sequence, 64), (size.crops, 2), (size.visual, 16)):
      assert got >= n
      assert got < max(1.51 * n, least + 1)


def test_there_are_few_buckets_and_each_holds_itself():
  seen = {bucket(RowShape(s, c, v, 9))
          for s, c, v in itertools.product(range(1, 4000, 31), (1,), (1,))}
  assert len(seen) <= 14
  assert all(bucket(shape) == shape for shape in seen)
  assert {shape.slots for shape in seen} == {9}


def test_text_alone_gets_no_crops():
  size = bucket(RowShape(5, 0, 0, 4))
  assert (size.crops, size.visual) == (0, 0)


def test_rows_are_stacked_on_a_leading_axis():
  shape = RowShape(10, 3, 5, 4)
  stacked = stack_rows([pad_row(EXAMPLE, shape), pad_row(row(4), shape)])
  assert stacked['tokens'].shape == (2, 10)
  assert np.array_equal(stacked['tokens'][0, :7], EXAMPLE['tokens'])
