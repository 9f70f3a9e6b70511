from __future__ import annotations

import numpy as np

from molmo_jax.preprocess.clips import select_clip_by_index, select_clip_by_time


def shown(count, fps, start=0.0):
  edges = start + np.arange(count + 1) / fps
  return np.stack([edges[:-1], edges[1:]], axis=-1)


def test_a_video_is_sampled_from_its_first_frame_to_its_end():
  indices, times = select_clip_by_time(shown(20, 10, start=0.5), 128)
  assert indices.tolist() == [0, 5, 10, 15, 19]
  np.testing.assert_allclose(times, [0, .5, 1, 1.5, 2], atol=1e-6)


def test_times_of_a_clip_are_those_of_the_file_and_are_reported_from_its_start():
  indices, times = select_clip_by_time(shown(50, 10), 128, clip=(1.05, 2.25))
  assert indices.tolist() == [10, 15, 20, 22]
  np.testing.assert_allclose(times, [0, .5, 1, 1.2], atol=1e-6)


def test_a_clip_ends_with_the_video():
  indices, times = select_clip_by_time(shown(20, 10), 4, clip=(1.0, 100.0), max_fps=None)
  assert indices[-1] == 19
  np.testing.assert_allclose(times[-1], 1.0, atol=1e-6)


def test_frames_of_a_clip_include_its_last():
  indices, times = select_clip_by_index(162, 25.0, 8, clip=(0.66, 6.41))
  assert indices.tolist() == [16, 36, 57, 77, 98, 118, 139, 160]
  np.testing.assert_allclose(times, (indices - 16) / 25)
  assert select_clip_by_index(2, 25.0, 8, clip=(0.03, 0.12))[0].tolist() == [0, 1]
