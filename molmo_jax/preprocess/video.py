"""Reads the frames of a video at the sampled moments (docs/model.md §7.2). numpy and PyAV only.

Times are seconds since the first frame of the video. A frame is shown from its own presentation
time to the next frame's; the last one to the end of the video.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from molmo_jax.preprocess.clips import Clip, select_clip_by_index
from molmo_jax.preprocess.frame_sampling import sample_frames, sample_times
from molmo_jax.preprocess.types import MediaError, VideoConfig

_SMALL_FRAME = 256 * 256   # pixels
_SEEK_FRAMES = 16   # a jump that skips fewer frames than this costs more than decoding them


def read_video(source: str | Path | np.ndarray, max_frames: int, config: VideoConfig, *,
               fps: float | None = None,
               clip: Clip | None = None, rng: np.random.Generator | None = None,
               resize: Callable[[np.ndarray], np.ndarray] | None = None, seek: bool = True
               ) -> tuple[np.ndarray, np.ndarray]:
  """Reads the sampled frames of a video.

  A file is sampled by time over its duration, which ends with its last frame; an array is sampled
  by frame index. Where a chosen frame of a file cannot be decoded (a truncated or damaged file),
  the frames that can be decoded make up the video, and it ends with the last of them. Frames are
  turned upright by the file's display rotation.

  Args:
    source: a file, or uint8 [T,h,w,3].
    max_frames: largest number of frames.
    config: sampling mode and rate.
    fps: frames per second of an array.
    clip: start and end in seconds of the file's own clock; the times that are returned count from
      its start (`clips.select_clip_by_time`, `clips.select_clip_by_index`). None: the whole video.
    rng: source of randomness in training; None: evaluation.
    resize: applied to every chosen frame uint8 [h,w,3] at once, so that a long video of large
      frames fits into memory.
    seek: jump to the key frame before a wanted frame; False decodes everything in order, with the
      same result.

  Returns:
    uint8 [F,h,w,3]; float64 [F], the time of each frame as it is written into the prompt, seconds.

  Raises:
    MediaError: missing, not a video, without a video stream, without a frame that can be decoded;
      an array of a wrong type or without `fps`. The message names the file.
  """
  resize = resize or (lambda frame: frame)
  if isinstance(source, np.ndarray):
    return _sample_array(source, max_frames, config, fps, clip, rng, resize)
  if not isinstance(source, (str, os.PathLike)):
    raise MediaError('a video must be a path or a uint8 array [T,h,w,3], not '
      f'{type(source).__name__}')
  name = f'video {os.fspath(source)}'
  state = None if rng is None else rng.bit_generator.state
  try:
    for scan, pick in ((_scan_packets, _pick_by_seeking),
                       (_scan_frames, _pick_in_order))[0 if seek else 1:]:
      if rng is not None:
        rng.bit_generator.state = state   # both attempts draw the same numbers
      timeline = scan(source, name)
      if timeline is None:
        continue
      length, offset = _part(timeline, clip, name)
      times = sample_times(length, max_frames, config.frame_sample_mode, config.max_fps, rng,
                           config.candidate_fps)
      shown = timeline.shown_at(times + offset)
      frames = pick(source, name, timeline, np.unique(shown), resize)
      if frames is not None:
        return _stack([frames[i] for i in shown.tolist()], name), times
  except (av.error.FFmpegError, OSError) as error:
    reason = 'no such file' if isinstance(
      error, FileNotFoundError) else f'cannot be read as a video ({error})'
    raise MediaError(f'{name}: {reason}') from error
  raise MediaError(f'{name}: no frame can be decoded')


def sampled_times(source: str | Path, max_frames: int, config: VideoConfig,
                  clip: Clip | None = None) -> np.ndarray:
  """Seconds of the frames that `read_video` would read of a file, of which nothing is decoded.

  Raises:
    MediaError: as `read_video`.
  """
  name = f'video {os.fspath(source)}'
  try:
    timeline = _scan_packets(source, name) or _scan_frames(source, name)
  except (av.error.FFmpegError, OSError) as error:
    raise MediaError(f'{name}: cannot be read as a video ({error})') from error
  if timeline is None:
    raise MediaError(f'{name}: no frame can be decoded')
  return sample_times(_part(timeline, clip, name)[0], max_frames, config.frame_sample_mode,
                      config.max_fps, None, config.candidate_fps)


def _part(timeline: _Timeline, clip: Clip | None, name: str) -> tuple[float, float]:
  """Length of the part that is shown, and how long after the first frame it starts, seconds."""
  if clip is None:
    return timeline.duration, 0.0
  start, end = clip[0], min(clip[1], timeline.duration)
  if start >= end:
    raise MediaError(f'{name}: the clip {clip[0]} s to {clip[1]} s is not in the video, which ends '
      f'after {timeline.duration:.2f} s')
  return end - start, start - float(timeline.stamps[0] * timeline.time_base)


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
    return _stack([resize(video[i]) for i in indices], 'video array'), times
  indices = sample_frames(len(video), fps, max_frames, config.frame_sample_mode, config.max_fps,
                          rng)
  return _stack([resize(video[i]) for i in indices], 'video array'), indices / fps


def _stack(frames: list[np.ndarray], name: str) -> np.ndarray:
  shapes = sorted({frame.shape for frame in frames})
  if len(shapes) > 1:
    raise MediaError(f'{name}: frames have different sizes: '
      f'{", ".join(f"{w}×{h}" for h, w, _ in shapes)}')
  return np.stack(frames)


@dataclasses.dataclass(frozen=True)
class _Timeline:
  """When the frames of a file are shown; stamps are in units of `time_base` seconds."""
  stamps: np.ndarray          # int64 [N], ascending: presentation time of every frame
  end: int                    # the last frame is shown until then
  time_base: Fraction
  # int64 [N]: index of the key frame from which frame i can be decoded
  keys: np.ndarray | None = None
  key_seeks: np.ndarray | None = None  # int64 [N]: stamp to seek to for that key frame

  @property
  def duration(self) -> float:
    return float((self.end - int(self.stamps[0])) * self.time_base)

  def shown_at(self, times: np.ndarray) -> np.ndarray:
    """Index of the frame shown at each time: the first that ends later, or the last."""
    starts = (self.stamps - self.stamps[0]) * self.time_base.numerator / self.time_base.denominator
    return np.searchsorted(starts[1:], times, side='right')


def _open(source: str | Path,
          name: str) -> tuple[av.container.InputContainer, av.video.stream.VideoStream]:
  container = av.open(os.fspath(source))
  if not container.streams.video or container.format.name == 'tty':   # 'tty' renders any text file
    container.close()
    raise MediaError(f'{name}: has no video stream')
  stream = container.streams.video[0]
  # threads cost more than they save on small frames (measured: 48 px clips are read 5 times faster
  # without)
  small = stream.codec_context.width * stream.codec_context.height < _SMALL_FRAME
  stream.thread_type = 'NONE' if small else 'AUTO'
  return container, stream


def _frame_ticks(stream: av.video.stream.VideoStream) -> int:
  """Usual length of a frame in units of the stream's time base."""
  return max(int(1 / ((stream.average_rate or stream.guessed_rate or 25) * stream.time_base)), 1)


