"""Pickles of arrays are read, and nothing that a pickle names is called."""

import os
import pickle
import pickletools
import struct
import time
import tracemalloc

import numpy as np
import pytest

from molmo_jax.datasets import TASKS, TaskError, write_manifest
from molmo_jax.datasets.pickled import Call, array, read_pickle

ARRAYS = [np.arange(24, dtype=kind).reshape(2, 3, 4)
          for kind in ('u1', '<i2', '>i4', '<f4', '>f8', '<f2', 'i8')]
ARRAYS += [np.asfortranarray(ARRAYS[3]), ARRAYS[3][:, ::2], np.array([True, False]),
           np.ones((1, 1))]


def saved(tmp_path, value, protocol=4):
  path = tmp_path / 'a.pkl'
  path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value, protocol))
  return path


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_arrays_and_plain_values_come_as_they_were_written(tmp_path, protocol):
  value = {'dog': {'arrays': ARRAYS, 'again': ARRAYS[0],
                   'n': [1, -1, 2**40, 1.5, None, True, (), 'ä']}}
  found = read_pickle(saved(tmp_path, value, protocol))['dog']
  for mine, theirs in zip([*found['arrays'], found['again']], [*ARRAYS, ARRAYS[0]], strict=True):
    read = array(mine)
    assert read.dtype == theirs.dtype and np.array_equal(read, theirs)
  assert found['n'] == value['dog']['n']


def test_bytes_are_read_from_three_on(tmp_path):
  assert read_pickle(saved(tmp_path, [b'jpeg', b'x' * 300], 3)) == [b'jpeg', b'x' * 300]


