"""Any fault of one row of a released file is one error that names the file and the line."""

import json

import pytest

from molmo_jax.data.manifest import read_manifest
from molmo_jax.datasets import TASKS, TRAINING, write_manifest
from molmo_jax.datasets.tables import TableError, read_table
from molmo_jax.datasets.training import convert
from molmo_jax.errors import MolmoError
from tests.datasets.public_tables import png, write_table

GOOD = {'image': 'a.png', 'question': 'What?', 'answers': ['x'], 'questionId': 1}
DEEP = '[' * 1000 + ']' * 1000


@pytest.fixture
def root(tmp_path):
  (tmp_path / 'a.png').write_bytes(png())
  return tmp_path


def manifest(root, text):
  (root / 'test.jsonl').write_text(text)
  write_manifest(TASKS['user_qa'], root, root / 'out.jsonl')
  return list(read_manifest(root / 'out.jsonl'))


@pytest.mark.parametrize('line, message', [
  ('{"image": "a.png", "question":', r'test.jsonl:2: not valid JSON'),
  (DEEP * 300, r'test.jsonl:2: '), ('3', r'test.jsonl:2: a record is a JSON object'),
  ('{"question": "no image"}', r"test.jsonl:2: there is no column 'image'"),
  ('{"image": 3, "question": "a"}', r'a picture is a path or bytes, not int'),
  ('{"image": {"bytes": null}, "question": "a"}', r'a picture is a path or bytes'),
  ('{"image": "a.png", "question": "a", "x": ' + '9' * 5000 + '}', r'test.jsonl:2: ')])
def test_a_bad_line_of_a_benchmark_is_named(root, line, message):
  with pytest.raises(MolmoError, match=message) as caught:
    manifest(root, json.dumps(GOOD) + '\n' + line + '\n')
  assert len(str(caught.value)) < 4200 and not (root / 'out.jsonl').exists()


def test_half_a_surrogate_pair_becomes_the_replacement_character(root):
  [example] = manifest(root, '{"image": "a.png", "question": "What \\ud83d?"}\n')
  assert example.conversations[0][0].content == 'What \ufffd?'


def test_numbers_and_lists_where_a_text_belongs_are_written_as_text(root):
  [example] = manifest(root, '{"image": "a.png", "question": ' + '9' * 400 + '}\n')
  assert example.conversations[0][0].content == '9' * 400


ROWS = {   # dataset → file, a row that its code cannot read
  'chart_qa_weighted': ('data/train-0.jsonl', {'image': 'a.png', 'query': 'q', 'label': ['a']}),
  'star': ('STAR_train.json', {'question': 'q', 'answer': 'x', 'choices': 3, 'video_id': 'a.png'}),
  'clevrer': ('train.json', {'video_filename': 'a.png', 'questions': [3]}),
  'charades_sta': ('charades_sta_train.txt', 'V 0.0##a sentence'),
  'how2qa': ('how2QA_train_release.csv', 'v,[1:x],a,b,c,q,d'),
  'mevis_track': ('mevis.jsonl', {'video': 'a', 'fps': '6', 'sampling_fps': 1}),
  'pixmo_count': ('pixmo.jsonl', {'image_url': 'a.png', 'label': 'x', 'points': [{'x': 1}]}),
  'okvqa': ('okvqa.jsonl', {'image': 'a.png', 'qas': [{'question': 'q', 'answers': ['a']}]}),
  'epic_kitchens': ('EPIC_100_train.csv', 'video_id,start_timestamp,stop_timestamp,narration\n'
                    'a,later,00:00:02,open'),
  'coco_2014_vqa_multi': ('vqa.jsonl', {'image': 'a.png', 'message_list': 'no list'})}


@pytest.mark.parametrize('name', ROWS)
def test_a_row_that_code_cannot_read_is_named(root, name):
  file, row = ROWS[name]
  write_table(root / file, row if isinstance(row, str) else
              [row] if file.endswith(('.json', '.jsonl')) else row)
  with pytest.raises(TableError, match=rf'{name}: row \d+ cannot be read \(.*{file}'):
    convert(TRAINING[name], root, root / 'out.jsonl', files=file)
  assert not [p for p in root.iterdir() if 'out' in p.name]


def test_a_fault_says_what_is_wrong_with_the_row(root):
  write_table(root / 'a.jsonl', [{'image': 'a.png', 'query': 'q', 'label': 'a'}])
  with pytest.raises(TableError, match="a.jsonl:1: .*there is no 'human_or_machine'"):
    convert(TRAINING['chart_qa_weighted'], root, root / 'out.jsonl', files='a.jsonl')


@pytest.mark.parametrize('name, data', [
  ('a.jsonl', b'{"a": "\xff"}\n'), ('a.json', b'[' * 100_000), ('a.csv', b'a,b\n"1'),
  ('a.jsonl.gz', b'no gzip'), ('a.jsonl.gz', b'\x1f\x8b\x08\x00' + b'\x00' * 30),
  ('a.parquet', b'PAR1' + b'\x00' * 100 + b'PAR1'), ('a.parquet', b'')])
def test_a_damaged_file_is_one_error(tmp_path, name, data):
  (tmp_path / name).write_bytes(data)
  with pytest.raises(TableError, match=f'{name}'):
    list(read_table(tmp_path / name))


def test_a_column_without_a_name_as_pandas_writes_it_is_a_column(tmp_path):
  (tmp_path / 'a.csv').write_text(',a\n0,x\n')
  assert list(read_table(tmp_path / 'a.csv')) == [{'': '0', 'a': 'x'}]