def _scan_packets(source: str | Path, name: str) -> _Timeline | None:
  """The timeline by the packets' stamps, without decoding; None if they are incomplete."""
  container, stream = _open(source, name)
  with container:
    try:
      packets = [(None if packet.is_corrupt else packet.pts, packet.dts, packet.duration,
                  packet.is_keyframe)
                 for packet in container.demux(stream) if packet.size and not packet.is_discard]
    except av.error.FFmpegError:
      return None
    ordered = sorted(packets, key=lambda p: p[0]) if all(p[0] is not None for p in packets) else []
    stamps = np.asarray([p[0] for p in ordered], np.int64)
    if not ordered or not ordered[0][3] or (np.diff(stamps) <= 0).any():
      return None
    keys = np.maximum.accumulate(np.where([p[3] for p in ordered], np.arange(len(ordered)), 0))
    seeks = np.asarray([p[0] if p[1] is None else p[1] for p in ordered], np.int64)[keys]
    end = max(pts + (duration or _frame_ticks(stream)) for pts, _, duration, _ in packets)
    return _Timeline(stamps, end, stream.time_base, keys, seeks)


def _pick_by_seeking(source: str | Path, name: str, timeline: _Timeline, wanted: np.ndarray,
                     resize: Callable) -> dict[int, np.ndarray] | None:
  """Frames by index, decoded from the key frame before each; None if that fails."""
  container, stream = _open(source, name)
  picked, reformatter = {}, VideoReformatter()
  with container:
    decoder, position = container.decode(stream), -1
    for index in wanted.tolist():
      if timeline.keys[index] - position > _SEEK_FRAMES:
        container.seek(int(timeline.key_seeks[index]), stream=stream)
        decoder = container.decode(stream)
      try:
        frame = next((f for f in decoder if f.pts is None or f.pts >= timeline.stamps[index]), None)
      except av.error.FFmpegError:
        return None
      if frame is None or frame.pts != timeline.stamps[index] or frame.is_corrupt:
        return None
      picked[index], position = resize(_upright(frame, reformatter)), index
  return picked


