"""Image files of every format that Pillow writes here, damaged; all through `load_image`."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from molmo_jax.preprocess.reading import load_image
from tests.campaign.engine import Case
from tests.campaign.mutate import INTEGERS, Rng, damage_bytes, pick

HEIGHT, WIDTH = 24, 40
LARGEST = 100e6                  # pixels that `preprocess.max_pixels` allows
METADATA = (b'tEXt', b'zTXt', b'iTXt', b'eXIf', b'iCCP', b'tIME', b'pHYs', b'gAMA', b'cHRM',
            b'zzZz')
FOREIGN = {
  'a.eps': b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n0 0 moveto showpage\n',
  'a.pdf': b'%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF',
  'a.svg': b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', 'a.png': b'',
  'a.h5': b'\x89HDF\r\n\x1a\n' + bytes(500), 'a.grib': b'GRIB' + bytes(500),
  'a.jpg': b'\xff\xd8\xff',
  'a.bufr': b'BUFR' + bytes(500), 'a.fits': b'SIMPLE  =                    T'.ljust(2880),
  'a.html': b'<!DOCTYPE html><html><body>404</body></html>',
  'a.npy': b'\x93NUMPY\x01\0' + bytes(80),
  'a.pkl': b'cos\nsystem\n(S"true"\ntR.', 'a.wmf': b'\xd7\xcd\xc6\x9a' + bytes(200),
  'a.zip': b'PK\x03\x04' + bytes(200), 'a.txt': 'grüße\n'.encode() * 40, 'a.gif': b'GIF89a'}


def picture() -> np.ndarray:
  """uint8 [h,w,3] whose eight orientations all differ."""
  y, x = np.mgrid[:HEIGHT, :WIDTH]
  return np.stack([x * 6, y * 10, np.where((x < 9) & (y < 5), 250, 20)], -1).astype(np.uint8)


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
  """`array` as a file with this EXIF orientation is shown."""
  if orientation > 4:
    array = array.swapaxes(0, 1)
  rows, columns = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1),
                   7: (-1, -1), 8: (-1, 1)}[orientation]
  return array[::rows, ::columns]


def _written(image: Image.Image, kind: str, **options: Any) -> bytes:
  file = io.BytesIO()
  image.save(file, kind, **options)
  return file.getvalue()


def _exif(orientation: int) -> Image.Exif:
  exif = Image.Exif()
  exif[0x0112], exif[0x010F], exif[0x011A] = orientation, 'maker', 72.0
  return exif


def base_files() -> dict[str, tuple[bytes, np.ndarray, float]]:
  """Name → bytes, the picture that is right, and how far the mean of a value may be from it."""
  rgb = picture()
  color, grey = Image.fromarray(rgb), Image.fromarray(rgb[..., 0])
  flat = np.repeat(rgb[..., :1], 3, -1)
  alpha = np.linspace(0, 255, WIDTH).astype(np.uint8)[None].repeat(HEIGHT, 0)
  clear = Image.fromarray(np.dstack([rgb, alpha]))
  on_white = rgb * (alpha[..., None] / 255) + 255 - alpha[..., None]
  wide = Image.fromarray(rgb[..., 0].astype(np.uint16) * 257)
  bits = grey.convert('1', dither=Image.Dither.NONE)
  black = np.repeat(np.asarray(bits)[..., None] * 255, 3, -1)
  table = color.quantize(64)
  frames = [color, Image.fromarray(255 - rgb)]
  files = {
    'rgb.png': (_written(color, 'PNG'), rgb, 0), 'grey.png': (_written(grey, 'PNG'), flat, 0),
    'alpha.png': (_written(clear, 'PNG'), on_white, 1),
    'wide.png': (_written(wide, 'PNG'), flat, 1),
    'bits.png': (_written(bits, 'PNG'), black, 0), 'table.png': (_written(table, 'PNG'), rgb, 20),
    'clear_table.png': (_written(table, 'PNG', transparency=bytes([255] * 64)), rgb, 20),
    'key.png': (_written(color, 'PNG', transparency=(1, 2, 3)), rgb, 0),
    'moves.png': (_written(color, 'PNG', save_all=True, append_images=frames[1:]), rgb, 0),
    'a.jpg': (_written(color, 'JPEG', quality=95), rgb, 20),
    'steps.jpg': (_written(color, 'JPEG', quality=95, progressive=True), rgb, 20),
    'grey.jpg': (_written(grey, 'JPEG', quality=95), flat, 20),
    'cmyk.jpg': (_written(color.convert('CMYK'), 'JPEG', quality=95), rgb, 20),
    'a.gif': (_written(table, 'GIF'), rgb, 20),
    'moves.gif': (_written(frames[0], 'GIF', save_all=True, append_images=frames[1:]), rgb, 20),
    'a.webp': (_written(color, 'WEBP', quality=95), rgb, 20),
    'exact.webp': (_written(color, 'WEBP', lossless=True), rgb, 0),
    'alpha.webp': (_written(clear, 'WEBP', lossless=True, exact=True), on_white, 1),
    'moves.webp': (_written(color, 'WEBP', save_all=True, append_images=frames[1:], lossless=True),
                   rgb, 0),
    'a.bmp': (_written(color, 'BMP'), rgb, 0), 'bits.bmp': (_written(bits, 'BMP'), black, 0),
    'a.tif': (_written(color, 'TIFF'), rgb, 0), 'wide.tif': (_written(wide, 'TIFF'), flat, 1),
    'lzw.tif': (_written(color, 'TIFF', compression='tiff_lzw'), rgb, 0),
    'deflate.tif': (_written(color, 'TIFF', compression='tiff_adobe_deflate'), rgb, 0),
    'cmyk.tif': (_written(color.convert('CMYK'), 'TIFF'), rgb, 2),
    'pages.tif': (_written(color, 'TIFF', save_all=True, append_images=frames[1:]), rgb, 0),
    'small32.tif': (_written(Image.fromarray(rgb[..., 0].astype(np.int32)), 'TIFF'), flat, 0),
    'a.avif': (_written(color, 'AVIF', quality=95, max_threads=1), rgb, 25)}
  for orientation in range(1, 9):
    right = upright(rgb, orientation)
    files[f'turn{orientation}.jpg'] = (
      _written(color, 'JPEG', quality=95, exif=_exif(orientation)), right, 20)
    files[f'turn{orientation}.png'] = (_written(color, 'PNG', exif=_exif(orientation)), right, 0)
  return files


# formats that may be refused as unknown, but must not do worse
OTHERS = ('TGA', 'ICO', 'JPEG2000', 'PPM', 'PCX', 'SGI', 'DDS', 'QOI', 'MPO', 'ICNS', 'IM', 'MSP',
          'XBM', 'BLP', 'SPIDER')


def other_files() -> dict[str, bytes]:
  """Files of the formats in OTHERS, and a TIFF of floats."""
  color, files = Image.fromarray(picture()), {}
  for kind in OTHERS:
    image = color.convert({'MSP': '1', 'XBM': '1', 'BLP': 'P', 'SPIDER': 'F'}.get(kind, 'RGB'))
    files[f'a.{kind.lower()}'] = _written(image, kind)
  files['float.tif'] = _written(color.convert('F'), 'TIFF')
  return files


class Inputs:
  """The area of images."""

  def __init__(self, base: Path, port: int):
    self._files, self._others, self._port = base_files(), other_files(), port
    self._kinds: dict[Callable[[Rng, Path], Case], float] = {
      self._control: 5, self._damaged: 55, self._metadata: 17, self._giant: 8, self._suffix: 4,
      self._foreign: 4, self._unopenable: 3, self._huge: 0.3, self._memory: 4}

  def case(self, rng: Rng, folder: Path) -> Case:
    weights = np.array(list(self._kinds.values()))
    return list(self._kinds)[rng.choice(len(weights), p=weights / weights.sum())](rng, folder)

  def _control(self, rng: Rng, folder: Path) -> Case:
    name = pick(rng, self._files)
    data, right, tolerance = self._files[name]
    return _read(_write(folder / name, data), f'control: {name}', is_like(right, tolerance),
                 'value')

  def _damaged(self, rng: Rng, folder: Path) -> Case:
    sources = {k: v[0] for k, v in self._files.items()} | self._others
    name = pick(rng, sources)
    data, how = damage_bytes(sources[name], rng, 200)
    return _read(_write(folder / name, data), f'damaged {name}: {how}', is_picture,
                 mode=pick(rng, ('composite', 'convert')))

  def _metadata(self, rng: Rng, folder: Path) -> Case:
    """Text, profiles and EXIF that are odd: the pixels are what they were."""
    if rng.random() < 0.5:
      name = pick(rng, ('rgb.png', 'grey.png', 'bits.png', 'moves.png'))
      data, right, tolerance = self._files[name]
      kind = pick(rng, METADATA)
      data = data[:33] + png_chunk(kind, _odd(rng, kind), rng.random() < 0.3) + data[33:]
      how = f'metadata: {kind.decode()} in {name}'
    else:
      name = pick(rng, [n for n in self._files if n.endswith('.jpg') and n.startswith('turn')])
      data, right, tolerance = self._files[name]
      size = data.index(b'Exif') - 4
      end = size + 2 + int.from_bytes(data[size + 2:size + 4], 'big')
      odd, how = damage_bytes(data[size + 10:end], rng)
      odd = b'\xff' + pick(rng, (b'\xe1', b'\xe1', b'\xed', b'\xfe', b'\xe2')) \
        + (len(odd[:60000]) + 8).to_bytes(2, 'big') + b'Exif\0\0' + odd[:60000]
      data, right = data[:size] + odd + data[end:], picture()
      how = f'metadata: EXIF of {name}, {how}'

    def check(array: np.ndarray) -> None:
      turned = [upright(right, o) for o in (range(1, 9) if b'Exif' in data or b'eXIf' in data
                                            else (1,))]
      assert any(_distance(array, t) <= tolerance for t in turned), 'other pixels'
    return _read(_write(folder / name, data), how, check, 'value')

  def _giant(self, rng: Rng, folder: Path) -> Case:
    """A header that promises another size."""
    name = pick(rng, ('rgb.png', 'bits.png', 'a.gif', 'a.bmp', 'a.jpg', 'a.webp', 'exact.webp',
                      'a.tif', 'lzw.tif', 'a.avif'))
    data = bytearray(self._files[name][0])
    size = [pick(rng, [i for i in INTEGERS if i < 2**32] + [9999, 12000, 16383, 65000])
            for _ in range(2)]
    if name.endswith('.png'):
      data[16:24] = struct.pack('>II', *size)
      data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, 'big')
    else:                          # wherever the true size stands, one of its numbers or both
      for order, width in (('big', 2), ('little', 2), ('big', 4), ('little', 4)):
        for true, new in zip((WIDTH, HEIGHT), size):
          value = (new % (1 << 8 * width)).to_bytes(width, order)
          found = data.find(true.to_bytes(width, order))
          if found >= 0 and rng.random() < 0.6:
            data[found:found + width] = value
    too_large = name.endswith('.png') and size[0] * size[1] > LARGEST
    return _read(_write(folder / name, bytes(data)), f'size: {name} {size}', is_picture,
                 'error' if too_large else 'either')

  def _huge(self, rng: Rng, folder: Path) -> Case:
    """As many pixels as the header says, in a small file."""
    side = int(rng.integers(4000, 16000))
    image = Image.new(pick(rng, ('1', 'L', 'P')), (side, int(rng.integers(4000, 16000))))
    name, kind = pick(rng, (('a.png', 'PNG'), ('a.gif', 'GIF'), ('a.tif', 'TIFF')))
    options = {'compression': 'tiff_deflate'} if kind == 'TIFF' else {}
    data = _written(image, kind, **options)
    large = image.width * image.height > LARGEST
    return _read(_write(folder / name, data), f'huge: {name} {image.size} {image.mode}', is_picture,
                 'error' if large else 'value')

  def _suffix(self, rng: Rng, folder: Path) -> Case:
    name = pick(rng, self._files)
    data, right, tolerance = self._files[name]
    suffix = pick(rng, ('eps', 'pdf', 'tif', 'jpg', 'JPG', '', 'txt', 'png'))
    other = f'{name.partition(".")[0]}.{suffix}'
    return _read(_write(folder / other, data), f'suffix: {name} as {other}',
                 is_like(right, tolerance), 'value')

  def _foreign(self, rng: Rng, folder: Path) -> Case:
    name = pick(rng, FOREIGN)
    data = FOREIGN[name] + (rng.bytes(int(rng.integers(64))) if rng.random() < 0.5 else b'')
    return _read(_write(folder / name, data), f'foreign: {name}', is_picture, 'error')

  def _unopenable(self, rng: Rng, folder: Path) -> Case:
    path, names = unopenable(rng, folder, 'a.png', self._files['rgb.png'][0], self._port)
    return Case(f'unopenable: {names}', lambda: load_image(path), is_picture, names, 'error')

  def _memory(self, rng: Rng, folder: Path) -> Case:
    """Bytes, and what Pillow opened."""
    name = pick(rng, self._files)
    data, how = damage_bytes(self._files[name][0], rng, 200)
    _write(folder / name, data)
    return Case(f'in memory: {name} {how}', lambda: load_image(data), is_picture, 'image in memory')


def unopenable(rng: Rng, folder: Path, name: str, data: bytes, port: int) -> tuple[Any, str]:
  """A source that is no regular file, and what an error must say."""
  path, kind = folder / name, int(rng.integers(10))
  if kind == 0:
    os.mkfifo(path)
  elif kind == 1:
    path.mkdir()
  elif kind == 2:
    path = Path(pick(rng, ('/dev/zero', '/dev/null', '/dev/random', '/dev/tty', '/dev/stdin')))
  elif kind == 3:
    path.symlink_to(pick(rng, ('/dev/zero', name, '/dev/stdin')))
  elif kind == 4:
    with socket.socket(socket.AF_UNIX) as listener:
      listener.bind(os.path.relpath(path))
  elif kind == 5:
    _write(path, data)
    return str(path) + '\0.png', name
  elif kind == 6:
    return str(folder / 'a\ud800.png'), '.png'
  elif kind == 7:
    return str(folder / ('n' * 5000)), 'nnn'
  elif kind == 8:
    text = pick(rng, ('http://127.0.0.1:{}/a', 'http:/127.0.0.1:{}/a', 'tcp:127.0.0.1:{}',
                      'tcp://127.0.0.1:{}', 'https:127.0.0.1:{}', 'pipe:0', 'pipe:', 'fd:0',
                      'data:a', 'concat:a|b', 'crypto:a', 'subfile,,start,0,end,9,,:a',
                      'cache:http:x', '-',
                      'rtmp://127.0.0.1:{}/a', 'udp://127.0.0.1:{}', 'file:a', 'async:a', 'glob:*'))
    return text.format(port), text.format(port)[:20]
  return path, path.name


def png_chunk(kind: bytes, data: bytes, bad_sum: bool = False) -> bytes:
  """A chunk of a PNG file."""
  checksum = zlib.crc32(kind + data) ^ bad_sum
  return len(data).to_bytes(4, 'big') + kind + data + checksum.to_bytes(4, 'big')


def _odd(rng: Rng, kind: bytes) -> bytes:
  """Contents of a chunk; large ones, some compressed."""
  packed = zlib.compress(bytes(pick(rng, (10, 70_000, 2_000_000))))
  if kind == b'eXIf':
    return damage_bytes(_exif(int(rng.integers(1, 9))).tobytes()[6:], rng)[0]
  return pick(rng, (b'', b'key\0\0' + packed, b'key\0' + packed, rng.bytes(40), b'key\0value',
                    b'k' * 300, b'key\0\1\0en\0\0' + packed, b'\xff\xfe\0\0\0\0'))


def _write(path: Path, data: bytes) -> Path:
  path.write_bytes(data)
  return path


def _read(path: Path, what: str, check: Callable[[Any], None], wanted: Any = 'either',
          mode: Any = 'composite') -> Case:
  return Case(what, lambda: load_image(str(path), mode=mode), check, path.name, wanted)


def is_picture(array: Any) -> None:
  """What holds for every image that is read."""
  assert isinstance(array, np.ndarray) and array.dtype == np.uint8, type(array)
  assert array.ndim == 3 and array.shape[2] == 3 and array.size, array.shape
  assert array.shape[0] * array.shape[1] <= LARGEST, array.shape


def is_like(right: np.ndarray, tolerance: float) -> Callable[[np.ndarray], None]:
  """A check that the picture is `right`."""
  def check(array: np.ndarray) -> None:
    is_picture(array)
    distance = _distance(array, right)
    assert distance <= tolerance, f'pixels differ by {distance:.1f} in the mean'
  return check


def _distance(array: np.ndarray, right: np.ndarray) -> float:
  if array.shape != right.shape:
    return np.inf
  return float(np.abs(array.astype(float) - right).mean())
