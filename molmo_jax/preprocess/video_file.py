"""The frames of a video file: when they are shown, and their pixels. numpy and PyAV only.

Frames are identified by the order in which they are decoded, which no wrong stamp changes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from molmo_jax.preprocess.media_files import check_pixels, open_media, turn
from molmo_jax.preprocess.types import MAX_PIXELS, MediaError

# FFmpeg's demuxers that read a file by itself. Not: playlists and descriptions (hls, dash, concat,
# sdp, ffmetadata, …), which name other files or addresses; tty, which renders any text.
CONTAINERS = ('mov', 'matroska', 'avi', 'mpegts', 'mpeg', 'flv', 'asf', 'ogg', 'gif', 'apng', 'mxf',
              'nut', 'rm', 'dv', 'wtv', 'ivf', 'obu', 'av1', 'h264', 'hevc', 'vvc', 'm4v',
              'mpegvideo', 'mjpeg', 'yuv4mpegpipe', 'vc1', 'swf', 'mp3', 'wav', 'flac', 'aac')
_OPTIONS = {'format_whitelist': ','.join(CONTAINERS), 'protocol_whitelist': 'none'}
_MOST_STREAMS = 1000   # FFmpeg's limit

_SMALL_FRAME = 256 * 256   # pixels
_SEEK_FRAMES = 16   # a jump that skips fewer frames than this costs more than decoding them

# Stamps that say otherwise are damaged.
_LONGEST, _SHORTEST_FRAME = 30 * 24 * 3600, 1e-5   # seconds


@dataclasses.dataclass(frozen=True)
class Timeline:
  """When the frames of a file are shown, in the order in which they are decoded."""
  starts: np.ndarray          # int64 or float64 [N], ascending from 0, units of `time_base` seconds
  duration: float             # until the last frame ends, seconds
  time_base: Fraction
  # of the packets: int64 [N] presentation stamp in the file; index of the key frame from which
  # frame i can be decoded; stamp to seek to for that key frame
  stamps: np.ndarray | None = None
  keys: np.ndarray | None = None
  key_seeks: np.ndarray | None = None

  def shown_at(self, times: np.ndarray) -> np.ndarray:
    """Index of the frame shown at each time: the first that ends later, or the last."""
    starts = self.starts * self.time_base.numerator / self.time_base.denominator
    return np.searchsorted(starts[1:], times, side='right')


@contextlib.contextmanager
def open_video(source: str | Path, max_pixels: int
          ) -> Iterator[tuple[av.container.InputContainer, av.video.stream.VideoStream]]:
  """The file's container and the stream that is its video; every fault is a MediaError."""
  limit = {'max_pixels': str(2 * max_pixels)}   # FFmpeg counts sides that are rounded up
  with open_media('video', source) as file, av.open(
      file, metadata_errors='replace', options=_OPTIONS,
      stream_options=[limit] * _MOST_STREAMS) as container:   # FFmpeg decodes some when it opens
    films = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not films:
      raise MediaError(f'video {source}: has no video stream')
    best = container.streams.best('video')
    stream = best if best in films else films[0]
    context = stream.codec_context
    if context is None:
      raise MediaError(f'video {source}: no decoder for the codec of its video stream')
    check_pixels(context.height, context.width, max_pixels, f'video {source}')
    context.options = limit
    # threads cost more than they save on small frames (measured: 48 px clips are read 5 times
    # faster without)
    stream.thread_type = 'NONE' if context.width * context.height < _SMALL_FRAME else 'AUTO'
    yield container, stream


def describe_video(source: str | Path, max_pixels: int = MAX_PIXELS
                   ) -> tuple[int, int, int, float]:
  """Height and width of an upright frame, and frames and frames per second as the file says (or 0).

  Raises:
    MediaError: as `read_video`.
  """
  with open_video(source, max_pixels) as (container, stream):
    frame = next(container.decode(stream), None)
    if frame is None:
      raise MediaError(no_frame(source, max_pixels))
    return (*_upright(frame, VideoReformatter()).shape[:2], stream.frames,
            float(stream.average_rate or 0))


def no_frame(source: str | Path, max_pixels: int) -> str:
  """The error of a file without a frame that can be decoded."""
  return (f'video {source}: no frame can be decoded that has at most {max_pixels} pixels '
          '(preprocess.max_pixels)')


def _frame_ticks(stream: av.video.stream.VideoStream) -> int:
  """Usual length of a frame in units of the stream's time base."""
  return max(int(1 / ((stream.average_rate or stream.guessed_rate or 25) * stream.time_base)), 1)


def _duration(end: float, frames: int, stream: av.video.stream.VideoStream,
              source: str | Path) -> float:
  """Seconds of `end` in units of the stream's time base; MediaError where they cannot be."""
  duration = float(Fraction(end) * stream.time_base)
  if not frames * _SHORTEST_FRAME <= duration <= _LONGEST:
    raise MediaError(f'video {source}: its time stamps are damaged: they say {frames} frames in '
                     f'{duration:.3g} s')
  return duration


