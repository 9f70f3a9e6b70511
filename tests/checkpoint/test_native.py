"""Checkpoints of a run: all of it comes back bit for bit, and what does not fit is named."""

from __future__ import annotations

import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from molmo_jax.checkpoint.native import (
  CheckpointError,
  open_checkpoints,
  restore,
  restore_params,
  save,
)
from molmo_jax.training.state import TrainState
from tests.data.records import training_data, write_records

flags.FLAGS.mark_as_parsed()


def make_state(step=3, width=4):
  draw = lambda i, shape: jax.random.normal(jax.random.key(i + step), shape)
  params = {'decoder': {'blocks': {'kernel': draw(0, (2, width))}, 'norm': draw(1, (width,))},
            'vit': {'up': draw(2, (3,))}}
  moments = {'mu': jax.tree.map(lambda x: x * 2, params), 'count': jnp.asarray(step, jnp.int32)}
  return TrainState(jnp.asarray(step, jnp.int32), params, moments,
                    jax.random.key_data(jax.random.key(9)))


def abstract(tree):
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree)


def equal(a, b):
  return jax.tree.structure(a) == jax.tree.structure(b) and all(
    x.dtype == y.dtype and np.array_equal(x, y)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.fixture(scope='module')
def manifest(tmp_path_factory):
  return write_records(tmp_path_factory.mktemp('records'), 7)


@pytest.fixture(scope='module')
def saved(manifest, tmp_path_factory):
  """A folder with the checkpoints of steps 3 and 5, and the batches after step 3."""
  folder = tmp_path_factory.mktemp('run') / 'checkpoints'
  data = training_data(manifest)
  next(data)
  with open_checkpoints(folder) as checkpoints:
    save(checkpoints, 3, make_state(3), data.position())
    after = [next(data) for _ in range(3)]
    save(checkpoints, 5, make_state(5), data.position())
  return folder, after


def test_the_whole_state_comes_back_bit_for_bit(saved):
  with open_checkpoints(saved[0]) as checkpoints:
    assert equal(restore(checkpoints, 3, abstract(make_state()))[0], make_state(3))


def test_the_data_goes_on_with_the_same_batches(saved, manifest):
  data = training_data(manifest)
  with open_checkpoints(saved[0]) as checkpoints:
    data.iterator.set_state(restore(checkpoints, 3, abstract(make_state()))[1])
  for expected in saved[1]:
    found = next(data)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_the_newest_step_is_the_default(saved):
  with open_checkpoints(saved[0]) as checkpoints:
    assert int(restore(checkpoints, None, abstract(make_state()))[0].step) == 5
    params, step = restore_params(checkpoints, None, abstract(make_state().params))
  assert step == 5
  assert equal(params, make_state(5).params)


def test_parameters_come_without_the_rest(saved):
  with open_checkpoints(saved[0]) as checkpoints:
    params, step = restore_params(checkpoints, 3, abstract(make_state().params))
  assert step == 3
  assert equal(params, make_state(3).params)


def test_a_state_is_read_into_the_shardings_that_are_asked_for(saved):
  mesh = jax.make_mesh((2,), ('fsdp',), axis_types=(jax.sharding.AxisType.Auto,),
                       devices=jax.devices()[:2])
  split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, 'fsdp'))
  whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole),
                        make_state().params)
  kernel = wanted['decoder']['blocks']['kernel']
  wanted['decoder']['blocks']['kernel'] = jax.ShapeDtypeStruct(kernel.shape, kernel.dtype,
                                                               sharding=split)
  with open_checkpoints(saved[0]) as checkpoints:
    params, _ = restore_params(checkpoints, 3, wanted)
  assert params['decoder']['blocks']['kernel'].sharding == split
  assert equal(params, make_state(3).params)


def test_a_folder_without_a_checkpoint_is_one_clear_error(tmp_path):
  with open_checkpoints(tmp_path / 'none') as checkpoints:
    assert checkpoints.latest is None
    with pytest.raises(CheckpointError, match='none holds no checkpoint: train first, or give '
                       'another --workdir'):
      restore_params(checkpoints, None, abstract(make_state().params))


