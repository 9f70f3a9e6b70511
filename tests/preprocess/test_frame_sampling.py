"""Moments and frames of a video: the worked table, the rules of every mode, randomness only where
it is asked for.
"""

from __future__ import annotations

import numpy as np
import pytest

from molmo_jax.preprocess.frame_sampling import sample_frames, sample_times


def labels(times) -> list[str]:
  return [f'{time:.1f}' for time in times]


@pytest.mark.parametrize('duration, limit, count, first, last', [   # docs/model.md §7.1
    (3.2, 128, 8, '0.0 0.5 1.0 1.5 2.0 2.5 3.0 3.2', '3.2'),
    (3.2, 384, 8, '0.0 0.5 1.0 1.5 2.0 2.5 3.0 3.2', '3.2'),
    (64, 128, 128, '0.0 0.5 1.0 1.5 2.0 2.5', '62.5 63.0 63.5 64.0'),
    (64, 384, 129, '0.0 0.5', '63.5 64.0'),
    (600, 128, 128, '0.0 4.7 9.4 14.2 18.9 23.6', '590.6 595.3 600.0'),
    (600, 384, 384, '0.0 1.6 3.1 4.7 6.3 7.8', '598.4 600.0')])
def test_times_of_the_worked_table(duration, limit, count, first, last):
  times = sample_times(duration, limit)
  assert len(times) == count and times.dtype == np.float64
  assert ' '.join(labels(times)).startswith(first) and ' '.join(labels(times)).endswith(last)


@pytest.mark.parametrize('total, limit, count, first, last', [
    (96, 128, 8, [0, 15, 30, 45, 60, 75, 90, 95], [95]),
    (1920, 128, 128, [0, 15, 30], [1888, 1903, 1919]),
    (1920, 384, 129, [0, 15, 30], [1905, 1919]),
    (18000, 128, 128, [0, 141, 283, 425], [17857, 17999]),
    (18000, 384, 384, [0, 46, 93, 140], [17999])])
def test_frames_of_the_worked_table(total, limit, count, first, last):
  frames = sample_frames(total, 30.0, limit).tolist()
  assert len(frames) == count and frames[:len(first)] == first and frames[-len(last):] == last


def test_frame_indices_round_halves_to_even():
  assert sample_frames(48, 25.0, 16).tolist() == [0, 12, 25, 38, 47]   # 12.5 and 37.5


def test_half_seconds_up_to_the_longest_video_that_is_not_thinned():
  np.testing.assert_array_equal(sample_times(63.5, 128), np.arange(128) / 2)
  assert sample_times(63.51, 128)[1] > 0.5


@pytest.mark.parametrize(
  'mode', ['uniform_last_frame', 'uniform', 'fps', 'fps_uniform', 'uniform_randomized',
           'uniform_last_frame_min_1.5fps', 'uniform_last_frame_max_fps_set_2-4'])
def test_any_video_gives_ascending_samples_within_its_bounds(mode):
  rng = np.random.default_rng(0)
  for _ in range(100):
    duration, limit = float(rng.uniform(0.01, 400)), int(rng.integers(1, 130))
    for source in (None, rng):
      times = sample_times(duration, limit, mode, 2.0, source)
      assert 1 <= len(times) <= limit and (np.diff(times) > 0).all()
      assert times[0] >= 0 and times[-1] <= duration
      total = int(rng.integers(1, 2000))
      frames = sample_frames(total, float(rng.choice([6, 24, 29.97, 60])), limit, mode, 2.0, source)
      assert 1 <= len(frames) <= limit and (np.diff(frames)
                                            >= 0).all() and frames[0] >= 0 and frames[-1] < total


def test_a_set_of_rates_is_drawn_from_in_training_and_its_first_counts_in_evaluation():
  mode = 'uniform_last_frame_max_fps_set_2-4'
  assert len(sample_times(10, 128, mode)) == 21
  drawn = {len(sample_times(10, 128, mode, rng=np.random.default_rng(seed))) for seed in range(20)}
  assert drawn == {21, 41}
  listed = {len(sample_times(10, 128, max_fps=(1.0, 4.0), rng=np.random.default_rng(seed)))
            for seed in range(20)}
  assert listed == {11, 41}


def test_a_range_of_rates_is_drawn_from_in_training():
  drawn = [len(sample_times(100, 900, 'uniform_last_frame_min_2-6',
                            rng=np.random.default_rng(seed)))
           for seed in range(20)]
  assert set(drawn) == {201, 401, 601}


def test_the_same_generator_gives_the_same_samples():
  first, second = (sample_times(9, 8, 'uniform_randomized', rng=np.random.default_rng(3))
                   for _ in range(2))
  np.testing.assert_array_equal(first, second)
  assert (first != sample_times(9, 8, 'uniform_randomized')).any()


@pytest.mark.parametrize('call', [
    lambda: sample_times(1, 8, 'uniform_last'), lambda: sample_frames(9, 1, 8, 'every'),
    lambda: sample_times(0, 8),
    lambda: sample_frames(0, 1, 8), lambda: sample_times(1, 0)])
def test_what_cannot_be_sampled_is_an_error(call):
  with pytest.raises(ValueError, match='frame_sample_mode|nothing to sample|max_frames'):
    call()
