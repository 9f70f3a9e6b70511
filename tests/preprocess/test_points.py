"""Points as text and back (docs/training.md §4.4)."""

from __future__ import annotations

import numpy as np
import pytest

from molmo_jax.preprocess.points import (
  NO_POINTS,
  format_points,
  format_points_v1,
  is_v1_points,
  parse_frame_points,
  parse_multi_image_points,
  parse_points,
  parse_points_v1,
)


def fractions(points, width, height):
  return [(x / width, y / height) for x, y in points]


@pytest.mark.parametrize('points, coords', [
  ([(0.99, 0.8), (0.1, 0.5)], '1 1 100 500 2 990 800'),
  ([(0.0005, 0.0015), (0.0025, 0.0035)], '1 1 000 002 2 002 004'),
  ([(1.0, 0.9995)], '1 1 1000 1000'),
  ([(0.5, 0.9), (0.5, 0.2)], '1 1 500 200 2 500 900'),
])
def test_points_of_an_image_are_rounded_half_to_even_sorted_and_numbered(points, coords):
  assert format_points({1: points}, 'cat') == f'<points coords="{coords}">cat</points>'


def test_numbering_goes_on_across_images_and_an_empty_image_is_written():
  points = {1: fractions([(100, 200), (50, 20)], 200, 400), 2: [],
            3: fractions([(10, 10)], 100, 100)}
  assert format_points(points, 'cat', mode='point_count') == (
    'Counting the <points coords="1 1 250 050 2 500 500;2 ;3 3 100 100">cat</points> shows a total '
    'of 3.')


def test_frames_of_a_video_have_seconds_with_one_decimal():
  text = format_points({0.25: [(0.1, 0.2)], 2.0: [(0.5, 0.5)], np.float32(3.14159): [(0.5, 0.5)]},
                       'cat')
  assert text == '<points coords="0.2 1 100 200;2.0 2 500 500;3.1 3 500 500">cat</points>'


def test_a_numpy_image_number_is_an_image_number():
  assert format_points({np.int64(2): [(0.5, 0.5)]},
                       'cat') == '<points coords="2 1 500 500">cat</points>'


@pytest.mark.parametrize('mode, text', [
  ('point', '<points coords="1 1 500 500">cat</points>'),
  ('point_count', 'Counting the <points coords="1 1 500 500">cat</points> shows a total of 1.'),
  ('count_then_point', 'There are 1 <points coords="1 1 500 500">cat</points>.'),
  ('count', '1'),
])
def test_modes(mode, text):
  assert format_points({1: [(0.5, 0.5)]}, 'cat', mode=mode) == text
  assert format_points({1: []}, 'cat', mode=mode) == NO_POINTS == 'There are none.'


def test_html_v1_separates_frames_by_a_tab_and_alt_is_an_attribute():
  text = format_points({1: [(0.5, 0.5)], 2: [(0.1, 0.1)]}, 'cat', version='html-v1', alt='a cat')
  assert text == '<points alt="a cat" coords="1 1 500 500\t2 2 100 100">cat</points>'


def test_x_outside_the_frame_is_limited_only_where_y_is_inside():
  assert 'coords="1 1 000 500 2 1000 500"' in format_points({1: [(-0.5, 0.5), (1.5, 0.5)]}, 'cat')
  assert 'coords="1 1 1500 1200"' in format_points({1: [(1.5, 1.2)]}, 'cat')


def test_unknown_modes_and_versions_are_errors_that_list_the_choices():
  with pytest.raises(ValueError, match='point_count'):
    format_points({1: []}, 'cat', mode='dance')
  with pytest.raises(ValueError, match='html-v2'):
    format_points({1: []}, 'cat', version='html-v3')


@pytest.mark.parametrize('text, points', [
  ('<points coords="1 1 990 800 2 100 500">c</points>', [(633.6, 384), (64, 240)]),
  ('<points coords="1 1 1000 1000">c</points>', [(640, 480)]),
  ('<points coords="1 1 1001 500 2 500 500">c</points>', [(320, 240)]),
  ('<points coords="1 1 50 500">c</points>', []),
  ('<points coords="1 1 -100 200">c</points>', []),
  ('<points coords="1 1 100 200 2 300">x</points>', [(64, 96)]),
  ('<points coords="1 1 100 500">unclosed', [(64, 240)]),
  ('<points alt="t" coords="0.5 1 500 500\t2.0 2 100 500">a</points> and <tracks coords="1.0 1 100 '
    '500">b</tracks>',
    [(320, 240), (64, 240), (64, 240)]),
  ('<points coords="abc">c</points>', []),
  ('There are none.', []),
  ('', []),
])
def test_parsing_gives_pixels_and_leaves_out_what_is_unreadable_or_outside(text, points):
  np.testing.assert_allclose(np.reshape(parse_points(text, 640, 480), (-1, 2)),
                             np.reshape(points, (-1, 2)))


