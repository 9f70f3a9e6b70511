"""Reading videos: real files, encoded here. Eight black or white bars tell the number of a frame in
binary.
"""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from molmo_jax.preprocess import video
from molmo_jax.preprocess.types import MediaError, VideoConfig
from molmo_jax.preprocess.video import read_video

CONFIG = VideoConfig()
EVERY = VideoConfig(max_fps=30.0)   # every frame of a video with 30 frames/s


def encode(path, stamps, time_base=Fraction(1, 600), size=(64, 48), gop=12, rotation=None,
           codec='libx264', b_frames=2,
           **options):
  """Writes one frame per stamp: a white upper left corner, and the bars of its number in the lower
  half.
  """
  with av.open(str(path), 'w', options=options) as container:
    stream = container.add_stream(codec, rate=30)
    stream.width, stream.height, stream.pix_fmt = *size, 'yuv420p'
    stream.codec_context.time_base, stream.codec_context.gop_size = time_base, gop
    stream.codec_context.max_b_frames = b_frames
    if rotation is not None:
      stream.set_display_rotation(rotation)
    shown = {a: b - a for a, b in zip(stamps, [*stamps[1:], stamps[-1] + 20], strict=True)}
    packets = []
    for number, stamp in enumerate(stamps):
      picture = np.zeros((size[1], size[0], 3), np.uint8)
      picture[:size[1] // 4, :size[0] // 4] = 255
      for bit in range(8):
        picture[size[1] // 2:, bit * size[0] // 8:(bit + 1) * size[0] // 8] = 255 * (number >> bit
                                                                                     & 1)
      frame = av.VideoFrame.from_ndarray(picture, format='rgb24')
      frame.pts, frame.time_base = stamp, time_base
      packets += stream.encode(frame)
    for packet in [*packets, *stream.encode()]:
      # the muxer would guess how long the last one is shown
      packet.duration = shown.get(packet.pts, packet.duration)
      container.mux(packet)
  return path


@pytest.fixture
def steady(tmp_path):
  """3.2 s at 30 frames/s, a key frame every 12 frames."""
  return encode(tmp_path / 'steady.mp4', range(0, 96 * 20, 20))


def numbers(frames: np.ndarray) -> list[int]:
  """The numbers of upright frames."""
  count, height, width, _ = frames.shape
  bars = frames[:, height // 2:].reshape(count, -1, 8, width // 8, 3).mean(axis=(1, 3, 4)) > 127
  return (bars @ (1 << np.arange(8))).tolist()


def test_frames_are_those_shown_at_the_sampled_times(steady):
  frames, times = read_video(steady, 128, CONFIG)
  assert frames.shape == (8, 48, 64, 3) and frames.dtype == np.uint8 and times.dtype == np.float64
  np.testing.assert_allclose(times, [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.2])
  assert numbers(frames) == [0, 15, 30, 45, 60, 75, 90, 95]


def test_a_variable_frame_rate_is_followed_by_presentation_time(tmp_path):
  # in 1/600 s: 0, .03, .07, 1.17, 1.18, 2, 2.03, 3.17 s
  stamps = [0, 20, 40, 700, 710, 1200, 1220, 1900]
  frames, times = read_video(encode(tmp_path / 'a.mp4', stamps, b_frames=0), 128, CONFIG)
  assert times[:-1].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3]
  assert times[-1] == pytest.approx(1920 / 600)   # the end of the last frame
  assert numbers(frames) == [0, 2, 2, 4, 5, 6, 6, 7]


def read_in_order(*args, **kwargs):
  """`read_video` without seeking."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(video, 'scan_packets', lambda source, max_pixels: None)
    return read_video(*args, **kwargs)


def test_times_count_from_the_first_frame(tmp_path):
  path = encode(tmp_path / 'late.mkv', range(1200, 1200 + 30 * 20, 20))   # starts at 2 s
  frames, times = read_video(path, 128, CONFIG)
  # Matroska rounds stamps to milliseconds
  np.testing.assert_allclose(times, [0, 0.5, 1], atol=2e-3)
  assert numbers(frames)[0] == 0 and numbers(frames)[-1] == 29


@pytest.mark.parametrize(
  'gop, suffix', [(12, 'mp4'), (1, 'mp4'), (250, 'mp4'), (30, 'mkv'), (30, 'ts'), (30, 'avi')])
@pytest.mark.parametrize('limit', [2, 5, 128])
def test_seeking_gives_the_frames_of_decoding_in_order(tmp_path, gop, suffix, limit):
  if suffix == 'avi':   # a format without presentation times
    path = encode(tmp_path / 'a.avi', range(120), time_base=Fraction(1, 30), gop=gop, codec='mpeg4')
  else:
    path = encode(tmp_path / f'a.{suffix}', range(0, 120 * 20, 20), gop=gop)
  sought, times = read_video(path, limit, CONFIG)
  ordered, ordered_times = read_in_order(path, limit, CONFIG)
  np.testing.assert_array_equal(times, ordered_times)
  np.testing.assert_array_equal(sought, ordered)
  assert numbers(sought)[0] == 0 and numbers(sought)[-1] == 119


def test_the_display_rotation_is_applied(tmp_path):
  upright = encode(tmp_path / 'a.mp4', [0, 20])
  # shown turned by 90°, counter-clockwise
  turned = encode(tmp_path / 'b.mp4', [0, 20], rotation=90)
  frame, shown = read_video(upright, 1, CONFIG)[0][0], read_video(turned, 1, CONFIG)[0][0]
  assert shown.shape == (64, 48, 3)
  np.testing.assert_array_equal(shown, np.rot90(frame))
  assert shown[-4:, :4].mean() > 250   # the white corner: from upper left to lower left


def test_a_truncated_file_gives_its_decodable_frames(tmp_path):
  """Rule: the video ends with the last frame that can be decoded."""
  path = encode(tmp_path / 'whole.mp4', range(0, 120 * 20, 20), size=(320, 240),
                movflags='faststart')
  data = path.read_bytes()
  cut = tmp_path / 'cut.mp4'
  cut.write_bytes(data[:len(data) - (len(data) - data.index(b'mdat')) // 3])
  frames, times = read_video(cut, 128, CONFIG)
  last = numbers(frames)[-1]
  assert 40 < last < 119
  np.testing.assert_allclose(times[-1], (last + 1) / 30)
  assert numbers(frames)[:-1] == [15 * k for k in range(len(frames) - 1)]


def test_damaged_frames_are_passed_over(tmp_path):
  path = encode(tmp_path / 'whole.mp4', range(0, 120 * 20, 20), size=(320, 240))
  data = bytearray(path.read_bytes())
  with av.open(str(path)) as container:
    packets = [packet for packet in container.demux(video=0) if packet.size]
  for packet in packets[50:53]:
    data[packet.pos + 5:packet.pos + packet.size] = b'Z' * (packet.size - 5)
  damaged = {round(packet.pts * packet.time_base * 30) for packet in packets[50:53]}
  path.write_bytes(data)
  frames, times = read_video(path, 128, EVERY)
  # the rule: the first frame that ends after the time, of which some lie a rounding before a start
  before = [next(k for k in range(120) if (k + 1) / 30 > time) for time in times[:49]]
  assert len(times) == 121 and before[22:25] == [22, 22, 24]
  assert numbers(frames)[:49] == before and numbers(frames)[-2:] == [119, 119]
  assert not damaged & set(numbers(frames))
  np.testing.assert_array_equal(frames, read_in_order(path, 128, EVERY)[0])
  config = VideoConfig(frame_sample_mode='uniform_randomized')
  drawn = [read(path, 120, config, rng=np.random.default_rng(5))[1]
           for read in (read_video, read_in_order)]
  np.testing.assert_array_equal(*drawn)   # the attempt that failed has not used up random numbers


def test_one_frame_is_a_video(tmp_path):
  frames, times = read_video(encode(tmp_path / 'a.mp4', [0]), 128, CONFIG)
  assert numbers(frames) == [0, 0] and times[0] == 0 < times[1]   # at the start and at the end


def test_frames_are_resized_one_by_one(steady):
  frames, _ = read_video(steady, 4, CONFIG, resize=lambda frame: frame[::2, ::2])
  assert frames.shape == (4, 24, 32, 3)


def test_a_clip_is_sampled_over_its_own_length_and_its_times_count_from_its_start(steady):
  frames, times = read_video(steady, 128, CONFIG, clip=(1.0, 2.2))
  np.testing.assert_allclose(times, [0, 0.5, 1, 1.2])
  assert numbers(frames) == [30, 45, 60, 66]
  frames, times = read_video(steady, 128, CONFIG, clip=(3.0, 99.0))   # ends with the video
  np.testing.assert_allclose(times, [0, 0.2], atol=1e-9)
  assert numbers(frames) == [90, 95]
  np.testing.assert_array_equal(read_in_order(steady, 128, CONFIG, clip=(1.0, 2.2))[0],
                                read_video(steady, 128, CONFIG, clip=(1.0, 2.2))[0])


@pytest.mark.parametrize('suffix', ['mp4', 'mkv', 'ts'])
@pytest.mark.parametrize('start', [0, 300])   # in ticks of 1/600 s: the file's clock
def test_a_clip_counts_from_the_first_frame_whatever_the_clock_starts_at(tmp_path, suffix, start):
  path = encode(tmp_path / f'late.{suffix}', range(start, start + 96 * 20, 20))
  for read in (read_video, read_in_order):
    frames, times = read(path, 128, CONFIG, clip=(1.0, 1.5))
    assert numbers(frames) == [30, 45] and times.tolist() == [0, 0.5]


def test_a_clip_of_an_array_is_cut_to_frames():
  video = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1).repeat(3, -1)
  frames, times = read_video(video, 128, CONFIG, fps=10.0, clip=(0.5, 1.5))
  assert frames[:, 0, 0, 0].tolist() == [5, 10, 14] and times.tolist() == [0, 0.5, 0.9]


def test_a_clip_behind_the_end_is_an_error(steady):
  with pytest.raises(MediaError, match=r'steady.mp4: the clip 5.0 s to 6.0 s is not in the video'):
    read_video(steady, 128, CONFIG, clip=(5.0, 6.0))
  with pytest.raises(MediaError, match='is not in the video'):
    read_video(np.zeros((20, 1, 1, 3), np.uint8), 128, CONFIG, fps=10.0, clip=(5.0, 6.0))


def test_randomness_is_an_argument(steady):
  config = VideoConfig(frame_sample_mode='uniform_randomized')
  first, second, third = (read_video(steady, 6, config, rng=np.random.default_rng(seed))[1]
                          for seed in (1, 1, 2))
  np.testing.assert_array_equal(first, second)
  assert (first != third).all()


def test_an_array_is_sampled_by_frame_index():
  video = np.arange(96, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
  frames, times = read_video(video, 128, CONFIG, fps=30.0)
  assert frames[:, 0, 0, 0].tolist() == [0, 15, 30, 45, 60, 75, 90, 95]
  # by index, the last frame is labelled with its start
  np.testing.assert_allclose(times[-2:], [3.0, 95 / 30])


@pytest.mark.parametrize('video, fps, words', [
    (np.zeros((4, 2, 2, 3), np.uint8), None, 'fps is None'),
    (np.zeros((4, 2, 2, 3), np.float32), 1.0, 'float32'),
    (np.zeros((0, 2, 2, 3), np.uint8), 1.0, 'at least one frame'),
    (np.zeros((2, 2, 3), np.uint8), 1.0, r'\[2, 2, 3\]')])
def test_unusable_arrays_are_refused(video, fps, words):
  with pytest.raises(MediaError, match=words):
    read_video(video, 8, CONFIG, fps=fps)


def test_files_without_a_video_raise_an_error_that_names_them(tmp_path, steady):
  data = steady.read_bytes()
  text = b'hello\n' * 100
  files = {'cut.mp4': data[:len(data) // 2], 'text.mp4': text, 'text.txt': text, 'empty.mp4': b'',
           'noise.mp4': np.random.default_rng(0).bytes(5000)}
  for name, content in files.items():
    (tmp_path / name).write_bytes(content)
  with av.open(str(tmp_path / 'sound.wav'), 'w') as container:
    stream = container.add_stream('pcm_s16le', rate=8000)
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format='s16', layout='mono')
    frame.sample_rate = 8000
    container.mux(stream.encode(frame))
  for name in (*files, 'sound.wav', 'missing.mp4', '.'):
    with pytest.raises(MediaError) as error:
      read_video(tmp_path / name, 8, CONFIG)
    assert str(tmp_path / name) in str(error.value), name


def test_a_file_whose_frames_are_all_damaged_raises(tmp_path, steady):
  data = bytearray(steady.read_bytes())
  start = data.index(b'mdat') + 4
  stop = data.index(b'moov') if data.index(b'moov') > start else len(data)
  data[start:stop - 4] = bytes(stop - 4 - start)
  path = tmp_path / 'zeros.mp4'
  path.write_bytes(data)
  with pytest.raises(MediaError, match='zeros.mp4: no frame can be decoded'):
    read_video(path, 8, CONFIG)


def test_other_objects_are_refused():
  with pytest.raises(MediaError, match='list'):
    read_video([], 8, CONFIG)
