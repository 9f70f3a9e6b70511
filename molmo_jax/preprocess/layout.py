"""The tokens that stand for an image or a video in a sequence (spec/model §6.4, §7.3, §7.4, §10). numpy only.

Layout tokens mark where a view, a row or a frame begins and ends; every `<im_patch>` receives one pooled feature, in
the order of the rows of `pool_index`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from molmo_jax.preprocess import images as images_lib
from molmo_jax.preprocess.types import ImageConfig, MediaError, Subtitle, VideoConfig, VisualInput

SPECIAL_TOKENS = (   # extra token n has the id base + n
    '<im_start>', '<im_end>', '<im_patch>', '<im_col>', '<low_res_im_start>', '<|image|>', '<im_low>',
    '<frame_start>', '<frame_end>', '<|video|>', '<|points|>', '<|token_index|>', '<|vit_index|>', '<|vit_loc|>',
)

Tokenize = Callable[[str], list[int]]


def prepare_image(image: np.ndarray, config: ImageConfig, max_crops: int, special: Mapping[str, int],
                  tokenize: Tokenize, number: int | None = None) -> VisualInput:
  """Crops, pooling windows and layout tokens of one image.

  Args:
    image: uint8 [h,w,3].
    config: how it is cut and which layout tokens it gets.
    max_crops: largest number of crops beside the global view.
    special: ids of `SPECIAL_TOKENS`.
    tokenize: text → ids, no special tokens added.
    number: the image's number, from 1, where the example has several; None writes no `Image k` prefix.
  """
  crops = images_lib.crop_image(image, config, max_crops)
  return _visual_input(crops, image_tokens(crops.grids, config, special, tokenize, number))


def prepare_images(images: Sequence[np.ndarray], config: ImageConfig, max_crops: int, special: Mapping[str, int],
                   tokenize: Tokenize, max_images: int | None = None) -> list[VisualInput]:
  """`prepare_image` for all images of an example, numbered from 1 where there is more than one.

  Args:
    max_images: how many images an example may have; None: `config.max_images`.

  Raises:
    MediaError: more images than allowed.
  """
  allowed = config.max_images if max_images is None else max_images
  if len(images) > allowed:
    raise MediaError(f'{len(images)} images in one example; at most {allowed} are allowed '
                     '(image.max_images in training, image.max_images_eval at inference)')
  numbers = range(1, len(images) + 1) if len(images) > 1 else [None] * len(images)
  return [prepare_image(image, config, max_crops, special, tokenize, number)
          for image, number in zip(images, numbers, strict=True)]


def prepare_video(frames: np.ndarray, times: Sequence[float] | np.ndarray,
                  subtitles: str | Sequence[Subtitle] | None, image_config: ImageConfig, video_config: VideoConfig,
                  special: Mapping[str, int], tokenize: Tokenize) -> VisualInput:
  """Crops, pooling windows and layout tokens of a video, its subtitles included.

  Args:
    frames: uint8 [F,h,w,3].
    times: [F] seconds since the first frame of the video, as they are written into the prompt.
    subtitles: lines with times, a finished text, or None.
    image_config: crop and patch size, resize filter.
    video_config: pooling window, timestamps, markers.
  """
  if len(frames) != len(times):
    raise ValueError(f'{len(frames)} frames but {len(times)} times')
  crops = images_lib.crop_frames(frames, image_config, video_config.pooling)
  tokens = video_tokens(crops.grids[0], times, subtitles, video_config, special, tokenize)
  return _visual_input(crops, tokens, np.asarray(times, np.float64))


def image_tokens(grids: Sequence[tuple[int, int]], config: ImageConfig, special: Mapping[str, int],
                 tokenize: Tokenize, number: int | None = None) -> np.ndarray:
  """Tokens of one image: int32 [T] (spec/model §6.4).

  Args:
    grids: pooled grids (rows, columns): global view, then the stitched crops unless the image is a single crop.
    number: see `prepare_image`.
  """
  tokens = [] if number is None else list(tokenize(f'Image {number}'))
  start, end = _id(special, '<im_start>'), _id(special, '<im_end>')
  if len(grids) == 1:
    return np.asarray([*tokens, start, *_rows(grids[0], config.use_col_tokens, special), end], np.int32)
  (low, high) = grids
  tokens.append(_id(special, '<low_res_im_start>') if config.use_low_res_start else start)
  tokens += [*_rows(low, config.use_global_col_tokens, special), end]
  tokens += [start, *_rows(high, config.use_col_tokens, special), end]
  return np.asarray(tokens, np.int32)


def video_tokens(grid: tuple[int, int], times: Sequence[float] | np.ndarray,
                 subtitles: str | Sequence[Subtitle] | None, config: VideoConfig, special: Mapping[str, int],
                 tokenize: Tokenize) -> np.ndarray:
  """Tokens of a video: int32 [T] (spec/model §7.3, §7.4).

  Args:
    grid: pooled grid (rows, columns) of every frame.
    times: [F] seconds.
  """
  pair = ('<frame_start>', '<frame_end>') if config.use_frame_special_tokens else ('<im_start>', '<im_end>')
  start, end = (_id(special, name) for name in pair)
  patches = _rows(grid, False, special)
  tokens = [] if config.per_frame_special_token else [start]
  for k, time in enumerate(times):
    label = frame_label(k, float(time), config)
    tokens += tokenize(label) if label else []
    tokens += [start, *patches, end] if config.per_frame_special_token else patches
  if not config.per_frame_special_token:
    tokens.append(end)
  return np.asarray([*tokens, *subtitle_tokens(subtitles, times, config.subtitle_mode, tokenize)], np.int32)


def frame_label(index: int, time: float, config: VideoConfig) -> str:
  """The text before frame `index` (from 0) shown at `time` seconds; a blank precedes all but the first."""
  text = {'per-frame-compact': f'{time:.1f} ', 'per-frame': f'time {time:.2f} ',
          'numbered-frames': f'{index + 1}: ', 'none': ''}.get(config.time_mode)
  if text is None:
    raise ValueError(f"video.time_mode is {config.time_mode!r}; it must be 'per-frame-compact', 'per-frame', "
                     "'numbered-frames' or 'none'")
  return f' {text}' if text and index else text


def subtitle_tokens(subtitles: str | Sequence[Subtitle] | None, times: Sequence[float] | np.ndarray, mode: str,
                    tokenize: Tokenize) -> list[int]:
  """Ids of the subtitles that follow the last frame (spec/model §7.4); empty where nothing is kept.

  Args:
    times: [F] seconds of the sampled frames.
    mode: 'frame_N' keeps the lines within N seconds of a sampled frame, 'all' keeps every line, 'truncate_N' the first
      N tokens of all lines, 'ignore' nothing. A text without times is taken as it is (or truncated, or ignored).
  """
  name, _, argument = mode.partition('_')
  if name not in ('frame', 'all', 'truncate', 'ignore') or (name in ('frame', 'truncate')) != _is_number(argument):
    raise ValueError(f"video.subtitle_mode is {mode!r}; it must be 'frame_N', 'all', 'truncate_N' or 'ignore'")
  if not subtitles or name == 'ignore':
    return []
  if isinstance(subtitles, str):
    text = subtitles
  else:
    reach = float(argument) if name == 'frame' else np.inf
    lines = [f'{line.start:.1f} - {line.end:.1f} {line.text}\n' for line in subtitles
             if any(line.start <= time + reach and line.end >= time - reach for time in times)]
    text = ''.join(lines)
  ids = list(tokenize(f'subtitle\n{text}')) if text else []
  return ids[:int(argument)] if name == 'truncate' else ids


def _rows(grid: tuple[int, int], col_tokens: bool, special: Mapping[str, int]) -> list[int]:
  row = [_id(special, '<im_patch>')] * grid[1]
  return (row + [_id(special, '<im_col>')] if col_tokens else row) * grid[0]


def _id(special: Mapping[str, int], token: str) -> int:
  if token not in special:
    raise ValueError(f'the tokenizer has no id for {token!r}')
  return special[token]


def _is_number(text: str) -> bool:
  return text.replace('.', '', 1).isdigit()


def _visual_input(crops: images_lib.Crops, tokens: np.ndarray, frame_times: np.ndarray | None = None) -> VisualInput:
  return VisualInput(crops=crops.crops, tokens=tokens, pool_index=crops.pool_index, layout_index=crops.layout_index,
                     layout_box=crops.layout_box, patch_mask=crops.patch_mask, frame_times=frame_times)
