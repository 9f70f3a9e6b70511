"""Short answers, charts and open questions: the worked numbers of docs/training.md §5.3, and the
departures.
"""

from __future__ import annotations

import random

import pytest

from molmo_jax.metrics import means, numeric_answers, open_answers, text_answers
from molmo_jax.metrics.text_answers import CONTRACTIONS, edit_distance


def slow_edit_distance(a, b):
  row = list(range(len(b) + 1))
  for i, x in enumerate(a, start=1):
    row, previous = [i], row
    for j, y in enumerate(b, start=1):
      row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (x != y)))
  return row[-1]


def test_edit_distance_is_that_of_the_textbook():
  draw = random.Random(0)
  for _ in range(300):
    a, b = (''.join(draw.choices('abcé', k=draw.randrange(12))) for _ in range(2))
    assert edit_distance(a, b) == slow_edit_distance(a, b), (a, b)
  long = ''.join(draw.choices('ab', k=200))
  assert edit_distance(long, long[3:] + 'c') == slow_edit_distance(long, long[3:] + 'c')


@pytest.mark.parametrize('text, normal', [
  ('Two', '2'), ('none', '0'), ('a dog', 'dog'), ('Yes.', 'yes'), ("The Dog's bowl", "dog's bowl"),
  ('10%', '10%'),
  ('dont know', "don't know"), ('1/2', '1 2'), ('1,000', '1000'), ('1,5 a-b', '15 ab'),
  ('3.5', '3.5'),
  ('e.g. x', 'eg x'), ('U.S.A.', 'usa'), ('red, blue', 'red blue'), ('hello-world', 'hello world'),
  ("couldn'tve", "couldn't've"), ("couldnt've", "couldn't've"), ('couldntve', 'couldntve'),
  ('twas', "'twas"),
])
def test_vqa_normalisation(text, normal):
  assert text_answers.normalise_answer(text) == normal


def test_vqa_normalisation_removes_32_periods_unless_told_otherwise():
  assert text_answers.normalise_answer('x' + '.' * 40) == 'x' + '.' * 8
  assert text_answers.normalise_answer('x' + '.' * 40, all_periods=True) == 'x'


def test_contractions_are_restored_but_for_the_one_that_upstream_has_the_wrong_way_round():
  assert CONTRACTIONS['yall'] == "y'all" and CONTRACTIONS["y'alld've"] == "y'all'd've"
  assert [word for word in CONTRACTIONS.values() if "'" not in word] == ['somebodyd']


def test_vqa_score_is_a_third_for_every_reference_at_most_one():
  references = ['yes'] * 2 + ['no'] * 7 + ['maybe']
  assert [text_answers.vqa_score(references, p)
          for p in ('Yes', 'no', 'maybe')] == pytest.approx([2 / 3, 1, 1 / 3])
  assert text_answers.a_okvqa_score(['cat', 'cat', 'Dog '], 'Cat') == pytest.approx(2 / 3)
  assert text_answers.a_okvqa_score(['cat', 'cat', 'Dog '], 'the cat') == 0


def test_vqa_score_of_a_reference_that_is_a_string_compares_it_as_it_is():
  assert text_answers.vqa_score('a dog', 'the dog') == 0
  assert text_answers.vqa_score('dog', 'the dog') == 1
  assert text_answers.vqa_score(['a dog'], 'the dog') == pytest.approx(1 / 3)


@pytest.mark.parametrize('target, prediction, score', [
  ('hello', 'hallo', 0.8), ('1999', '1998', 0.75), ('ab', 'ax', 0.0), ('10', '100', 2 / 3),
  ('', '', 1.0),
  ('a', '', 0.0),
])
def test_anls(target, prediction, score):
  assert text_answers.anls([target], prediction) == pytest.approx(score)
  assert text_answers.anls(['something else', target], prediction) == pytest.approx(score)


def test_predictions_are_cut_to_the_answer_or_to_the_most_frequent_line():
  assert text_answers.clean_prediction('Because. Answer: 4 Answer: 5') == '4'
  assert text_answers.clean_prediction('1\n2\n2\n1') == '1'
  assert text_answers.clean_prediction('  a   b ') == 'a b'


