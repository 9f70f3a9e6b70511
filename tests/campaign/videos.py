"""Small videos in several containers, damaged; all through `read_video`.

Frame n is grey of level 16 + 7 n with a red square in its upper left corner, ten frames a second.
"""

from __future__ import annotations

import io
import os
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from molmo_jax.preprocess.types import VideoConfig
from molmo_jax.preprocess.video import read_video
from tests.campaign.engine import Case
from tests.campaign.images import unopenable
from tests.campaign.mutate import Rng, damage_bytes, pick

HEIGHT, WIDTH, FRAMES, RATE = 48, 64, 31, 10
CONFIG = VideoConfig(max_fps=2.0)
MOST = 8                         # frames that are asked for
KINDS = {'a.mp4': ('libx264', {}), 'a.mkv': ('libx264', {}), 'a.ts': ('libx264', {}),
         'a.mov': ('mpeg4', {}), 'a.avi': ('mpeg4', {}), 'a.webm': ('libvpx', {}),
         'mpeg2.ts': ('mpeg2video', {}), 'mpeg4.mp4': ('mpeg4', {}), 'motion.avi': ('mjpeg', {}),
         'quick.mp4': ('libx264', {'movflags': 'faststart'}), 'a.mpg': ('mpeg2video', {}),
         'parts.mp4': ('libx264', {'movflags': 'frag_keyframe+empty_moov'}), 'a.gif': ('gif', {})}
# how red square and display matrix go together: the matrix of an MP4's track header, and where
# the square is then, as FFmpeg shows it
ONE = 1 << 16
TURNS = {'upright': ((ONE, 0, 0, ONE), (0, 0)), 'half': ((-ONE, 0, 0, -ONE), (1, 1)),
         'clockwise': ((0, ONE, -ONE, 0), (0, 1)), 'counter': ((0, -ONE, ONE, 0), (1, 0)),
         'mirror': ((-ONE, 0, 0, ONE), (0, 1)), 'flip': ((ONE, 0, 0, -ONE), (1, 0)),
         'transpose': ((0, ONE, ONE, 0), (0, 0)), 'transverse': ((0, -ONE, -ONE, 0), (1, 1))}
LISTS = {
  'a.m3u8': '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{0}\n#EXT-X-ENDLIST\n',
  'b.m3u8': '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{1}/a.ts\n#EXT-X-ENDLIST\n',
  'a.ffconcat': "ffconcat version 1.0\nfile '{0}'\n",
  'a.mp4': "ffconcat version 1.0\nfile '{0}'\n",
  'b.mp4': '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{1}/a.ts\n#EXT-X-ENDLIST\n',
  'a.sdp': 'v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n'
           'm=video 5004 RTP/AVP 96\n',
  'a.mpd': '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
           '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
           '<BaseURL>{1}/a.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>',
  'a.xml': '<?xml version="1.0"?><SmoothStreamingMedia/>', 'a.txt': 'no video at all\n' * 50,
  'a.rtsp': 'RTSP/1.0 200 OK\n\n', 'a.imf': '<?xml version="1.0"?><AssetMap/>', 'a.avi': '',
  'a.srt': '1\n00:00:00,000 --> 00:00:02,000\nhello\n', 'a.ass': '[Script Info]\nTitle: x\n'}


def frame(number: int) -> np.ndarray:
  """Frame `number`, uint8 [h,w,3]."""
  pixels = np.full((HEIGHT, WIDTH, 3), 16 + 7 * number, np.uint8)
  pixels[:16, :16] = (255, 0, 0)
  return pixels


