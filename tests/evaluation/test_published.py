"""The published numbers of an evaluation that is on disk."""

from __future__ import annotations

import json

import pytest

from molmo_jax.data.manifest import read_manifest
from molmo_jax.evaluation.predictions import Prediction
from molmo_jax.evaluation.published import published_numbers


def record(line, task, prediction, metric):
  return Prediction(task=task, id=str(line), question='?', prediction=prediction, score=0.0,
                metric=metric,
                source=f'elsewhere/m.jsonl:{line}')


def test_records_find_their_examples_by_line_and_every_task_has_its_numbers(tmp_path):
  chart = {'question': '?', 'task': 'chart_qa', 'metric': 'chart_qa', 'answers': ['14']}
  lines = [chart | {'metadata': {'is_human': True}},
           {'question': '?', 'task': 'spots', 'metric': 'letter', 'answers': ['B'],
            'options': ['x', 'y'],
            'metadata': {'groups': ['left']}},
           {'question': '?', 'task': 'spots', 'metric': 'exact_match', 'answers': ['B']},
           {'question': 3}]                                   # which has no prediction
  (tmp_path / 'm.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  manifest = read_manifest(tmp_path / 'm.jsonl')
  records = [record(2, 'spots', 'B', 'letter'), record(1, 'chart_qa', '14', 'chart_qa'),
             record(3, 'spots', 'A', 'exact_match')]
  numbers = published_numbers(records, manifest)
  assert numbers['chart_qa']['relaxed_correctness_human'] == 1
  assert 'relaxed_correctness_aug' not in numbers['chart_qa']      # NaN of no questions
  assert numbers['spots'] == {'letter/score': 1, 'letter/group_left': 1, 'exact_match/score': 0}
  with pytest.raises(ValueError, match='there is no record in line 9'):
    published_numbers([record(9, 'spots', 'B', 'letter')], manifest)
