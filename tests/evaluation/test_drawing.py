from __future__ import annotations

import numpy as np
import pytest

from molmo_jax.evaluation import drawing
from molmo_jax.preprocess.points import (
  format_points,
  parse_frame_points,
  parse_multi_image_points,
  parse_points,
)
from molmo_jax.preprocess.tracks import parse_tracks

GREY = np.full((100, 200, 3), 90, np.uint8)
TRACKS = '<tracks coords="0.0 1 100 500 2 900 200;1.0 1 500 500;5.0 1 100 100">x</tracks>'


def is_drawn(picture, x, y):
  return (picture[y, x] != GREY[y, x]).any()


def test_points_of_an_answer_are_where_it_says_and_the_image_is_left_alone():
  points = parse_points('<points coords="1 1 250 500 2 750 250">x</points>', 200, 100)
  picture = drawing.draw_points(GREY, points)
  assert picture.shape == GREY.shape and picture.dtype == np.uint8
  assert tuple(picture[50, 50]) == tuple(picture[25, 150]) == drawing.COLOURS[0]
  assert not is_drawn(picture, 100, 50)
  assert (GREY == 90).all()


def test_numbers_are_drawn_to_the_right_of_their_points():
  plain, numbered = drawing.draw_points(GREY, [(100, 50)]), drawing.draw_numbered_points(
    GREY, [(100, 50)])
  changed = np.nonzero((plain != numbered).any(axis=-1))
  assert len(changed[0]) and changed[1].min() > 100


def test_points_outside_and_no_points_change_nothing():
  assert (drawing.draw_points(GREY, [(-50, 500)]) == GREY).all()
  assert (drawing.draw_points(GREY, []) == GREY).all()


def test_points_of_several_images_are_on_their_own_image():
  text = format_points({1: [(0.5, 0.5)], 2: [(0.25, 0.5)]}, 'x')
  first, second = drawing.draw_image_points([GREY, GREY],
                                            parse_multi_image_points(text, [(200, 100)] * 2))
  assert is_drawn(first, 100, 50) and not is_drawn(first, 50, 50)
  assert is_drawn(second, 50, 50) and not is_drawn(second, 100, 50)


def test_points_of_a_video_are_on_the_nearest_frame():
  points = parse_frame_points('<points coords="0.9 1 500 500;7.0 2 250 500">x</points>')
  pictures = drawing.draw_video_points([GREY] * 3, [0.0, 1.0, 2.0], points)
  assert [is_drawn(p, 100, 50) for p in pictures] == [False, True, False]
  assert not any(is_drawn(p, 50, 50) for p in pictures)


def test_objects_keep_their_colour_and_leave_a_trail():
  pictures = drawing.draw_tracks([GREY] * 2, [0.0, 1.0], parse_tracks(TRACKS, 200, 100, 1.0))
  assert tuple(pictures[0][50, 20]) == tuple(pictures[1][50, 100]) == drawing.COLOURS[0]
  assert tuple(pictures[0][20, 180]) == drawing.COLOURS[1] and not is_drawn(pictures[1], 180, 20)
  assert tuple(pictures[1][50, 60]) == drawing.COLOURS[0]
  bare = drawing.draw_tracks([GREY] * 2, [0.0, 1.0], parse_tracks(TRACKS, 200, 100, 1.0),
                             trail=False)
  assert not is_drawn(bare[1], 60, 50)


def test_an_array_that_is_no_image_is_an_error():
  with pytest.raises(ValueError, match=r'uint8 \[h,w,3\], not float64 \[2, 2\]'):
    drawing.draw_points(np.zeros((2, 2)), [])
