"""Paired comparison of two evaluations."""

from __future__ import annotations

import itertools
from math import comb

import numpy as np
import pytest

from molmo_jax.evaluation.compare import (
  CompareError,
  compare,
  difference,
  pair_predictions,
  print_comparison,
  read_evaluation,
  sign_flip_p,
)
from molmo_jax.evaluation.compare_report import write_comparison
from molmo_jax.evaluation.predictions import Prediction, write_predictions
from molmo_jax.terminal import Terminal
from tests.evaluation.test_report import Page


def record(i, score, task='colour', **fields):
  return Prediction(task=task, id=str(i), question='Which?', prediction=f'answer {score:g}',
                score=score,
                answers=('red',), **fields)


def test_p_counts_all_sign_patterns_of_few_differences():
  d = np.array([1.0, 0.5, 1.0, -0.5, 1.0])
  sums = [abs(np.dot(signs, d)) for signs in itertools.product((-1, 1), repeat=5)]
  assert sign_flip_p(d, np.random.default_rng(0)) == np.mean([s >= 3.0 for s in sums])


def test_p_is_right_for_many_differences():
  """Against the exact binomial: 60 up, 40 down."""
  d = np.array([1.0] * 60 + [-1.0] * 40 + [0.0] * 500)
  exact = sum(comb(100, k) for k in range(101) if abs(2 * k - 100) >= 20) / 2 ** 100
  assert abs(sign_flip_p(d, np.random.default_rng(1)) - exact) < 0.01


def test_equal_evaluations_do_not_differ():
  d = difference(np.ones((50, 2)))
  assert (d.mean, d.low, d.high, d.p, d.better, d.worse) == (0, 0, 0, 1, 0, 0)


def test_the_interval_covers_the_true_difference_as_often_as_it_says():
  rng, covered = np.random.default_rng(2), 0
  for _ in range(200):
    scores = (rng.random((100, 2)) < [0.5, 0.6]).astype(float)
    found = difference(scores, seed=int(rng.integers(2 ** 31)))
    covered += found.low <= 0.1 <= found.high
  assert 0.9 <= covered / 200 <= 0.99


def test_examples_are_paired_by_task_and_id_in_any_order():
  first = [record(1, 1.0), record(2, 0.0), record(3, 1.0, 'shape'), record(9, 1.0)]
  second = [record(3, 0.0, 'shape'), record(2, 1.0), record(1, 1.0), record(3, 0.0)]
  pairs = pair_predictions(first, second)
  assert [(a.task, a.id, a.score, b.score) for a, b in pairs] == [
    ('colour', '1', 1, 1), ('colour', '2', 0, 1), ('shape', '3', 1, 0)]
  found = compare(pairs)
  assert list(found) == ['colour', 'shape', 'all examples']
  assert (found['colour'].better, found['colour'].worse, found['shape'].worse,
          found['all examples'].n) == (1, 0, 1, 3)


def test_what_cannot_be_paired_is_an_error():
  with pytest.raises(CompareError, match="'colour' has the id '1' more than once"):
    pair_predictions([record(1, 1.0), record(1, 0.0)], [record(1, 1.0)])
  with pytest.raises(CompareError, match='no example'):
    pair_predictions([record(1, 1.0)], [record(2, 1.0)])


def test_a_run_a_folder_or_a_file_can_be_named(tmp_path):
  write_predictions(tmp_path / 'evaluation' / 'predictions.jsonl', [record(1, 1.0)])
  for name in ('', 'evaluation', 'evaluation/predictions.jsonl'):
    assert read_evaluation(tmp_path / name) == [record(1, 1.0)]
  with pytest.raises(CompareError, match='no evaluation; looked for'):
    read_evaluation(tmp_path / 'nothing')


def test_table_and_page_show_what_differs(tmp_path):
  first = [record(i, 1.0) for i in range(10)]
  second = [record(i, float(i >= 8)) for i in range(10)]
  pairs = pair_predictions(first, second)
  found = compare(pairs)
  console = Terminal(record=True, width=80)
  print_comparison(found, ('a', 'b'), console)
  assert '-80.0' in console.export_text()
  write_comparison(tmp_path / 'c.html', found, pairs, ('a', 'b'), lambda r: [])
  page = Page((tmp_path / 'c.html').read_text())
  cards = page.find('article')
  assert len(cards) == 8
  assert all(card['class'] == 'card wrong' for card in cards)
  assert 'answer 1' in cards[0]['text'] and 'answer 0' in cards[0]['text']