@pytest.mark.parametrize('text, points', [
  ('<point x="63.5" y="44.5" alt="cat">cat</point>', [(406.4, 213.6)]),
  ('<points x1="101.0" y1="3.0" x2="50.0" y2="50.0" alt="c">c</points>', [(320, 240)]),
  ('Click(12.5, 50.0) then (1.0, 2.0)', [(80, 240)]),
  ('(12.5, 50.0)', [(80, 240)]),
  ('p=125, 500', [(80, 240)]),
  ('1 125 500 2 1001 500', [(80, 240)]),
  ('1 12.5 50.0', [(80, 240)]),
  ('Click(12, 45)', []),
])
def test_older_forms_are_read_only_where_no_coords_tag_is(text, points):
  np.testing.assert_allclose(np.reshape(parse_points(text, 640, 480), (-1, 2)),
                             np.reshape(points, (-1, 2)))
  assert parse_points(text, 640, 480, old_forms=False) == []
  tag = '<points coords="1 1 500 500">c</points>'
  assert parse_points(text + tag, 640, 480) == [(320, 240)]


def test_frames_and_indices_are_kept_for_videos_and_tracks():
  found = parse_frame_points('<tracks coords="0.0 1 100 900 2 500 100;10.5 2 510 100;x 1 100 '
    '100">dogs</tracks>')
  assert found == []                          # a letter in coords: not a coords attribute at all
  found = parse_frame_points(
    '<tracks coords="0.0 1 100 900 2 500 100;10.5 2 510 100">dogs</tracks>')
  assert [(p.frame, p.index, p.x, p.y) for p in found] == [
    ('0.0', '1', 0.1, 0.9), ('0.0', '2', 0.5, 0.1), ('10.5', '2', 0.51, 0.1)]


def test_what_is_formatted_is_parsed_back():
  points = [(0.123, 0.5), (0.124, 0.25), (1.0, 0.0)]
  for version in ('html-v1', 'html-v2'):
    text = format_points({1: points[:2], 2: points[2:]}, 'cat', version=version)
    np.testing.assert_allclose(parse_points(text, 1, 1), points)


@pytest.mark.parametrize('points, scale, text', [
  ([(0.635, 0.446)], 1, '<point x="63.5" y="44.6" alt="red cat">red cat</point>'),
  ([(406.4, 214.08), (64, 480)], (640, 480),
   '<points x1="10.0" y1="100.0" x2="63.5" y2="44.6" alt="red cat">red cat</points>'),
  ([(12.65, 83.55)], 100, '<point x="12.6" y="83.6" alt="red cat">red cat</point>'),
])
def test_points_as_molmo_v1_writes_them(points, scale, text):
  assert format_points_v1(points, 'Red Cat', scale=scale) == text
  assert format_points_v1(points, 'Red Cat', scale=scale, mode='point_count') == (
      f'Counting the {text} shows a total of {len(points)}.')
  assert is_v1_points(text)
  assert format_points_v1([], 'cat') == NO_POINTS
  with pytest.raises(ValueError, match='point_count'):
    format_points_v1(points, 'cat', mode='count')


def test_the_parser_of_v1_finds_a_click_twice_unless_told_otherwise():
  text = 'Click(12.5, 50.0) then (1.0, 2.0)'
  np.testing.assert_allclose(parse_points_v1(text, 200, 100), [(25, 50), (25, 50), (2, 2)])
  np.testing.assert_allclose(parse_points_v1(text, 200, 100, repeats=False), [(25, 50)])
  assert parse_points_v1('<points coords="1 1 500 500">c</points>', 200, 100) == []


@pytest.mark.parametrize('text, valid', [
  ('<point x="63.5" y="44.6" alt="a">a</point>', True),
  ('<point p=123, 456 alt="a">a</point>', True),
  ('(18.5, 38.2)', True),
  ('Click(18.5, 38.2)', False),
  ('Counting the <point x="63.5" y="44.6" alt="a">a</point> shows a total of 1.', False),
  ('<points coords="1 1 100 200">a</points>', False),
  ('There are none.', False),
])
def test_a_text_is_valid_for_v1_if_it_is_one_tag_and_nothing_else(text, valid):
  assert is_v1_points(text) == valid


def test_points_of_several_images_are_in_pixels_of_their_image():
  sizes = [(640, 480), (100, 50)]
  assert parse_multi_image_points('<points coords="1 1 500 500;2 2 100 200">c</points>', sizes) == [
    (1, 320, 240), (2, 10, 10)]
  outside = '<points coords="3 1 500 500;0.5 2 500 500">c</points>'
  assert parse_multi_image_points(outside, sizes) == []
  zero = '<points coords="0 1 500 500">c</points>'
  assert parse_multi_image_points(zero, sizes) == [(0, 50, 25)]
  assert parse_multi_image_points(zero, sizes, wrap_zero=False) == []
