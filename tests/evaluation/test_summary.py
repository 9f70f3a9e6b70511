from __future__ import annotations

import errno
import io
import json
import os

import numpy as np
import pytest

from molmo_jax.evaluation import predictions, summary
from molmo_jax.evaluation.predictions import Prediction
from molmo_jax.files import write_atomically, write_json
from molmo_jax.terminal import Terminal


def record(task='colour', score=1.0, **fields):
  return Prediction(**{'task': task, 'id': '1', 'question': 'Which?', 'prediction': 'red',
                   'score': score,
                   'answers': ('red',), **fields})


@pytest.mark.parametrize('correct, n, low, high', [
  (0, 10, 0.0, 0.2775),
  (10, 10, 0.7225, 1.0),
  (5, 10, 0.2366, 0.7634),
  (81, 263, 0.2553, 0.3662),            # the worked example of Newcombe (1998), method 3
])
def test_wilson_interval_equals_published_values(correct, n, low, high):
  assert summary.wilson_interval(correct, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_stays_in_the_unit_range_and_around_the_proportion():
  for n in (1, 2, 7, 1000):
    for correct in (0, n // 3, n):
      low, high = summary.wilson_interval(correct, n)
      assert 0 <= low <= correct / n <= high <= 1


def test_wilson_interval_widens_with_confidence():
  narrow, wide = summary.wilson_interval(5, 10, 0.5), summary.wilson_interval(5, 10, 0.99)
  assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize('arguments', [(0, 0), (3, 2), (-1, 2), (1, 2, 1.0)])
def test_wilson_interval_refuses_impossible_counts(arguments):
  with pytest.raises(ValueError, match='no interval'):
    summary.wilson_interval(*arguments)


def test_summary_has_accuracy_interval_chance_and_count_of_every_task_in_order():
  found = summary.summarise(
    [record('b', 1.0, options=('red', 'blue')), record('a', 0.0), record('a', 0.5),
     record('b', 1.0, options=('red', 'blue'))])
  assert list(found['tasks']) == ['b', 'a']
  assert found['tasks']['b'] == {'accuracy': 1.0, 'low': pytest.approx(0.3424, abs=1e-4),
                                 'high': 1.0,
                                 'chance': 0.5, 'n': 2}
  assert found['tasks']['a']['accuracy'] == 0.25
  assert found['tasks']['a']['chance'] == 1.0


def test_overall_counts_examples_and_task_mean_counts_tasks():
  guessed = record('b', 0.0, options=('red', 'blue'))
  found = summary.summarise([record('a', 1.0), record('a', 1.0), record('a', 1.0), guessed])
  assert found['overall']['chance'] == pytest.approx((3 * 1.0 + 0.5) / 4)
  assert found['overall']['accuracy'] == 0.75
  assert found['overall']['n'] == 4
  assert found['task_mean'] == 0.5


def test_chance_of_a_task_with_two_metrics_weighs_them_by_their_examples():
  points = [record(metric='points', answers=(), points=((0.5, 0.5),))] * 3
  other = record(options=('red', 'blue'))
  assert summary.summarise([*points, other])['tasks']['colour']['chance'] == pytest.approx((3 + 0.5)
                                                                                           / 4)


def test_chance_comes_from_the_task_where_only_a_part_of_it_was_evaluated():
  part = [record('colour', answers=('red',)), record('shape', answers=('ring',))]
  whole = [record('colour', answers=(answer,)) for answer in ('red', 'red', 'blue', 'green')]
  found = summary.summarise(part, chances=summary.chances_of(whole))
  shape = summary.summarise(part[1:])['tasks']['shape']['chance']
  assert found['tasks']['colour']['chance'] == 0.5
  assert found['tasks']['shape']['chance'] == shape
  assert found['overall']['chance'] == (0.5 + shape) / 2


def test_a_summary_of_nothing_is_an_error():
  with pytest.raises(ValueError, match='no predictions'):
    summary.summarise([])


def test_a_summary_comes_back_from_its_file_and_leaves_no_other_file(tmp_path):
  found = summary.summarise([record('Größe', 1.0)])
  write_json(tmp_path / 'new' / 'summary.json', found)
  assert summary.read_summary(tmp_path / 'new' / 'summary.json') == found
  assert [p.name for p in (tmp_path / 'new').iterdir()] == ['summary.json']


def full(descriptor):
  raise OSError(errno.ENOSPC, 'No space left on device')


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
  path = tmp_path / 'summary.json'
  path.write_text('old')
  monkeypatch.setattr(os, 'fsync', full)
  with pytest.raises(OSError, match='No space left'):
    write_atomically(path, 'new')
  assert path.read_text() == 'old'
  assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_no_summary_is_an_error_that_names_it(tmp_path):
  path = tmp_path / 'summary.json'
  path.write_text('{}')
  with pytest.raises(ValueError, match='summary.json.*tasks'):
    summary.read_summary(path)
  row = {'accuracy': 1, 'low': 0, 'high': 1, 'n': 1}
  path.write_text(json.dumps({'tasks': {'a': row}, 'overall': row}))
  with pytest.raises(ValueError, match="summary.json.tasks.a' lacks: chance"):
    summary.read_summary(path)


def test_the_table_prints_per_cent_and_takes_no_markup_from_task_names():
  stream = io.StringIO()
  found = summary.summarise([record('[bold]odd', 1.0, options=('red', 'blue')), record('b', 0.0)])
  summary.print_table(found, Terminal(file=stream, width=80))
  lines = stream.getvalue().splitlines()
  assert '95 % interval' in lines[0]
  odd = next(line for line in lines if '[bold]odd' in line)
  assert '100.0' in odd and '20.7 – 100.0' in odd and '50.0' in odd
  assert any(line.strip().startswith('all examples') for line in lines)


def test_records_come_back_from_their_file(tmp_path):
  written = [
    record(prediction='<points coords="1 1 500 500">rød\n</points>', points=((0.5, 0.25),),
           metric='points'),
    record(media=('a.mp4',), times=(0.0, 0.5), options=('red', 'blue'), source='x.jsonl:3'),
  ]
  predictions.write_predictions(tmp_path / 'predictions.jsonl', written)
  assert len((tmp_path / 'predictions.jsonl').read_text(encoding='utf-8').splitlines()) == 2
  assert predictions.read_predictions(tmp_path / 'predictions.jsonl') == written


@pytest.mark.parametrize('change, message', [
  ({'colour': 'red'}, "unknown configuration key 'colour'"),
  ({'score': None}, 'score'),
  ({'score': float('nan')}, 'finite float'),
  ({'score': 1.5}, '0…1'),
  ({'prediction': 3}, 'prediction is 3; it must be of type str'),
  ({'answers': 'red'}, "answers is 'red'; it must be of type several str"),
  ({'points': [[0.1]]}, 'must be of type 2 float'),
  ({'times': [0.5], 'media': []}, 'exactly one video'),
])
def test_a_line_that_is_no_record_is_an_error_that_names_file_and_line(tmp_path, change, message):
  path = tmp_path / 'predictions.jsonl'
  predictions.write_predictions(path, [record()])
  good = path.read_text()
  path.write_text(good + json.dumps({**json.loads(good), **change}) + '\n')
  with pytest.raises(ValueError, match=rf'predictions\.jsonl:2: .*{message}'):
    predictions.read_predictions(path)


def test_a_record_without_a_needed_key_is_an_error(tmp_path):
  path = tmp_path / 'predictions.jsonl'
  path.write_text('{"task": "a"}\n')
  with pytest.raises(ValueError, match=r"predictions\.jsonl:1: .*lacks: id, question"):
    predictions.read_predictions(path)


def test_scores_between_right_and_wrong_get_a_bootstrap_interval():
  rng = np.random.default_rng(0)
  scores = rng.random(400)
  low, high = summary.bootstrap_interval(scores)
  error = scores.std() / 20
  assert abs(low - (scores.mean() - 1.96 * error)) < 0.004
  assert abs(high - (scores.mean() + 1.96 * error)) < 0.004
  row = summary.summarise([record(score=float(s)) for s in scores])['overall']
  assert (row['low'], row['high']) == (low, high)
