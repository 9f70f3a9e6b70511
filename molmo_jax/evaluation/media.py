"""Pictures for the report: read again from the media of a prediction, and made small."""

from __future__ import annotations

import base64
import dataclasses
import io

import numpy as np
from PIL import Image

from molmo_jax.evaluation.predictions import Prediction
from molmo_jax.preprocess.reading import load_image
from molmo_jax.preprocess.types import PreprocessConfig
from molmo_jax.preprocess.video import read_video

# longest side of a picture that stands alone, pixels
PICTURE_SIDE = 320
STRIP_SIDE = 160                                # longest side of one picture of several, pixels
# up to this longest side, pixels, a picture is kept as it is
TINY_SIDE = 128


@dataclasses.dataclass(frozen=True)
class Picture:
  """What the report shows of one image, or of one frame of a video."""
  pixels: np.ndarray                          # uint8 [h,w,3]
  # printed under the picture; empty: its time, or its number of several
  label: str = ''
  time: float | None = None                   # seconds, for a frame of a video

  def __post_init__(self):
    x = self.pixels
    if x.ndim != 3 or x.shape[2] != 3 or x.dtype != np.uint8 or not x.size:
      raise ValueError(f'a picture is uint8 [h,w,3], not {x.dtype} {list(x.shape)}')


def load_media(prediction: Prediction, config: PreprocessConfig) -> list[Picture]:
  """Reads the media of a prediction, every picture no larger than the report needs.

  Args:
    prediction: its `media` are images, or with `times` one video.
    config: with which the media were read in the evaluation.

  Returns:
    The images in their order, or the frames that the model saw.

  Raises:
    MediaError: a file that cannot be read; the message names it.
  """
  if not prediction.times:
    return [Picture(_shrink(load_image(path, max_pixels=config.max_pixels)))
            for path in prediction.media]
  # Resized one by one: the frames of a long video in full size would not fit into memory.
  clip = (prediction.clip[0], prediction.clip[-1]) if prediction.clip else None
  frames, times = read_video(prediction.media[0], config.video.max_frames_eval, config.video,
                             clip=clip, resize=_shrink, max_pixels=config.max_pixels)
  return [Picture(frame, time=float(time)) for frame, time in zip(frames, times, strict=True)]


def _shrink(pixels: np.ndarray) -> np.ndarray:
  return np.asarray(thumbnail(pixels, PICTURE_SIDE)[0])


def thumbnail(pixels: np.ndarray, side: int) -> tuple[Image.Image, bool]:
  """`pixels` uint8 [h,w,3] shrunk to `side`, and whether they are tiny (shown pixelated)."""
  image = Image.fromarray(pixels)
  tiny = max(image.size) <= min(TINY_SIDE, side)
  if max(image.size) > side:
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
  return image, tiny


def data_uri(image: Image.Image, lossless: bool) -> str:
  """The image as text that stands for a file: PNG if `lossless`, else JPEG."""
  kind, options = ('png', {}) if lossless else ('jpeg', {'quality': 80})
  buffer = io.BytesIO()
  image.save(buffer, kind, optimize=True, **options)
  return f'data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode("ascii")}'