def test_a_missing_step_is_one_clear_error(saved):
  with open_checkpoints(saved[0]) as checkpoints, pytest.raises(
    CheckpointError, match=r'no step 4; it holds \[3, 5\]'):
    restore_params(checkpoints, 4, abstract(make_state().params))


def test_all_arrays_that_do_not_fit_are_named(saved):
  other = make_state(width=6)
  other.params['connector'] = {'out': jnp.zeros(2)}
  del other.params['vit']
  with open_checkpoints(saved[0]) as checkpoints, pytest.raises(CheckpointError) as error:
    restore(checkpoints, 3, abstract(other))
  message = str(error.value)
  assert 'params/decoder/blocks/kernel: stored (2, 4), the configuration makes (2, 6)' in message
  assert 'params/decoder/norm: stored (4,), the configuration makes (6,)' in message
  assert 'params/connector/out: stored nothing, the configuration makes (2,)' in message
  assert 'params/vit/up: stored (3,), the configuration makes nothing' in message
  assert 'rng' not in message
  with open_checkpoints(saved[0]) as checkpoints, pytest.raises(CheckpointError,
                                                                match='  decoder/norm: stored'):
    restore_params(checkpoints, 3, abstract(other.params))


def test_no_save_is_dropped_while_another_is_being_written_and_the_newest_are_kept(tmp_path,
                                                                                   manifest):
  data = training_data(manifest)
  with open_checkpoints(tmp_path, keep=2) as checkpoints:
    for step in (1, 2, 3):
      save(checkpoints, step, make_state(step), data.position())
  with open_checkpoints(tmp_path) as checkpoints:
    assert [c.step for c in checkpoints.checkpoints] == [2, 3]


