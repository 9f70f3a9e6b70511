"""The command that writes manifests of public datasets, and the table of all of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from molmo_jax.data.manifest import read_manifest
from molmo_jax.datasets.page import training_page
from molmo_jax.tools.prepare_dataset import main

DOCS = Path(__file__).parents[2] / 'docs/datasets.md'


def star(folder, videos=('V',)):
  rows = [{'question_id': str(i), 'question': 'q?', 'video_id': v, 'start': 0.0, 'end': 1.0,
           'answer': 'x',
           'choices': [{'choice_id': 0, 'choice': 'x'}, {'choice_id': 1, 'choice': 'y'}]}
          for i, v in enumerate(('V', 'W'))]
  (folder / 'STAR_train.json').write_text(json.dumps(rows))
  for video in videos:
    (folder / f'{video}.mp4').write_bytes(b'')
  return f'--root={folder}'


def test_the_manifest_is_written_and_what_is_missing_is_counted(tmp_path, capsys):
  out = tmp_path / 'new' / 'star.jsonl'
  assert main(['star', star(tmp_path), f'--out={out}']) == 0
  assert [e.video for e in read_manifest(out)] == [str(out.parent / '../V.mp4')]
  printed = ' '.join(capsys.readouterr().err.split())
  assert '1 records from 2 rows; 1 skipped for missing media, 0 unusable' in printed
  assert 'the first missing: no file ' in printed


def test_a_manifest_without_records_is_a_failure(tmp_path, capsys):
  assert main(['star', star(tmp_path, ()), f'--out={tmp_path / "star.jsonl"}']) == 1
  assert 'no record was written' in capsys.readouterr().err


def test_a_wrong_folder_is_one_line(tmp_path, capsys):
  assert main(['star', f'--root={tmp_path}', f'--out={tmp_path / "star.jsonl"}']) == 1
  assert capsys.readouterr().err.startswith('error: ') and not (tmp_path / 'star.jsonl').exists()


def test_an_unknown_name_gets_the_closest_ones(tmp_path, capsys):
  with pytest.raises(SystemExit):
    main(['pixmo_point', f'--root={tmp_path}', '--out=x.jsonl'])
  assert 'the closest are: pixmo_points' in capsys.readouterr().err


def test_the_documented_table_is_the_current_one():
  # after a change: molmo-jax prepare_dataset --list > docs/datasets.md
  assert DOCS.read_text(encoding='utf-8') == training_page()
