"""Rows of several examples: what goes into them, what the model sees, and where a run that was
killed goes on.
"""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from absl import flags
from PIL import Image

from molmo_jax.configuration import build
from molmo_jax.data.batching import RowShape, pad_row, stack_rows
from molmo_jax.data.packing import EXAMPLE_STRIDE, PackingConfig, choose, concatenate, next_row
from molmo_jax.data.pipeline import next_start
from molmo_jax.data.unusable import BadRecordError
from molmo_jax.kernels import mask
from tests.data.records import PREPROCESS, skipped, training_data
from tests.model import tiny

flags.FLAGS.mark_as_parsed()   # Grain's workers read flags

SHAPE = RowShape(10, 3, 100, 4)
PACKING = PackingConfig(buffer=4, image_weight=30)
PATCHES = PREPROCESS.image.grid ** 2


def sizes(*pairs):
  return [RowShape(tokens, crops, crops, 4) for tokens, crops in pairs]


def test_a_row_is_worth_more_than_every_other_set_that_fits():
  rng = np.random.default_rng(0)
  config = PackingConfig(buffer=6, token_weight=1, image_weight=4)
  value = lambda items: sum(x.sequence + 4 * x.crops for x in items)
  fits = lambda items: sum(x.sequence for x in items) <= 10 and sum(x.crops for x in items) <= 3
  for _ in range(50):
    waiting = sizes(*zip(rng.integers(1, 10, 6), rng.integers(0, 4, 6)))
    chosen = [waiting[i] for i in choose(waiting, SHAPE, config)]
    sets = itertools.chain.from_iterable(itertools.combinations(waiting, n) for n in range(7))
    assert fits(chosen) and value(chosen) == max(value(s) for s in sets if fits(s))


def test_the_row_that_the_specification_shows():
  assert next_row(sizes((5, 1), (4, 1), (3, 0), (3, 2)), *sizes((6, 0)), SHAPE, PACKING) == [3, 2,
                                                                                             1]


def test_of_equal_examples_the_earlier_ones_leave_the_last_first():
  assert next_row(sizes((5, 0), (5, 0), (5, 0), (5, 0)), *sizes((5, 0)), SHAPE, PACKING) == [1, 0]


def test_nothing_leaves_before_the_buffer_is_full():
  assert next_row(sizes((5, 3), (5, 0), (5, 0)), *sizes((5, 0)), SHAPE, PACKING) == []


@pytest.mark.parametrize('size, shortcut, leaves', [
  ((10, 0), False, True), ((9, 0), False, False), ((1, 3), False, False), ((1, 3), True, True),
  ((1, 2), True, False)])
def test_an_example_that_fills_a_row_leaves_at_once(size, shortcut, leaves):
  config = PackingConfig(buffer=4, shortcut=shortcut)
  assert next_row(sizes((5, 0)), *sizes(size), SHAPE, config) == ([1] if leaves else [])


def test_long_rows_are_counted_in_units_rounded_up():
  shape = RowShape(5120, 3, 10**6, 4)       # units of 10
  config = PackingConfig(buffer=2)
  # 5112 tokens, 513 units
  assert next_row(sizes((2551, 0), (2561, 0)), *sizes((1, 0)), shape, config) == [1]
  assert next_row(sizes((2551, 0), (2560, 0)), *sizes((1, 0)), shape, config) == [1, 0]
  assert next_row([], *sizes((5111, 0)), shape, config) == [0]


def test_visual_tokens_that_are_too_many_wait_for_another_row():
  waiting = [RowShape(3, 1, visual, 4) for visual in (60, 50, 40)]
  assert next_row(waiting, *sizes((1, 0)), SHAPE, PackingConfig(buffer=3)) == [2, 1]


