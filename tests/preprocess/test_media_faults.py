"""Media that are damaged, hostile or odd: the right pixels, or one error that names the file.

The small files of tests/data/faults were made for this project; frame n of the grey videos has
level 16 + 7 n in its lower right part, at 10 frames a second.
"""

from __future__ import annotations

import http.server
import os
import struct
import threading
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from molmo_jax.preprocess import video_file
from molmo_jax.preprocess.reading import load_image
from molmo_jax.preprocess.types import MediaError, VideoConfig
from molmo_jax.preprocess.video import read_video, sampled_times
from molmo_jax.preprocess.video_file import describe_video

FAULTS = Path(__file__).parents[1] / 'data' / 'faults'
CONFIG = VideoConfig()


def read_frames(path, **kwargs):
  return read_video(path, 128, CONFIG, **kwargs)


def numbers(frames):
  return [round((int(frame[-3, -3, 0]) - 16) / 7) for frame in frames]


# --- time and streams of videos


@pytest.mark.parametrize('name', ['plain.mp4', 'std.ts', 'off.mkv', 'cover_first.mkv'])
def test_a_clip_gives_the_same_frames_from_every_container(name):
  frames, times = read_frames(FAULTS / name, clip=(1, 2))
  assert numbers(frames) == [10, 15, 20] and times.tolist() == [0, 0.5, 1]
  np.testing.assert_array_equal(sampled_times(FAULTS / name, 128, CONFIG, clip=(1, 2)), times)
  height, width, _, fps = describe_video(FAULTS / name)
  assert (height, width, fps) == (64, 96, 10)   # of a film, not of its cover


def test_joined_recordings_follow_one_another():
  frames, times = read_frames(FAULTS / 'abr.ts')
  assert times[-1] == 4.0 and len(times) == 9
  assert frames[:, -3, -3, 0].tolist() == [128] * 4 + [255] * 5


def test_a_sound_with_a_cover_has_no_video_stream():
  with pytest.raises(MediaError, match=r'song.m4a: has no video stream'):
    read_frames(FAULTS / 'song.m4a')


@pytest.mark.parametrize('name, top, left', [
  ('rot90.mp4', True, False), ('rot90f.mp4', True, True), ('rot180f.mp4', False, True)])
def test_the_whole_display_matrix_is_applied(name, top, left):
  """A red square in the upper left corner of the stored frames."""
  frame = read_frames(FAULTS / name)[0][0].astype(int)
  rows, columns = np.nonzero((frame[..., 0] > 180) & (frame[..., 1] < 100))
  assert (rows.mean() < frame.shape[0] / 2, columns.mean() < frame.shape[1] / 2) == (top, left)
  assert describe_video(FAULTS / name)[:2] == frame.shape[:2]


@pytest.mark.parametrize('stamps, starts', [
  ([5, 6, 7], [0, 1, 2, 3]),
  ([-3, -2, 0], [0, 1, 3, 4]),                       # negative
  ([0, 2, 2, 4], [0, 2, 3, 4, 5]),                   # repeated: they share the time
  ([7, 7, 7], [0, 1, 2, 3]),
  ([None, None, 9, None, 11], [0, 1, 2, 3, 4, 5]),   # missing
  ([None, None], [0, 1, 2]),
  ([8, 9, 10, 0, 1], [0, 1, 2, 3, 4, 5]),            # another recording was joined
  ([8, 8, 0, 0, 4], [0, 1, 2, 4, 6, 7]),
])
def test_wrong_stamps_lose_no_frame(stamps, starts):
  np.testing.assert_allclose(video_file._repaired(stamps, 1, 1), starts)


def test_a_stream_without_stamps_gives_all_its_frames(tmp_path):
  with av.open(str(FAULTS / 'plain.mp4')) as source, av.open(
      str(tmp_path / 'bare.h264'), 'w') as target:
    stream = target.add_stream_from_template(source.streams.video[0])
    for packet in source.demux(source.streams.video[0]):
      if packet.size:
        packet.stream = stream
        target.mux(packet)
  frames, _ = read_video(tmp_path / 'bare.h264', 128, VideoConfig(max_fps=25.0))
  assert sorted(set(numbers(frames))) == list(range(31))


def box(data: bytes, *path: bytes) -> int:
  """Where the content of an MP4 box begins."""
  at = 0
  for kind in path:
    at = data.index(kind, at) + 4
  return at


