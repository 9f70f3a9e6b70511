from __future__ import annotations

import pytest

from molmo_jax import metrics
from molmo_jax.preprocess.points import format_points
from molmo_jax.preprocess.types import Example


def answers(*texts, **fields):
  return Example(answers=texts, **fields)


def at(*points):
  return Example(points=points, metric='points')


def pointing(*points):
  return format_points({1: points}, 'thing')


@pytest.mark.parametrize('prediction, accepted, expected', [
  ('Red', ['red'], 1.0),
  ('  red.\n', ['Red'], 1.0),
  ('a  red\tsquare!', ['A red square'], 1.0),
  ('two', ['2', 'Two.'], 1.0),
  ('reddish', ['red'], 0.0),
  ('red square', ['red'], 0.0),
  ('', ['red'], 0.0),
  ('-5', ['5'], 0.0),
  ('5%', ['5'], 0.0),
])
def test_exact_match_ignores_case_whitespace_and_final_punctuation_only(prediction, accepted,
                                                                        expected):
  assert metrics.score(prediction, answers(*accepted), 'exact_match') == expected


def test_an_empty_prediction_does_not_equal_an_answer_that_is_punctuation():
  assert metrics.score('', answers('?'), 'exact_match') == 0.0
  assert metrics.score('?', answers('?'), 'exact_match') == 1.0


def test_exact_match_without_answers_is_an_error_that_names_the_line():
  with pytest.raises(ValueError, match='test.jsonl:7.*answers'):
    metrics.score('red', Example(source='test.jsonl:7'), 'exact_match')


@pytest.mark.parametrize('predicted, expected', [
  ([(0.2, 0.3)], 1.0),
  ([(0.3, 0.3)], 1.0),                  # exactly the tolerance
  ([(0.28, 0.38)], 0.0),                # inside in x and in y, outside as a distance
  ([(0.301, 0.3)], 0.0),
  ([(0.2, 0.3), (0.2, 0.3)], 0.0),      # one too many
  ([], 0.0),
])
def test_one_point_is_right_within_a_tenth_of_the_sides(predicted, expected):
  assert metrics.score(pointing(*predicted), at((0.2, 0.3)), 'points') == expected


def test_every_reference_point_needs_a_prediction_of_its_own():
  reference = at((0.2, 0.5), (0.8, 0.5))
  assert metrics.score(pointing((0.8, 0.5), (0.2, 0.5)), reference, 'points') == 1.0
  assert metrics.score(pointing((0.2, 0.5), (0.22, 0.5)), reference, 'points') == 0.0


def test_points_are_paired_so_that_all_fit_if_that_is_possible():
  # One prediction (0.45) is near both references, the other only near the reference at 0.5.
  predicted = pointing((0.45, 0.5), (0.58, 0.5))
  assert metrics.score(predicted, at((0.5, 0.5), (0.4, 0.5)), 'points') == 1.0
  assert metrics.score(predicted, at((0.4, 0.5), (0.5, 0.5)), 'points') == 1.0
  assert metrics.score(predicted, at((0.4, 0.5), (0.36, 0.5)), 'points') == 0.0


def test_without_reference_points_the_right_answer_has_none():
  assert metrics.score('There are none.', at(), 'points') == 1.0
  assert metrics.score(pointing((0.5, 0.5)), at(), 'points') == 0.0


def test_points_as_molmo_v1_writes_them_are_understood():
  assert metrics.score('<point x="20.0" y="30.0" alt="a">a</point>', at((0.2, 0.3)),
                       'points') == 1.0


def test_a_metric_that_does_not_exist_is_an_error_that_names_the_closest():
  with pytest.raises(ValueError, match="'exact-match' does not exist; did you mean 'exact_match'"):
    metrics.score('x', answers('x'), 'exact-match')
  with pytest.raises(ValueError, match='did you mean'):
    metrics.chance([answers('x')], 'point')


def test_chance_with_options_is_a_guess_among_them():
  examples = [answers('a', options=('a', 'b')), answers('c', options=('a', 'b', 'c', 'd'))]
  assert metrics.chance(examples, 'exact_match') == pytest.approx((1 / 2 + 1 / 4) / 2)


def test_chance_without_options_is_the_best_constant_answer():
  examples = [answers('Two', '2'), answers('2.'), answers('3'), answers('4', 'four')]
  assert metrics.chance(examples, 'exact_match') == 0.5


