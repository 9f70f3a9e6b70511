"""The metrics of benchmarks by name, and the numbers that they publish."""

from __future__ import annotations

import math

import numpy as np
import pytest

from molmo_jax import metrics
from molmo_jax.metrics.benchmarks import BENCHMARKS
from molmo_jax.metrics.masks import decode_mask, encode_mask
from molmo_jax.metrics.summaries import all_right, vinoground_means
from molmo_jax.preprocess.points import format_points
from molmo_jax.preprocess.types import Example

MASK = np.zeros((100, 200), bool)
MASK[30:50, 100:120] = True


def example(metric, *answers, options=(), **metadata):
  return Example(answers=answers, options=options, metadata=metadata, metric=metric,
                 source='test.jsonl:7')


def score(text, item):
  return metrics.score(text, item, item.metric)


@pytest.mark.parametrize('metric, metadata, right, wrong', [
  ('letter_choice', {}, ['B', 'b. dog', 'Answer: B'], ['A', 'The answer is B']),
  ('tomato', {}, ['B', ' b. dog '], ['A']),
  ('letter', {}, ['B', '(B)', 'I think A but it is B', 'Answer: B Answer: A'], ['A', 'B or A']),
  ('mmmu', {'question_type': 'multiple-choice'}, ['B', '(B) dog'], ['A']),
  ('mantis_eval', {'question_type': 'multi-choice'}, ['(B)'], ['(A)']),
  ('ego_schema', {}, ['B', 'B. dog', 'I say B and not A'], ['A']),
  ('nextqa', {}, ['B', '(B) dog'], ['A']),
  ('perception_test', {}, ['B', '(B) x'], ['b', 'A']),
  ('video_mme', {'duration': 'short', 'sub_category': 'Law', 'task_type': 'OCR Problems'},
   ['The answer is B'], ['A']),
  ('long_video_bench', {}, ['B', 'The best option is B'], ['A']),
  ('lvbench', {}, ['b. dog'], ['A']),
  ('starts_with_answer', {}, ['B.'], ['the B']),
  ('vinoground', {'kind': 'textscore', 'pair': '0', 'side': 'pos'}, ['B', 'It is B'], ['A']),
  ('vsi_bench', {'question_type': 'route_planning'}, ['B'], ['A', 'dog']),
  ('ego3d', {'question_type': 'multi_choice', 'category': 'Localization'}, ['B'], ['A']),
  ('temporal_bench', {'kind': 'short_qa', 'video': 'a'}, ['B', 'B. dog'], ['A']),
])
def test_letters_are_read_by_the_rule_of_the_benchmark(metric, metadata, right, wrong):
  item = example(metric, 'B', options=('cat', 'dog'), **metadata)
  assert [score(text, item) for text in right] == [1] * len(right)
  assert [score(text, item) for text in wrong] == [0] * len(wrong)
  assert metrics.chance([item], metric) == 0.5


def test_what_an_example_lacks_is_said_all_at_once():
  with pytest.raises(ValueError, match="test.jsonl:7: metric 'video_mme' needs at least one answer "
                     "in 'answers', 'duration' in 'metadata', 'sub_category'"):
    score('B', example('video_mme', task_type='x'))
  with pytest.raises(ValueError, match="'letter' needs 'options'"):
    score('B', example('letter', 'B'))


def test_questions_with_numbers_are_scored_by_their_own_rule():
  distance = example('vsi_bench', '10', question_type='object_abs_distance')
  assert [score(text, distance) for text in ('10', '9', 'about 10')] == pytest.approx([1, 0.9, 0])
  metres = example('ego3d', '10', question_type='number', category='Ego_Centric_Absolute_Distance')
  assert metrics.sub_scores('about 12 m', metres, 'ego3d')['squared_error'] == 4
  assert metrics.sub_scores('far', metres, 'ego3d')['missing'] == 1


