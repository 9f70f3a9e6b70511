"""Pointing and tracking: the worked numbers of docs/training.md §5.3, and the departures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from molmo_jax.metrics import point_scores, track_scores
from molmo_jax.preprocess.tracks import ObjectPoint, format_tracks
from tests.golden.runners.metric_calls import rectangle_mask

WIDTH, HEIGHT = 200, 100


def around(x, y, half=4):
  return rectangle_mask(WIDTH, HEIGHT, [(x - half, y - half, x + half + 1, y + half + 1)])


def tag(*points):
  coords = ' '.join(f'{n} {1000 * x // WIDTH:03d} {1000 * y // HEIGHT:03d}'
                    for n, (x, y) in enumerate(points, start=1))
  return f'<points coords="1 {coords}">x</points>'


REFERENCES = [(100, 50), (20, 10)]
MASKS = [around(*p) for p in REFERENCES]


@pytest.mark.parametrize('predicted, scores', [
  ([(20, 10), (100, 50)], (1, 1, 1)),
  ([(20, 10), (150, 50)], (.5, .5, .5)),
  ([(100, 50)], (2 / 3, 1, .5)),
  ([(100, 50), (20, 10), (180, 90)], (.8, 2 / 3, 1)),
  ([], (0, 0, 0)),
])
def test_pointing(predicted, scores):
  assert point_scores.pointing_scores(tag(*predicted), WIDTH, HEIGHT, REFERENCES,
                                  MASKS) == pytest.approx(scores)


def test_without_references_the_right_answer_has_no_points():
  assert point_scores.pointing_scores('none', WIDTH, HEIGHT, [], []) == (1, 1, 1)
  assert point_scores.pointing_scores(tag((20, 10)), WIDTH, HEIGHT, [], []) == (0, 0, 0)


def test_v1_reads_nothing_but_a_whole_tag():
  text = '<point x="50.0" y="50.0" alt="a">a</point>'
  def scores(prediction, **options):
    return point_scores.pointing_scores(prediction, WIDTH, HEIGHT, REFERENCES[:1], MASKS[:1],
                                        **options)
  assert scores(text, version='v1') == pytest.approx((1, 1, 1))
  assert scores('Here: ' + text, version='v1') == (0, 0, 0)
  assert scores('Here: ' + text) == pytest.approx((1, 1, 1))


def test_pixels_are_rounded_half_to_even_and_outside_is_outside():
  mask = np.zeros((1, 21), bool)
  mask[0, [10, 20]] = True
  assert [point_scores.is_inside((x, 0), mask) for x in (9.5, 20.5, 9.4, 21, -1)] == [True, True,
                                                                                      False,
                                                                                  False, False]
  assert not point_scores.is_inside((0, 0), None)


def test_point_bench_needs_all_points_inside_after_cutting():
  mask = around(100, 50, half=10)
  texts = ['<points coords="1 1 549 599">x</points>', '<points coords="1 1 555 500">x</points>',
           tag((100, 50), (20, 10)), 'none']
  assert [point_scores.point_bench(t, mask) for t in texts] == [1, 0, 0, 0]


def test_points_of_a_video_count_at_exactly_their_time():
  references = [(1.0, 100, 50), (2.0, 20, 10)]
  masks = [{1.0: MASKS[0]}, {2.0: MASKS[1]}]
  def scores(coords):
    return tuple(point_scores.video_point_scores(
      f'<points coords="{coords}">x</points>', WIDTH, HEIGHT, 10, references, masks).values())
  assert scores('1.0 1 500 500;2.0 2 100 100') == pytest.approx((1, 1, 1, 1))
  assert scores('1.0 1 500 500') == pytest.approx((2 / 3, 1, .5, 1))
  assert scores('1.5 1 500 500;2.0 2 100 100') == pytest.approx((.5, .5, .5, 1))
  assert scores('1.0 1 500 500 2 500 500 3 500 500') == pytest.approx((.4, 1 / 3, .5, 1))
  assert scores('') == (0, 0, 0, 0)


A, B = (40, 20), (160, 80)


def track(*frames):
  moments = [(float(t), {n: ObjectPoint(x / WIDTH, y / HEIGHT) for n, (x, y) in objects.items()})
             for t, objects in enumerate(frames)]
  return format_tracks(moments, 'x')


def score(text, frames, **options):
  references = {number: objects for number, objects in enumerate(frames) if objects}
  masks = {name: {number: around(*objects[name]) for number, objects in enumerate(frames)
                  if name in objects}
           for name in 'ab'}
  result = track_scores.tracking_scores(text, WIDTH, HEIGHT, 1.0, references, masks, **options)
  return tuple(result[name] for name in ('precision', 'recall', 'f1', 'HOTA', 'DetA', 'AssA'))


BOTH = [{'a': A, 'b': B}] * 4


@pytest.mark.parametrize('text, expected', [
  (track(*BOTH), (1, 1, 1, 1, 1, 1)),
  ('<tracks coords="0.0 1 200 200 2 800 800;1.0 1 200 200 2 800 800;2.0 2 200 200 1 800 800;3.0 2 '
    '200 200 1 800 800">',
    (1, 1, 1, 3 ** -.5, 1, 1 / 3)),
  (track(*[{'a': A}] * 4), (1, .5, 2 / 3, .5 ** .5, .5, 1)),
  (track(*BOTH[:2]), (.5, .5, .5, .5, .5, .5)),
  (track(*[{'a': A, 'b': B, 'c': (100, 50)}] * 4), (2 / 3, 1, .8, (2 / 3) ** .5, 2 / 3, 1)),
  (track(*BOTH, BOTH[0]), (.8, .8, .8, .8, .8, .8)),
  ('', (0, 0, 0, 0, 0, 0)),
])
def test_tracking(text, expected):
  assert score(text, BOTH) == pytest.approx(expected)


def test_tracking_of_nothing():
  assert score('', [{}]) == (1, 1, 1, 1, 1, 1)
  assert score(track(*BOTH), [{}]) == (0, 0, 0, 0, 0, 0)


def test_masks_are_misaligned_where_an_object_is_absent_unless_told_otherwise():
  frames = [{'a': A, 'b': B}] * 2 + [{'b': B}] * 2
  assert score(track(*frames), frames) == pytest.approx((.5, .5, .5, 3 ** -.5, .5, 2 / 3))
  assert score(track(*frames), frames, align_masks=True) == pytest.approx((1, .75, 5 / 6, 1, 1, 1))
  assert score(track(*frames), frames, align_masks=True,
               count_present=True) == pytest.approx((1,) * 6)


def test_recall_divides_by_all_objects_unless_told_otherwise():
  frames = [{'a': A, 'b': B}] * 2 + [{'a': A}] * 2
  assert score(track(*frames), frames) == pytest.approx((1, .75, 5 / 6, 1, 1, 1))
  assert score(track(*frames), frames, count_present=True) == pytest.approx((1,) * 6)


def test_hota_prefers_the_pairs_of_the_whole_video():
  # Track t could be object a or b in the first frame, and is a afterwards: there it must be a as
  # well.
  first = track_scores.FrameSimilarity(['b', 'a'], ['t'], np.ones((2, 1)))
  later = track_scores.FrameSimilarity(['a'], ['t'], np.ones((1, 1)))
  scores = track_scores.hota([first, later, later])
  assert (scores['DetA'], scores['AssA']) == pytest.approx((3 / 4, 1))


def test_tap_vid():
  scores = track_scores.tap_vid_scores(
      np.array([0]), np.array([[False, False, False, True]]),
      np.array([[[0, 0], [2, 0], [3, 0], [4, 0]]], float)[:, :],
      np.array([[False, False, True, False]]), np.array([[[0, 0], [2, 0], [4, 0], [5, 0]]], float))
  assert scores['occlusion_accuracy'] == pytest.approx(1 / 3)
  assert [scores[f'pts_within_{k}'] for k in track_scores.TAP_VID_THRESHOLDS] == [.5, 1, 1, 1, 1]
  assert [scores[f'jaccard_{k}']
          for k in track_scores.TAP_VID_THRESHOLDS] == pytest.approx([1 / 3] * 5)
  with pytest.raises(ValueError, match="'first' and 'strided'"):
    track_scores.tap_vid_scores(np.array([0]), np.zeros((1, 2), bool), np.zeros((1, 2, 2)),
                           np.zeros((1, 2), bool),
                           np.zeros((1, 2, 2)), query_mode='last')


def test_tap_vid_of_nothing_is_no_number():
  nothing = np.zeros((1, 1), bool)
  assert math.isnan(track_scores.tap_vid_scores(np.array([0]), nothing, np.zeros((1, 1, 2)),
                                                nothing,
                                           np.zeros((1, 1, 2)))['occlusion_accuracy'])
