"""The user's files before preprocessing: images or one video, recognised by their content."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from molmo_jax.evaluation.media import thumbnail
from molmo_jax.preprocess.reading import is_image, load_image
from molmo_jax.preprocess.types import MAX_PIXELS, MediaError
from molmo_jax.preprocess.video_file import describe_video

# longest side of the picture that stands for a file in the page, pixels
SIDE = 720


@dataclasses.dataclass(frozen=True)
class Source:
  """An image or a video as it is in its file."""
  path: str
  height: int                                 # pixels, upright
  width: int
  small: np.ndarray | None = None             # uint8 [h,w,3], at most SIDE pixels; None for a video
  # of a video, as its file says; 0: the file does not say
  frames: int | None = None
  fps: float | None = None                    # frames per second of a video

  @property
  def is_video(self) -> bool:
    """Whether the file was a video."""
    return self.frames is not None

  @property
  def name(self) -> str:
    """Name of the file, without its folder."""
    return Path(self.path).name


def read_sources(paths: Sequence[str], max_pixels: int = MAX_PIXELS) -> tuple[Source, ...]:
  """One record per file: images, or a single video.

  Args:
    max_pixels: larger images, and videos of larger frames, are refused.

  Raises:
    MediaError: no file, one that is missing or neither image nor video, or a video beside something
      else.
  """
  if not paths:
    raise MediaError('no image and no video is given; for example: molmo-jax walkthrough image.jpg')
  sources = tuple(_read_source(path, max_pixels) for path in paths)
  videos = [source.path for source in sources if source.is_video]
  if videos and len(sources) > 1:
    raise MediaError(f'{videos[0]} is a video: give that one alone, or images only')
  return sources


def _read_source(path: str, max_pixels: int) -> Source:
  if not Path(path).is_file():
    raise MediaError(f'{path}: {"a folder, not a file" if Path(path).is_dir() else "no such file"}')
  if is_image(path):
    pixels = load_image(path, max_pixels=max_pixels)
    height, width = pixels.shape[:2]
    return Source(path, height, width, np.asarray(thumbnail(pixels, SIDE)[0]))
  try:
    height, width, frames, fps = describe_video(path, max_pixels)
  except MediaError as error:
    raise MediaError(f'{path}: neither an image nor a video that can be read ({error})') from error
  return Source(path, height, width, frames=frames, fps=fps)
