"""The metrics of published benchmarks by name, for one example at a time (docs/metrics.md lists
what each one needs).

A rule gives the sub-scores of one prediction; the first of them is the example's score, 0…1. What
an example must have besides is in `Benchmark`. Numbers over all examples: `published`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

from molmo_jax.metrics.android import android_step
from molmo_jax.metrics.choices import (
  LETTERS,
  parse_ego_schema,
  parse_letter,
  parse_next_qa,
  real_world_qa,
  select_option,
)
from molmo_jax.metrics.clock import (
  BENCHMARK,
  TRAINING,
  ClockVariant,
  clock_scores,
)
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
from molmo_jax.metrics.references import Reference, check_has, metadata_of
from molmo_jax.metrics.text_answers import (
  anls,
  clean_prediction,
  exact_answer,
  normalise_answer,
  starts_with_answer,
)
from molmo_jax.metrics.versions import MOLMO2
from molmo_jax.metrics.video_answers import (
  contains_answer,
  lv_bench,
  parse_long_video_bench,
  parse_perception_test,
  parse_video_mme,
  temp_compass_score,
  video_hallucer,
  vinoground,
)

Scores = Mapping[str, float]

# Question types of VSI-Bench that are answered by a letter; all others are answered by a number.
VSI_CHOICES = frozenset({'object_rel_direction_easy', 'object_rel_direction_medium',
                         'object_rel_direction_hard',
                         'object_rel_distance', 'route_planning', 'obj_appearance_order'})


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """A metric: its rule, and what an example must have for it."""
  rule: Callable[[str, Reference], Scores | float]
  answers: bool = True
  options: bool = False
  metadata: tuple[str, ...] = ()
  # the score is a language model's (`evaluation.judging`); until then 0
  judged: bool = False

  def scores(self, prediction: str, example: Reference, name: str) -> Scores:
    """Sub-scores by name, the example's score first. Raises ValueError if the example lacks
    something.
    """
    check_has(example, name, answers=self.answers, options=self.options, metadata=self.metadata)
    scores = self.rule(prediction, example)
    return scores if isinstance(scores, Mapping) else {'score': float(scores)}


def _version(example: Reference) -> str:
  return metadata_of(example).get('version', MOLMO2)


def _letter_choice(prediction: str, example: Reference) -> float:
  letters = LETTERS[:len(example.options)]
  return float(letters[select_option(clean_prediction(prediction), letters,
                                     version=_version(example))]
               == example.answers[0])


def _tomato(prediction: str, example: Reference) -> float:
  letters = LETTERS[:len(example.options)]
  return float(letters[select_option(prediction.strip(), letters)] == example.answers[0])


def _ai2d(prediction: str, example: Reference) -> float:
  names = ai2d_names(example)
  return float(names[select_option(clean_prediction(prediction), names, version=_version(example))]
               == example.answers[0])


def ai2d_names(example: Reference) -> tuple[str, ...]:
  """What an option of AI2D is called: its letter, or its text where the diagram has letters of its
  own.
  """
  return example.options if metadata_of(example)['unlabelled'] else tuple(
    LETTERS[:len(example.options)])


def _letter(prediction: str, example: Reference, guess: bool = True) -> float:
  parsed = parse_letter(clean_prediction(prediction), example.options, guess=guess,
                        version=_version(example))
  return float(parsed == example.answers[0])


def _mmmu(prediction: str, example: Reference) -> float:
  if metadata_of(example)['question_type'] == 'multiple-choice':
    return _letter(prediction, example)
  return float(mmmu_open_correct(example.answers, clean_prediction(prediction)))


def _mantis(prediction: str, example: Reference) -> float:
  if metadata_of(example)['question_type'] == 'multi-choice':
    return _letter(prediction, example)
  return float(normalise_answer(clean_prediction(prediction)) in {normalise_answer(a)
                                                                  for a in example.answers})


def _ego_schema(prediction: str, example: Reference) -> float:
  index = parse_ego_schema(clean_prediction(prediction), example.options)
  return float(index is not None and LETTERS[index] == example.answers[0])


def _perception_test(prediction: str, example: Reference) -> float:
  index = parse_perception_test(clean_prediction(prediction))
  return float(index >= 0 and LETTERS[index] == example.answers[0])


def _math_vista(prediction: str, example: Reference) -> float:
  data = metadata_of(example)
  return float(math_vista_correct(
      prediction, example.answers[0], question_type=data['question_type'],
      answer_type=data['answer_type'],
      choices=example.options, precision=data.get('precision'),
      fix_precision=bool(data.get('fix_precision'))))


def _temp_compass(prediction: str, example: Reference) -> float:
  data = metadata_of(example)
  return temp_compass_score(data['task'], example.answers[0], prediction.strip(),
                            data.get('question', ''),
                            use_caption_rule=bool(data.get('use_caption_rule')))


def _temporal_bench(prediction: str, example: Reference) -> float:
  if example.options:
    return _tomato(prediction, example)
  return float(prediction.strip().lower()[:1] == example.answers[0].strip().lower()[:1])


def _vsi(prediction: str, example: Reference) -> float:
  if metadata_of(example)['question_type'] in VSI_CHOICES:
    return _letter(prediction, example, guess=False)
  return mean_relative_accuracy(clean_prediction(prediction), example.answers[0])


def _ego3d(prediction: str, example: Reference) -> Scores:
  if metadata_of(example)['question_type'] != 'number':
    accuracy = _letter(prediction, example)
    return {'score': accuracy, 'accuracy': accuracy, 'squared_error': math.nan, 'missing': 0.0}
  text = clean_prediction(prediction)
  error = ego3d_squared_error(text, example.answers[0])
  missing = error == EGO3D_MISSING
  return {'score': mean_relative_accuracy(text, example.answers[0]), 'accuracy': math.nan,
          'squared_error': math.nan if missing else error, 'missing': float(missing)}


def _clock(prediction: str, example: Reference, variant: ClockVariant) -> Scores:
  data = metadata_of(example)
  scores = clock_scores(prediction, data['hour'], data['minute'], data['second'], variant)
  return {'overall_exact': scores['overall_exact']} | scores


def _point_count(prediction: str, example: Reference) -> Scores:
  return point_count(prediction, metadata_of(example)['count'], version=_version(example))._asdict()


def _video_point_count(prediction: str, example: Reference) -> Scores:
  return video_point_count(prediction, metadata_of(example)['count'])._asdict()


def _moments(prediction: str, example: Reference) -> Scores:
  scores = moment_scores(prediction, [tuple(window) for window in metadata_of(example)['windows']])
  return {'f1': scores.f1, 'precision': scores.precision, 'recall': scores.recall}


def _video_ocr(prediction: str, example: Reference) -> float:
  data = metadata_of(example)
  if data['eval_method'] == 'multiple_choice':
    return float(parse_video_mme(prediction.strip()) == example.answers[0])
  return contains_answer(example.answers[0],
                         prediction) if data['eval_method'] == 'containment_match' else 0.0


def _charts(prediction: str, example: Reference) -> Scores:
  text = clean_prediction(prediction)
  return {'relaxed_correctness': float(relaxed_correctness(example.answers, text)),
          'scientific_relaxed_correctness': float(
            scientific_relaxed_correctness(example.answers, text)),
          'exact': exact_answer(example.answers, text)}


def _documents(prediction: str, example: Reference) -> Scores:
  text = clean_prediction(prediction)
  return {'anls': anls(example.answers, text), 'exact': exact_answer(example.answers, text)}


BENCHMARKS: dict[str, Benchmark] = {
  'exact_answer': Benchmark(lambda p, e: exact_answer(e.answers, clean_prediction(p))),
  'starts_with_answer': Benchmark(lambda p, e: starts_with_answer(e.answers, clean_prediction(p))),
  'chart_qa': Benchmark(_charts),
  'doc_qa': Benchmark(_documents),
  'letter_choice': Benchmark(_letter_choice, options=True),
  'ai2d': Benchmark(_ai2d, options=True,
                    metadata=('unlabelled', 'abc_label', 'has_transparent_box')),
  'mmmu': Benchmark(_mmmu, metadata=('question_type',)),
  'letter': Benchmark(_letter, options=True),
  'mantis_eval': Benchmark(_mantis, metadata=('question_type',)),
  'real_world_qa': Benchmark(lambda p, e: real_world_qa(
      e.answers[0], clean_prediction(p), metadata_of(e)['question_type'], version=_version(e)),
      metadata=('question_type',)),
  'math_vista': Benchmark(_math_vista, metadata=('question_type', 'answer_type')),
  'vsi_bench': Benchmark(_vsi, metadata=('question_type',)),
  'ego3d': Benchmark(_ego3d, metadata=('question_type', 'category')),
  'clock': Benchmark(lambda p, e: _clock(p, e, BENCHMARK), answers=False,
                     metadata=('hour', 'minute', 'second')),
  'clock_training': Benchmark(lambda p, e: _clock(p, e, TRAINING), answers=False,
                              metadata=('hour', 'minute', 'second')),
  'android_control': Benchmark(lambda p, e: android_step(e.answers[0], p, metadata_of(e)['box']),
                               metadata=('box',)),
  'tomato': Benchmark(_tomato, options=True),
  'ego_schema': Benchmark(_ego_schema, options=True),
  'nextqa': Benchmark(lambda p, e: parse_next_qa(clean_prediction(p), e.options) == e.answers[0],
                      options=True),
  'perception_test': Benchmark(_perception_test, options=True),
  'video_mme': Benchmark(lambda p, e: parse_video_mme(p.strip()) == e.answers[0],
                         metadata=('duration', 'sub_category', 'task_type')),
  'long_video_bench': Benchmark(lambda p, e: parse_long_video_bench(p.strip()) == e.answers[0]),
  'lvbench': Benchmark(lambda p, e: lv_bench(e.answers[0], p)),
  'vinoground': Benchmark(lambda p, e: vinoground(e.answers[0], p),
                          metadata=('kind', 'pair', 'side')),
  'video_hallucer': Benchmark(lambda p, e: video_hallucer(e.answers[0], p),
                              metadata=('question_group', 'category')),
  'temp_compass': Benchmark(_temp_compass, metadata=('task',)),
  'temporal_bench': Benchmark(_temporal_bench, metadata=('kind', 'video')),
  'temporal_bench_published': Benchmark(lambda p, e: _tomato(p, e) if e.options else 1.0,
                                        metadata=('kind', 'video')),
  'qv_highlights': Benchmark(_moments, answers=False, metadata=('windows',)),
  'point_count': Benchmark(_point_count, answers=False, metadata=('count',)),
  'video_point_count': Benchmark(_video_point_count, answers=False, metadata=('count', 'subset')),
  **{name: Benchmark(rule, answers=False, metadata=metadata)
     for name, (rule, metadata) in LOCATED.items()},
  'mme_videoocr': Benchmark(_video_ocr, metadata=('eval_method',)),
  'predictions_only': Benchmark(lambda p, e: 0.0, answers=False),
  'judged_caption': Benchmark(lambda p, e: 0.0, answers=False, metadata=('statements', 'reference'),
                              judged=True),
  'judged_events': Benchmark(lambda p, e: 0.0, metadata=('events',), judged=True),
  'judged_mlvu': Benchmark(lambda p, e: 0.0, metadata=('task_type',), judged=True),
  'judged_open_qa': Benchmark(lambda p, e: 0.0, judged=True),
}
