"""Batches made ahead in a thread."""

from __future__ import annotations

import numpy as np
import pytest

from molmo_jax.data.unusable import BadRecordError
from tests.data.records import training_data, write_records


def equal(a, b):
  return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_the_batches_and_their_order_are_the_same(tmp_path):
  manifest = write_records(tmp_path, 7)
  plain, ahead = training_data(manifest), training_data(manifest, ahead=2)
  assert all(equal(next(plain), next(ahead)) for _ in range(9))
  ahead.close()


def test_the_position_is_that_of_the_batch_given_last(tmp_path):
  manifest = write_records(tmp_path, 7, broken=(3,))
  ahead = training_data(manifest, ahead=2)
  for _ in range(3):
    next(ahead)
  position, skipped = ahead.position(), ahead.skipped_by_dataset
  expected = [next(ahead) for _ in range(4)]
  ahead.close()
  again = training_data(manifest, ahead=2)
  again.iterator.set_state(position)
  assert again.skipped_by_dataset == skipped
  assert all(equal(next(again), batch) for batch in expected)
  again.close()


def test_errors_come_when_the_batch_is_asked_for(tmp_path):
  manifest = write_records(tmp_path, 9, broken=(4,))
  def given(data):
    batches = []
    with pytest.raises(BadRecordError, match='4.png'):
      while len(batches) < 9:
        batches.append(next(data))
    data.close()
    return batches

  fields = dict(on_error='raise', seed=1, batch_size=1, prefetch=1)
  plain = given(training_data(manifest, **fields))
  ahead = given(training_data(manifest, ahead=4, **fields))
  assert len(plain) == len(ahead) > 0 and all(map(equal, plain, ahead))
