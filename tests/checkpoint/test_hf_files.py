"""Safetensors folders: slices, shards, and every way in which files can be wrong; nothing is ever
half-written.
"""

from __future__ import annotations

import json
import os
import pickle

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from molmo_jax.checkpoint.hf_files import (
  INDEX,
  SINGLE,
  Planned,
  TensorFolder,
  new_folder,
  write_shards,
)
from molmo_jax.errors import CheckpointError, MolmoError

RNG = np.random.default_rng(0)
ARRAYS = {'a.weight': RNG.normal(size=(6, 4)).astype(np.float32),
          'b.weight': RNG.normal(size=5).astype(np.float32),
          'c.weight': RNG.normal(size=(3, 4)).astype(np.float32)}


def planned(arrays):
  return [Planned(n, x.shape, x.dtype, lambda x=x: iter([x[:1], x[1:]])) for n, x in arrays.items()]


@pytest.fixture
def sharded(tmp_path):
  """Three tensors in two files and their index."""
  write_shards(tmp_path, planned(ARRAYS), shard_bytes=120)
  return tmp_path


def test_one_file_is_written_as_the_library_reads_it(tmp_path):
  write_shards(tmp_path, planned(ARRAYS), shard_bytes=10_000)
  assert [f.name for f in tmp_path.iterdir()] == [SINGLE]
  found = load_file(tmp_path / SINGLE)
  assert all(np.array_equal(found[n], x) for n, x in ARRAYS.items())
  assert int.from_bytes((tmp_path / SINGLE).read_bytes()[:8], 'little') % 8 == 0


def test_shards_stay_below_their_size_and_are_indexed(sharded):
  index = json.loads((sharded / INDEX).read_text())
  assert index['metadata'] == {'total_size': sum(x.nbytes for x in ARRAYS.values())}
  assert index['weight_map'] == {'a.weight': 'model-00001-of-00002.safetensors',
                                 'b.weight': 'model-00001-of-00002.safetensors',
                                 'c.weight': 'model-00002-of-00002.safetensors'}
  files = TensorFolder(sharded)
  assert all(np.array_equal(files.read(n, (slice(None),)), x) for n, x in ARRAYS.items())


def test_a_tensor_larger_than_a_shard_gets_its_own(tmp_path):
  write_shards(tmp_path, planned(ARRAYS), shard_bytes=10)
  assert len(list(tmp_path.glob('*.safetensors'))) == 3


def test_rows_and_columns_are_read_alone(sharded):
  files = TensorFolder(sharded)
  assert np.array_equal(files.read('a.weight', (slice(2, 5), slice(1, 3))),
                        ARRAYS['a.weight'][2:5, 1:3])
  assert files.bytes_read == 3 * 2 * 4


@pytest.mark.parametrize('dtype', [np.float32, np.float16, ml_dtypes.bfloat16])
def test_dtypes_go_through_unchanged(tmp_path, dtype):
  x = ARRAYS['a.weight'].astype(dtype)
  write_shards(tmp_path, planned({'x': x}), 1000)
  found = TensorFolder(tmp_path).read('x', (slice(None),))
  assert found.dtype == np.dtype(dtype) and found.tobytes() == x.tobytes()


def test_a_truncated_file_is_named(sharded):
  file = sharded / 'model-00002-of-00002.safetensors'
  file.write_bytes(file.read_bytes()[:-1])
  with pytest.raises(CheckpointError, match='model-00002-of-00002.safetensors: not a whole '
                     'safetensors file'):
    TensorFolder(sharded)


def test_a_missing_shard_is_named(sharded):
  (sharded / 'model-00002-of-00002.safetensors').unlink()
  with pytest.raises(CheckpointError, match='shards that are no files of its folder: '
                     'model-00002-of-00002.safetensors'):
    TensorFolder(sharded)


@pytest.mark.parametrize('change,message', [
  (dict(a=1), 'weight_map is missing'), ({'weight_map': []}, r'weight_map is \[\]; it must be'),
  ({'weight_map': {'x': 3}}, 'weight_map.x is 3; it must be of type str'),
  ({'weight_map': {'x': '../model-00001-of-00002.safetensors'}},
   'no files of its folder: ../model-00001'),
  ({'weight_map': {'x': '..'}}, 'no files of its folder'),
  ({'weight_map': {'x': '/dev/zero'}}, 'no files of its folder: /dev/zero')])
def test_an_index_that_is_none_is_named(sharded, change, message):
  (sharded / INDEX).write_text(json.dumps(change))
  with pytest.raises(CheckpointError, match=f'{INDEX}: .*{message}'):
    TensorFolder(sharded)


