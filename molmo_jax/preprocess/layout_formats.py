"""The strings around images and frames: as released, and as in the design card (docs/formats.md).

A format is a set of templates; what the design card does not name stays as released. A part in
angle brackets is a marker: the released ones are extra tokens of every tokenizer; one of the design
card is one token where the tokenizer has it as an extra token, and plain text otherwise.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class LayoutFormat:
  """Templates; names in braces are filled in.

  Attributes:
    image_start, image_end: around a view of an image.
    global_start: opens the global view.
    row_end: after each row of patches.
    frame_start, frame_end: around a frame.
    number: before each of several images.
    time: a frame's time; None: the text of `video.time_mode`.
    time_after: the time follows its frame.
    subtitle_line: one line with its time span.
  """
  image_start: str = '<im_start>'
  image_end: str = '<im_end>'
  global_start: str = '<low_res_im_start>'
  row_end: str = '<im_col>'
  frame_start: str = '<frame_start>'
  frame_end: str = '<frame_end>'
  number: str = 'Image {number}'
  time: str | None = None
  time_after: bool = False
  subtitle_line: str = '{start:.1f} - {end:.1f} {text}\n'


LAYOUT_FORMATS = {
  'released': LayoutFormat(),
  'seed1': LayoutFormat(global_start='<img_start_lowres>', row_end='<row_end>'),
  'seed2': LayoutFormat(
    image_start='<image_start>', image_end='<image_end>', global_start='<image_start>',
    frame_start='<image_start>',
    frame_end='<image_end>', number='<image>{number}</image>',
    time='<timestamp>{time:.1f}s</timestamp>',
    time_after=True, subtitle_line='<timestamp>{start:.1f}s - {end:.1f}s</timestamp>{text}\n'),
}