class Runs:
  """A reduce that would leave a file behind."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('protocol', range(6))
def test_a_reduce_is_not_executed(tmp_path, protocol):
  path = saved(tmp_path, {'dog': Runs(tmp_path / 'made')}, protocol)
  with pytest.raises(TaskError, match=r'a.pkl: .*(names (posix|nt).mkdir|byte \d+)'):
    read_pickle(path)
  assert not (tmp_path / 'made').exists()
  pickle.loads(path.read_bytes())                # the file is what it says
  assert (tmp_path / 'made').exists()


HOSTILE = {
  'global': b'cbuiltins\neval\n.',
  'two in one name': b'cos\nsystem\n(S"true"\ntR.',
  'a stack global': b'\x80\x04\x8c\x02os\x8c\x06system\x93.',
  'a name that is no text': b'\x80\x04K\x01K\x02\x93.',
  'an attribute of numpy': b'cnumpy\nload\n.',
  'numpy by another way': b'cnumpy.core\nmultiarray._reconstruct\n.',
  'a persistent id': b'\x80\x04\x8c\x01xQ.',
  'an extension': b'\x82\x01.',
  'an instance': b'(i__main__\nX\n.',
  'a new object': b'\x80\x02cnumpy\nndarray\n)\x81.',
  'a bytes object called': b'\x80\x04C\x01a)R.',
  'state of a list': b'\x80\x02]}b.',
  'append to a tuple': b'\x80\x02)K\x01a.',
  'an item of a list': b'\x80\x02]K\x01K\x02s.',
  'an item without a value': b'\x80\x02}(K\x01u.',
  'a key that is no text': b'\x80\x02}K\x01K\x02s.',
  'a memo that is not there': b'\x80\x02h\x07.',
  'a memo of nothing': b'\x80\x02q\x00.',
  'no mark': b'\x80\x02K\x01t.',
  'a mark above the stack': b'\x80\x02K\x01(\x85\x85K\x01\x86\x87e.',
  'nothing': b'.',
  'an empty file': b'',
  'no end': b'\x80\x02]',
  'no text': b'\x80\x04\x8c\x02\xff\xfe.',
  'no pickle': b'\x89PNG\r\n',
  'a length beyond the file': b'\x80\x04\x8e' + b'\xff' * 7 + b'\x7fab.',
  'a long of 2 GB': b'\x80\x02\x8b\xff\xff\xff\x7f.',
  'a string of 4 GB': b'\x80\x02X\xff\xff\xff\xffab.',
  'digits': b'I' + b'9' * 10_000 + b'\n.',
}


@pytest.mark.parametrize('name', HOSTILE)
def test_anything_else_is_one_error_that_names_the_file(tmp_path, name):
  with pytest.raises(TaskError, match='a.pkl: cannot be read as a pickle of arrays') as caught:
    read_pickle(saved(tmp_path, HOSTILE[name]))
  assert len(str(caught.value)) < 500


@pytest.mark.parametrize('data', [
  b'\x80\x02' + b']' + b'q\x00' * 200_000 + b'.',   # one place again and again
  b'\x80\x02]' + b''.join(b'r' + struct.pack('<I', 2**32 - 1 - i)
                           for i in range(100_000)) + b'.',
  b'\x80\x02' + b'K\x01\x85' * 200_000 + b'.',   # a tall stack
  b'\x80\x02(' + b'K\x01' * 100_000 + b'(t' * 100_000 + b't.',   # many marks above a tall stack
  b'\x80\x02)' + b'\x85' * 300_000 + b'.',   # 300,000 tuples in one another
  b'\x80\x02]' + b'q\x00h\x00\x86' * 100_000 + b'.'])   # 2 to the power of 100,000 paths
def test_time_and_memory_grow_with_the_file_alone(tmp_path, data):
  path, begin = saved(tmp_path, data), time.monotonic()
  tracemalloc.start()
  try:
    read_pickle(path)
    assert tracemalloc.get_traced_memory()[1] < 100e6
  finally:
    tracemalloc.stop()
  assert time.monotonic() - begin < 20


def test_a_tuple_a_million_deep_is_no_key(tmp_path):
  with pytest.raises(TaskError, match='a tuple stands where a str belongs'):
    read_pickle(saved(tmp_path, b'\x80\x02})' + b'\x85' * 1_000_000 + b'Ns.'))


def call(shape=(2,), dtype=None, data=b'ab', fortran=False):
  return Call('_reconstruct', (), (1, shape, dtype or Call('dtype', ('u1', False, True), (3, '|')),
                                   fortran, data))


@pytest.mark.parametrize('value, message', [
  ([1, 2], 'a list stands where an array belongs'), (Call('dtype', ('u1',)), 'a Call stands'),
  (call(shape=(3,)), r'an array \[3\] of uint8 in 2 bytes'), (call(shape=(2**62, 0)), 'an array'),
  (call(shape=(-1,)), 'an array'), (call(shape=()), 'an array'), (call(shape=[2]), 'a list stands'),
  (call(shape=('2',)), 'a str stands'), (call(shape=(10**400,)), 'an array'),
  (call(data=b''), 'an array'),
  (call(dtype=Call('dtype', ('O8',))), 'something else than numbers'),
  (call(dtype=Call('dtype', ('u1,O',))), 'something else'), (call(dtype='u1'), 'something else')])
def test_an_array_that_its_bytes_do_not_fill_is_refused(value, message):
  with pytest.raises(ValueError, match=message):
    array(value)


def davis(**changes):
  return {'dog': {'video': np.zeros((3, 16, 20, 3), np.uint8), 'points': np.full((2, 3, 2), 0.5),
                  'occluded': np.zeros((2, 3), bool)} | changes}


def test_a_whole_file_becomes_questions_and_a_clip(tmp_path):
  (tmp_path / 'tapvid_davis.pkl').write_bytes(pickle.dumps(davis()))
  assert write_manifest(TASKS['tap_davis'], tmp_path, tmp_path / 'out/m.jsonl') == 2
  assert [p.name for p in (tmp_path / 'out/m_media').iterdir()] == ['dog.mp4']


@pytest.mark.parametrize('name', ['../../out', '/tmp/x', '..', '', 'a/b', 'a\\b', 'a\0b', 'a\ud800',
                                  'a\x1b[2J', 'x' * 300])
def test_a_video_is_written_into_the_folder_of_the_manifest_or_not_at_all(tmp_path, name):
  value = davis()
  value[name] = value.pop('dog')
  (tmp_path / 'tapvid_davis.pkl').write_bytes(pickle.dumps(value))
  before = sorted(tmp_path.rglob('*'))
  with pytest.raises(ValueError, match='cannot be the name of a file|cannot be read as a pickle'):
    write_manifest(TASKS['tap_davis'], tmp_path, tmp_path / 'm.jsonl')
  assert sorted(tmp_path.rglob('*')) == before


@pytest.mark.parametrize('changes', [
  {'video': np.zeros((3, 16, 20), np.uint8)}, {'video': np.zeros((3, 16, 20, 3), np.float32)},
  {'video': [b'no picture'] * 3}, {'video': 3}, {'video': []},
  {'points': np.full((2, 2, 2), 0.5)},
  {'points': np.full((2, 3, 2), np.nan)}, {'points': [[0.5, 0.5]]},
  {'occluded': np.zeros(3, bool)}])
def test_a_video_that_does_not_belong_together_is_named(tmp_path, changes):
  (tmp_path / 'tapvid_davis.pkl').write_bytes(pickle.dumps(davis(**changes)))
  with pytest.raises(ValueError, match="tapvid_davis.pkl: video 'dog'|image in memory"):
    write_manifest(TASKS['tap_davis'], tmp_path, tmp_path / 'm.jsonl')
  assert not (tmp_path / 'm.jsonl').exists()


def test_every_mutation_of_a_file_is_read_or_refused(tmp_path):
  whole, rng = pickle.dumps(davis()), np.random.default_rng(0)
  head = next(p for op, _, p in pickletools.genops(whole) if op.name.startswith('BINBYTES'))
  for _ in range(500):
    data = bytearray(whole)
    for _ in range(rng.integers(1, 4)):
      data[rng.integers(0, min(len(data), 3 * head + 400))] = rng.integers(0, 256)
    try:
      value = read_pickle(saved(tmp_path, bytes(data)))
      array(value['dog']['points'])
    except (ValueError, KeyError, TypeError):
      pass
