"""Reads an image from a file, a Pillow image or an array into uint8 RGB. numpy and Pillow only."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from molmo_jax.preprocess.media_files import (
  check_pixels,
  media_errors,
  open_media,
  turn,
)
from molmo_jax.preprocess.types import MAX_PIXELS, MediaError, Reading

# Formats that Pillow decodes by itself. Not: EPS, which starts Ghostscript; formats that hand the
# file to another program or that hold no pixels.
FORMATS = ('PNG', 'JPEG', 'WEBP', 'GIF', 'BMP', 'DIB', 'TIFF', 'PPM', 'AVIF', 'JPEG2000',
           'ICO', 'TGA', 'DDS', 'PCX', 'PSD', 'QOI', 'SGI')

# Pillow's one-channel modes that hold more than 8 bits
_WIDE_MODES = ('I', 'I;16', 'I;16L', 'I;16B', 'I;16N')
_TO_8_BITS = ((np.arange(65536) * 255 + 32767) // 65535).astype(np.uint8)
_STRIP = 2**22   # pixels that are converted at once: their copies are small beside the picture

_ORIENTATION = 0x0112   # of EXIF: whether axes are exchanged, then rows and columns reversed
_TURNS = {2: (False, False, True), 3: (False, True, True), 4: (False, True, False),
          5: (True, False, False), 6: (True, False, True), 7: (True, True, True),
          8: (True, True, False)}

# Tags of a TIFF that say where and how its pixels are stored, and which way is up
_TIFF_TAGS = {254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320,
              322, 323, 324, 325, 332, 338, 339, 347, 529, 530, 531, 532}

# Pillow warns of metadata that are left out, and of sizes that `max_pixels` decides on.
warnings.filterwarnings('ignore', module=r'PIL\.')


def load_image(source: str | Path | bytes | Image.Image | np.ndarray, *,
               turn_pillow_images: bool = True, mode: Reading = 'composite',
               max_pixels: int = MAX_PIXELS) -> np.ndarray:
  """Reads an image as uint8 RGB [h,w,3].

  Args:
    source: a file in one of the `FORMATS`, its bytes, a Pillow image or an array.
    turn_pillow_images: whether a Pillow image is turned by its EXIF orientation, as files are.
    mode: 'composite' follows the rules below. 'convert' leaves every mode to Pillow's
      `convert('RGB')`, as the training code of the released models does: transparency is dropped
      and the colour below it shows, 16-bit grey is clipped (allenai/molmo2 f3cb108
      olmo/preprocessing/image_preprocessor.py:54).
    max_pixels: a larger image is refused before it is decoded.

  The rules, one for each peculiarity:
    * a file is turned upright by its EXIF orientation, and so is a Pillow image that carries one,
      unless `turn_pillow_images` is False (transformers leaves it as it is); no other metadata is
      looked at, so that none can cost the pixels;
    * transparency (alpha channel, transparent palette entry or colour) is composited on white, as
      the transformers classes do (docs/model.md §6.2);
    * 16-bit grey is scaled to 8 bits (65535 → 255), not clipped; so is 32-bit grey, unless its
      values are 0…255, which are levels already; palette, grey, 1-bit, CMYK and the like are
      converted;
    * of an animation, the first frame counts;
    * an array is uint8: grey [h,w] or [h,w,1], RGB [h,w,3] or RGBA [h,w,4].

  Raises:
    MediaError: missing, no regular file, truncated, not an image, without pixels, too large,
      floating-point, or an array of another type or shape. The message names the file.
  """
  if isinstance(source, np.ndarray):
    return _from_array(source, mode)
  if isinstance(source, Image.Image):
    name = getattr(source, 'filename', '') or 'in memory'
    with media_errors('image', name):
      return _decode(source, f'image {name}', turn_pillow_images, mode, max_pixels)
  if not isinstance(source, (str, os.PathLike, bytes)):
    raise MediaError('an image must be a path, bytes, a Pillow image or a uint8 array, not '
                     f'{type(source).__name__}')
  name = 'in memory' if isinstance(source, bytes) else os.fspath(source)
  opened = io.BytesIO(source) if isinstance(source, bytes) else open_media('image', source)
  with media_errors('image', name), opened as file:
    try:
      with open_image(file, max_pixels) as image:
        return _decode(image, f'image {name}', True, mode, max_pixels)
    except Exception as error:
      file.seek(0)
      bare = None if isinstance(error, MediaError) else _without_metadata(file, max_pixels)
      if bare is None:
        raise
    with open_image(io.BytesIO(bare), max_pixels) as image:
      return _decode(image, f'image {name}', True, mode, max_pixels)


def open_image(file: IO[bytes], max_pixels: int = MAX_PIXELS) -> Image.Image:
  """A Pillow image of an open file in one of the `FORMATS`; nothing is decoded yet.

  Raises:
    MediaError: too large.
    UnidentifiedImageError: empty, or another format. Damaged files raise anything.
  """
  # of Pillow's own limit, twice the number is an error, whatever `max_pixels` allows
  Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, max_pixels)
  try:
    return Image.open(file, formats=FORMATS)
  except UnidentifiedImageError as error:
    raise UnidentifiedImageError(f'empty, or none of the formats {", ".join(FORMATS)}') from error
  except Image.DecompressionBombError as error:
    raise ValueError(f'{error}; preprocess.max_pixels={max_pixels}') from error


def image_size(source: str | Path) -> tuple[int, int]:
  """Width and height of an image file, turned upright; its pixels are not decoded.

  Raises:
    MediaError: as `load_image`.
  """
  with open_media('image', source) as file, open_image(file) as image:
    turned = _TURNS.get(_orientation(image), (False,))[0]
    return (image.height, image.width) if turned else image.size


def is_image(source: str | Path) -> bool:
  """Whether a file is an image in one of the `FORMATS`, however damaged or large."""
  with open_media('image', source) as file:
    try:
      open_image(file).close()
    except UnidentifiedImageError:
      return False
    except Exception:   # an image; `load_image` says what is wrong with it
      return True
  return True


def _without_metadata(file: IO[bytes], max_pixels: int) -> bytes | None:
  """A PNG or a TIFF of what its pixels and its orientation need; None: another format.

  Pillow refuses a picture for the sake of a long text or colour profile, their checksums, or tags
  of another type than it expects.
  """
  start, most = file.read(8), 8 * max_pixels + 2**20   # 16 bits of four channels, and something
  if start[:4] in (b'II*\0', b'MM\0*'):
    data = bytearray(start + file.read(most))
    order = '<' if start[:2] == b'II' else '>'
    at, = struct.unpack_from(f'{order}I', data, 4)
    end = at + 2 + 12 * struct.unpack_from(f'{order}H', data, at)[0]
    entries = [data[i:i + 12] for i in range(at + 2, end, 12)]
    kept = [e for e in entries if struct.unpack_from(f'{order}H', e)[0] in _TIFF_TAGS]
    struct.pack_into(f'{order}H', data, at, len(kept))
    data[at + 2:end] = b''.join(kept).ljust(end - at - 2, b'\0')
    return bytes(data)
  if start != b'\x89PNG\r\n\x1a\n':
    return None
  chunks = [start]
  while len(head := file.read(8)) == 8 and most > 0:
    size, kind = struct.unpack('>I4s', head)
    if kind not in (b'IHDR', b'PLTE', b'IDAT', b'IEND', b'tRNS', b'eXIf'):
      file.seek(size + 4, os.SEEK_CUR)
      continue
    body, checksum = file.read(min(size, most)), file.read(4)
    if kind in (b'tRNS', b'eXIf'):
      checksum = struct.pack('>I', zlib.crc32(kind + body))
    chunks += [head, body, checksum]
    most -= size
  return b''.join(chunks)


def _decode(image: Image.Image, name: str, turned: bool, mode: Reading,
            max_pixels: int) -> np.ndarray:
  check_pixels(image.height, image.width, max_pixels, name)
  image.load()
  width, height = image.size
  if not (width and height):
    raise MediaError(f'{name}: has no pixels ({width}×{height})')
  levels = _levels(image, name) if image.mode in _WIDE_MODES else None
  pixels, rows = np.empty((height, width, 3), np.uint8), max(_STRIP // width, 1)
  for top in range(0, height, rows):
    strip = image.crop((0, top, width, min(top + rows, height)))
    if mode == 'composite' and levels is not None:
      pixels[top:top + rows] = levels[np.asarray(strip)][..., None]
    else:
      pixels[top:top + rows] = strip.convert('RGB') if mode == 'convert' else _to_rgb(strip, name)
  orientation = _orientation(image) if turned else None
  return turn(pixels, *_TURNS[orientation]) if orientation in _TURNS else pixels


def _orientation(image: Image.Image) -> int | None:
  """The orientation of EXIF; whatever else is there, and however damaged, is not looked at."""
  exif = image.info.get('exif', b'').removeprefix(b'Exif\0\0')
  with contextlib.suppress(struct.error):
    order = '<' if exif[:2] == b'II' else '>'
    start, = struct.unpack_from(f'{order}I', exif, 4)
    for entry in range(*struct.unpack_from(f'{order}H', exif, start)):
      tag, kind, value = struct.unpack_from(f'{order}HH4xH', exif, start + 2 + 12 * entry)
      if (tag, kind) == (_ORIENTATION, 3):
        return value
  with contextlib.suppress(Exception):   # of TIFF and XMP
    return image.getexif().get(_ORIENTATION)
  return None


def _levels(image: Image.Image, name: str) -> np.ndarray:
  """uint8 [values]: the level of each value of a grey image with more than 8 bits."""
  if image.mode != 'I':
    return _TO_8_BITS
  low, high = image.getextrema()
  if low < 0 or high > 65535:
    raise MediaError(f'{name}: values {low}…{high} are not 16-bit; save it with 8 bits')
  # Pillow gives 16 bits of a PPM as 32
  return _TO_8_BITS if high > 255 or image.format == 'PPM' else np.arange(256, dtype=np.uint8)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
  if image.mode == 'F':
    raise MediaError(f'{name}: holds floating-point values of unknown range; save it with 8 bits '
                     'per channel')
  if 'transparency' in image.info or image.mode in ('RGBA', 'LA', 'PA', 'RGBa', 'La'):
    image = image.convert('LA').convert('RGBA') if image.mode == 'La' else image.convert('RGBA')
    return Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image).convert('RGB')
  return image.convert('RGB')


def _from_array(array: np.ndarray, mode: Reading) -> np.ndarray:
  shape: Any = array.shape
  if array.dtype != np.uint8:
    raise MediaError(f'an image array must be uint8 0…255, not {array.dtype}; '
                     'for values in 0..1 pass (array * 255).round().astype(numpy.uint8)')
  if not (array.ndim == 2 or array.ndim == 3 and shape[2] in (1, 3, 4)):
    raise MediaError(
      f'an image array must be [h,w], [h,w,1], [h,w,3] or [h,w,4], not {list(shape)}')
  if not array.size:
    raise MediaError(f'an image array has no pixels: {list(shape)}')
  if array.ndim == 3 and shape[2] == 3:
    return np.ascontiguousarray(array)
  flat = array[..., 0] if array.ndim == 3 and shape[2] == 1 else array
  image = Image.fromarray(np.ascontiguousarray(flat))
  return _decode(image, 'image array', False, mode, array.size)
