"""Tables as public datasets publish them."""

from __future__ import annotations

import builtins
import gzip
import json

import pytest

from molmo_jax.datasets.tables import TableError, read_table

ROWS = [{'id': '1', 'text': 'a, b'}, {'id': '2', 'text': 'zwei ü'}]


def write(path, text):
  (gzip.open(path, 'wt', encoding='utf-8') if path.suffix == '.gz'
   else open(path, 'w', encoding='utf-8')).write(text)
  return path


@pytest.mark.parametrize('name, text', [
  ('a.json', json.dumps(ROWS)), ('a.jsonl', '\n\n'.join(map(json.dumps, ROWS)) + '\n'),
  ('a.csv', 'id,text\n1,"a, b"\n2,zwei ü\n'), ('A.TSV', 'id\ttext\n1\ta, b\n2\tzwei ü\n'),
  ('a.csv', '\ufeffid,text\r\n1,"a, b"\r\n2,zwei ü\r\n')])
def test_every_kind_of_file_gives_the_same_records(tmp_path, name, text):
  assert list(read_table(write(tmp_path / name, text))) == ROWS


def test_compressed_files_are_read(tmp_path):
  with gzip.open(tmp_path / 'a.jsonl.gz', 'wt', encoding='utf-8') as file:
    file.write(json.dumps(ROWS[0]) + '\n')
  assert list(read_table(tmp_path / 'a.jsonl.gz')) == ROWS[:1]


def test_records_lie_inside_a_json_object_or_are_named_by_it(tmp_path):
  nested = write(tmp_path / 'a.json', json.dumps({'data': {'questions': ROWS}}))
  assert list(read_table(nested, records='data.questions')) == ROWS
  named = write(tmp_path / 'b.json', json.dumps({'x': {'n': 1}, 'y': {'n': 2}}))
  assert list(read_table(named, key='name')) == [{'n': 1, 'name': 'x'}, {'n': 2, 'name': 'y'}]


def test_a_csv_file_may_have_another_separator_and_line_breaks_in_quotes(tmp_path):
  assert list(read_table(write(tmp_path / 'a.csv', 'a\tb\n1\t2\n'), separator='\t')) == [
    {'a': '1', 'b': '2'}]
  assert list(read_table(write(tmp_path / 'b.csv', 'a,b\n"1\n2",3\n'))) == [{'a': '1\n2', 'b': '3'}]


def test_tables_without_names_in_every_record(tmp_path):
  lines = write(tmp_path / 'a.jsonl', '["a", "b"]\n[1, null]\n[2, "x"]\n')
  assert list(read_table(lines)) == [{'a': 1, 'b': None}, {'a': 2, 'b': 'x'}]
  bare = write(tmp_path / 'b.csv', '1,2\n')
  assert list(read_table(bare, columns=('a', 'b'))) == [{'a': '1', 'b': '2'}]
  assert list(read_table(write(tmp_path / 'c.txt', 'x y##z\n\n'))) == [{'line': 'x y##z'}]


def test_the_kind_of_a_file_can_be_given(tmp_path):
  path = write(tmp_path / 'a.json', '{"a": 1}\n{"a": 2}\n')
  assert list(read_table(path, kind='.jsonl')) == [{'a': 1}, {'a': 2}]


def test_parquet_keeps_bytes_and_nested_values(tmp_path):
  pyarrow = pytest.importorskip('pyarrow',
                                reason='parquet tables need pyarrow: pip install pyarrow')
  from pyarrow import parquet
  rows = [{'image': {'bytes': b'\x89PNG', 'path': None}, 'points': [{'x': 1.0, 'y': 2.0}], 'n': i}
          for i in range(300)]
  parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / 'a.parquet', row_group_size=7)
  assert list(read_table(tmp_path / 'a.parquet')) == rows


def test_without_pyarrow_the_message_says_what_to_install(tmp_path, monkeypatch):
  import_module = builtins.__import__
  def without(name, *args, **kwargs):
    if name.startswith('pyarrow'):
      raise ImportError(name)
    return import_module(name, *args, **kwargs)
  monkeypatch.setattr(builtins, '__import__', without)
  with pytest.raises(TableError, match='pip install pyarrow'):
    list(read_table(write(tmp_path / 'a.parquet', '')))


@pytest.mark.parametrize('name, text, message', [
  ('a.xls', '', 'ends in .json'), ('a.json', '{"x": 1', 'a.json:1: not valid JSON'),
  ('a.json', '[1]', r'a.json\[0\]'),
  ('a.json', '"text"', 'no list of records'),
  ('a.jsonl', '{"a": 1}\nnot json\n', 'a.jsonl:2: not valid JSON'),
  ('a.csv', 'a,b\n1,2\n3\n', 'a.csv:3.*2 columns'),
  ('a.csv', 'a,b\n1,2,3\n', 'a.csv:2.*2 columns')])
def test_a_file_that_is_no_table_is_named(tmp_path, name, text, message):
  with pytest.raises(TableError, match=message):
    list(read_table(write(tmp_path / name, text)))


def test_missing_files_and_places_are_named(tmp_path):
  with pytest.raises(TableError, match='none.json: no such file'):
    read_table(tmp_path / 'none.json')
  with pytest.raises(TableError, match="under 'data'.*there is no 'data'; there is: 'info'"):
    list(read_table(write(tmp_path / 'a.json', '{"info": []}'), records='data'))