@pytest.mark.parametrize('what', ['years between two frames', 'nanoseconds in all'])
def test_stamps_that_cannot_be_are_refused(tmp_path, what):
  data = bytearray((FAULTS / 'plain.mp4').read_bytes())
  if what == 'nanoseconds in all':
    struct.pack_into('>I', data, box(data, b'mdhd') + 12, 2 ** 31 - 1)   # ticks in a second
  else:
    at = box(data, b'stts')   # version, entries, (frames, ticks of each)
    count, = struct.unpack_from('>I', data, at + 4)
    struct.pack_into('>I', data, at + 8 * count + 4, 2 ** 31 - 1)
    struct.pack_into('>I', data, box(data, b'mdhd') + 12, 1)
  (tmp_path / 'a.mp4').write_bytes(data)
  with pytest.raises(MediaError, match=r'a.mp4: its time stamps are damaged: they say \d+ frames'):
    read_frames(tmp_path / 'a.mp4')


# --- nothing is fetched, nothing is waited for


@pytest.fixture
def visits():
  """Paths that were asked for at a local server, and its address."""
  asked = []

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      asked.append(self.path)
      self.send_error(404)

    def log_message(self, *_):
      pass
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  yield asked, f'127.0.0.1:{server.server_port}'
  server.shutdown()


PLAYLISTS = {
  'm3u8': '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n',
  'concat': "ffconcat version 1.0\nfile '{}'\n",
  'ffmeta': ';FFMETADATA1\ntitle={}\n',
  'sdp': 'v=0\no=- 0 0 IN IP4 127.0.0.1\ns={}\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n'
         'a=rtpmap:96 H264/90000\n',
  'mpd': '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
         '<Period><AdaptationSet><Representation id="1"><BaseURL>{}</BaseURL></Representation>'
         '</AdaptationSet></Period></MPD>',
  'tty': 'hello {}\n'}


@pytest.mark.parametrize('kind', PLAYLISTS)
def test_playlists_are_no_videos_and_open_nothing(tmp_path, visits, kind):
  asked, address = visits
  for target in (FAULTS / 'plain.mp4', f'http://{address}/a.ts'):
    for name in (f'a.{kind}', 'a.mp4'):
      (tmp_path / name).write_text(PLAYLISTS[kind].format(target))
      with pytest.raises(MediaError, match=name):
        read_frames(tmp_path / name)
  assert not asked


def test_addresses_and_protocols_are_names_of_files_that_do_not_exist(tmp_path, visits):
  asked, address = visits
  for name in (f'http:/{address}/a.mp4', f'http://{address}/a.mp4', f'tcp://{address}', 'pipe:0',
               f'concat:{FAULTS}/plain.mp4', f'file:{FAULTS}/plain.mp4'):
    for read in (read_frames, load_image, describe_video):
      with pytest.raises(MediaError, match='no such file'):
        read(name)
  assert not asked


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
  os.mkfifo(tmp_path / 'fifo')
  for name in (tmp_path / 'fifo', '/dev/zero', tmp_path, f'{FAULTS}/plain.mp4\0.png',
               f'{tmp_path}/half \ud800'):
    for read in (read_frames, load_image, describe_video):
      with pytest.raises(MediaError):
        read(name)


def test_eps_does_not_start_ghostscript(monkeypatch):
  monkeypatch.setattr('subprocess.Popen', None)   # a call would be another error
  with pytest.raises(MediaError, match='none of the formats PNG, JPEG'):
    load_image(FAULTS / 'img_runs_ghostscript.eps')


# --- metadata cost no pixels


def chunk(kind: bytes, body: bytes, checksum: int | None = None) -> bytes:
  checksum = zlib.crc32(kind + body) if checksum is None else checksum
  return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', checksum)


@pytest.fixture
def picture():
  return np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize('extra', [
  chunk(b'zTXt', b'a\0\0' + zlib.compress(bytes(10 ** 7))),
  chunk(b'iCCP', b'a\0\0' + zlib.compress(bytes(10 ** 7))),
  chunk(b'tEXt', b'a\0b', checksum=1),
  chunk(b'iTXt', b'\xff' * 9), chunk(b'gAMA', b''), chunk(b'pHYs', b'1'), chunk(b'acTL', b'1')],
  ids=['long text', 'long profile', 'checksum', 'itxt', 'gamma', 'size', 'animation'])
