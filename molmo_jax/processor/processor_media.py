"""The media of a conversation as visual inputs, and their sizes as Hugging Face names them
(docs/model.md §6, §7).
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from molmo_jax.preprocess import images, layout, reading, video
from molmo_jax.preprocess.media_files import open_media
from molmo_jax.preprocess.tokenizer import Tokenizer
from molmo_jax.preprocess.types import PreprocessConfig, VisualInput
from molmo_jax.processor.conversation import Chat, local_path


@dataclasses.dataclass(frozen=True)
class VisualMedia:
  """The visual inputs of one conversation.

  Attributes:
    inputs: one per image, or one for the video.
    sizes: height and width of the images, or of the video's frames.
    is_video: whether there is a video.
  """
  inputs: list[VisualInput]
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
    table = lambda rows, columns: np.asarray(rows, np.int64).reshape(-1, columns)
    return {
      'image_grids': table([_grid(v, images.GLOBAL) + _grid(v, images.CROP) for v in pictures], 4),
      'image_num_crops': np.asarray([len(v.crops) for v in pictures], np.int64),
      'image_sizes': table([] if self.is_video else self.sizes, 2),
      'video_grids': table([[len(v.crops), *_grid(v, images.FRAME)] for v in videos], 3),
      'video_sizes': table(self.sizes if self.is_video else [], 2),
      'frame_times': np.concatenate([np.zeros(0), *(v.frame_times for v in videos)])}


def read_media(chat: Chat, config: PreprocessConfig, tokenizer: Tokenizer,
               is_numbered: bool) -> VisualMedia:
  """Reads and cuts the images or the video of a conversation, with the numbers of crops and frames
  for inference. A video file is sampled by time; an array [T,h,w,3], or the path of a `.npy` file
  of one, by index.

  Args:
    chat: the conversation.
    config: how images and videos are cut.
    tokenizer: writes layout tokens, times and subtitles.
    is_numbered: whether `Image k` is written before each of several images; False: the prompt has
      it.

  Raises:
    MediaError: an image or a video that cannot be read, or an array without `fps`.
  """
  if chat.video is not None:
    return _read_video(chat, config, tokenizer)
  inputs, sizes = [], []
  for number, source in enumerate(chat.images, 1):
    source = local_path(source) if isinstance(source, (str, os.PathLike)) else source
    image = reading.load_image(source, turn_pillow_images=False,
                               max_pixels=config.max_pixels)
    inputs.append(layout.prepare_image(
      image, config.image, config.image.max_crops_eval, tokenizer.special, tokenizer.encode,
      number if is_numbered and len(chat.images) > 1 else None,
      layout.layout_format(config.layout_format)))
    sizes.append(image.shape[:2])
  return VisualMedia(inputs, sizes)


def _read_video(chat: Chat, config: PreprocessConfig, tokenizer: Tokenizer) -> VisualMedia:
  sizes: list[tuple[int, int]] = []
  side = config.image.crop_size

  def fit(frame: np.ndarray) -> np.ndarray:
    sizes[:] = [frame.shape[:2]]
    # A letterboxed frame is float and has a mask, so it is made later, from the frame in full size.
    is_later = config.image.resize == 'letterbox'
    return frame if is_later else images.fit(frame, side, side, config.image)[0]

  frames, times = video.read_video(_video_source(chat.video), config.video.max_frames_eval,
                                   config.video, fps=chat.fps, resize=fit,
                                   max_pixels=config.max_pixels)
  prepared = layout.prepare_video(
    frames, times, chat.subtitles, config.image, config.video, tokenizer.special, tokenizer.encode,
    layout.layout_format(config.layout_format))
  return VisualMedia([prepared], sizes, is_video=True)


def _video_source(source: Any) -> Any:
  path = local_path(source) if isinstance(source, (str, os.PathLike)) else source
  if not isinstance(path, Path) or path.suffix != '.npy':
    return path
  with open_media('video', path) as file:
    return np.load(file, allow_pickle=False)


def _grid(visual: VisualInput, kind: int) -> list[int]:
  """Rows and columns of a pooled grid; 0, 0 where the input has none of that kind."""
  places = visual.layout_index[visual.layout_index[:, 3] == kind, :2]
  return [int(n) + 1 for n in places.max(axis=0, initial=-1)]