def test_starts_with_answer_looks_at_the_first_reference_alone():
  pairs = [('b) ped', 'B'), ('A ball', 'A'), ('the B', 'B')]
  assert [text_answers.starts_with_answer([t], p) for p, t in pairs] == [1, 1, 0]
  assert text_answers.starts_with_answer(['x', 'b'], 'b') == 0


@pytest.mark.parametrize('target, prediction, right', [
  ('100', '104.9', 1), ('100', '105', 1), ('100', '105.1', 0), ('10%', '10', 0), ('10%', '0.1', 1),
  ('10%', '10.4%', 1),
  ('0', '0.0', 0), ('1,000', '1000', 0), ('2019', '2020', 1), ('5', 'five', 0), ('Red', 'red', 1),
])
def test_relaxed_correctness(target, prediction, right):
  assert numeric_answers.relaxed_correctness([target], prediction) == right
  assert numeric_answers.relaxed_correctness(['-1', target], prediction) == right


@pytest.mark.parametrize('target, prediction, right', [
  ('100', 'The answer: 104', 1), ('5', 'five', 1), ('50', '0.5', 0), ('0.5', '50', 1),
  ('[a, b]', 'b and a', 1),
  ('Red', 'dark red.', 1), ('1000', '1,020', 1), ('12', 'twelve', 0), ('-5', '-5', 0),
])
def test_scientific_relaxed_correctness(target, prediction, right):
  assert numeric_answers.scientific_relaxed_correctness([target], prediction) == right


def test_number_words_inside_of_words_are_read_unless_told_otherwise():
  assert numeric_answers.scientific_relaxed_correctness(['6'], 'sixty') == 1
  assert numeric_answers.scientific_relaxed_correctness(['6'], 'sixty', whole_words=True) == 0
  assert numeric_answers.scientific_relaxed_correctness(['6'], 'six', whole_words=True) == 1


def test_math_vista_floats_fail_with_the_precision_of_the_data_unless_it_is_mended():
  fields = {'question_type': 'free_form', 'answer_type': 'float', 'precision': 1.0}
  assert not open_answers.math_vista_correct('2.04', '2.0', **fields)
  assert open_answers.math_vista_correct('2.04', '2.0', **fields, fix_precision=True)
  assert open_answers.math_vista_correct('14.0', '14', question_type='free_form',
                                       answer_type='integer')


def test_mmmu_open_answers_are_numbers_or_contain_the_reference():
  assert open_answers.mmmu_open_correct(['3.14'], 'The answer is 3.14159')
  assert not open_answers.mmmu_open_correct(['5'], 'five')
  assert open_answers.parse_open_answer('It has the result 7 cm') == {7.0, '7 cm'}
  assert open_answers.parse_open_answer('first 41\nso it is 42 cm') == {42.0, '42 cm'}


def test_numbers_about_space():
  texts = ['10', '9.6', '9.5', '9.4', '9', '8 m', '12.', '5.1', '5', '4', '10.5', 'about 10']
  assert [numeric_answers.mean_relative_accuracy(t, '10') for t in texts] == pytest.approx(
      [1, 1, 1, .9, .9, .6, .6, .1, .1, 0, 1, 0])
  assert [numeric_answers.ego3d_squared_error(t, '10')
          for t in ('about 12 m', '0 m', '150')] == [4, -1,
                                             8100]
  assert numeric_answers.ego3d_squared_error('0 m', '10', accept_zero=True) == 100


def test_means_of_groups_are_over_their_rows():
  rows = [{'answers': ['10'], 'prediction': prediction, 'is_human': human}
          for prediction, human in (('10', True), ('x', False), ('10.4', True))]
  assert means.text_metric_means(rows, ['em', 'relaxed_correctness']) == {
    'em': 1 / 3, 'em_human': 1 / 2, 'em_aug': 0, 'relaxed_correctness': 2 / 3,
    'relaxed_correctness_human': 1,
    'relaxed_correctness_aug': 0}
