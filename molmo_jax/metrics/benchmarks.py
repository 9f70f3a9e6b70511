"""The metrics of published benchmarks by name, for one example at a time (docs/metrics.md lists
what each one needs).

A rule gives the sub-scores of one prediction; the first of them is the example's score, 0…1. What
an example must have besides is in `Metric`. Numbers over all examples: `summaries`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from molmo_jax.metrics.android import android_step
from molmo_jax.metrics.choices import (
  LETTERS,
  parse_ego_schema,
  parse_letter,
  parse_next_qa,
  real_world_qa,
  select_option,
)
from molmo_jax.metrics.clock import clock_scores
from molmo_jax.metrics.counting import point_count, video_point_count
from molmo_jax.metrics.located import LOCATED
from molmo_jax.metrics.moments import moment_scores
from molmo_jax.metrics.numeric_answers import (
  EGO3D_MISSING,
  ego3d_squared_error,
  mean_relative_accuracy,
  relaxed_correctness,
  scientific_relaxed_correctness,
)
from molmo_jax.metrics.open_answers import math_vista_correct, mmmu_open_correct
from molmo_jax.metrics.references import (
  Metric,
  Reference,
  Scores,
  metadata_of,
  of_answers,
  of_metadata,
)
from molmo_jax.metrics.text_answers import (
  anls,
  exact_answer,
  normalise_answer,
  starts_with_answer,
)
from molmo_jax.metrics.versions import MOLMO2
from molmo_jax.metrics.video_answers import (
  contains_answer,
  lv_bench,
  mlvu_multiple_choice,
  parse_long_video_bench,
  parse_perception_test,
  parse_video_mme,
  temp_compass_score,
  video_hallucer,
  vinoground,
)

# Question types of VSI-Bench that are answered by a letter; all others are answered by a number.
VSI_CHOICES = frozenset({
  'object_rel_direction_easy', 'object_rel_direction_medium', 'object_rel_direction_hard',
  'object_rel_distance', 'route_planning', 'obj_appearance_order'})


def _version(data: Mapping[str, Any]) -> str:
  return data.get('version', MOLMO2)


def option_letters(example: Reference) -> tuple[str, ...]:
  """A, B, … for the options of the example."""
  return tuple(LETTERS[:len(example.options)])


def ai2d_names(example: Reference) -> tuple[str, ...]:
  """What an option of AI2D is called: its letter, or its text where the diagram has letters of its
  own.
  """
  unlabelled = metadata_of(example)['unlabelled']
  return tuple(example.options) if unlabelled else option_letters(example)


def _option_letter(text: str, example: Reference, data: Mapping[str, Any]) -> bool:
  return _selected(text, option_letters(example), example, data)


def _selected(text: str, names: Sequence[str], example: Reference, data: Mapping[str, Any]) -> bool:
  return names[select_option(text, names, version=_version(data))] == example.answers[0]


def _letter(text: str, example: Reference, data: Mapping[str, Any], guess: bool = True) -> bool:
  """MuirBench's rule, by which most benchmarks of several images are read."""
  options = [option.strip() for option in example.options]
  return parse_letter(text, options, guess=guess, version=_version(data)) == example.answers[0]


def _mmmu(text: str, example: Reference, data: Mapping[str, Any]) -> bool:
  if data['question_type'] != 'multiple-choice':
    return mmmu_open_correct(example.answers, text)
  return parse_letter(text, example.options, version=_version(data)) == example.answers[0]


def _mantis(text: str, example: Reference, data: Mapping[str, Any]) -> bool:
  if data['question_type'] == 'multi-choice':
    return _letter(text, example, data)
  return normalise_answer(text) in {normalise_answer(answer) for answer in example.answers}


def _math_vista(text: str, example: Reference, data: Mapping[str, Any]) -> bool:
  return math_vista_correct(
      text, example.answers[0], question_type=data['question_type'], choices=example.options,
      version=_version(data), answer_type=data['answer_type'], precision=data.get('precision'),
      fix_precision=bool(data.get('fix_precision')))


def _temp_compass(text: str, example: Reference, data: Mapping[str, Any]) -> float:
  return temp_compass_score(data['task'], example.answers[0], text.strip(),
                            data.get('question', ''),
                            use_caption_rule=bool(data.get('use_caption_rule')))


def _temporal_bench(text: str, example: Reference, data: Mapping[str, Any]) -> bool:
  if example.options:
    return _option_letter(text, example, data)
  return text.strip().lower()[:1] == example.answers[0].strip().lower()[:1]


def _vsi(text: str, example: Reference, data: Mapping[str, Any]) -> float:
  if data['question_type'] in VSI_CHOICES:
    return _letter(text, example, data, guess=False)
  return mean_relative_accuracy(text, example.answers[0])


def _ego3d(text: str, example: Reference, data: Mapping[str, Any]) -> Scores:
  if data['question_type'] != 'number':
    accuracy = float(_letter(text, example, data))
    return {'score': accuracy, 'accuracy': accuracy, 'squared_error': math.nan, 'missing': 0.0}
  error = ego3d_squared_error(text, example.answers[0])
  missing = error == EGO3D_MISSING
  return {'score': mean_relative_accuracy(text, example.answers[0]), 'accuracy': math.nan,
          'squared_error': math.nan if missing else error, 'missing': float(missing)}


