"""Files of images and videos: opened in one way, every fault one error; pixels turned upright."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from molmo_jax.errors import MolmoError, shorten
from molmo_jax.files import open_regular
from molmo_jax.preprocess.types import MediaError


@contextlib.contextmanager
def media_errors(what: str, name: str) -> Iterator[None]:
  """Makes every fault of what is done inside one MediaError that names the file and a reason.

  Decoders of damaged files raise OSError, SyntaxError, RuntimeError, struct.error, EOFError and
  whatever else was not thought of.

  Args:
    what: 'image' or 'video'.
    name: of the file, or what stands for it.
  """
  try:
    yield
  except MediaError:
    raise
  except FileNotFoundError as error:
    raise MediaError(f'{what} {name}: no such file') from error
  except MolmoError as error:   # names the file
    raise MediaError(f'{what} {error}') from error
  except Exception as error:
    reason = shorten(str(error) or type(error).__name__, 300)
    raise MediaError(f'{what} {name}: cannot be read as {"an" if what == "image" else "a"} {what} '
                     f'({reason})') from error


@contextlib.contextmanager
def open_media(what: str, source: str | Path) -> Iterator[IO[Any]]:
  """A media file, opened for reading; faults of opening and reading are those of `media_errors`."""
  with media_errors(what, os.fspath(source)), open_regular(source) as file:
    yield file


def check_pixels(height: int, width: int, max_pixels: int, name: str) -> None:
  """Raises MediaError where a picture has more than `max_pixels`; before anything is decoded."""
  if height * width > max_pixels:
    raise MediaError(f'{name}: {width}×{height} are {height * width / 1e6:.4g} Mpixel; at most '
                     f'{max_pixels / 1e6:.4g} are decoded (preprocess.max_pixels={max_pixels})')


def turn(pixels: np.ndarray, transposed: bool, rows: bool, columns: bool) -> np.ndarray:
  """uint8 [h,w,3] with its axes exchanged, then its rows and its columns reversed."""
  if transposed:
    pixels = pixels.transpose(1, 0, 2)
  return np.ascontiguousarray(pixels[::-1 if rows else 1, ::-1 if columns else 1])
