"""Order, faults and position of the training data."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from absl import flags
from absl import logging as absl_logging

from molmo_jax.data.packing import PackingConfig
from molmo_jax.data.pipeline import next_start
from molmo_jax.data.unusable import BadRecordError
from tests.data.records import numbers, skipped, training_data, write_records

flags.FLAGS.mark_as_parsed()   # Grain's workers read flags


def drawn(data, batches):
  return [n for _ in range(batches) for n in numbers(next(data))]


@pytest.fixture
def warnings(caplog):
  """What is logged, through absl."""
  absl_logging.get_absl_logger().propagate = True
  caplog.set_level(logging.WARNING)
  return lambda: [r.getMessage() for r in caplog.records if 'skipped' in r.getMessage()]


def test_batches_have_the_configured_shape(tmp_path):
  batch = next(training_data(write_records(tmp_path, 3), batch_size=3, crops=2, visual_tokens=5))
  assert batch['tokens'].shape == (3, 40)
  assert batch['crops'].shape == (3, 2, 12, 12, 3)
  assert batch['pool_index'].shape == (3, 5, 4)
  assert all(isinstance(x, np.ndarray) for x in batch.values())


def test_every_epoch_has_every_record_once_and_in_another_order(tmp_path):
  data = training_data(write_records(tmp_path, 8))
  epochs = [drawn(data, 4) for _ in range(3)]
  assert all(sorted(epoch) == list(range(8)) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) > 1


def test_the_order_depends_on_the_seed_alone(tmp_path):
  manifest = write_records(tmp_path, 8)
  orders = [drawn(training_data(manifest, seed=seed), 8) for seed in (1, 1, 2)]
  assert orders[0] == orders[1] != orders[2]


def test_processes_have_disjoint_shares_that_cover_every_epoch(tmp_path):
  manifest = write_records(tmp_path, 9)
  shares = [training_data(manifest, process, 3, batch_size=3) for process in range(3)]
  for _ in range(3):
    epoch = [drawn(share, 3) for share in shares]   # a row for each process at a time
    assert sorted(sum(epoch, [])) == list(range(9))


@pytest.mark.parametrize('records', [7, 8])
def test_every_record_is_drawn_once_an_epoch_over_all_processes(tmp_path, records):
  manifest = write_records(tmp_path, records)
  shares = [drawn(training_data(manifest, process, 3, batch_size=3), 2 * records)
            for process in range(3)]
  order = [n for turn in zip(*shares) for n in turn]
  epochs = [order[i:i + records] for i in range(0, len(order), records)]
  assert len(epochs) == 6 and all(sorted(epoch) == list(range(records)) for epoch in epochs)


def test_another_number_of_processes_goes_on_where_the_others_stopped(tmp_path):
  manifest = write_records(tmp_path, 9)
  whole = drawn(training_data(manifest, batch_size=1), 18)
  two = [training_data(manifest, process, 2) for process in range(2)]
  before = [drawn(share, 3) for share in two]
  start = next_start([share.iterator.get_state() for share in two])
  three = [training_data(manifest, process, 3, batch_size=3, start=start) for process in range(3)]
  after = [drawn(share, 4) for share in three]
  assert [n for turn in zip(*before) for n in turn] + [n for turn in zip(*after)
                                                       for n in turn] == whole
  assert next_start([share.iterator.get_state() for share in three]) == 18
  with pytest.raises(ValueError, match='another number of processes.*next_start'):
    three[0].iterator.set_state(two[0].iterator.get_state())


def test_a_batch_that_cannot_be_shared_is_an_error(tmp_path):
  manifest = write_records(tmp_path, 4)
  with pytest.raises(ValueError, match='data.batch_size=2 must be a multiple of the 3 processes'):
    training_data(manifest, 0, 3)
  with pytest.raises(ValueError, match='has 4 records for 8 processes'):
    training_data(manifest, 0, 8, batch_size=8)


def test_bad_records_are_skipped_counted_and_named_once(tmp_path, warnings):
  data = training_data(write_records(tmp_path, 6, broken=(2, 4)))
  assert set(drawn(data, 6)) == {0, 1, 3, 5}   # three epochs
  assert skipped(data) == 2                    # records, however often they come
  names = warnings()
  assert len(names) == 2
  assert any('train.jsonl:3' in name and '2.png' in name for name in names)
  assert any('train.jsonl:5' in name and '4.png' in name for name in names)


@pytest.mark.parametrize('line, message', [
  ('{"image": "0.png", "question": 3}', "train.jsonl:4.*'question' is 3; it must be a string"),
  ('{"image": "missing.png", "question": "a", "answer": "b"}', 'train.jsonl:4.*missing.png'),
  ('{"question": "a", "answer": "%s"}' % ('word ' * 60), 'train.jsonl:4.*data.sequence_length=20'),
  ('not json', 'train.jsonl:4.*not valid JSON')])
def test_a_bad_record_ends_the_run_if_it_should(tmp_path, line, message):
  manifest = write_records(tmp_path, 3)
  manifest.write_text(manifest.read_text() + line + '\n')
  data = training_data(manifest, on_error='raise', sequence_length=20)
  with pytest.raises(BadRecordError, match=message):
    drawn(data, 4)


def test_a_manifest_without_a_usable_record_ends_with_an_error(tmp_path):
  data = training_data(write_records(tmp_path, 3, broken=(0, 1, 2)))
  with pytest.raises(BadRecordError,
                     match=r'records in a row could not be used; the last: .*train\.jsonl:\d'):
    next(data)


@pytest.mark.parametrize('workers', [0, 1])
def test_a_restored_position_gives_the_same_batches(tmp_path, workers):
  manifest = write_records(tmp_path, 7, broken=(3,))
  data = training_data(manifest, workers=workers)
  drawn(data, 3)   # in the second epoch
  state, before = data.iterator.get_state(), skipped(data)
  expected = [next(data) for _ in range(5)]
  again = training_data(manifest, workers=workers)
  again.iterator.set_state(state)
  assert skipped(again) == before
  for batch in expected:
    for name, x in next(again).items():
      assert np.array_equal(x, batch[name]), name
  assert skipped(again) == skipped(data)


def test_workers_give_the_same_batches_as_threads(tmp_path):
  manifest = write_records(tmp_path, 5)
  assert drawn(training_data(manifest, workers=1), 5) == drawn(training_data(manifest), 5)


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('buffer', [0, 3])
def test_the_records_of_a_batch_are_named_by_file_and_line(tmp_path, buffer, workers):
  manifest = write_records(tmp_path, 8, broken=(4,))
  data = training_data(manifest, packing=PackingConfig(buffer=buffer), workers=workers, crops=2,
                       visual_tokens=8)
  for _ in range(6):
    batch = next(data)
    assert 'records' not in batch
    shown = {n // 5 for n in batch['crops'][:, :, 0, 0, 0].ravel().tolist() if n}
    assert {int(name.rpartition(':')[2]) - 1 for name in data.named(data.records)} - {0} == shown
    assert all(name.startswith(f'{manifest}:') for name in data.named(data.records))
