"""Reads the frames of a video at the sampled moments (docs/model.md §7.2). numpy and PyAV only.

Times are seconds since the first frame of the video, whatever the clock of its file says. A frame
is shown from its own presentation time to the next frame's; the last one to the end of the video.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from molmo_jax.preprocess.clips import Clip, select_clip_by_index
from molmo_jax.preprocess.frame_sampling import sample_frames, sample_times
from molmo_jax.preprocess.types import MAX_PIXELS, MediaError, VideoConfig
from molmo_jax.preprocess.video_file import (
  Timeline,
  no_frame,
  pick_by_seeking,
  pick_in_order,
  scan_frames,
  scan_packets,
)


def read_video(source: str | Path | np.ndarray, max_frames: int, config: VideoConfig, *,
               fps: float | None = None, clip: Clip | None = None,
               rng: np.random.Generator | None = None,
               resize: Callable[[np.ndarray], np.ndarray] | None = None,
               max_pixels: int = MAX_PIXELS) -> tuple[np.ndarray, np.ndarray]:
  """Reads the sampled frames of a video.

  A file is sampled by time over its duration, which ends with its last frame; an array is sampled
  by frame index. Where a chosen frame of a file cannot be decoded (a truncated or damaged file),
  the frames that can be decoded make up the video, and it ends with the last of them. Frames are
  turned and mirrored by the file's display matrix. Of several video streams FFmpeg's best one is
  read; attached pictures (covers) are none.

  Args:
    source: a file in one of the `video_file.CONTAINERS`, or uint8 [T,h,w,3].
    max_frames: largest number of frames.
    config: sampling mode and rate.
    fps: frames per second of an array.
    clip: start and end, seconds since the first frame; the times that are returned count from its
      start (`clips.select_clip_by_index`). None: the whole video.
    rng: source of randomness in training; None: evaluation.
    resize: applied to every chosen frame uint8 [h,w,3] at once, so that a long video of large
      frames fits into memory.
    max_pixels: a file with larger frames is refused before any is decoded.

  Returns:
    uint8 [F,h,w,3]; float64 [F], the time of each frame as it is written into the prompt, seconds.

  Raises:
    MediaError: missing, no regular file, not a video, without a video stream, without a frame that
      can be decoded, or with stamps that cannot be; an array of a wrong type or without `fps`. The
      message names the file.
  """
  resize = resize or (lambda frame: frame)
  if isinstance(source, np.ndarray):
    return _sample_array(source, max_frames, config, fps, clip, rng, resize)
  if not isinstance(source, (str, os.PathLike)):
    raise MediaError('a video must be a path or a uint8 array [T,h,w,3], not '
                     f'{type(source).__name__}')
  state = None if rng is None else rng.bit_generator.state
  for scan, pick in (scan_packets, pick_by_seeking), (scan_frames, pick_in_order):
    if rng is not None:
      rng.bit_generator.state = state   # both attempts draw the same numbers
    timeline = scan(source, max_pixels)
    if timeline is not None:
      times, start = _sample(timeline, source, max_frames, config, clip, rng)
      shown = timeline.shown_at(times + start)
      frames = pick(source, timeline, np.unique(shown), resize, max_pixels)
      if frames is not None:
        return _stack([frames[i] for i in shown.tolist()], f'video {source}'), times
  raise MediaError(no_frame(source, max_pixels))


def sampled_times(source: str | Path, max_frames: int, config: VideoConfig,
                  clip: Clip | None = None, max_pixels: int = MAX_PIXELS) -> np.ndarray:
  """Seconds of the frames that `read_video` would read of a file, of which nothing is decoded.

  Raises:
    MediaError: as `read_video`.
  """
  timeline = scan_packets(source, max_pixels) or scan_frames(source, max_pixels)
  if timeline is None:
    raise MediaError(no_frame(source, max_pixels))
  return _sample(timeline, source, max_frames, config, clip, None)[0]


def _sample(timeline: Timeline, source: str | Path, max_frames: int, config: VideoConfig,
            clip: Clip | None, rng: np.random.Generator | None) -> tuple[np.ndarray, float]:
  """Moments in seconds from the start of what is shown, and that start."""
  duration = timeline.duration
  start, end = (0.0, duration) if clip is None else (clip[0], min(clip[1], duration))
  if start >= end:
    raise MediaError(f'video {source}: the clip {clip[0]} s to {clip[1]} s is not in the video, '
                     f'which ends after {duration:.2f} s')
  return sample_times(end - start, max_frames, config.frame_sample_mode, config.max_fps, rng,
                      config.candidate_fps), start


def _sample_array(video: np.ndarray, max_frames: int, config: VideoConfig, fps: float | None,
                  clip: Clip | None, rng: np.random.Generator | None,
                  resize: Callable) -> tuple[np.ndarray, np.ndarray]:
  if video.dtype != np.uint8 or video.ndim != 4 or video.shape[3] != 3 or not video.size:
    raise MediaError('a video array must be uint8 [T,h,w,3] with at least one frame, not '
                     f'{video.dtype} {list(video.shape)}')
  if not fps or fps < 0:
    raise MediaError(f'a video array needs its frames per second: fps is {fps}')
  if clip is not None:
    if int(clip[0] * fps) >= len(video):
      raise MediaError(f'the clip {clip[0]} s to {clip[1]} s is not in the video, which ends after '
                       f'{len(video) / fps:.2f} s')
    indices, times = select_clip_by_index(len(video), fps, max_frames, config.frame_sample_mode,
                                          config.max_fps, clip)
  else:
    indices = sample_frames(len(video), fps, max_frames, config.frame_sample_mode, config.max_fps,
                            rng)
    times = indices / fps
  return _stack([resize(video[i]) for i in indices], 'video array'), times


def _stack(frames: list[np.ndarray], name: str) -> np.ndarray:
  shapes = sorted({frame.shape for frame in frames})
  if len(shapes) > 1:
    raise MediaError(f'{name}: frames have different sizes: '
                     f'{", ".join(f"{w}×{h}" for h, w, _ in shapes)}')
  return np.stack(frames)
