"""How each golden function is called: the name of its file → the call of the project's function
with a case's input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from molmo_jax.metrics import (
  android,
  choices,
  clock,
  counting,
  means,
  moments,
  numeric_answers,
  open_answers,
  point_scores,
  text_answers,
  track_scores,
  video_answers,
)
from molmo_jax.preprocess import clips, points, tracks

Run = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class Call:
  """One golden function."""
  molmo2: Run                                 # input → result in the form of the expectation
  keys: frozenset[str] = frozenset()          # of the input; empty: the input is a text or a number
  v1: Run | None = None                       # the same for Molmo v1; None: there is no difference
  float32: bool = False                       # expected floats went through float32


def _call(run: Run, keys: str = '', **fields: Any) -> Call:
  return Call(run, frozenset(keys.split()), **fields)


def _text(rule: Callable[[Any, str], Any], as_list: bool = True) -> Run:
  return lambda i: rule([i['target']] if as_list and isinstance(i['target'], str) else i['target'],
                        i['prediction'])


def rectangle_mask(width: int, height: int, rectangles: Sequence[Sequence[int]]) -> np.ndarray:
  """bool [h,w] that is true inside of rectangles x0, y0, x1, y1 (x0 ≤ x < x1, y0 ≤ y < y1)."""
  mask = np.zeros((height, width), bool)
  for x0, y0, x1, y1 in rectangles:
    mask[max(y0, 0):max(y1, 0), max(x0, 0):max(x1, 0)] = True
  return mask


def _masks(i: dict[str, Any]) -> list[np.ndarray]:
  return [rectangle_mask(*i['image_size'], [r]) for r in i['mask_rects_xyxy']]


def _pointing(i: dict[str, Any], prediction: str, version: str) -> dict[str, float]:
  return point_scores.pointing_scores(i[prediction], *i['image_size'], i['gt_points'], _masks(i),
                                  version=version)._asdict()


def _screen(i: dict[str, Any]) -> dict[str, float]:
  x, y, w, h = i['bbox_xywh']
  score = point_scores.point_in_box(i['prediction'], *i['image_size'], (x, y, x + w, y + h))
  return dict.fromkeys(('screen_spot_v2_xywh', 'screen_spot_pro_xyxy', 'os_world_g_xywh'), score)


def _video_points(i: dict[str, Any]) -> dict[str, float]:
  masks = [{m['time']: rectangle_mask(i['width'], i['height'], [m['rect_xyxy']])
            for m in of_object}
           for of_object in i['gt_masks']]
  return point_scores.video_point_scores(i['prediction'], i['width'], i['height'],
                                         i['video_duration'],
                                         i['gt_triplets_t_x_y'], masks)


def _tracking(i: dict[str, Any]) -> dict[str, float]:
  masks = {name: {m['frame']: rectangle_mask(i['width'], i['height'], [m['rect_xyxy']])
                  for m in of_object}
           for name, of_object in i['gt_masks'].items()}
  references = {frame['frame']: frame['points'] for frame in i['gt_tracks']}
  scores = track_scores.tracking_scores(i['prediction'], i['width'], i['height'], i['video_fps'],
                                        references, masks)
  return scores | {'num_frames': scores['frames']}


def _tap_vid(i: dict[str, Any]) -> dict[str, float]:
  return track_scores.tap_vid_scores(np.asarray(i['query_points_t_y_x'])[:, 0],
                                np.asarray(i['gt_occluded']),
                                np.asarray(i['gt_tracks_xy']), np.asarray(i['pred_occluded']),
                                np.asarray(i['pred_tracks_xy']), query_mode=i['query_mode'])


def _clock(i: dict[str, Any]) -> dict[str, dict[str, float]]:
  return {name: clock.clock_scores(i['prediction'], i['hour'], i['minute'], i['second'], dial=dial)
          for name, dial in (('train', False), ('test', True))}


def _moments(i: dict[str, Any]) -> dict[str, Any]:
  return {**moments.moment_scores(i['prediction'], i['relevant_windows'])._asdict(),
          'segments': moments.parse_segments(i['prediction'])}


def _mmmu_open(i: dict[str, Any]) -> list[Any]:
  return [open_answers.parse_open_answer(i['response']),
          open_answers.mmmu_open_correct(i['target'], i['response'])]


def _android(i: dict[str, Any]) -> float:
  return android.android_step(i['target'], i['prediction'],
                              i['box'] and android.parse_box(i['box']))


def _size(i: dict[str, Any]) -> tuple[float, float]:
  return i['image_w'], i['image_h']


def _tracks(i: dict[str, Any]) -> list[dict[str, Any]]:
  return [{'time': t.time, 'frame': t.frame, 'points': t.points}
          for t in tracks.parse_tracks(i['text'], *_size(i), i['video_fps'])]


def _decoded(i: dict[str, Any]) -> dict[str, list[float]]:
  sampler, rows = i['sampler'], np.asarray(i['frame_start_end_times'])
  how = (sampler['max_frames'], sampler['frame_sample_mode'], sampler['max_fps'], i['clip'])
  if sampler['kind'] == 'frame':
    indices, times = clips.select_clip_by_index(len(rows), i['video_fps'], *how)
  else:
    # The table was written with six decimals: the moments between two frames need the decoder's own
    # floats.
    regular = np.rint(rows * i['video_fps']) / i['video_fps']
    shown = np.where(np.abs(regular - rows) < 1e-6, regular, rows)
    indices, times = clips.select_clip_by_time(shown, *how)
  return {'frame_indices': indices.tolist(), 'timestamps': times.tolist()}


_MODES = {None: 'point', 'point': 'point', 'pointing': 'point', 'point_count': 'point_count',
          'point_then_count': 'point_count', 'count_point': 'count_then_point',
          'count_then_point': 'count_then_point', 'count': 'count'}


def _fractions(positions: list[list[float]],
               scale: float | list[float]) -> list[tuple[float, float]]:
  width, height = scale if isinstance(scale, list) else (scale, scale)
  return [(x / width, y / height) for x, y in positions]


def _format(i: dict[str, Any], by_frame: dict[int | float, list[tuple[float, float]]]) -> str:
  return points.format_points(by_frame, i['label'], mode=_MODES[i['mode']], version=i['format'],
                              alt=i['alt_text'])


def _format_images(i: dict[str, Any]) -> str:
  of_images = zip(i['image_indices'], i['points'], i['scales'], strict=True)
  return _format(i, {number: _fractions(positions, scale)
                     for number, positions, scale in of_images})


def _format_video(i: dict[str, Any]) -> str:
  return _format(i, {float(t): _fractions(p, i['scale'])
                     for t, p in zip(i['timestamps'], i['points'], strict=True)})


def _format_v1(i: dict[str, Any]) -> str:
  scale = i['point_scale'] or (i['width'], i['height'])
  return points.format_points_v1(i['points'], i['label'], scale=scale, mode=_MODES[i['style']])


def _format_tracks(i: dict[str, Any]) -> str:
  def seconds(time: float | str) -> float:
    return tracks.parse_timestamp(time) if isinstance(time, str) else time
  width, height = i['scale']
  frames = [(seconds(f['time']),
             {int(name): tracks.ObjectPoint(p['point'][0] / width, p['point'][1] / height,
                                            p['occluded']) for name, p in f['points'].items()})
            for f in i['tracks']]
  starts, mode = i['initial_points'], i['mode']
  queries = None if starts is None else [(start['id'], seconds(start['time'])) for start in starts]
  return tracks.format_tracks(frames, i['label'], mode=mode if queries is None else 'initial',
                              queries=queries,
                              version=i['format'], alt=i['alt_text'])


def _math_vista(i: dict[str, Any], rule: Callable[..., Any], *names: str, **version: str) -> Any:
  fields = {field: i[field] for field in ('question_type', 'answer_type', 'choices', 'precision')}
  return rule(*(i[name] for name in names), **fields, **version)


_ANSWER, _PARSED, _PIXELS = 'target prediction', 'response options', 'text image_w image_h'

CALLS: dict[str, Call] = {
  # short answers and charts
  'preprocess_answer': _call(text_answers.normalise_answer),
  'vqa_score': _call(_text(text_answers.vqa_score, as_list=False), _ANSWER),
  'a_okvqa_score': _call(_text(text_answers.a_okvqa_score), _ANSWER),
  'anls': _call(_text(text_answers.anls), _ANSWER),
  'relaxed_correctness': _call(_text(numeric_answers.relaxed_correctness), _ANSWER),
  'scifi_relaxed_correctness': _call(_text(numeric_answers.scientific_relaxed_correctness),
                                     _ANSWER),
  'vqa_eval_prediction_preprocessing': _call(text_answers.clean_prediction),
  'vqa_eval_aggregated': _call(lambda rows: means.text_metric_means(rows, list(means.TEXT_METRICS)),
                               'answers prediction', float32=True),
  'chart_qa_human_aug_split': _call(
    lambda rows: means.text_metric_means(rows, ('relaxed_correctness', 'em')),
    'answers prediction is_human', float32=True),
  # multiple choice
  'select_mc_option': _call(lambda i: choices.select_option(i['prediction'], i['options']),
                            'prediction options',
                            v1=lambda i: choices.select_option(i['prediction'], i['options'],
                                                               version='v1')),
  'real_world_qa': _call(lambda i: choices.real_world_qa(**i), 'target prediction question_type',
                         v1=lambda i: choices.real_world_qa(**i, version='v1')),
  'ai2d_opaque_transparent': _call(means.ai2d_means, 'option_names abc_label has_transparent_box',
                                   float32=True,
                                   v1=lambda rows: means.ai2d_means(rows, version='v1')),
  'mmmu_parse_multi_choice': _call(lambda i: choices.parse_letter(**i), _PARSED,
                                   v1=lambda i: choices.parse_letter(**i, version='v1')),
  'mmmu_open': _call(_mmmu_open, 'target response'),
  'muir_parse': _call(
      lambda i: choices.parse_letter(i['response'], [option.strip() for option in i['options']],
                                     guess=i['fallback_to_random']) or 'N/A',
      _PARSED + ' fallback_to_random'),
  'ego_schema': _call(lambda i: choices.parse_ego_schema(**i), _PARSED),
  'nextqa_parse': _call(lambda i: choices.parse_next_qa(**i), _PARSED),
  'math_vista_no_api': _call(
      lambda i: _math_vista(i, open_answers.math_vista_correct, 'response', 'answer'),
      'response answer question_type', v1=lambda i: _math_vista(
          i, open_answers.math_vista_correct, 'response', 'answer', version='v1')),
  'math_vista_normalize_extracted': _call(
    lambda i: _math_vista(i, open_answers.normalise_extraction, 'extraction'),
    'extraction question_type'),
  # video questions
  'perception_test': _call(video_answers.parse_perception_test),
  'video_mme_extract': _call(video_answers.parse_video_mme),
  'video_mme_aggregated': _call(video_answers.video_mme_means, 'prediction answer duration',
                                float32=True),
  'long_video_bench_parse': _call(video_answers.parse_long_video_bench),
  'vinoground': _call(lambda i: video_answers.vinoground(**i), 'gold prediction'),
  'mlvu_mc': _call(lambda i: video_answers.mlvu_multiple_choice(**i), _ANSWER),
  'lvbench': _call(lambda i: video_answers.lv_bench(**i), 'answer prediction'),
  'temp_compass_score_no_api': _call(lambda i: video_answers.temp_compass_score(**i),
                                     'task answer prediction question'),
  'temp_compass_eval_caption_matching_helper': _call(
      lambda i: video_answers.temp_compass_caption(i['question'], i['answer'], i['prediction']),
      'answer question'),
  'qv_highlights': _call(_moments, 'prediction relevant_windows'),
  # numbers, clocks, phones
  'vsi_numeric_mra': _call(lambda i: numeric_answers.mean_relative_accuracy(**i), _ANSWER),
  'ego3d_number': _call(lambda i: numeric_answers.ego3d_squared_error(**i), _ANSWER),
  'clock': _call(_clock, 'hour minute second prediction', float32=True),
  'android_control_step': _call(_android, 'target prediction box'),
  # counting, pointing, tracking
  'detect_counting_question': _call(counting.is_counting_question),
  'point_count': _call(lambda i: counting.point_count(**i), 'prediction count', float32=True,
                       v1=lambda i: counting.point_count(**i, version='v1')),
  'point_count_aggregated': _call(counting.point_count_means, 'prediction count', float32=True,
                                  v1=lambda rows: counting.point_count_means(rows, version='v1')),
  'video_point_count': _call(lambda i: counting.video_point_count(i['prediction'], i['count']),
                             'prediction count subset', float32=True),
  'video_point_count_aggregated': _call(counting.video_point_count_means, 'prediction count subset',
                                        float32=True),
  'pointing_eval': _call(lambda i: _pointing(i, 'prediction_m2', 'molmo2'),
                         'prediction_m2 gt_points', float32=True,
                         v1=lambda i: _pointing(i, 'prediction_v1', 'v1')),
  'point_bench': _call(lambda i: point_scores.point_bench(i['prediction'], rectangle_mask(
      *i['image_size'], i['mask_rects_xyxy'])), 'prediction mask_rects_xyxy', float32=True),
  'screen_point_in_box': _call(_screen, 'prediction bbox_xywh', float32=True),
  'video_point_eval': _call(_video_points, 'prediction gt_triplets_t_x_y gt_masks', float32=True),
  'object_tracking': _call(_tracking, 'prediction gt_tracks gt_masks', float32=True),
  'tap_vid': _call(_tap_vid, 'query_points_t_y_x gt_occluded', float32=True),
  'decord_frame_selection': _call(_decoded, 'sampler frame_start_end_times clip', float32=True),
  # points and tracks as text
  'extract_points_universal': _call(lambda i: points.parse_points(i['text'], *_size(i)), _PIXELS),
  'extract_points_html': _call(lambda i: points.parse_points(i['text'], *_size(i), old_forms=False),
                               _PIXELS),
  'extract_points_v1': _call(lambda i: points.parse_points_v1(i['text'], *_size(i)), _PIXELS),
  'is_valid_point_format_v1': _call(points.is_v1_points),
  'extract_multi_image_points_html': _call(lambda i: points.parse_multi_image_points(
      i['text'], list(zip(i['widths'], i['heights'], strict=True))), 'text widths heights'),
  'extract_video_points_html': _call(
      lambda i: tracks.parse_video_points(i['text'], *_size(i), old_forms=False), _PIXELS),
  'extract_video_points_universal': _call(lambda i: tracks.parse_video_points(i['text'], *_size(i)),
                                          _PIXELS),
  'extract_video_points_with_ids_html': _call(
      lambda i: tracks.parse_video_points_with_ids(i['text'], *_size(i)), _PIXELS),
  'extract_tracks_universal': _call(_tracks, _PIXELS + ' video_fps'),
  'format_points_v1': _call(_format_v1, 'points point_scale style'),
  'format_image_points': _call(lambda i: _format(i, {1: _fractions(i['points'], i['scale'])}),
                               'points scale mode'),
  'format_multi_image_points': _call(_format_images, 'image_indices points scales'),
  'format_video_points': _call(_format_video, 'timestamps points scale'),
  'format_video_tracks': _call(_format_tracks, 'tracks initial_points mode'),
  'seconds_to_timestamp': _call(lambda i: tracks.format_timestamp(**i), 'seconds decimals'),
  'parse_timestamp': _call(tracks.parse_timestamp),
  'format_timestamp_one_decimal': _call(lambda seconds: points.frame_id(float(seconds))),
}