def _clock(dial: bool) -> Metric:
  return of_metadata(lambda p, d: clock_scores(p, d['hour'], d['minute'], d['second'], dial=dial),
                     'hour', 'minute', 'second')


def _video_ocr(text: str, example: Reference, data: Mapping[str, Any]) -> float:
  if data['eval_method'] == 'multiple_choice':
    return parse_video_mme(text) == example.answers[0]
  contained = data['eval_method'] == 'containment_match'
  return contained and contains_answer(example.answers[0], text)


def _charts(text: str, example: Reference, data: Mapping[str, Any]) -> Scores:
  return {'relaxed_correctness': relaxed_correctness(example.answers, text),
          'scientific_relaxed_correctness': scientific_relaxed_correctness(example.answers, text),
          'exact': exact_answer(example.answers, text)}


_PERCEPTION = ('A', 'B', 'C', 'D', None)        # the last for the index −1: no letter
_VIDEO = ('kind', 'video')

BENCHMARKS: dict[str, Metric] = {
  'exact_answer': of_answers(exact_answer),
  'starts_with_answer': of_answers(starts_with_answer),
  'chart_qa': Metric(_charts),
  'doc_qa': Metric(lambda p, e, d: {'anls': anls(e.answers, p),
                                       'exact': exact_answer(e.answers, p)}),
  'letter_choice': Metric(_option_letter, options=True),
  'ai2d': Metric(lambda p, e, d: _selected(p, ai2d_names(e), e, d), options=True,
                    metadata=('unlabelled', 'abc_label', 'has_transparent_box')),
  'mmmu': Metric(_mmmu, metadata=('question_type',)),
  'letter': Metric(_letter, options=True),
  'mantis_eval': Metric(_mantis, metadata=('question_type',)),
  'real_world_qa': Metric(
      lambda p, e, d: real_world_qa(e.answers[0], p, d['question_type'], version=_version(d)),
      metadata=('question_type',)),
  'math_vista': Metric(_math_vista, cleaned=False, metadata=('question_type', 'answer_type')),
  'vsi_bench': Metric(_vsi, metadata=('question_type',)),
  'ego3d': Metric(_ego3d, metadata=('question_type', 'category')),
  'clock': _clock(dial=True),
  'clock_training': _clock(dial=False),
  'android_control': Metric(lambda p, e, d: android_step(e.answers[0], p, d['box']),
                               cleaned=False, metadata=('box',)),
  'tomato': Metric(_option_letter, options=True, cleaned=False),
  'ego_schema': Metric(
      lambda p, e, d: parse_ego_schema(p, e.options) == LETTERS.find(e.answers[0]), options=True),
  'nextqa': Metric(lambda p, e, d: parse_next_qa(p, e.options) == e.answers[0], options=True),
  'perception_test': Metric(
      lambda p, e, d: _PERCEPTION[parse_perception_test(p)] == e.answers[0], options=True),
  'video_mme': Metric(lambda p, e, d: parse_video_mme(p) == e.answers[0], cleaned=False,
                         metadata=('duration', 'sub_category', 'task_type')),
  'long_video_bench': Metric(lambda p, e, d: parse_long_video_bench(p) == e.answers[0],
                                cleaned=False),
  'mlvu_multiple_choice': Metric(lambda p, e, d: mlvu_multiple_choice(e.answers[0], p),
                                    cleaned=False),
  'lvbench': Metric(lambda p, e, d: lv_bench(e.answers[0], p), cleaned=False),
  'vinoground': Metric(lambda p, e, d: vinoground(e.answers[0], p), cleaned=False,
                          metadata=('kind', 'pair', 'side')),
  'video_hallucer': Metric(lambda p, e, d: video_hallucer(e.answers[0], p), cleaned=False,
                              metadata=('question_group', 'category')),
  'temp_compass': Metric(_temp_compass, cleaned=False, metadata=('task',)),
  'temporal_bench': Metric(_temporal_bench, cleaned=False, metadata=_VIDEO),
  'temporal_bench_published': Metric(
      lambda p, e, d: not e.options or _temporal_bench(p, e, d), cleaned=False, metadata=_VIDEO),
  'qv_highlights': of_metadata(lambda p, d: moment_scores(p, d['windows'])._asdict(), 'windows'),
  'point_count': of_metadata(lambda p, d: point_count(p, d['count'], version=_version(d)), 'count'),
  'video_point_count': of_metadata(lambda p, d: video_point_count(p, d['count']), 'count',
                                   'subset'),
  **LOCATED,
  'mme_videoocr': Metric(_video_ocr, cleaned=False, metadata=('eval_method',)),
  'predictions_only': Metric(lambda p, e, d: 0.0, answers=False),
  'judged_caption': Metric(lambda p, e, d: 0.0, answers=False,
                              metadata=('statements', 'reference'), judged=True),
  'judged_events': Metric(lambda p, e, d: 0.0, metadata=('events',), judged=True),
  'judged_mlvu': Metric(lambda p, e, d: 0.0, metadata=('task_type',), judged=True),
  'judged_open_qa': Metric(lambda p, e, d: 0.0, judged=True),
}
