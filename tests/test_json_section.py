"""Typed access to a JSON object: values by kind, tables of keys in both directions, errors by name.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from molmo_jax.errors import CheckpointError, MolmoError
from molmo_jax.json_section import Section, keys, written


@dataclasses.dataclass(frozen=True)
class Model:
  width: int = 8
  extra: int = 0
  order: str = 'post'
  rate: float = 0.25
  margins: tuple[int, int] = (4, 2)


KEYS = keys(Model, dict(
  width=dict(name='hidden_size', other='d_model'), extra=dict(name='extra_size', default=3),
  order=dict(name='norm_after', words=[[True, 'post'], [False, 'pre']], default=False),
  rate=dict(name='dropout', other=False, default=0.5), margins='margins'))


def section(values):
  return Section(Path('a.json'), values, 'part')


@pytest.mark.parametrize('dialect, expected', [
  (0, dict(hidden_size=8, extra_size=0, norm_after=True, dropout=0.25, margins=[4, 2])),
  (1, dict(d_model=8, extra_size=0, norm_after=True, margins=[4, 2]))])
def test_what_a_table_writes_it_reads_in_either_dialect(dialect, expected):
  contents = written(KEYS, Model(), dialect)
  assert contents == expected
  found = Model(**section(json.loads(json.dumps(contents))).fields(KEYS))
  assert found == (Model() if dialect == 0 else dataclasses.replace(Model(), rate=0.5))


def test_a_value_that_has_no_word_is_not_written():
  assert 'norm_after' not in written(KEYS, Model(order='both'))


def test_defaults_are_those_of_the_table_unless_the_caller_has_others():
  values = dict(d_model=1, margins=[1, 1], dropout=None)
  assert section(values).fields(KEYS)['rate'] == 0.5
  found = section(values).fields(KEYS, rate=0.75, order=True)
  assert (found['rate'], found['order'], found['extra']) == (0.75, 'post', 3)


@pytest.mark.parametrize('read, message', [
  (lambda s: s.size('none'), 'a.json: none is missing in part'),
  (lambda s: s.size('none', 'neither'), r'none \(or neither\) is missing'),
  (lambda s: s.take('word'), "part.word is 'a'; it must be of type int"),
  (lambda s: s.take('flag'), 'part.flag is True; it must be of type int'),
  (lambda s: s.size('zero'), 'part.zero is 0; it must be of type int from 1 to 2147483647'),
  (lambda s: s.take('three', 'zero'), 'part.three is 3; but zero is 0: they must be equal'),
  (lambda s: s.take('pair', kind=tuple[int, int, int]), r'is \[1, 2\]; .* be of type 3 int'),
  (lambda s: s.take('pair', kind=tuple[str, str]), r'pair\[0\] is 1; it must be of type str'),
  (lambda s: s.square('pair'), r'part.pair is \[1, 2\]; it must be \[n, n\]'),
  (lambda s: s.choose('word', words={'b': 1, 'c': 2}), "it must be one of 'b', 'c'"),
  (lambda s: s.demand(three=4), 'part.three is 3; only 4 is supported'),
  (lambda s: s.demand(flag=1), 'part.flag is True; only 1 is supported'),
  (lambda s: s.demand({'none': 1}, none=2), 'part.none is 1 by default; only 2 is supported'),
  (lambda s: s.demand(third=0.33), 'part.third is .*; only 0.33 is supported'),
  (lambda s: s.section('three'), 'part.three is 3; it must be an object'),
  (lambda s: s.section('none'), 'the configuration has no section none')])
def test_what_is_wrong_is_named_with_file_key_and_value(read, message):
  values = dict(word='a', flag=True, zero=0, three=3, pair=[1, 2], third=1 / 3)
  with pytest.raises(CheckpointError, match=message):
    read(section(values))


def test_numbers_are_equal_up_to_rounding_and_one_stands_for_all_of_a_list():
  values = dict(third=0.33333334, mean=0.5, deviation=[0.5, 0.5])
  section(values).demand(third=1 / 3, mean=(0.5, 0.5, 0.5), deviation=(0.5, 0.5), absent=7)


def test_a_key_that_was_not_read_is_unknown_and_the_nearest_one_is_named():
  s = section(dict(max_crop=4, unset=None, off=False, _private=1, known=2))
  assert s.size('max_crops', default=8) == 8
  with pytest.raises(MolmoError, match='part.max_crop is 4; .* did you mean max_crops'):
    s.finish(['known'])
  s.finish(['known', 'max_crop'])


def test_a_file_is_read_or_one_clear_error(tmp_path):
  file = tmp_path / 'a.json'
  assert Section.read(file, optional=True).values == {}
  with pytest.raises(CheckpointError, match=r'a.json: cannot be read \(No such file'):
    Section.read(file)
  file.write_text('{')
  with pytest.raises(CheckpointError, match='a.json: not valid JSON'):
    Section.read(file)
  for contents, message in (
      (b'{"a": 1, "a": 2}', "the key 'a' is there 2 times"), (b'{"a": "\xe9"}', 'utf-8'),
      (b'[' * 10 ** 5, 'recursion'), (b'{"a": ' + b'9' * 5000 + b'}', 'digits')):
    file.write_bytes(contents)
    with pytest.raises(CheckpointError, match=f'a.json: not valid JSON .*{message}'):
      Section.read(file)
  file.write_text('[1]')
  with pytest.raises(CheckpointError, match=r'a.json: the file is \[1\]; it must be an object'):
    Section.read(file, optional=True)


def test_neither_a_long_value_nor_a_fifo_is_read_out(tmp_path):
  with pytest.raises(CheckpointError) as error:
    section({'size': 'x' * 10 ** 6}).size('size')
  assert len(str(error.value)) < 400
  os.mkfifo(tmp_path / 'config.json')
  with pytest.raises(MolmoError, match='config.json: a FIFO'):
    Section.read(tmp_path / 'config.json', optional=True)