def scan_packets(source: str | Path, max_pixels: int) -> Timeline | None:
  """The timeline by the packets' stamps, without decoding; None if they do not suffice."""
  with open_video(source, max_pixels) as (container, stream):
    try:
      packets = [packet for packet in container.demux(stream)
                 if packet.size and not packet.is_discard]
    except av.error.FFmpegError:
      return None
    decoded_at = [p.dts for p in packets if p.dts is not None]
    if not packets or any(p.pts is None or p.is_corrupt for p in packets) or any(
        b < a for a, b in itertools.pairwise(decoded_at)):   # a second recording
      return None
    ordered = sorted(packets, key=lambda p: p.pts)
    if not ordered[0].is_keyframe or len({p.pts for p in packets}) < len(packets):
      return None
    keys = np.maximum.accumulate(
      np.where([p.is_keyframe for p in ordered], np.arange(len(ordered)), 0))
    seeks = np.asarray([p.pts if p.dts is None else p.dts for p in ordered], np.int64)[keys]
    first, end = ordered[0].pts, max(p.pts + (p.duration or _frame_ticks(stream)) for p in packets)
    duration = _duration(end - first, len(packets), stream, source)
    stamps = np.asarray([p.pts for p in ordered], np.int64)
    return Timeline(stamps - first, duration, stream.time_base, stamps, keys, seeks)


def pick_by_seeking(source: str | Path, timeline: Timeline, wanted: np.ndarray, resize: Callable,
                     max_pixels: int) -> dict[int, np.ndarray] | None:
  """Frames by index, decoded from the key frame before each; None if that fails."""
  picked, reformatter = {}, VideoReformatter()
  with open_video(source, max_pixels) as (container, stream):
    decoder, position = container.decode(stream), -1
    for index in wanted.tolist():
      try:
        if timeline.keys[index] - position > _SEEK_FRAMES:
          container.seek(int(timeline.key_seeks[index]), stream=stream)
          decoder = container.decode(stream)
        frame = next((f for f in decoder if f.pts is None or f.pts >= timeline.stamps[index]), None)
      except av.error.FFmpegError:
        return None
      if frame is None or frame.pts != timeline.stamps[index] or frame.is_corrupt:
        return None
      picked[index], position = resize(_upright(frame, reformatter)), index
  return picked


def _decodable(container: av.container.InputContainer,
               stream: av.video.stream.VideoStream) -> Iterator[av.VideoFrame]:
  """All frames that can be decoded, in order; damaged packets are passed over."""
  for packet in _packets(container, stream):
    with contextlib.suppress(av.error.FFmpegError):
      yield from (frame for frame in stream.decode(packet) if not frame.is_corrupt)


def _packets(container: av.container.InputContainer,
             stream: av.video.stream.VideoStream) -> Iterator[av.Packet | None]:
  """Packets with data as far as the file can be read, then None, which empties the decoder."""
  with contextlib.suppress(av.error.FFmpegError):   # what follows the damage is out of reach
    yield from (packet for packet in container.demux(stream) if packet.size)
  yield None


def scan_frames(source: str | Path, max_pixels: int) -> Timeline | None:
  """The timeline by the frames that can be decoded; None where there is none."""
  with open_video(source, max_pixels) as (container, stream):
    ticks = _frame_ticks(stream)
    shown = [(frame.pts, frame.duration or ticks) for frame in _decodable(container, stream)]
    if not shown:
      return None
    starts = _repaired([pts for pts, _ in shown], ticks, shown[-1][1])
    duration = _duration(starts[-1], len(shown), stream, source)
    return Timeline(starts[:-1], duration, stream.time_base)


def _repaired(stamps: Sequence[int | None], ticks: int, last: int) -> np.ndarray:
  """When frames start, and when the last one ends: float64 [N+1], ascending from 0.

  Where the clock jumps back, another recording was joined: it follows the one before. Frames with
  no stamp, or with that of the frame before, share the time up to the next stamp.

  Args:
    stamps: of the N frames in the order in which they are decoded.
    ticks: usual length of a frame.
    last: length of the last frame.
  """
  given = [(index, stamp) for index, stamp in enumerate(stamps) if stamp is not None] or [(0, 0)]
  known, shift = [(0, given[0][1] - ticks * given[0][0])], 0
  for index, stamp in given:
    before, latest = known[-1]
    if stamp + shift < latest:
      shift = latest + ticks * (index - before) - stamp
    if stamp + shift > latest:
      known.append((index, stamp + shift))
  before, latest = known[-1]
  known.append((len(stamps), latest + ticks * (len(stamps) - before - 1) + last))
  return np.interp(range(len(stamps) + 1), [index for index, _ in known],
                   [start - known[0][1] for _, start in known])


def pick_in_order(source: str | Path, timeline: Timeline, wanted: np.ndarray, resize: Callable,
                   max_pixels: int) -> dict[int, np.ndarray]:
  """Frames by index, the whole video decoded."""
  chosen, reformatter = set(wanted.tolist()), VideoReformatter()
  with open_video(source, max_pixels) as (container, stream):
    return {index: resize(_upright(frame, reformatter))
            for index, frame in enumerate(_decodable(container, stream)) if index in chosen}


def _upright(frame: av.VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
  """uint8 [h,w,3] of a frame, turned and mirrored as its display matrix says.

  One `reformatter` for all frames of a video: setting one up costs up to a millisecond, converting
  a small frame 0.04.
  """
  small = frame.width * frame.height < _SMALL_FRAME
  rgb = reformatter.reformat(frame, format='rgb24', threads=1 if small else 0).to_ndarray()
  matrix = frame.side_data.get(SideData.DISPLAYMATRIX)
  if matrix is None:
    return np.ascontiguousarray(rgb)
  # a pixel (x, y) is shown at (a·x + c·y, b·x + d·y)
  a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
  is_quarter = abs(b) + abs(c) > abs(a) + abs(d)
  return turn(rgb, is_quarter, (b if is_quarter else d) < 0, (c if is_quarter else a) < 0)