def test_chance_joins_examples_with_and_without_options():
  examples = [answers('a', options=('a', 'b')), answers('x'), answers('x'), answers('y')]
  assert metrics.chance(examples, 'exact_match') == pytest.approx((0.5 + 2) / 4)


def test_chance_of_points_is_the_best_fixed_point():
  examples = [at((0.23, 0.5)), at((0.27, 0.5)), at((0.9, 0.9)), at((0.25, 0.5), (0.9, 0.1))]
  assert metrics.chance(examples, 'points') == 0.5


def test_chance_of_points_is_that_of_no_point_where_most_have_none():
  assert metrics.chance([at(), at(), at((0.5, 0.5))], 'points') == pytest.approx(2 / 3)
  assert metrics.chance([at(), at()], 'points') == 1.0
  assert metrics.chance([at((0.1, 0.1), (0.2, 0.2))], 'points') == 0.0


def test_chance_of_nothing_is_an_error():
  with pytest.raises(ValueError, match='at least one'):
    metrics.chance([], 'exact_match')


@pytest.mark.parametrize('metric, prediction, accepted, expected', [
  ('vqa_score', 'Two.', ['2', 'two', 'three'], 2 / 3),
  ('a_okvqa_score', 'Two', ['2', 'two', 'three'], 1 / 3),
  ('anls', 'Answer: hallo', ['hello'], 0.8),
  ('relaxed_correctness', '104', ['100'], 1.0),
  ('scientific_relaxed_correctness', 'about 104 units', ['100'], 1.0),
])
def test_metrics_of_published_benchmarks_can_be_named_by_an_example(metric, prediction, accepted,
                                                                    expected):
  assert metrics.score(prediction, answers(*accepted), metric) == pytest.approx(expected)
  with pytest.raises(ValueError, match=f"{metric}' needs at least one answer"):
    metrics.score(prediction, answers(), metric)


def test_multiple_choice_compares_the_option_that_is_meant():
  example = answers('B. dog', options=('A. cat', 'B. dog'))
  assert [metrics.score(text, example, 'multiple_choice')
          for text in ('b', 'dog', 'A', 'B. dog')] == [1, 1, 0, 1]
  with pytest.raises(ValueError, match="test.jsonl:7.*'options'"):
    metrics.score('b', answers('C. bird', options=('A. cat',), source='test.jsonl:7'),
                  'multiple_choice')


PETS = ('cat', 'a dog', 'dog house', 'none of these')


@pytest.mark.parametrize('reply, named', [
  ('cat', 0), ('Cat.', 0), ('A', 0), ('a', 0), ('(b)', 1), ('B.', 1), ('**B**', 1), ('B. a dog', 1),
  ('(B) a dog', 1), ('B) it barks', 1), ('B: yes', 1), ('b. a dog', 1), ('[D] none', 3),
  ('The correct answer is (B).', 1), ('The answer is: C', 2), ('Answer: D because', 3),
  ('I would choose B, not A.', 1), ('the answer is A. No, the answer is C.', 2),
  ('It looks like (C) to me', 2),
  ('It must be a dog house.', None), ('My dog house!', 2), ('There is a dog here.', 1),
  ('It is a cat.', 0), ('None of these', 3), ('A cat.', 0), ('A dog', 1),
  ('', None), ('I do not know.', None), ('(A) or (B)', None), ('a cat or a dog', None),
  ('E', None),
  ('The answer is (Z).', None), ('42', None), ('concatenate', None), ('Both', None)])
def test_a_reply_names_an_option_of_ones_own_task_or_is_wrong(reply, named):
  for right, option in enumerate(PETS):
    for answer in (option, 'ABCD'[right]):
      example = answers(answer, options=PETS)
      assert metrics.score(reply, example, 'multiple_choice') == (named == right)


@pytest.mark.parametrize('reply, right', [('B', 1), ('(B)', 1), ('The answer is B.', 1), ('A', 0)])
def test_options_that_are_letters_are_meant_by_them(reply, right):
  example = answers('B', options=('B', 'A'))
  assert metrics.score(reply, example, 'multiple_choice') == right


def test_published_benchmarks_keep_the_released_rule():
  example = answers('A', options=PETS)
  assert metrics.score('The answer is C', example, 'letter_choice') == 1   # by edit distance
  assert metrics.score('The answer is C', example, 'multiple_choice') == 0


def test_chance_of_a_graded_metric_is_the_best_constant_answer():
  examples = [answers('100'), answers('104'), answers('7')]
  assert metrics.chance(examples, 'relaxed_correctness') == pytest.approx(2 / 3)
