"""The tokens of an image or a video (docs/model.md §6.4, §7.3, §7.4, §10). numpy only.

Layout tokens mark where a view, a row or a frame begins and ends; every `<im_patch>` receives one
pooled feature, in the order of the rows of `pool_index`. Their strings are those of a
`LayoutFormat`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from molmo_jax.preprocess import images as images_lib
from molmo_jax.preprocess.layout_formats import LAYOUT_FORMATS, LayoutFormat
from molmo_jax.preprocess.types import (
  ImageConfig,
  MediaError,
  Subtitle,
  VideoConfig,
  VisualInput,
  choice,
)

SPECIAL_TOKENS = (   # Molmo2; extra token n has the id base + n
    '<im_start>', '<im_end>', '<im_patch>', '<im_col>', '<low_res_im_start>', '<|image|>',
                  '<im_low>',
    '<frame_start>', '<frame_end>', '<|video|>', '<|points|>', '<|token_index|>', '<|vit_index|>',
                  '<|vit_loc|>',
)
V1_SPECIAL_TOKENS = ('<im_start>', '<im_end>', '<im_patch>', '<im_col>', '<|image|>')

Tokenize = Callable[[str], list[int]]

_MARKER = re.compile(r'(<[^<>{}\s]+>)')
_RELEASED = LAYOUT_FORMATS['released']


def layout_format(name: str) -> LayoutFormat:
  """The format called `name`; ValueError names the choices."""
  return choice(name, LAYOUT_FORMATS, 'layout_format')


def extra_tokens(name: str) -> tuple[str, ...]:
  """`SPECIAL_TOKENS` and after them the markers of the format called `name`.

  `Tokenizer.from_file(path, special_tokens=extra_tokens('seed1'))` makes single tokens of
  the design card's markers.
  """
  templates = [value for value in vars(layout_format(name)).values() if isinstance(value, str)]
  return tuple(dict.fromkeys(
    [*SPECIAL_TOKENS, *(m for template in templates for m in _MARKER.findall(template))]))


def prepare_image(image: np.ndarray, config: ImageConfig, max_crops: int,
                  special: Mapping[str, int], tokenize: Tokenize, number: int | None = None,
                  layout: LayoutFormat = _RELEASED) -> VisualInput:
  """Crops, pooling windows and layout tokens of one image.

  Args:
    image: uint8 [h,w,3].
    config: how it is cut and which layout tokens it gets.
    max_crops: largest number of crops beside the global view.
    special: ids of `SPECIAL_TOKENS`.
    tokenize: text → ids, no special tokens added.
    number: the image's number, from 1, where the example has several; None writes no `Image k`
      prefix.
    layout: strings of the markers and of the prefix.
  """
  crops = images_lib.crop_image(image, config, max_crops)
  return VisualInput(**vars(crops), tokens=image_tokens(crops.grids, config, special, tokenize,
                                                        number, layout))


def prepare_images(images: Sequence[np.ndarray], config: ImageConfig, max_crops: int,
                   special: Mapping[str, int], tokenize: Tokenize, max_images: int | None = None,
                   layout: LayoutFormat = _RELEASED) -> list[VisualInput]:
  """`prepare_image` for all images of an example, numbered from 1 if several (v1: no numbers).

  Args:
    max_images: how many images an example may have; None: `config.max_images`.

  Raises:
    MediaError: more images than allowed.
  """
  allowed = config.max_images if max_images is None else max_images
  if len(images) > allowed:
    raise MediaError(f'{len(images)} images in one example; at most {allowed} are allowed '
                     '(image.max_images in training, image.max_images_eval at inference)')
  numbered = len(images) > 1 and config.number_images
  numbers = range(1, len(images) + 1) if numbered else [None] * len(images)
  return [prepare_image(image, config, max_crops, special, tokenize, number, layout)
          for image, number in zip(images, numbers, strict=True)]


def prepare_video(frames: np.ndarray, times: Sequence[float] | np.ndarray,
                  subtitles: str | Sequence[Subtitle] | None, image_config: ImageConfig,
                  video_config: VideoConfig, special: Mapping[str, int], tokenize: Tokenize,
                  layout: LayoutFormat = _RELEASED) -> VisualInput:
  """Crops, pooling windows and layout tokens of a video, its subtitles included.

  Args:
    frames: uint8 [F,h,w,3].
    times: [F] seconds since the first frame of the video, as they are written into the prompt.
    subtitles: lines with times, a finished text, or None.
    image_config: crop and patch size, resize filter.
    video_config: pooling window, timestamps, markers.
    layout: strings of the markers, timestamps and lines of subtitles.
  """
  if len(frames) != len(times):
    raise ValueError(f'{len(frames)} frames but {len(times)} times')
  crops = images_lib.crop_frames(frames, image_config, video_config.pooling)
  tokens = video_tokens(crops.grids[0], times, subtitles, video_config, special, tokenize, layout)
  return VisualInput(**vars(crops), tokens=tokens, frame_times=np.asarray(times, np.float64))


def image_tokens(grids: Sequence[tuple[int, int]], config: ImageConfig, special: Mapping[str, int],
                 tokenize: Tokenize, number: int | None = None,
                 layout: LayoutFormat = _RELEASED) -> np.ndarray:
  """Tokens of one image: int32 [T] (docs/model.md §6.4).

  Args:
    grids: pooled grids (rows, columns): global view, then the stitched crops unless the image is a
      single crop.
    number, layout: see `prepare_image`.
  """
  def view(grid: tuple[int, int], start: str, col_tokens: bool) -> list[int | str]:
    row_end = fill(layout.row_end, special) if col_tokens else []
    return [*fill(start, special), *_rows(grid, row_end, special), *fill(layout.image_end, special)]

  pieces = [] if number is None else fill(layout.number, special, number=number)
  if len(grids) > 1:
    start = layout.global_start if config.use_low_res_start else layout.image_start
    pieces += view(grids[0], start, config.use_global_col_tokens)
  pieces += view(grids[-1], layout.image_start, config.use_col_tokens)
  return np.asarray(to_ids(pieces, tokenize), np.int32)


def video_tokens(grid: tuple[int, int], times: Sequence[float] | np.ndarray,
                 subtitles: str | Sequence[Subtitle] | None, config: VideoConfig,
                 special: Mapping[str, int],
                 tokenize: Tokenize, layout: LayoutFormat = _RELEASED) -> np.ndarray:
  """Tokens of a video: int32 [T] (docs/model.md §7.3, §7.4).

  Args:
    grid: pooled grid (rows, columns) of every frame.
    times: [F] seconds.
    layout: see `prepare_video`.
  """
  pair = (layout.frame_start, layout.frame_end) if config.use_frame_special_tokens else (
      layout.image_start, layout.image_end)
  start, end = (fill(template, special) for template in pair)
  frame = _rows(grid, [], special)
  if config.per_frame_special_token:
    frame = [*start, *frame, *end]
  pieces = [] if config.per_frame_special_token else list(start)
  for k, time in enumerate(times):
    label = [frame_label(k, float(time), config)]   # '' where no time is to be written
    if label[0] and layout.time is not None:
      label = fill(layout.time, special, time=float(time))
    pieces += [*frame, *label] if layout.time_after else [*label, *frame]
  if not config.per_frame_special_token:
    pieces += end
  tokens = to_ids(pieces, tokenize)
  return np.asarray([*tokens, *subtitle_tokens(subtitles, times, config.subtitle_mode, tokenize,
                                               special, layout)], np.int32)


def frame_label(index: int, time: float, config: VideoConfig) -> str:
  """The text before frame `index` (from 0) at `time` seconds; all but the first start with ' '."""
  text = choice(config.time_mode, {
    'per-frame-compact': f'{time:.1f} ', 'per-frame': f'time {time:.2f} ',
    'numbered-frames': f'{index + 1}: ', 'none': ''}, 'video.time_mode')
  return f' {text}' if text and index else text


def subtitle_tokens(subtitles: str | Sequence[Subtitle] | None, times: Sequence[float] | np.ndarray,
                    mode: str, tokenize: Tokenize, special: Mapping[str, int] | None = None,
                    layout: LayoutFormat = _RELEASED) -> list[int]:
  """Ids of the subtitles after the last frame (docs/model.md §7.4); empty if none are kept.

  Args:
    times: [F] seconds of the sampled frames.
    mode: 'frame_N' keeps the lines within N seconds of a sampled frame, 'all' keeps every line,
      'truncate_N' the first N tokens of all lines, 'ignore' nothing. A text without times is taken
      as it is (or truncated, or ignored).
    special: ids of markers in the format's lines.
    layout: how a line with times is written.
  """
  name, _, argument = mode.partition('_')
  if name not in ('frame', 'all', 'truncate',
                  'ignore') or (name in ('frame', 'truncate')) != _is_number(argument):
    raise ValueError(f"video.subtitle_mode is {mode!r}; it must be 'frame_N', 'all', 'truncate_N' "
      "or 'ignore'")
  if not subtitles or name == 'ignore':
    return []
  if isinstance(subtitles, str):
    pieces = [subtitles]
  else:
    reach = float(argument) if name == 'frame' else np.inf
    pieces = [piece for line in subtitles
              if any(line.start <= time + reach and line.end >= time - reach for time in times)
              for piece in fill(layout.subtitle_line, special or {}, **vars(line))]
  ids = to_ids(['subtitle\n', *pieces], tokenize) if pieces else []
  return ids[:int(argument)] if name == 'truncate' else ids


def fill(template: str, special: Mapping[str, int], **values: object) -> list[int | str]:
  """A template as pieces: ids of markers that are single tokens, and text with plain values.

  Raises:
    ValueError: the tokenizer lacks a released token.
  """
  pieces: list[int | str] = []
  for part in _MARKER.split(template):
    if part in special:
      pieces.append(special[part])
    elif part in SPECIAL_TOKENS:
      raise ValueError(f'the tokenizer has no id for {part!r}')
    elif part:
      pieces.append(part.format(**values))
  return pieces


def to_ids(pieces: Sequence[int | str], tokenize: Tokenize) -> list[int]:
  """Ids of pieces; neighbouring texts are tokenised together."""
  ids: list[int] = []
  for kind, group in itertools.groupby(pieces, key=type):
    run = list(group)
    ids += tokenize(''.join(run)) if kind is str else run
  return ids


def _rows(grid: tuple[int, int], row_end: Sequence[int | str],
          special: Mapping[str, int]) -> list[int | str]:
  return [*fill('<im_patch>', special) * grid[1], *row_end] * grid[0]


def _is_number(text: str) -> bool:
  return text.replace('.', '', 1).isdigit()