@pytest.mark.parametrize('last', [False, True])
def test_ancillary_chunks_of_a_png_do_not_cost_its_pixels(tmp_path, picture, extra, last):
  exif = Image.Exif()
  exif[0x0112] = 6
  Image.fromarray(picture).save(tmp_path / 'a.png', exif=exif)
  data = (tmp_path / 'a.png').read_bytes()
  at = data.index(b'IEND') - 4 if last else data.index(b'IDAT') - 4
  (tmp_path / 'a.png').write_bytes(data[:at] + extra + data[at:])
  np.testing.assert_array_equal(load_image(tmp_path / 'a.png'), np.rot90(picture, -1))


@pytest.mark.parametrize('compression', [None, 'tiff_lzw', 'jpeg'])
@pytest.mark.parametrize('tag', [270, 306, 700])   # a description, a date, XMP
@pytest.mark.parametrize('entry', [(3, 2, 8), (4, 9, 2 ** 31), (16, 2 ** 32 - 1, 0), (5, 1, 8)])
def test_odd_tags_of_a_tiff_do_not_cost_its_pixels(tmp_path, picture, compression, tag, entry):
  path = tmp_path / 'a.tif'
  Image.fromarray(picture).save(path, compression=compression, tiffinfo={
    270: 'a', 306: '2020', 700: b'xmp', 274: 6})
  right = load_image(path)
  assert right.shape == (9, 6, 3)
  data = bytearray(path.read_bytes())
  start, = struct.unpack_from('<I', data, 4)
  count, = struct.unpack_from('<H', data, start)
  at = next(at for at in range(start + 2, start + 2 + 12 * count, 12)
            if struct.unpack_from('<H', data, at) == (tag,))
  struct.pack_into('<HII', data, at + 2, *entry)
  path.write_bytes(data)
  np.testing.assert_array_equal(load_image(path), right)


def test_of_exif_only_the_orientation_is_read(tmp_path, picture):
  image = load_image(FAULTS / 'exif_rational_as_str+o6.jpg')
  assert image.shape == (60, 40, 3)
  entries = [(0x010F, 2, 9 ** 9, 9 ** 9), (0x0112, 3, 1, 6), (0x011A, 2, 5, 9 ** 9)]
  tiff = b'II*\0' + struct.pack('<IH', 8, len(entries)) + b''.join(
    struct.pack('<HHII', *entry) for entry in entries) + bytes(4)
  Image.fromarray(picture).save(tmp_path / 'a.png', exif=b'Exif\0\0' + tiff)
  np.testing.assert_array_equal(load_image(tmp_path / 'a.png'), np.rot90(picture, -1))


def test_32_bit_grey_with_levels_is_as_grey_as_its_values(tmp_path):
  for values, levels in (([0, 7, 255], [0, 7, 255]), ([0, 257, 65535], [0, 1, 255])):
    Image.fromarray(np.array([values], np.int32)).save(tmp_path / 'a.tif')
    assert load_image(tmp_path / 'a.tif')[0, :, 0].tolist() == levels
  Image.fromarray(np.array([[0, 255]], np.uint16)).save(tmp_path / 'dark.pgm')   # 16 bits
  assert load_image(tmp_path / 'dark.pgm')[0, :, 0].tolist() == [0, 1]


def test_a_text_in_another_encoding_does_not_cost_the_frames():
  assert len(read_frames(FAULTS / 'latin1_title.mp4')[0]) == 3


# --- bounds and errors


def test_too_large_pictures_are_refused_before_decoding():
  with pytest.raises(MediaError, match=r'img_176MP_6kB.webp: 16000×11000 are 176 Mpixel; at most '
                                       r'100 are decoded \(preprocess.max_pixels=100000000\)'):
    load_image(FAULTS / 'img_176MP_6kB.webp')
  for read in (read_frames, describe_video):
    with pytest.raises(MediaError, match='plain.mp4: 96×64 .*preprocess.max_pixels=6143'):
      read(FAULTS / 'plain.mp4', max_pixels=6143)
    read(FAULTS / 'plain.mp4', max_pixels=6144)


@pytest.mark.parametrize('name, reason', [
  ('vid_unknown_codec.mp4', 'no decoder for the codec'),
  ('img_avif_runtimeerror.avif', 'cannot be read as an image')])
def test_any_fault_of_a_decoder_names_the_file(name, reason):
  with pytest.raises(MediaError, match=f'{name}: {reason}'):
    (load_image if name.startswith('img') else read_frames)(FAULTS / name)