def test_joined_examples_keep_their_features_and_stay_apart():
  examples = [tiny.row(3, -2, 2, seed=1), tiny.row(4), tiny.row(2, -3, -1, 4, seed=2)]
  joined = concatenate(examples, tiny.CONFIG.vit.patches)
  at = np.cumsum([0, *(len(e['tokens']) for e in examples)])
  for n, example in enumerate(examples):
    part = slice(at[n], at[n + 1])
    assert (joined['segments'][part] == 100_000 * n).all()
    assert (joined['positions'][part] == example['positions']).all()
    mine, own = joined['feature_index'][part], example['feature_index']
    assert ((mine >= 0) == (own >= 0)).all()
    patch = lambda e, rows: e['crops'].reshape(-1, 3, 4, 3, 4, 3).swapaxes(2, 3).reshape(
      -1, 48)[e['pool_index'][rows]]
    assert (patch(joined, mine[mine >= 0]) == patch(example, own[own >= 0])).all()
    assert (joined['layout_box'][mine[mine >= 0]] == example['layout_box'][own[own >= 0]]).all()


def test_narrow_windows_are_filled_with_empty_slots():
  narrow = tiny.row(1, -2) | {'pool_index': np.zeros((2, 1), np.int32)}
  joined = concatenate([tiny.row(1, -1), narrow], 9)['pool_index']
  assert joined.shape == (3, 4)
  assert (joined[1:] == [9, -1, -1, -1]).all()


def weighted_loss(model, params, rows):
  logits = np.asarray(tiny.logits(model, params, rows), np.float64)
  log_z = np.log(np.exp(logits).sum(-1))
  picked = np.take_along_axis(logits, np.maximum(rows['targets'], 0)[..., None], -1)[..., 0]
  return ((log_z - picked) * rows['loss_weights']).sum() / rows['loss_weights'].sum()


def test_a_packed_batch_has_the_loss_of_its_examples():
  model, params = tiny.build()
  tree = tiny.row(2, -2, 3, 3, seed=3)       # a prefix of 4 tokens and two branches of 3
  tree['segments'] = np.repeat(np.array([10_000, 0, 1], np.int32), [4, 3, 3])
  tree['positions'] = np.array([0, 1, 2, 3, 4, 5, 6, 4, 5, 6], np.int32)
  tree['loss_weights'] *= 0.7
  examples = [tiny.row(3, -2, 2, seed=1), tree, tiny.row(4), tiny.row(2, -3, -1, 4, seed=2)]
  shape = RowShape(24, 4, 10, tiny.SLOTS)
  separate = stack_rows([pad_row(e, shape) for e in examples])
  pack = lambda *members: pad_row(concatenate(members, tiny.CONFIG.vit.patches), shape)
  packed = stack_rows([pack(examples[3], examples[1]), pack(examples[0], examples[2])])
  assert abs(weighted_loss(model, params, packed) - weighted_loss(model, params, separate)) < 1e-5
  packed['segments'] = np.where(packed['segments'] >= 0, packed['segments'] % 100_000, -1)
  # they would see
  assert abs(weighted_loss(model, params, packed) - weighted_loss(model, params, separate)) > 1e-3


# ---- the stage ----

def write_varied(folder, count=24):
  """Records of different sizes: pictures, text alone, and message trees; the n-th one says 'number
  n'.
  """
  rng, lines = np.random.default_rng(7), []
  for i in range(count):
    words = ' '.join(['number'] * int(rng.integers(1, 6)))
    turn = [{'role': 'user', 'content': 'Which number?'},
            {'role': 'assistant', 'content': f'{words} {i}'}]
    record = {'conversations': [turn, turn]} if i % 4 == 3 else {'messages': turn}
    if i % 3:
      Image.fromarray(np.full((12, 12, 3), 5 * i, np.uint8)).save(folder / f'{i}.png')
      record['image'] = f'{i}.png'
    lines.append(json.dumps(record))
  (folder / 'train.jsonl').write_text('\n'.join(lines) + '\n')
  return folder / 'train.jsonl'


def packed_data(manifest, *shares, **fields):
  return training_data(manifest, *shares, **dict(sequence_length=64, crops=3, visual_tokens=12,
                                                 packing=PackingConfig(buffer=6, image_weight=10))
                       | fields)


