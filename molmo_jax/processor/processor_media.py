"""The media of a conversation as visual inputs, and their sizes as Hugging Face names them
(docs/model.md §6, §7).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from molmo_jax.preprocess import images, layout, reading, video
from molmo_jax.preprocess.tokenizer import Tokenizer
from molmo_jax.preprocess.types import MediaError, PreprocessConfig, Subtitle, VisualInput
from molmo_jax.processor.conversation import local_path


@dataclasses.dataclass(frozen=True)
class Media:
  """The visual inputs of one conversation."""
  inputs: list[VisualInput]                   # one per image, or one for the video
  # height and width of the images, or of the video's frames
  sizes: list[tuple[int, int]]
  is_video: bool = False

  def grids(self) -> dict[str, np.ndarray]:
    """Pooled grids and sizes; those of the other kind of media are empty.

    Returns:
      image_grids int64 [n,4]: rows and columns of the global view's and of the crops' grid;
      image_num_crops int64 [n]; image_sizes int64 [n,2]; video_grids int64 [n,3]: frames, rows,
      columns; video_sizes int64 [n,2]; frame_times float64 [frames], seconds.
    """
    pictures, videos = ([], self.inputs) if self.is_video else (self.inputs, [])
    sizes = np.asarray(self.sizes, np.int64).reshape(-1, 2)
    return {
      'image_grids': _table([[*_grid(v, images.GLOBAL), *_grid(v, images.CROP)] for v in pictures],
                            4),
      'image_num_crops': np.asarray([len(v.crops) for v in pictures], np.int64),
      'image_sizes': sizes[:0] if self.is_video else sizes,
      'video_grids': _table([[len(v.crops), *_grid(v, images.FRAME)] for v in videos], 3),
      'video_sizes': sizes if self.is_video else sizes[:0],
      'frame_times': np.concatenate([np.zeros(0), *(v.frame_times for v in videos)]),
    }


def read_images(sources: Sequence[Any], config: PreprocessConfig, tokenizer: Tokenizer, *,
                numbered: bool) -> Media:
  """Reads and cuts images, with the number of crops for inference.

  Args:
    sources: path, `file://` URL, bytes, Pillow image or uint8 array each.
    numbered: write `Image k` before each of several; False: the prompt has it.

  Raises:
    MediaError: an image that cannot be read.
  """
  inputs, sizes = [], []
  for number, source in enumerate(sources, 1):
    source = local_path(source) if isinstance(source, (str, os.PathLike)) else source
    image = reading.load_image(source, turn_pillow_images=False)
    inputs.append(layout.prepare_image(
      image, config.image, config.image.max_crops_eval, tokenizer.special, tokenizer.encode,
      number if numbered and len(sources) > 1 else None,
      layout.layout_format(config.layout_format)))
    sizes.append(image.shape[:2])
  return Media(inputs, sizes)


def read_video(source: Any, fps: float | None, subtitles: Sequence[Subtitle] | None,
               config: PreprocessConfig,
               tokenizer: Tokenizer) -> Media:
  """Reads the sampled frames of a video, with the number of frames for inference.

  Args:
    source: path or `file://` URL of a video, sampled by time; uint8 [T,h,w,3], or the path of a
      `.npy` file of such an array, sampled by index.
    fps: frames per second of an array.
    subtitles: lines with times, which follow the last frame.

  Raises:
    MediaError: a video that cannot be read, or an array without `fps`.
  """
  sizes: list[tuple[int, int]] = []
  side = config.image.crop_size

  def fit(frame: np.ndarray) -> np.ndarray:
    sizes[:] = [frame.shape[:2]]
    # A letterboxed frame is float and has a mask, so it is made later, from the frame in full size.
    return frame if config.image.resize == 'letterbox' else images.fit(frame, side, side,
                                                                       config.image)[0]

  frames, times = video.read_video(_video_source(source), config.video.max_frames_eval,
                                   config.video, fps=fps,
                                   resize=fit)
  prepared = layout.prepare_video(frames, times, subtitles, config.image, config.video,
                                  tokenizer.special,
                                  tokenizer.encode, layout.layout_format(config.layout_format))
  return Media([prepared], sizes, is_video=True)


def _video_source(source: Any) -> Any:
  if not isinstance(source, (str, os.PathLike)):
    return source
  path = local_path(source)
  if path.suffix != '.npy':
    return path
  try:
    return np.load(path, allow_pickle=False)
  except (OSError, ValueError) as error:
    raise MediaError(f'video {path}: cannot be read as an array ({error})') from error


def _grid(visual: VisualInput, kind: int) -> list[int]:
  """Rows and columns of a pooled grid; 0, 0 where the input has none of that kind."""
  places = visual.layout_index[visual.layout_index[:, 3] == kind, :2]
  return [int(n) + 1 for n in places.max(axis=0, initial=-1)]


def _table(rows: list[list[int]], columns: int) -> np.ndarray:
  return np.asarray(rows, np.int64).reshape(-1, columns)