def test_open_questions_of_mmmu_mantis_and_mathvista():
  assert score('so the answer is 5', example('mmmu', '5', question_type='open')) == 1
  assert score('two.', example('mantis_eval', '2', question_type='short-answer')) == 1
  number = example('math_vista', '1.5', question_type='free_form', answer_type='float',
                   precision=1.0)
  # as published: a precision that is a float never rounds
  assert score('1.5', number) == 0
  assert score('1.5', example('math_vista', '1.5', question_type='free_form', answer_type='float',
                              precision=1.0,
                              fix_precision=True)) == 1


def test_charts_publish_human_and_augmented_questions():
  items = [('14', example('chart_qa', '14', is_human=True)),
           ('15', example('chart_qa', '14', is_human=False))]
  numbers = metrics.published('chart_qa', items)
  assert numbers['relaxed_correctness_human'] == 1 and numbers['relaxed_correctness_aug'] == 0
  assert numbers['em'] == 0.5 and set(metrics.sub_scores('14', items[0][1], 'chart_qa')) == {
    'relaxed_correctness', 'scientific_relaxed_correctness', 'exact'}


def test_documents_publish_similarity_and_equality():
  item = example('doc_qa', 'hello')
  assert metrics.published('doc_qa', [('hallo', item), ('hello', item)]) == {'anls': 0.9,
                                                                             'exact': 0.5}


def test_video_mme_leaves_out_what_it_cannot_read():
  item = example('video_mme', 'B', options=('A. x', 'B. y'), duration='short', sub_category='Law',
                 task_type='OCR')
  assert metrics.published('video_mme', [('B', item), ('no idea', item)])['all'] == 1
  assert score('no idea', item) == 0


def test_hallucinated_twins_count_only_together():
  items = [('yes', example('video_hallucer', 'yes', question_group='0', category='temporal')),
           ('yes', example('video_hallucer', 'no', question_group='0', category='temporal')),
           ('no', example('video_hallucer', 'no', question_group='0', category='factual'))]
  assert metrics.published('video_hallucer', items) == {
    'm_b_acc_all': 0.5, 'm_b_acc_factual': 1, 'm_b_acc_temporal': 0}
  assert all_right([('a', 1), ('a', 0.5), ('b', 1)]) == {'a': 0.5, 'b': 1}


def test_vinoground_counts_pairs():
  def row(kind, pair, score):
    return {'kind': kind, 'pair': pair, 'score': score}
  rows = [row('textscore', '0', 1), row('textscore', '0', 1), row('videoscore', '0', 1),
          row('videoscore', '0', 0),
          row('textscore', '1', 0), row('textscore', '1', 1), row('videoscore', '1', 1),
          row('videoscore', '1', 1)]
  assert vinoground_means(rows) == {'text': 0.5, 'video': 0.5, 'group': 0, 'text_single': 0.75,
                                    'video_single': 0.75}
  assert math.isnan(vinoground_means([])['group'])


def test_temporal_bench_counts_questions_and_videos_and_keeps_the_published_fault_under_a_name():
  def item(kind, video, metric='temporal_bench'):
    return example(metric, 'A', kind=kind, video=video)
  items = [('A', item('long_qa', 'a')), ('B', item('long_qa', 'a')), ('a.', item('short_qa', 'a'))]
  assert metrics.published('temporal_bench', items) == pytest.approx({
    'binary_all': 2 / 3, 'multiple_binary_all': 0.5, 'binary_long_qa': 0.5, 'binary_short_qa': 1,
    'multiple_binary_long_qa': 0, 'multiple_binary_short_qa': 1})
  assert score('B', item('long_qa', 'a', 'temporal_bench_published')) == 1


def test_ego3d_publishes_errors_accuracies_and_what_is_missing():
  number = example('ego3d', '10', question_type='number', category='Distance')
  choice = example('ego3d', 'A', options=('x', 'y'), question_type='multi_choice',
                   category='Localization')
  assert metrics.published('ego3d', [('12', number), ('far', number), ('A', choice)]) == {
    'All_MSE': 4, 'All_ACC': 1, 'All_MISSING': 1, 'Distance_MSE': 4, 'Localization_ACC': 1}


def point_bench(category, mask=MASK, **size):
  return example('point_bench', width=200, height=100, mask=encode_mask(mask), category=category,
                 groups=[category],
                 **size)