def test_wrong_entries_of_the_index_are_listed(sharded):
  index = json.loads((sharded / INDEX).read_text())
  index['weight_map'] |= {'a.weight': 'model-00002-of-00002.safetensors',
                          'd': 'model-00001-of-00002.safetensors'}
  del index['weight_map']['c.weight']
  (sharded / INDEX).write_text(json.dumps(index))
  with pytest.raises(CheckpointError) as error:
    TensorFolder(sharded)
  message = str(error.value)
  assert ('a.weight is in model-00001-of-00002.safetensors, the index says '
    'model-00002-of-00002.safetensors' in message)
  assert 'c.weight is in model-00002-of-00002.safetensors, the index says nothing' in message
  assert 'd is not in model-00001-of-00002.safetensors' in message


def test_a_tensor_in_two_shards_is_named(sharded):
  save_file({n: ARRAYS[n] for n in ('b.weight', 'c.weight')},
            sharded / 'model-00002-of-00002.safetensors')
  with pytest.raises(CheckpointError, match='b.weight is in model-00001-of-00002.safetensors and '
                     'in model-00002'):
    TensorFolder(sharded)


def header(text: str, data: bytes = b'') -> bytes:
  return len(text.encode()).to_bytes(8, 'little') + text.encode() + data


ONE = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


@pytest.mark.parametrize('contents', [
  b'', b'\xff' * 8, (10 ** 9).to_bytes(8, 'little') + b'{}',
  header('{"x":' + ONE + '}', b'1234567'),
  header('{"x":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
  header('{"x":{"dtype":"F32","shape":[2,99],"data_offsets":[0,8]}}', bytes(8)),
  header('{"x":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}', bytes(8)),
  header('{"x":{"dtype":"F32","shape":[4611686018427387904,16],"data_offsets":[0,8]}}',
         bytes(8)),
  header('{"x":' + ONE + ',"y":' + ONE + '}', bytes(8)),
  header('{"x":' + ONE + ',"x":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}', bytes(16))])
def test_a_header_that_lies_is_refused(tmp_path, contents):
  (tmp_path / SINGLE).write_bytes(contents)
  with pytest.raises(CheckpointError, match='model.safetensors: not a whole safetensors file'):
    TensorFolder(tmp_path)


@pytest.mark.parametrize('name', [SINGLE, INDEX])
def test_a_fifo_is_refused_at_once(tmp_path, name):
  os.mkfifo(tmp_path / name)
  with pytest.raises(MolmoError, match=f'{name}: a FIFO, not a regular file'):
    TensorFolder(tmp_path)


def test_a_file_of_another_kind_is_named(tmp_path):
  (tmp_path / SINGLE).write_text('<html>404</html>')
  with pytest.raises(CheckpointError, match=f'{SINGLE}: not a whole safetensors file'):
    TensorFolder(tmp_path)


def test_pickles_are_never_opened(tmp_path):
  (tmp_path / 'pytorch_model.bin').write_bytes(pickle.dumps({'x': 1}))
  with pytest.raises(CheckpointError,
                     match=r'pickles \(pytorch_model.bin\), which can run any code'):
    TensorFolder(tmp_path)


def test_a_folder_without_weights_and_a_missing_one_are_named(tmp_path):
  with pytest.raises(CheckpointError, match='holds no weights; a checkpoint folder has '
                     'model.safetensors'):
    TensorFolder(tmp_path)
  with pytest.raises(CheckpointError, match='none: no such folder'):
    TensorFolder(tmp_path / 'none')


def test_two_sets_of_weights_are_refused(sharded):
  save_file(ARRAYS, sharded / SINGLE)
  with pytest.raises(CheckpointError, match='holds both'):
    TensorFolder(sharded)


def test_a_new_folder_appears_whole(tmp_path):
  (tmp_path / 'empty').mkdir()
  for name in ('deep/new', 'empty'):
    with new_folder(tmp_path / name) as folder:
      (folder / 'x').write_text('1')
      assert folder.parent == (tmp_path / name).parent and not (tmp_path / name / 'x').exists()
    assert (tmp_path / name / 'x').read_text() == '1'
    assert not list((tmp_path / name).parent.glob('.*'))


def test_nothing_is_left_of_a_failure(tmp_path):
  with pytest.raises(KeyError), new_folder(tmp_path / 'new') as folder:
    (folder / 'x').write_text('1')
    raise KeyError
  assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
  (tmp_path / 'x').write_text('1')
  for path in (tmp_path, tmp_path / 'x'):
    with pytest.raises(CheckpointError,
                       match='exists already; give a new folder, or an empty one'), new_folder(
                         path):
      pytest.fail('the block was entered')


def test_processes_that_do_not_write_get_a_folder_that_vanishes(tmp_path):
  with new_folder(tmp_path / 'new', keep=False) as folder:
    (folder / 'x').write_text('1')
  assert not list(tmp_path.iterdir()) and not folder.exists()


def test_a_tensor_of_another_size_than_planned_is_a_fault_of_the_program(tmp_path):
  with pytest.raises(AssertionError, match='x: 8 bytes made, 12 planned'):
    write_shards(tmp_path, [Planned('x', (3,), np.float32, lambda: [np.ones(2, np.float32)])], 100)
