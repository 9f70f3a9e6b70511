"""The runner of golden metrics: which files it knows, and that it reports what is wrong."""

from __future__ import annotations

import json
import math

import pytest

from tests.golden.runners import metrics as runner


@pytest.mark.parametrize('stem, function', [
  ('vqa_score', 'vqa_score'), ('a_okvqa_score', 'a_okvqa_score'), ('vqa_score_more', 'vqa_score'),
  ('hidden-point_count_aggregated-2', 'point_count_aggregated'),
  ('video_point_count', 'video_point_count'),
  ('tap_vid', 'tap_vid'), ('vqa_scores', None), ('cases', None),
])
def test_files_are_known_by_the_longest_name_in_theirs(stem, function):
  found = runner.function_of(stem)
  assert found == function


def test_files_of_another_form_are_not_recognised(tmp_path):
  (tmp_path / 'anls.json').write_text('[{"input": {"a": 1}, "expected": 2}]')
  (tmp_path / 'clock.json').write_text('not json')
  assert not runner.recognises(tmp_path)


def test_wrong_results_and_errors_are_reported_and_expected_errors_are_not(tmp_path):
  cases = [{'input': {'target': 'ab', 'prediction': 'ab'}, 'expected': 1.0, 'expected_v1': 0.5},
           {'input': {'target': 'ab'}, 'expected': 1.0},
           {'input': {'target': '', 'prediction': ''}, 'error': 'ZeroDivisionError'}]
  (tmp_path / 'anls_more.json').write_text(json.dumps(cases))
  assert runner.recognises(tmp_path)
  results = dict(runner.run(tmp_path))
  assert results == {'anls_more 0': None, 'anls_more 0_v1': '1.0, expected 0.5',
                     'anls_more 1': "KeyError: 'prediction'", 'anls_more 2': None}


@pytest.mark.parametrize('got, wanted, same', [
  (1.0, 1, True), (1.0, 1.1, False), (True, 1.0, True), (math.nan, 'NaN', True),
  (math.nan, 1.0, False),
  (math.inf, 'Infinity', True), ('A', 'RANDOM', True), ('A', 'B', False), (None, None, True),
  (None, 'x', False),
  ([(1.0, 2.0)], [[1, 2]], True), ([], [[1, 2]], False), ({2.0, 'a'}, ['a', 2], True),
  ({2.0}, ['a', 2], False),
  ({'a': 1}, {'a': 1, 'b': 'NaN'}, True), ({'a': 1}, {'a': 1, 'b': 0.0}, False),
  ({'a': 1}, 'ERROR ValueError', True),
])
def test_results_are_compared_by_value(got, wanted, same):
  assert (runner.difference(got, wanted, 1e-9) is None) == same
