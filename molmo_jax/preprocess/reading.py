"""Reads an image from a file, a Pillow image or an array into uint8 RGB. numpy and Pillow only."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from molmo_jax.preprocess.types import MediaError, Reading

# Pillow's one-channel modes that hold 16-bit values
_WIDE_MODES = ('I', 'I;16', 'I;16L', 'I;16B', 'I;16N')


def load_image(source: str | Path | bytes | Image.Image | np.ndarray, *,
               turn_pillow_images: bool = True, mode: Reading = 'composite') -> np.ndarray:
  """Reads an image as uint8 RGB [h,w,3].

  Args:
    source: a file, its bytes, a Pillow image or an array.
    turn_pillow_images: whether a Pillow image is turned by its EXIF orientation, as files are.
    mode: 'composite' follows the rules below. 'convert' leaves every mode to Pillow's
      `convert('RGB')`, as the training code of the released models does: transparency is dropped
      and the colour below it shows, 16-bit grey is clipped (allenai/molmo2 f3cb108
      olmo/preprocessing/image_preprocessor.py:54).

  The rules, one for each peculiarity:
    * a file is turned upright by its EXIF orientation, and so is a Pillow image that carries one,
      unless `turn_pillow_images` is False (transformers leaves it as it is);
    * transparency (alpha channel, transparent palette entry or colour) is composited on white, as
      the transformers classes do (docs/model.md §6.2);
    * 16-bit grey is scaled to 8 bits (65535 → 255), not clipped; palette, grey, 1-bit, CMYK and the
      like are converted;
    * of an animation, the first frame counts;
    * an array is uint8: grey [h,w] or [h,w,1], RGB [h,w,3] or RGBA [h,w,4].

  Raises:
    MediaError: missing, truncated, not an image, without pixels, too large to be honest (Pillow's
      limit against decompression bombs), floating-point, or an array of another type or shape. The
      message names the file.
  """
  if isinstance(source, np.ndarray):
    return _from_array(source, mode)
  if isinstance(source, Image.Image):
    return _decode(source, f"image {getattr(source, 'filename', '') or 'in memory'}",
                   turn_pillow_images, mode)
  if not isinstance(source, (str, os.PathLike, bytes)):
    raise MediaError('an image must be a path, bytes, a Pillow image or a uint8 array, not '
      f'{type(source).__name__}')
  name = 'image in memory' if isinstance(source, bytes) else f'image {os.fspath(source)}'
  try:
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
      return _decode(image, name, True, mode)
  except FileNotFoundError as error:
    raise MediaError(f'{name}: no such file') from error
  except UnidentifiedImageError as error:
    raise MediaError(f'{name}: empty, or not an image format that Pillow knows') from error
  except (Image.DecompressionBombError, OSError, ValueError) as error:
    raise _media_error(error, name) from error


def _decode(image: Image.Image, name: str, turn: bool, mode: Reading) -> np.ndarray:
  if not (image.width and image.height):
    raise MediaError(f'{name}: has no pixels ({image.width}×{image.height})')
  try:
    image.load()
    if mode == 'convert':   # then turned, in the released order
      image = image.convert('RGB')
    return np.array(_to_rgb(ImageOps.exif_transpose(image) if turn else image, name))
  except Exception as error:
    # decoders of damaged files raise OSError, SyntaxError, struct.error, EOFError, …
    raise _media_error(error, name) from error


def _media_error(error: Exception, name: str) -> MediaError:
  return error if isinstance(error, MediaError) else MediaError(f'{name}: cannot be decoded '
    f'({error})')


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
  if image.mode in _WIDE_MODES:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
      raise MediaError(f'{name}: {image.mode} values {values.min()}…{values.max()} are not 16-bit; '
        'save it with 8 bits')
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8)).convert('RGB')
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
  return np.array(image.convert('RGB') if mode == 'convert' else _to_rgb(image, 'image array'))
