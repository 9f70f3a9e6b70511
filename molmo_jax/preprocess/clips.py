"""The frames of a part of a video to decode, and their times (docs/model.md §7.2). numpy only.

This is how the released models were fed: times count from the start of the clip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from molmo_jax.preprocess.frame_sampling import sample_frames, sample_times

Clip = tuple[float, float]


def select_clip_by_time(shown: np.ndarray, max_frames: int, mode: str = 'uniform_last_frame',
                        max_fps: float | Sequence[float] | None = 2.0, clip: Clip | None = None,
                        ) -> tuple[np.ndarray, np.ndarray]:
  """Samples a video, or a clip of it, by time.

  The frame of a moment is the first that is shown longer than that, or the last one. A clip's
  moments are times of the file, while those of a whole video count from its first frame; a clip
  ends at the latest with the video's duration.

  Args:
    shown: float32 [N,2], when each frame's showing starts and ends, seconds, ascending.
    max_frames, mode, max_fps: as in `frame_sampling.sample_times`.
    clip: start and end, seconds; None: the whole video.

  Returns:
    int64 [F] indices of frames; float64 [F] their times, seconds from the start of the clip.
  """
  shown = np.asarray(shown, np.float32)
  duration = shown[-1, 1] - shown[0, 0]
  start, end = (0.0, duration) if clip is None else (clip[0], min(clip[1], duration))
  # A duration in float32 makes moments in float32: with it they fall on the ends of frames.
  times = sample_times(end - start, max_frames, mode, max_fps)
  moments = times + (float(shown[0, 0]) if clip is None else start)
  return np.minimum(np.searchsorted(shown[:, 1], moments, side='right'), len(shown) - 1), times


def select_clip_by_index(total_frames: int, fps: float, max_frames: int,
                         mode: str = 'uniform_last_frame',
                         max_fps: float | Sequence[float] | None = None, clip: Clip | None = None,
                         ) -> tuple[np.ndarray, np.ndarray]:
  """Samples a video, or a clip of it, by the indices of its frames.

  Args:
    total_frames: frames of the video.
    fps: its frames per second.
    max_frames, mode, max_fps: as in `frame_sampling.sample_frames`.
    clip: start and end, seconds; None: the whole video. It begins with the frame that is shown at
      its start and ends before the first frame that starts at its end.

  Returns:
    int64 [F] indices of frames; float64 [F] their times, seconds from the start of the clip.
  """
  first, stop = 0, total_frames
  if clip is not None:
    first, stop = math.floor(clip[0] * fps), min(math.ceil(clip[1] * fps), total_frames)
  indices = sample_frames(stop - first, fps, max_frames, mode, max_fps)
  return indices + first, indices / fps
