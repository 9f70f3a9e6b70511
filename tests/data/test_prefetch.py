"""Batches made ahead in a thread."""

from __future__ import annotations

import numpy as np
import pytest

from molmo_jax.data.pipeline import BadRecordError
from molmo_jax.data.prefetch import Prefetched
from tests.data.records import training_data, write_records


def equal(a, b):
  return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_the_batches_and_their_order_are_the_same(tmp_path):
  manifest = write_records(tmp_path, 7)
  plain, ahead = training_data(manifest), Prefetched(training_data(manifest))
  assert all(equal(next(plain), next(ahead)) for _ in range(9))
  ahead.close()


def test_the_position_is_that_of_the_batch_given_last(tmp_path):
  manifest = write_records(tmp_path, 7)
  ahead = Prefetched(training_data(manifest))
  for _ in range(3):
    next(ahead)
  position, expected = ahead.position(), [next(ahead) for _ in range(4)]
  ahead.close()
  again = training_data(manifest)
  again.iterator.set_state(position)
  assert all(equal(next(again), batch) for batch in expected)


class Failing:
  """Data whose third batch cannot be made."""
  skipped_by_dataset = {}

  def __init__(self):
    self.made = 0

  def __next__(self):
    self.made += 1
    if self.made == 3:
      raise BadRecordError('broken.png')
    return {'made': np.array(self.made)}

  def position(self):
    return self.made


def test_errors_come_when_the_batch_is_asked_for():
  data = Prefetched(Failing(), depth=4)
  assert [int(next(data)['made']) for _ in range(2)] == [1, 2]
  with pytest.raises(BadRecordError, match='broken.png'):
    next(data)
  data.close()
