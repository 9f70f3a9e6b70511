"""Generated text may be anything: every scorer and parser must end soon, and with a plain result.
"""

from __future__ import annotations

import functools
import time

import numpy as np
import pytest

from molmo_jax.metrics import (
  METRICS,
  android,
  choices,
  clock,
  counting,
  moments,
  numeric_answers,
  open_answers,
  point_scores,
  score,
  text_answers,
  track_scores,
  video_answers,
)
from molmo_jax.metrics.masks import encode_mask
from molmo_jax.preprocess import points, tracks
from molmo_jax.preprocess.types import Example

SIZE = 100_000
# generous: the slowest takes a tenth on an idle machine
SECONDS = 3.0

TEXTS = {
  'one letter': 'a' * SIZE,
  'spaces': ' ' * SIZE + 'x',
  'a digit and spaces': '1' + ' ' * SIZE + 'x',
  'lines': '\n' * SIZE + 'x',
  'digits': '1' * SIZE,
  'digits and a letter': '1' * SIZE + 'x',
  'digits with points': '1.' * (SIZE // 2) + 'x',
  'digits with commas': '1,' * (SIZE // 2) + 'x',
  'groups of digits': '111,' * (SIZE // 4) + 'x',
  'digits with minus': '1-' * (SIZE // 2),
  'digits with colons': '1:' * (SIZE // 2),
  'digits with spaces': '1 ' * (SIZE // 2),
  'digits with equals': '1=' * (SIZE // 2),
  'minus': '-' * SIZE,
  'huge exponent': '1e999999999',
  'huge negative exponent': 'answer: 1e-999999999',
  'huge percent': '9' * 5000 + '%',
  'not a number': 'nan',
  'infinite': '-inf',
  'open brackets': '(' * SIZE,
  'square brackets': '[' * SIZE + ']' * SIZE,
  'options in brackets': '(A)' * (SIZE // 3),
  'quotes': '"' * SIZE,
  'answers': 'Answer:' * (SIZE // 7),
  'keys': 'so is ' * (SIZE // 6),
  'equals': '= ' * (SIZE // 2),
  'tags': '<points ' * (SIZE // 8),
  'unclosed coords': '<points coords="' + '1 ' * (SIZE // 2),
  'coords in a tag': '<points' + ' coords="1' * (SIZE // 10),
  'old attributes': '<points' + ' x1="1.0" y1="2.0"' * (SIZE // 18),
  'attributes without an end': 'x="' + ' ' * SIZE,
  'long time': f'<tracks coords="{"9" * 400} 1 100 100;{"9" * 5000}.5 1 100 100">x</tracks>',
  'long image number': f'<points coords="{"9" * 5000} 1 100 100">x</points>',
  'long id': f'<points coords="1 {"9" * 5000} 100 100">x</points>',
  'many points': '<points coords="1' + ' 1 500 500' * 2000 + '">x</points>',
  'clicks': 'Click(' * (SIZE // 6),
  'null': '\0' * SIZE,
  'half a character': '\ud800' * 1000,
  'other digits': '٣' * SIZE,
  'superscript digits': '²' * SIZE,
  'code': '__import__("os").system("exit 1")',
}

OPTIONS = ['cat', 'dog', 'house mouse']
MASK = np.ones((10, 10), bool)
METADATA = dict(
  question_type='x', answer_type='float', precision=2, abc_label=False, has_transparent_box=False,
  unlabelled=False,
  category='x', hour=3, minute=15, second=2, box=(0, 0, 5, 5), duration=5.0, sub_category='x',
  task_type='summary',
  kind='textscore', pair='0', side='pos', question_group='0', task='multi-choice', video='a',
  windows=[[0, 10]],
  count=3, subset='object', width=10, height=10, fps=30.0, query_frame=0, track=[[1, 1]] * 3,
  occluded=[False] * 3,
  eval_method='containment_match', statements=[], reference='', events=[], references=[[5, 5]],
  masks=[encode_mask(MASK)], mask=encode_mask(MASK), tracks={'0': {'a': [5, 5]}})
OTHER_METADATA = {
  'video_pointing': {'references': [[1.0, 5, 5]], 'masks': [[[1.0, encode_mask(MASK)]]]},
  'tracking': {'masks': {'a': {'0': encode_mask(MASK)}}},
}
# more than one rule of these metrics, by the type of the question
TYPES = {'mmmu': 'multiple-choice', 'mantis_eval': 'multi-choice',
         'real_world_qa': 'multiple_choice',
         'math_vista': 'multi_choice', 'vsi_bench': 'route_planning', 'ego3d': 'number'}


def example_of(metric, question_type='x'):
  metadata = METADATA | OTHER_METADATA.get(metric, {}) | {'question_type': question_type}
  answers = ('10', 'red') if metric == 'ego3d' else ('1,000', 'red')
  return Example(answers=answers, options=('red', '1,000'), points=((0.5, 0.5),), metadata=metadata)


FIELDS = {'choices': None, 'precision': 2, 'fix_precision': True}

FUNCTIONS = {
  'normalise_answer': text_answers.normalise_answer,
  'clean_prediction': text_answers.clean_prediction,
  'anls': lambda t: text_answers.anls(['a' * 2000, '12'], t),
  'starts_with_answer': lambda t: text_answers.starts_with_answer(['A'], t),
  'relaxed_correctness': lambda t: numeric_answers.relaxed_correctness(['1000', '10%'], t),
  'scientific': lambda t: numeric_answers.scientific_relaxed_correctness(['1000', '[a, b]', 'x'],
                                                                         t),
  'scientific, whole words': lambda t: numeric_answers.scientific_relaxed_correctness(['1000'], t,
                                                                             whole_words=True),
  'select_option': lambda t: choices.select_option(t, OPTIONS[1:], read_sentences=True),
  'parse_letter': lambda t: choices.parse_letter(t, OPTIONS),
  'parse_ego_schema': lambda t: choices.parse_ego_schema(t, OPTIONS),
  'parse_next_qa': lambda t: choices.parse_next_qa(t, OPTIONS),
  'mmmu_open': lambda t: open_answers.mmmu_open_correct(['12', 'x'], t),
  'math_vista integer': lambda t: open_answers.normalise_extraction(
      t, question_type='free_form', answer_type='integer', **FIELDS),
  'math_vista float': lambda t: open_answers.normalise_extraction(
      t, question_type='free_form', answer_type='float', **FIELDS),
  'math_vista choice': lambda t: open_answers.normalise_extraction(
      t, question_type='multi_choice', answer_type='text', choices=OPTIONS[:1]),
  'perception_test': video_answers.parse_perception_test,
  'video_mme': video_answers.parse_video_mme,
  'long_video_bench': video_answers.parse_long_video_bench,
  'lv_bench': lambda t: video_answers.lv_bench('A', t),
  'vinoground': lambda t: video_answers.vinoground('A', t),
  'mlvu': lambda t: video_answers.mlvu_multiple_choice('A', t),
  'video_hallucer': lambda t: video_answers.video_hallucer('yes', t),
  'temp_compass': lambda t: video_answers.temp_compass_score('multi-choice', 'A. x', t),
  'temp_compass caption': lambda t: video_answers.temp_compass_caption(t, 'A: x', t),
  'moments': lambda t: moments.moment_scores(t, [(0, 10)]),
  'mean_relative_accuracy': lambda t: numeric_answers.mean_relative_accuracy(t, '10'),
  'ego3d': lambda t: numeric_answers.ego3d_squared_error(t, '10'),
  'clock': lambda t: clock.clock_scores(t, 3, 15, -1),
  'clock, training': lambda t: clock.clock_scores(t, 3, 15, 2, dial=False),
  'android': lambda t: android.android_step('click 1 1', f'click {t}', (0, 0, 10, 10)),
  'counting question': counting.is_counting_question,
  'point_count': lambda t: counting.point_count(t, 3, read_text=True),
  'point_count v1': lambda t: counting.point_count(t, 3, version='v1', read_none=True),
  'video_point_count': lambda t: counting.video_point_count(t, 3, read_none=True),
  'pointing': lambda t: point_scores.pointing_scores(t, 10, 10, [(5, 5)], [MASK]),
  'pointing v1': lambda t: point_scores.pointing_scores(t, 10, 10, [(5, 5)], [MASK], version='v1'),
  'point_bench': lambda t: point_scores.point_bench(t, MASK),
  'point_in_box': lambda t: point_scores.point_in_box(t, 10, 10, (0, 0, 5, 5)),
  'video_points': lambda t: point_scores.video_point_scores(t, 10, 10, 5.0, [(1.0, 5, 5)],
                                                        [{1.0: MASK}]),
  'tracking': lambda t: track_scores.tracking_scores(t, 10, 10, 30.0, {0: {'a': (5, 5)}},
                                                 {'a': {0: MASK}}),
  'multi image': lambda t: points.parse_multi_image_points(t, [(10, 10)]),
  'is_v1_points': points.is_v1_points,
  'tracks': lambda t: tracks.parse_tracks(t, 10, 10, 30.0),
} | {f'metric {name}': functools.partial(score, example=example_of(name), metric=name)
     for name in METRICS} | {
       f'metric {name}, {kind}': functools.partial(score, example=example_of(name, kind),
                                                   metric=name)
       for name, kind in TYPES.items()}


@pytest.mark.parametrize('function', FUNCTIONS)
def test_hostile_texts_are_read_fast_and_without_an_error(function):
  slow = {}
  for name, text in TEXTS.items():
    start = time.process_time()
    FUNCTIONS[function](text)
    seconds = time.process_time() - start
    if seconds > SECONDS:
      slow[name] = f'{seconds:.1f} s'
  assert not slow