def _decodable(source: str | Path,
               name: str) -> Iterator[tuple[av.VideoFrame, int, av.video.stream.VideoStream]]:
  """All frames that can be decoded, in order, with their stamps; damaged packets are passed over.
  """
  container, stream = _open(source, name)
  with container:
    count = 0
    for packet in _packets(container, stream):
      try:
        frames = stream.decode(packet)
      except av.error.FFmpegError:
        continue
      for frame in frames:
        if not frame.is_corrupt:
          yield frame, count * _frame_ticks(stream) if frame.pts is None else frame.pts, stream
          count += 1


def _packets(container: av.container.InputContainer,
             stream: av.video.stream.VideoStream) -> Iterator[av.Packet | None]:
  """Packets with data as far as the file can be read, then None, which empties the decoder."""
  try:
    yield from (packet for packet in container.demux(stream) if packet.size)
  except av.error.FFmpegError:
    pass   # what follows the damage is out of reach
  yield None


def _scan_frames(source: str | Path, name: str) -> _Timeline | None:
  """The timeline by the frames that can be decoded; None where there is none."""
  stamps, ends, time_base = [], [], None
  for frame, stamp, stream in _decodable(source, name):
    stamps.append(stamp)
    ends.append(stamp + (frame.duration or _frame_ticks(stream)))
    time_base = stream.time_base
  return _Timeline(np.unique(np.asarray(stamps, np.int64)), max(ends),
                   time_base) if stamps else None


def _pick_in_order(source: str | Path, name: str, timeline: _Timeline, wanted: np.ndarray,
                   resize: Callable) -> dict[int, np.ndarray]:
  """Frames by index, the whole video decoded."""
  index = {int(timeline.stamps[i]): i for i in wanted.tolist()}
  reformatter = VideoReformatter()
  return {index[stamp]: resize(_upright(frame, reformatter))
          for frame, stamp, _ in _decodable(source, name) if stamp in index}


def _upright(frame: av.VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
  """uint8 [h,w,3] of a frame, turned by its display rotation (degrees, counter-clockwise).

  One `reformatter` for all frames of a video: setting one up costs up to a millisecond, converting
  a small frame 0.04.
  """
  small = frame.width * frame.height < _SMALL_FRAME
  rgb = reformatter.reformat(frame, format='rgb24', threads=1 if small else 0).to_ndarray()
  return np.ascontiguousarray(np.rot90(rgb, round(frame.rotation / 90) % 4))
