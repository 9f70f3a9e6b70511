"""Multiple choice and the other short formats: worked numbers of docs/training.md §5.3, and the
departures.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from molmo_jax.metrics import android, choices, clock, counting, moments, video_answers

ABC = ['A', 'B', 'C']
ANIMALS = ['cat', 'dog', 'house mouse']


@pytest.mark.parametrize('prediction, options, index', [
  ('b. dog', ABC, 1), ('do', ['doll', 'dog', 'cat'], 1), ('dogs', ['do', 'dog', 'cat'], 1),
  ('do', ['cat', 'dog'], 1),
  ('mouse', ANIMALS, 2), ('The answer is C', ABC, 0), ('red', ABC, 0), (' DOG ', ANIMALS, 1),
])
def test_select_option(prediction, options, index):
  assert choices.select_option(prediction, options) == index


def test_v1_does_not_look_at_beginnings():
  assert choices.select_option('d. none of the above', ['A', 'B', 'C', 'D']) == 3
  assert choices.select_option('d. none of the above', ['A', 'B', 'C', 'D'], version='v1') == 0
  with pytest.raises(ValueError, match="'molmo2' and 'v1'"):
    choices.select_option('a', ABC, version='v3')


def test_sentences_about_letters_are_read_only_if_asked_for():
  assert choices.select_option('The answer is C', ABC, read_sentences=True) == 2
  assert choices.select_option('the answer is (b).', ABC, read_sentences=True) == 1


@pytest.mark.parametrize('response, letter', [
  ('I think A but it is C', 'C'), ('A) cat or B) dog', 'B'), ('(A) because B. is wrong', 'A'),
  ('C\n', 'C'),
  ('it must be the house mouse I think', 'C'),
])
def test_letters_in_sentences(response, letter):
  assert choices.parse_letter(response, ANIMALS) == letter


def test_without_a_letter_a_guess_is_made_unless_told_otherwise():
  assert choices.parse_letter('b', ANIMALS, guess=False) is None
  assert choices.parse_letter('b', ANIMALS) == choices.parse_letter('b', ANIMALS) in ABC
  drawn = {choices.parse_letter('b', ANIMALS, rng=np.random.default_rng(seed))
           for seed in range(30)}
  assert drawn == set(ABC)
  assert {choices.parse_letter(f'no {n}', ANIMALS) for n in range(30)} == set(ABC)
  assert choices.parse_ego_schema('Yes', ANIMALS, guess=False) is None
  assert choices.parse_next_qa('Yes', ANIMALS, guess=False) is None
  assert video_answers.parse_long_video_bench('no', guess=False) is None


def test_ego_schema_takes_the_first_letter_and_next_qa_the_last():
  five = ['a cat', 'b', 'c', 'd', 'e']
  for response, first, last in (('I think B is wrong, D is right', 1, 'D'), ('A or B', 0, 'B')):
    assert choices.parse_ego_schema(response, five) == first
    assert choices.parse_next_qa(response, five) == last
  assert choices.parse_ego_schema('D.x', five) == 3 and choices.parse_next_qa('D.x', five) == 'D'


def test_letters_of_video_benchmarks():
  texts = ['B', '(C) x', '...D.', 'b', 'A red ball', 'E']
  assert [video_answers.parse_perception_test(t) for t in texts] == [1, 2, 3, -1, 0, -1]
  texts = ['B', 'The best answer is C', 'A cat', 'b', 'it depends', 'Answer: D',
           'The best option is A',
           'Best answer: B']
  assert [video_answers.parse_video_mme(t) for t in texts] == ['B', 'C', 'A', '', '', 'D', 'A', 'B']
  assert video_answers.parse_video_mme('Best option: C') == 'B'
  assert video_answers.parse_video_mme('Best option: C', all_prefixes=True) == 'C'


def test_video_mme_leaves_out_what_it_cannot_read_unless_told_otherwise():
  rows = [{'prediction': p, 'answer': 'A', 'duration': 'short', 'sub_category': 's',
           'task_type': 't'} for p in 'Ax']
  assert video_answers.video_mme_means(rows)['all'] == 1
  assert video_answers.video_mme_means(rows, count_unreadable=True)['all'] == 0.5
  assert math.isnan(video_answers.video_mme_means(rows)['long'])


def test_video_hallucer_reads_yes_first():
  assert video_answers.video_hallucer('yes', 'No, yes')
  assert video_answers.video_hallucer('no', 'It is not')
  assert not video_answers.video_hallucer('no', 'perhaps')


def test_temp_compass():
  texts = ['B. red', 'B', 'B) x', 'B.x', 'red', 'The answer is B', 'b']
  assert [video_answers.temp_compass_score('multi-choice', 'B. red', t)
          for t in texts] == [1, 1, 1, 1, 0, 0, 0]
  texts = ['Yes, it is', 'no', 'Nope', 'It is yes']
  assert [video_answers.temp_compass_score('yes_no', 'yes', t) for t in texts] == [1, 0, 0, 0]


def test_temp_compass_captions_are_multiple_choice_unless_told_otherwise():
  question, answer = 'Which?\nCaption A: a dog runs\nCaption B: a cat sits', 'Caption B: a cat sits'
  texts = [answer, 'a cat sits', 'B', 'B.', 'Caption B', 'Caption A', 'b', 'X) a cat sits']
  scores = [video_answers.temp_compass_score('caption_matching', answer, t, question,
                                            use_caption_rule=True)
            for t in texts]
  assert scores == [1, 1, 1, 1, 1, 0, 0, 1]
  assert [video_answers.temp_compass_score('caption_matching', answer, t, question)
          for t in texts] == [1] + [0] * 7


def test_moments_are_taken_greedily():
  assert moments.moment_scores('[2-10], [20-30]', [(0, 10)]) == pytest.approx((2 / 3, 0.5, 1))
  assert moments.moment_scores('[0-4]', [(0, 10)]) == (0, 0, 0)
  assert moments.moment_scores('[0-10] [0-10]', [(0, 10), (1, 11)]) == (1, 1, 1)


def test_clocks_are_close_hand_by_hand():
  training = clock.clock_scores('3:16:31', 3, 15, 30, dial=False)
  assert training['overall_close'] == 1 and training['overall_exact'] == 0
  assert clock.clock_scores('3:20:30', 3, 15, 30, dial=False)['overall_close'] == 0
  assert clock.clock_scores('3:17:30', 3, 15, 30)['overall_close'] == 0
  assert clock.clock_scores('3:15 PM', 15, 15, -1, dial=False)['overall_exact'] == 1
  assert clock.clock_scores('3:15 PM', 3, 15, -1)['overall_exact'] == 1
  assert clock.clock_scores('unreadable', -1, -1, -1)['correctly_declines_to_answer'] == 1
  assert math.isnan(clock.clock_scores('3:15', -1, -1, -1)['hour_correct'])


def test_steps_on_a_phone():
  box = android.parse_box('[45.0, 25.0, 60.0, 40.0]')
  step = android.android_step
  assert step('click 50 30', 'Action: click 45.0 40.0', box) == 1
  assert step('click 50 30', 'click 61 30', box) == 0
  assert step('scroll up', 'scroll down', None) == 0
  assert step('Type HI ', 'type hi', None) == 1
  assert step('open app maps', 'click 50 30', box) == 1
  assert step('click 50 30', 'long press 50 30', box) == 0
  assert step('navigate back', 'Navigate Back', None) == 1
  with pytest.raises(ValueError, match='four numbers'):
    android.parse_box('__import__("os")')


def counted(*args, **options):
  return tuple(counting.point_count(*args, **options).values())


def test_counts_of_points_ignore_the_number_in_the_text_unless_told_otherwise():
  tag = '<points coords="1 1 100 200 2 300 400 3 500 600">x</points>'
  assert counted(f'Counting the {tag} shows a total of 4.', 3) == (1, 1, 1)
  assert counted('5', 5) == (0, 0, 1)
  assert counted('5', 5, read_text=True) == (1, 1, 1)
  assert counted(f'{tag} 5', 3, read_text=True) == (1, 1, 1)


def test_counts_of_v1_are_the_last_word_and_none_is_not_valid_unless_told_otherwise():
  texts = ('There are 5', 'five', 'shows a total of 5.', 'a total of 5 dogs')
  assert [counting.point_count(t, 5, version='v1')['correct'] for t in texts] == [1] * 4
  assert counted('There are none.', 0, version='v1') == (0, 0, 0)
  assert counted('There are none.', 0, version='v1', read_none=True) == (1, 1, 1)


def test_counts_in_videos_are_close_within_a_share():
  assert [counting.video_point_count('There is a total of 7.', n)['close']
          for n in (5, 6, 8, 9)] == [0, 1, 1, 0]
  assert [counting.video_point_count(str(n), 60)['close'] for n in (55, 56, 64, 65)] == [0, 1, 1, 0]
  assert counting.video_point_count('There are none.', 0)['valid'] == 0
  assert counting.video_point_count('There are none.', 0, read_none=True)['correct'] == 1


def test_counting_questions_are_about_things():
  assert counting.is_counting_question('how many of the animals are brown?')
  assert not counting.is_counting_question('how many years old is he')
  assert not counting.is_counting_question('how many')