def encode(path: Path, codec: str, options: dict[str, str], stamps: Any = None, count: int = FRAMES,
           cover: bool = False) -> bytes:
  """Writes a video with presentation times `stamps` in milliseconds; returns the file."""
  stamps = [1000 * i // RATE for i in range(count)] if stamps is None else stamps
  with av.open(str(path), 'w', options=options) as container:
    covers = _cover(container) if cover else []
    stream = container.add_stream(codec, rate=RATE)
    stream.width, stream.height = WIDTH, HEIGHT
    stream.pix_fmt = {'mjpeg': 'yuvj420p', 'gif': 'rgb8'}.get(codec, 'yuv420p')
    coder = stream.codec_context
    coder.time_base, coder.max_b_frames, coder.gop_size = Fraction(1, RATE), 0, 8
    coder.bit_rate = 400_000
    for number in range(len(stamps)):
      picture = av.VideoFrame.from_ndarray(frame(number), format='rgb24')
      picture.pts, picture.time_base = number, Fraction(1, RATE)
      _mux(container, stream.encode(picture), stamps)
    _mux(container, stream.encode(), stamps)
    for packet in covers:
      container.mux(packet)
  return path.read_bytes()


def _mux(container: Any, packets: list[Any], stamps: list[int]) -> None:
  for packet in packets:
    if packet.pts is not None and packet.pts < len(stamps):
      packet.pts = packet.dts = stamps[packet.pts]
      packet.duration, packet.time_base = 1000 // RATE, Fraction(1, 1000)
    container.mux(packet)


def _cover(container: Any) -> list[Any]:
  """The packets of a still picture as the first stream, marked as a cover."""
  stream = container.add_stream('mjpeg', rate=1)
  stream.width, stream.height, stream.pix_fmt = 96, 96, 'yuvj420p'
  stream.disposition = av.stream.Disposition.attached_pic
  picture = av.VideoFrame.from_ndarray(np.full((96, 96, 3), 200, np.uint8), format='rgb24')
  return [*stream.encode(picture), *stream.encode()]


def song(suffix: str) -> bytes:
  """Audio alone."""
  file = io.BytesIO()
  if suffix == 'wav':
    with wave.open(file, 'wb') as sound:
      sound.setnchannels(1)
      sound.setsampwidth(2)
      sound.setframerate(8000)
      sound.writeframes(bytes(16000))
    return file.getvalue()
  kind = {'m4a': 'ipod', 'mka': 'matroska', 'aac': 'adts'}[suffix]
  with av.open(file, 'w', format=kind) as container:
    stream = container.add_stream('aac', rate=8000)
    silence = np.zeros((1, 1024), np.float32)
    samples = av.AudioFrame.from_ndarray(silence, format='fltp', layout='mono')
    samples.sample_rate = 8000
    for packet in [*stream.encode(samples), *stream.encode()]:
      container.mux(packet)
  return file.getvalue()


class Inputs:
  """The area of videos."""

  def __init__(self, base: Path, port: int):
    self._files = {n: encode(base / n, codec, o) for n, (codec, o) in KINDS.items()}
    self._covered = {'cover.mp4': encode(base / 'cover.mp4', 'libx264', {}, cover=True)}
    self._songs = {f'song.{s}': song(s) for s in ('m4a', 'mka', 'aac', 'wav')}
    self._target, self._port = base / 'a.ts', port
    self._kinds: dict[Callable[[Rng, Path], Case], float] = {
      self._control: 6, self._clipped: 6, self._damaged: 60, self._shifted: 8, self._stamps: 6,
      self._turned: 4, self._covers: 1, self._audio: 1, self._codec: 2, self._list: 4,
      self._unopenable: 4, self._suffix: 2}

  def case(self, rng: Rng, folder: Path) -> Case:
    weights = np.array(list(self._kinds.values()), float)
    return list(self._kinds)[rng.choice(len(weights), p=weights / weights.sum())](rng, folder)

  def _known(self) -> list[str]:
    """Files whose frames and times are known exactly; PyAV's MPEG program streams start anyhow."""
    return [n for n in self._files if n not in ('a.gif', 'a.mpg')]

  def _control(self, rng: Rng, folder: Path) -> Case:
    name = pick(rng, self._known())
    return _read(folder / name, self._files[name], f'control: {name}', has_frames(None), 'value')

  def _clipped(self, rng: Rng, folder: Path) -> Case:
    name = pick(rng, self._known())
    start = int(rng.integers(0, 20)) / 10 + 0.05   # amid a frame, where rounding is no matter
    clip = (start, start + int(rng.integers(5, 11)) / 10)
    return _read(folder / name, self._files[name], f'clip: {name} {clip}', has_frames(clip),
                 'value', clip)

  def _damaged(self, rng: Rng, folder: Path) -> Case:
    name = pick(rng, self._files)
    data, how = damage_bytes(self._files[name], rng, 400)
    clip = (1.0, 2.0) if rng.random() < 0.2 else None
    return _read(folder / name, data, f'damaged {name}: {how}', is_video, clip=clip)

  def _shifted(self, rng: Rng, folder: Path) -> Case:
    """The container's clock starts anywhere: frames and times count from the first frame."""
    name = pick(rng, ('a.mkv', 'a.ts', 'a.mp4', 'a.webm'))
    shift = pick(rng, (-1000, -300, -100, 500, 1400, 60_000, 36_000_000, 95_000_000))
    if name in ('a.mkv', 'a.webm', 'a.ts'):
      shift = abs(shift)           # their muxers write no negative stamp
    clip = (1.0, 2.0) if rng.random() < 0.5 else None
    data = encode(folder / name, KINDS[name][0], {}, [shift + 100 * i for i in range(FRAMES)])
    if shift < 0:                  # an edit list of the MP4 hides the frames before zero
      return _read(folder / name, data, f'shifted: {name} by {shift} ms', is_video, 'value')
    return _read(folder / name, data, f'shifted: {name} by {shift} ms, {clip}', has_frames(clip),
                 'value', clip)

  def _stamps(self, rng: Rng, folder: Path) -> Case:
    """Gaps, jumps, and times that stand still, as a muxer accepts them."""
    steps = rng.choice([1, 40, 100, 900], FRAMES)
    steps[int(rng.integers(FRAMES))] = pick(rng, (1, 10_000, 3_600_000, 10**9, 10**11))
    name = pick(rng, ('a.mkv', 'a.ts', 'a.mp4'))
    data = encode(folder / name, 'libx264', {}, np.cumsum(steps).tolist())
    return _read(folder / name, data, f'stamps: {name}, the longest gap {steps.max()} ms', is_video)

  def _turned(self, rng: Rng, folder: Path) -> Case:
    turn = pick(rng, TURNS)
    (a, b, c, d), (low, right) = TURNS[turn]
    data = bytearray(self._files['quick.mp4'])
    at = data.index(b'tkhd') + 4 + 40
    for offset, value in ((0, a), (4, b), (12, c), (16, d)):
      data[at + offset:at + offset + 4] = value.to_bytes(4, 'big', signed=True)

    def check(found: Any) -> None:
      first = found[0][0].astype(int)
      assert first.shape[:2] == ((HEIGHT, WIDTH) if not b else (WIDTH, HEIGHT)), first.shape
      red = first[..., 0] - first[..., 1]
      corner = red[-10:] if low else red[:10]
      assert (corner[:, -10:] if right else corner[:, :10]).mean() > 100, 'the square is elsewhere'
    return _read(folder / 'turned.mp4', bytes(data), f'turned {turn}: mp4', check, 'value')

  def _covers(self, rng: Rng, folder: Path) -> Case:
    name = pick(rng, self._covered)
    return _read(folder / name, self._covered[name], f'cover: {name}', has_frames(None), 'value')

  def _audio(self, rng: Rng, folder: Path) -> Case:
    name = pick(rng, self._songs)
    return _read(folder / name, self._songs[name], f'audio: {name}', is_video, 'error')

  def _codec(self, rng: Rng, folder: Path) -> Case:
    name, tag = pick(rng, (('a.mp4', b'avc1'), ('a.mkv', b'V_MPEG4/ISO/AVC'), ('a.avi', b'FMP4'),
                           ('mpeg4.mp4', b'mp4v'), ('a.webm', b'V_VP8')))
    other = pick(rng, (b'zzzz', b'\0\0\0\0', b'\xff\xfe\xfd\xfc', b'hev1', b'av01', b'raw ',
                       b'mp4a'))
    data = self._files[name].replace(tag, (other * 4)[:len(tag)])
    return _read(folder / name, data, f'codec: {name} {other!r}', is_video)

  def _list(self, rng: Rng, folder: Path) -> Case:
    name = pick(rng, LISTS)
    text = LISTS[name].format(pick(rng, (self._target, f'file:{self._target}')),
                              f'http://127.0.0.1:{self._port}')
    return _read(folder / name, text.encode(), f'list: {name}', is_video, 'error')

  def _unopenable(self, rng: Rng, folder: Path) -> Case:
    path, names = unopenable(rng, folder, 'a.mp4', self._files['a.mp4'], self._port)
    return Case(f'unopenable: {names}', lambda: read_video(path, MOST, CONFIG), is_video, names,
                'error')

  def _suffix(self, rng: Rng, folder: Path) -> Case:
    name = pick(rng, self._known())
    other = f'b.{pick(rng, ("mp4", "m3u8", "txt", "jpg", "", "sdp", "ffconcat", "mkv"))}'
    return _read(folder / other, self._files[name], f'suffix: {name} as {other}', has_frames(None),
                 'value')


def _read(path: Path, data: bytes, what: str, check: Callable[[Any], None], wanted: Any = 'either',
          clip: Any = None) -> Case:
  path.write_bytes(data)
  read = lambda: read_video(str(path), MOST, CONFIG, clip=clip)
  return Case(what, read, check, os.fspath(path.name), wanted)


def is_video(found: Any) -> None:
  """What holds for every video that is read."""
  frames, times = found
  assert frames.dtype == np.uint8 and frames.ndim == 4 and frames.shape[3] == 3, frames.shape
  assert 1 <= len(frames) <= MOST and len(times) == len(frames), (frames.shape, times.shape)
  assert times.dtype == np.float64 and np.isfinite(times).all(), times
  assert (np.diff(times) >= 0).all() and times[0] >= 0, f'times {times}'


def has_frames(clip: tuple[float, float] | None) -> Callable[[Any], None]:
  """A check that the frames are those of the undamaged video at the sampled times."""
  start, end = clip or (0.0, FRAMES / RATE)

  def check(found: Any) -> None:
    is_video(found)
    frames, times = found
    assert len(frames) == min(MOST, int(np.ceil((end - start) * 2)) + 1), f'{len(frames)} frames'
    shown = np.minimum(np.floor((times + start) * RATE + 0.02), FRAMES - 1)
    levels = frames[:, 24:, 24:].mean((1, 2, 3))
    assert abs(times[-1] - (end - start)) < 0.03, f'ends after {times[-1]} s, not {end - start} s'
    assert (np.abs(levels - 16 - 7 * shown) < 4).all(), \
      f'frames {((levels - 16) / 7).round(1).tolist()}, not {shown.tolist()}'
  return check
