"""Which moments or frames of a video are looked at (docs/model.md §7.1). numpy only.

Source of the rules: arXiv 2601.10611; allenai/molmo2 f3cb108 olmo/data/video_loader.py:65-220.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

# Frames per second that the modes 'fps…' choose from.
CANDIDATE_FPS = (0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 16.0)

_NAMED_RATES = re.compile(r'uniform_last_frame_(max_fps_set|min)_(\d[\d.]*(?:-\d[\d.]*)*)(?:fps)?')


def sample_times(duration: float, max_frames: int, mode: str = 'uniform_last_frame',
                 max_fps: float | Sequence[float] | None = 2.0,
                 rng: np.random.Generator | None = None,
                 candidate_fps: Sequence[float] = CANDIDATE_FPS) -> np.ndarray:
  """Chooses the moments of a video, by time (docs/model.md §7.1).

  Modes:
    * `uniform_last_frame`: every 1/max_fps seconds and the end, or `max_frames` moments from start
      to end, both included, where that would be too many or max_fps is None. A sequence of rates
      means its first; with `rng`, one of them. `uniform_last_frame_sample_fps`: with `rng`, in one
      of ten draws the smallest of them, else a rate up to the largest.
      `uniform_last_frame_max_fps_set_A-B` and `uniform_last_frame_min_A-B` (or `min_Afps`) say the
      rates in their name: one of these, and one of A, A + 2, … B.
    * `uniform`: `max_frames` moments without the end; `uniform_randomized`: with `rng`, one
      anywhere in each interval.
    * `fps`: k/rate at the largest candidate rate whose `max_frames` moments span the video (or the
      lowest rate); `fps_uniform`: `uniform` where no rate does.

  Args:
    duration: seconds.
    max_frames: largest number of moments.
    mode: one of the above.
    max_fps: largest rate, frames per second, or several.
    rng: source of randomness in training; None: evaluation.
    candidate_fps: rates of the modes `fps…`.

  Returns:
    float64 [F], ascending, F ≤ max_frames.
  """
  _check_sampling(duration > 0, f'a duration of {duration} s', max_frames)
  if mode in ('fps', 'fps_uniform'):
    fitting = [rate for rate in candidate_fps if max_frames / rate >= duration]
    if fitting or mode == 'fps':
      times = np.arange(max_frames) / max(fitting, default=candidate_fps[0])
      return times[times < duration]
  if mode in ('uniform', 'uniform_randomized', 'fps_uniform'):
    times = np.linspace(0, duration, max_frames, endpoint=False, dtype=np.float64)
    jitter = rng.random(max_frames) if rng is not None and mode == 'uniform_randomized' else 0.0
    return times + jitter * (duration / max_frames)
  rate = _last_frame_rate(mode, max_fps, rng)
  if rate is None or (max_frames - 1) / rate < duration:
    return np.linspace(0, duration, max_frames, dtype=np.float64)
  times = np.arange(0.0, duration, 1 / rate)[:max_frames - 1]
  return np.append(times, duration)


def sample_frames(total_frames: int, fps: float, max_frames: int, mode: str = 'uniform_last_frame',
                  max_fps: float | Sequence[float] | None = 2.0,
                  rng: np.random.Generator | None = None) -> np.ndarray:
  """Chooses the frames of a video, by index (docs/model.md §7.1).

  Modes and `rng` as in `sample_times`, but: `fps` steps by a whole number of frames, at the rate
  that gives the most frames; the modes with rates in their name spread `max_frames` frames evenly
  from a duration of `max_frames`/rate − 1 on; `uniform_randomized` shifts all frames but the first
  by the same amount.

  Args:
    total_frames: frames of the video.
    fps: frames per second of the video.
    max_frames: largest number of chosen frames.
    mode: as in `sample_times`.
    max_fps: as in `sample_times`.
    rng: as in `sample_times`.

  Returns:
    int64 [F], ascending, F ≤ max_frames. A frame may occur twice where the video is slower than the
    wanted rate.
  """
  _check_sampling(total_frames > 0 and fps > 0, f'{total_frames} frames at {fps} frames/s',
                  max_frames)
  count, last = min(max_frames, total_frames), total_frames - 1
  if mode in ('fps', 'fps_uniform'):
    step = _step_of_rate(total_frames, fps, max_frames, mode)
    if step is None:
      return np.linspace(0, total_frames, max_frames, endpoint=False).astype(np.int64)
    return np.arange(0, total_frames, step)[:max_frames]
  if mode == 'uniform':
    return np.linspace(0, total_frames, count, endpoint=False).astype(np.int64)
  if mode == 'uniform_randomized':
    step = total_frames // count
    indices = np.arange(count) * step
    if rng is not None and total_frames > max_frames and rng.random() > 0.3:
      indices[1:] += rng.integers(
          -(step // 2), max((total_frames - step * (count - 1)) // 2, 1 - step // 2))
    return indices
  rate = _last_frame_rate(mode, max_fps, rng)
  if rate is not None and total_frames <= 2:
    return np.arange(total_frames)
  longest = None if rate is None else (
      max_frames / rate - 1 if _NAMED_RATES.fullmatch(mode) else (max_frames - 1) / rate)
  if longest is None or total_frames / fps > longest:
    return np.linspace(0, last, count).astype(np.int64)
  indices = np.rint(np.arange(0, last, fps / rate)).astype(np.int64)
  return indices if indices[-1] == last else np.append(indices, last)


def _step_of_rate(total_frames: int, fps: float, max_frames: int, mode: str) -> int | None:
  """Frames between two chosen ones; None: even the lowest rate gives too many.

  Of the rates with at most `max_frames` steps the one with the most counts, and in any case the
  first with a step.
  """
  chosen, steps = None, 0
  for rate in CANDIDATE_FPS:
    step = max(int(fps / rate), 1)
    if not steps:
      if mode == 'fps_uniform' and total_frames // step > max_frames:
        break
      chosen, steps = step, total_frames // step
    elif steps < total_frames // step <= max_frames:
      chosen, steps = step, total_frames // step
  return chosen


def _check_sampling(usable: bool, what: str, max_frames: int) -> None:
  if not usable:
    raise ValueError(f'a video of {what} has nothing to sample')
  if max_frames < 1:
    raise ValueError(f'max_frames is {max_frames}; it must be at least 1')


def _last_frame_rate(mode: str, max_fps: float | Sequence[float] | None,
                     rng: np.random.Generator | None) -> float | None:
  """The rate of a mode `uniform_last_frame…`, frames per second; None: no limit but max_frames."""
  named = _NAMED_RATES.fullmatch(mode)
  if named:
    rates = [float(rate) for rate in named[2].split('-')]
    if named[1] == 'min' and len(rates) > 1:
      rates = np.arange(rates[0], rates[-1] + 1, 2.0).tolist()
  elif mode in ('uniform_last_frame', 'uniform_last_frame_sample_fps'):
    rates = [] if max_fps is None else [max_fps] if np.isscalar(max_fps) else list(max_fps)
  else:
    raise ValueError(f"unknown video.frame_sample_mode {mode!r}; known: 'uniform_last_frame', "
      "'uniform_last_frame_sample_fps', 'uniform_last_frame_max_fps_set_A-B', "
      "'uniform_last_frame_min_A-B', 'uniform', 'uniform_randomized', 'fps', 'fps_uniform'")
  if rng is None or len(rates) < 2:
    return rates[0] if rates else None
  if mode == 'uniform_last_frame_sample_fps':
    return float(rates[0] if rng.random() < 0.1 else rng.uniform(min(rates), max(rates)))
  return rng.choice(rates)