def damage(folder, how):
  """Changes the largest file of a checkpoint: the one with the weights."""
  path = max((f for f in folder.rglob('*') if f.is_file()), key=lambda f: f.stat().st_size)
  data = bytearray(path.read_bytes())
  if how == 'missing':
    path.unlink()
  elif how == 'truncated':
    path.write_bytes(data[:len(data) // 2])
  else:
    data[len(data) // 3] ^= 0x10
    path.write_bytes(data)


@pytest.fixture
def three(manifest, tmp_path):
  """A folder with the checkpoints of steps 1, 2 and 3, of states large enough for a file of their
  own.
  """
  data = training_data(manifest)
  with open_checkpoints(tmp_path / 'checkpoints', keep=3) as checkpoints:
    for step in (1, 2, 3):
      next(data)
      save(checkpoints, step, make_state(step, 4000), data.position())
  return tmp_path / 'checkpoints'


@pytest.mark.parametrize('how', ['missing', 'truncated', 'changed'])
def test_a_damaged_newest_checkpoint_is_set_aside_and_the_one_before_is_used(three, manifest, how):
  damage(three / '3', how)
  data, expected = training_data(manifest), training_data(manifest)
  for _ in range(2):
    next(expected)
  with open_checkpoints(three, keep=3) as checkpoints:
    state, position = restore(checkpoints, None, abstract(make_state(1, 4000)))
    assert equal(state, make_state(2, 4000))
    assert (three / 'damaged_3').is_dir()
    data.iterator.set_state(position)
    assert equal(next(data), next(expected))
    save(checkpoints, 3, make_state(3, 4000), data.position())   # the step can be saved again
  with open_checkpoints(three, keep=3) as checkpoints:
    assert equal(restore(checkpoints, None, abstract(make_state(1, 4000)))[0], make_state(3, 4000))


def test_a_damaged_checkpoint_that_is_asked_for_is_refused(three):
  damage(three / '2', 'changed')
  with open_checkpoints(three, keep=3) as checkpoints:
    with pytest.raises(CheckpointError, match='checkpoints/2 is damaged'):
      restore(checkpoints, 2, abstract(make_state(1, 4000)))
  assert (three / '2').is_dir()


@pytest.mark.parametrize('how', ['missing', 'truncated'])
def test_parameters_of_a_damaged_checkpoint_are_refused(three, how):
  damage(three / '3', how)
  with open_checkpoints(three, keep=3) as checkpoints:
    with pytest.raises(CheckpointError, match='is damaged'):
      restore_params(checkpoints, 3, abstract(make_state(1, 4000)).params)


def test_nothing_but_damage_is_said(three):
  for step in '123':
    damage(three / step, 'missing')
  with open_checkpoints(three, keep=3) as checkpoints:
    with pytest.raises(CheckpointError, match='holds no checkpoint: what it had is damaged and was '
                       'set aside as damaged_1, damaged_2, damaged_3'):
      restore(checkpoints, None, abstract(make_state(1, 4000)))


METADATA = [(item, name) for item in ('state', 'meta')
            for name in ('manifest.ocdbt', '_METADATA', 'd/*')]
METADATA += [('state', '_sharding'), ('.', '_CHECKPOINT_METADATA')]


@pytest.mark.parametrize('item, name', METADATA)
@pytest.mark.parametrize('how', ['missing', 'empty', 'half', 'zeros'])
def test_damage_in_metadata_sets_a_checkpoint_aside_and_the_one_before_is_used(
    saved, tmp_path, item, how, name):
  folder = tmp_path / 'checkpoints'
  shutil.copytree(saved[0], folder)
  files = list((folder / '5' / item).glob(name))
  assert files
  for file in files:
    contents = file.read_bytes()
    file.write_bytes({'half': contents[:len(contents) // 2], 'zeros': bytes(len(contents))}.get(
      how, b''))
    if how == 'missing':
      file.unlink()
  with open_checkpoints(folder) as checkpoints:
    state = restore(checkpoints, None, abstract(make_state()))[0]
  step = int(state.step)   # what is not needed may be damaged
  assert step == 3 or name in ('_sharding', '_CHECKPOINT_METADATA')
  assert equal(state, make_state(step))
  assert (folder / 'damaged_5').is_dir() == (step == 3) and (folder / '3').is_dir()


def test_a_checkpoint_that_is_damaged_again_gets_another_name(three):
  for name in ('damaged_3', 'damaged_3_'):
    with open_checkpoints(three, keep=3) as checkpoints:
      if not (three / '3').exists():
        save(checkpoints, 3, make_state(3, 4000), {'at': 3})
    damage(three / '3', 'missing')
    with open_checkpoints(three, keep=3) as checkpoints:
      assert int(restore(checkpoints, None, abstract(make_state(1, 4000)))[0].step) == 2
    assert (three / name).is_dir()


def test_a_fifo_in_a_checkpoint_is_refused_at_once(saved, tmp_path):
  shutil.copytree(saved[0], tmp_path / 'checkpoints')
  file = tmp_path / 'checkpoints/5/_CHECKPOINT_METADATA'
  file.unlink()
  os.mkfifo(file)
  with pytest.raises(CheckpointError, match='5/_CHECKPOINT_METADATA: neither a regular file'):
    open_checkpoints(tmp_path / 'checkpoints')


def test_some_checkpoints_are_kept_for_good(manifest, tmp_path):
  data = training_data(manifest)
  with open_checkpoints(tmp_path, keep=2, keep_every=3) as checkpoints:
    for step in range(1, 9):
      save(checkpoints, step, make_state(step), data.position())
  assert sorted(int(f.name) for f in tmp_path.iterdir()) == [3, 6, 7, 8]


def test_parameters_can_be_read_in_another_dtype(saved):
  wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16, sharding=x.sharding),
                        abstract(make_state().params))
  with open_checkpoints(saved[0]) as checkpoints:
    params, _ = restore_params(checkpoints, 3, wanted)
  assert equal(params, jax.tree.map(lambda x: x.astype(jnp.bfloat16), make_state(3).params))