def test_point_bench_publishes_categories_and_their_mean():
  inside, outside = (format_points({1: [point]}, 'it') for point in ((0.55, 0.4), (0.1, 0.1)))
  numbers = metrics.published(
    'point_bench', [(inside, point_bench('counting')), (inside, point_bench('counting')),
                    (outside, point_bench('spatial'))])
  assert numbers == pytest.approx(
    {'accuracy': 2 / 3, 'category_mean': 0.5, 'group_counting': 1, 'group_spatial': 0})


def test_a_mask_of_another_size_than_its_image_is_not_resized():
  item = point_bench('counting', MASK[:, :110])
  # pixel 105 of an image 200 wide
  assert score(format_points({1: [(0.525, 0.4)]}, 'it'), item) == 1
  # pixel 115 is behind the mask's edge
  assert score(format_points({1: [(0.575, 0.4)]}, 'it'), item) == 0


def test_counts_publish_their_own_means():
  item = example('point_count', count=1)
  one = format_points({1: [(0.5, 0.5)]}, 'it')
  assert metrics.published('point_count', [(one, item), ('There are none.', item)]) == {
    'close': 1, 'valid': 1, 'correct': 0.5, 'correct_1': 0.5}
  v1 = example('point_count', count=2, version='v1')
  assert score('two', v1) == 1 and score('two', example('point_count', count=2)) == 0


def test_clocks_without_seconds_have_no_score_for_seconds():
  item = example('clock', hour=3, minute=15, second=-1)
  numbers = metrics.published('clock', [('3:15', item), ('3:16', item)])
  assert numbers['overall_exact'] == 0.5 and numbers['overall_close'] == 1 and math.isnan(
    numbers['second_correct'])


def test_a_task_without_references_publishes_nothing():
  assert metrics.published('predictions_only', [('x', example('predictions_only'))]) == {}


def test_names_of_groups_are_published_for_every_metric():
  items = [('a', example('exact_match', 'a', groups=['g', 'all of it'])),
           ('b', example('exact_match', 'a', groups=['g']))]
  assert metrics.published('exact_match', items) == {'score': 0.5, 'group_g': 0.5,
                                                     'group_all of it': 1}


def test_metrics_that_do_not_exist_are_named_by_all_functions():
  for function in (lambda: metrics.published('letters', [('a', example('letter'))]),
                   lambda: metrics.is_judged('letters'),
                   lambda: metrics.sub_scores('a', example('letter'), 'letters')):
    with pytest.raises(ValueError, match="'letters' does not exist; did you mean 'letter'"):
      function()


def test_every_benchmark_is_a_metric():
  assert set(BENCHMARKS) <= set(metrics.METRICS)


@pytest.mark.parametrize('shape', [(1, 1), (3, 5), (40, 7), (300, 2)])
def test_masks_survive_their_encoding(shape):
  rng = np.random.default_rng(0)
  for share in (0, 0.1, 0.5, 1):
    mask = rng.random(shape) < share
    np.testing.assert_array_equal(decode_mask(encode_mask(mask)), mask)


def test_masks_have_the_encoding_of_coco():
  mask = np.zeros((4, 5), bool)
  mask[1:3, 1:4] = True
  assert encode_mask(mask) == {'size': [4, 5], 'counts': '5220003'}     # as pycocotools writes it
  np.testing.assert_array_equal(decode_mask({'size': [4, 5], 'counts': [5, 2, 2, 2, 2, 2, 5]}),
                                mask)
  np.testing.assert_array_equal(decode_mask({'size': [4, 5], 'counts': b'5220003'}), mask)


@pytest.mark.parametrize('rle, words', [
  ({'size': [4, 5], 'counts': [5, 2]}, 'must add up to 20, not 7'), ({'counts': '0'}, 'a mask is'),
  ({'size': [4, 5], 'counts': [30, -10]}, 'must add up'),
  ({'size': [1, 1], 'counts': 'é'}, 'no character of a mask'),
  ({'size': [1, 1], 'counts': 'o'}, 'ends in the middle'),
])
def test_a_broken_mask_is_an_error(rle, words):
  with pytest.raises(ValueError, match=words):
    decode_mask(rle)