def members(data, batches):
  """The colours of the pictures that the next rows hold."""
  return [sorted(set(row['crops'][:, 0, 0, 0][row['crops'][:, 0, 0, 0] > 0].tolist()))
          for batch in (next(data) for _ in range(batches))
          for row in ({'crops': crops} for crops in batch['crops'])]


def same(a, b):
  return all(np.array_equal(a[name], b[name]) for name in a) and set(a) == set(b)


def test_rows_hold_several_examples_and_waste_less(tmp_path):
  manifest = write_varied(tmp_path)
  packed, plain = packed_data(manifest), packed_data(manifest, packing=PackingConfig())
  batch, single = next(packed), next(plain)
  assert {name: x.shape for name, x in batch.items()} == {name: x.shape
                                                          for name, x in single.items()}
  assert (batch['segments'].max(axis=1) >= 100_000).all()
  assert (batch['segments'] >= 0).sum() > (single['segments'] >= 0).sum()
  assert all(len(row) <= 3 for row in members(packed, 10))


@pytest.mark.parametrize('workers', [0, 2])
def test_a_run_killed_with_waiting_examples_goes_on_with_the_same_rows(tmp_path, workers):
  manifest = write_varied(tmp_path)
  (tmp_path / '5.png').write_bytes(b'no image')
  data = packed_data(manifest, workers=workers)
  for _ in range(5):
    next(data)
  state = json.loads(json.dumps(data.iterator.get_state()))   # as a checkpoint keeps it
  expected = [next(data) for _ in range(20)]                  # more than one epoch
  again = packed_data(manifest, workers=workers)
  again.iterator.set_state(state)
  assert all(same(next(again), batch) for batch in expected)
  assert again.skipped_by_dataset == data.skipped_by_dataset == {'data.train': skipped(again)}
  assert skipped(again) > 0


def test_the_saved_state_is_small(tmp_path):
  data = packed_data(write_varied(tmp_path))
  next(data)
  state = data.iterator.get_state()
  assert len(json.dumps(state)) < 1000
  # where another number of processes would go on
  assert next_start([state]) > max(state['waiting'])


def test_examples_are_apart_as_the_mask_wants_them():
  assert EXAMPLE_STRIDE == mask.EXAMPLE_STRIDE


def test_rows_do_not_depend_on_the_number_of_workers(tmp_path):
  manifest = write_varied(tmp_path)
  threads, workers = packed_data(manifest), packed_data(manifest, workers=2)
  assert all(same(next(threads), next(workers)) for _ in range(4))


def test_a_waiting_example_that_vanished_ends_the_run(tmp_path):
  manifest = write_varied(tmp_path)
  pictures_last = PackingConfig(buffer=6, image_weight=0)
  data = packed_data(manifest, packing=pictures_last)
  next(data)
  state = data.iterator.get_state()
  for path in tmp_path.glob('*.png'):
    path.unlink()
  with pytest.raises(BadRecordError, match='waited to be packed when the checkpoint was '
                     'written.*png'):
    packed_data(manifest, packing=pictures_last).iterator.set_state(state)


def test_an_example_that_fits_no_row_is_skipped_and_counted(tmp_path):
  manifest = write_varied(tmp_path, 9)
  line = json.dumps({'question': 'Which number?', 'answer': ' '.join(map(str, range(40)))})
  manifest.write_text(manifest.read_text() + line + '\n')
  data = packed_data(manifest, sequence_length=48)
  for _ in range(8):
    next(data)
  assert data.skipped_by_dataset['data.train'] > 0


def test_processes_pack_different_examples(tmp_path):
  manifest = write_varied(tmp_path)
  shares = [packed_data(manifest, process, 2, prefetch=1) for process in range(2)]
  seen = [set(sum(members(share, 2), [])) for share in shares]   # less than an epoch
  assert seen[0] and seen[1] and not seen[0] & seen[1]


def test_settings_that_would_never_fill_a_row_are_refused():
  with pytest.raises(ValueError, match='token_weight is 0; it must be of type float from 0 to'):
    build(PackingConfig, dict(buffer=4, token_weight=0))
