"""Points of videos, tracks and times as text and back (docs/training.md §4.4)."""

from __future__ import annotations

import pytest

from molmo_jax.preprocess.tracks import (
  NO_TRACKS,
  ObjectPoint,
  format_timestamp,
  format_tracks,
  parse_timestamp,
  parse_tracks,
  parse_video_points,
  parse_video_points_with_ids,
)


def at(x, y, occluded=False):
  return ObjectPoint(x / 1000, y / 1000, occluded)


MOMENTS = [
  (0.0, {3: at(500, 100), 7: at(100, 900)}),
  (1.0, {3: at(510, 100, occluded=True), 7: at(510, 100)}),
  (2.0, {3: at(140, 900), 9: at(5, 5)}),
]


def test_ids_count_in_the_order_of_appearance_and_what_is_hidden_is_not_written():
  assert format_tracks(MOMENTS, 'dogs') == (
      '<tracks coords="0.0 1 100 900 2 500 100;1.0 1 510 100;2.0 2 140 900 3 005 005">'
      'dogs</tracks>')
  assert format_tracks(MOMENTS[:1], 'dogs', version='html-v1', alt='a') == (
      '<tracks alt="a" coords="0.0 1 100 900 2 500 100">dogs</tracks>')
  assert '\t' in format_tracks(MOMENTS, 'dogs', version='html-v1')


def test_ground_keeps_the_first_and_the_last_annotated_frame_of_every_object():
  assert format_tracks(MOMENTS, 'dogs', mode='ground') == (
      '<tracks coords="0.0 1 100 900 2 500 100;1.0 1 510 100;2.0 2 140 900 3 005 005">'
      'dogs</tracks>')
  assert format_tracks([*MOMENTS, (3.0, {3: at(0, 0, occluded=True)})], 'dogs', mode='ground') == (
      '<tracks coords="0.0 1 100 900 2 500 100;1.0 1 510 100;2.0 3 005 005">dogs</tracks>')


def test_initial_keeps_the_frames_after_the_query_and_other_objects_leak_unless_told_otherwise():
  queries = [(3, 0.0)]
  assert format_tracks(MOMENTS, 'dogs', mode='initial', queries=queries) == (
      '<tracks coords="1.0 1 510 100;2.0 2 005 005 3 140 900">dogs</tracks>')
  assert format_tracks(MOMENTS, 'dogs', mode='initial', queries=queries, only_queried=True) == (
      '<tracks coords="2.0 1 140 900">dogs</tracks>')


def test_nothing_to_write():
  assert format_tracks([], 'dogs') == NO_TRACKS
  assert format_tracks([(0.0, {}), (1.0, {3: at(1, 1, occluded=True)})], 'dogs') == ''
  assert format_tracks(MOMENTS, 'dogs', mode='initial', queries=[]) == ''


def test_unknown_modes_and_missing_queries_are_errors_that_say_what_is_right():
  with pytest.raises(ValueError, match='track, ground, initial'):
    format_tracks(MOMENTS, 'dogs', mode='dance')
  with pytest.raises(ValueError, match='needs queries'):
    format_tracks(MOMENTS, 'dogs', mode='initial')
  with pytest.raises(ValueError, match='html-v2'):
    format_tracks(MOMENTS, 'dogs', version='html-v3')


def test_tracks_are_read_back_in_the_order_of_time_and_repeated_ids_are_ignored():
  text = '<tracks coords="1.0 2 510 100 2 600 100;0.0 1 100 900 2 500 100">dogs</tracks>'
  assert [(t.time, t.frame, t.points) for t in parse_tracks(text, 1000, 1000, 6)] == [
    (0.0, 0, {'1': (100, 900), '2': (500, 100)}), (1.0, 6, {'2': (510, 100)})]
  assert parse_tracks('There are none.', 10, 10, 6) == []


def test_points_of_a_video_have_their_time_and_number():
  text = '<points coords="0.5 1 500 250;2.0 2 100 1000">cat</points>'
  assert parse_video_points(text, 200, 100) == [(0.5, 100, 25), (2.0, 20, 100)]
  assert parse_video_points_with_ids(text, 200, 100) == [(0.5, '1', 100, 25), (2.0, '2', 20, 100)]


def test_times_as_text_and_back():
  assert format_timestamp(4262.283) == '01:11:02.28'
  assert format_timestamp(59.96, decimals=1) == '00:00:60.0'
  assert format_timestamp(61, decimals=0) == '00:01:01'
  assert [parse_timestamp(t)
          for t in ('01:11:02.28', '11:02.5', '7')] == pytest.approx([4262.28, 662.5, 7])
  for wrong in ('', 'a:b', '1:2:3:4', 'nan', '-1:00'):
    with pytest.raises(ValueError, match='HH:MM:SS'):
      parse_timestamp(wrong)
