"""Points as text, and text as points (docs/training.md §4.4, §4.5, §13.5, §13.7).

Molmo2 writes

    <points alt="ALT" coords="FRAME;FRAME…">LABEL</points>

where a FRAME is the frame id and " index XXX YYY" for every point.
XXX and YYY are thousandths of the width and the height. The frame id is 1 for a single image, the
1-based number of the image where there are several, and seconds with one decimal for a video
(`tracks`). Molmo v1 writes percent:

    <point x="63.5" y="44.6" alt="LABEL">LABEL</point>
    <points x1="10.0" y1="5.0" x2="63.5" y2="44.6" alt="LABEL">LABEL</points>
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from numbers import Integral

from molmo_jax.preprocess.types import choice

NO_POINTS = 'There are none.'

FRAME_SEPARATORS = {'html-v1': '\t', 'html-v2': ';'}

SENTENCES = {
  'point': '{tag}',
  'point_count': 'Counting the {tag} shows a total of {count}.',
  'count_then_point': 'There are {count} {tag}.',
  'count': '{count}',
}


@dataclasses.dataclass(frozen=True)
class FramePoint:
  """One point of an answer."""
  frame: str                                  # the frame id as written: an image number, or seconds
  index: str                                  # the number of the point or of the object, as written
  x: float                                    # fraction of the width, not limited to 0…1
  y: float                                    # fraction of the height


def format_points(points_by_frame: Mapping[int | float, Sequence[tuple[float, float]]], label: str,
                  *, mode: str = 'point', version: str = 'html-v2', alt: str | None = None) -> str:
  """The answer that points at `points_by_frame`, as Molmo2 was trained on it.

  Args:
    points_by_frame: frame id → points (x, y) as fractions of the frame's width and height. A single
      image is `{1: points}`; several images are numbered from 1; the frames of a video have their
      time in seconds as a float.
    label: what is pointed at; the text between the tags.
    mode: 'point' the tag alone, 'point_count' and 'count_then_point' a sentence that also counts,
      'count' the number.
    version: 'html-v2' (fine-tuning: ';' between frames) or 'html-v1' (pre-training: a tab).
    alt: the tag's alt attribute, if any.

  Returns:
    The text; 'There are none.' without points. Points of a frame are sorted by (XXX, YYY) and
    numbered from 1 on, the number going on from frame to frame. A frame without points is still
    written.

  Raises:
    ValueError: a mode or version that does not exist.
  """
  sentence = choice(mode, SENTENCES, 'point mode')
  choice(version, FRAME_SEPARATORS, 'point format')
  count = sum(len(points) for points in points_by_frame.values())
  if not count:
    return NO_POINTS
  frames, numbers = [], itertools.count(1)
  for frame, points in points_by_frame.items():
    placed = sorted(thousandths(x, y) for x, y in points)
    triples = ' '.join(f'{next(numbers)} {x:03d} {y:03d}' for x, y in placed)
    frames.append(f'{frame_id(frame)} {triples}')
  return sentence.format(tag=coords_tag('points', frames, label, version, alt), count=count)


def coords_tag(name: str, frames: Sequence[str], label: str, version: str, alt: str | None) -> str:
  """The tag `name` around `label`, with what is written of each frame in its coords attribute."""
  alt_attribute = '' if alt is None else f'alt="{alt}" '
  coords = choice(version, FRAME_SEPARATORS, 'point format').join(frames)
  return f'<{name} {alt_attribute}coords="{coords}">{label}</{name}>'


def frame_id(frame: int | float) -> str:
  """A frame as written: an image's number (an integer), or seconds with one decimal (a float)."""
  return str(frame) if isinstance(frame, Integral) else f'{frame:.1f}'


def thousandths(x: float, y: float) -> tuple[int, int]:
  """A point, given as fractions of the sides, as it is written: thousandths, rounded half to even.
  """
  # Molmo2 was trained with x limited to 0…1 only where y is in that range, and with y never limited
  # (§13.5).
  if 0 <= y <= 1:
    x = min(max(x, 0), 1)
  return round(1000 * x), round(1000 * y)       # half to even


V1_SENTENCES = {mode: SENTENCES[mode] for mode in ('point', 'point_count')}


def format_points_v1(points: Sequence[tuple[float, float]], label: str, *,
                     scale: float | tuple[float, float] = 1.0, mode: str = 'point',
                     alt: str | None = None) -> str:
  """The answer that points at `points` of one image, as Molmo v1 was trained on it.

  Args:
    points: (x, y).
    label: what is pointed at; it is written in lower case where `alt` is None.
    scale: what stands for the full side: 1 for fractions, 100 for percent, (width, height) for
      pixels.
    mode: 'point' the tag alone, 'point_count' a sentence that also counts.
    alt: the tag's alt attribute; None: the label.

  Returns:
    The text; 'There are none.' without points. Percent with one decimal, sorted by x, then y, as
    they are written.

  Raises:
    ValueError: a mode that does not exist.
  """
  sentence = choice(mode, V1_SENTENCES, 'point mode of Molmo v1')
  if not points:
    return NO_POINTS
  if isinstance(scale, Sequence):
    percents = [(x / (scale[0] / 100), y / (scale[1] / 100)) for x, y in points]
  else:
    percents = [(x * (100 / scale), y * (100 / scale)) for x, y in points]
  # Half to even on the tenths, as numpy rounds: 83.55 → 83.6, although the float is a little less.
  percents = sorted((round(10 * x, 0) / 10, round(10 * y, 0) / 10) for x, y in percents)
  label, alt = (label.lower(), label.lower()) if alt is None else (label, alt)
  if len(percents) == 1:
    x, y = percents[0]
    tag = f'<point x="{x:.1f}" y="{y:.1f}" alt="{alt}">{label}</point>'
  else:
    pairs = ' '.join(f'x{i}="{x:.1f}" y{i}="{y:.1f}"' for i, (x, y) in enumerate(percents, start=1))
    tag = f'<points {pairs} alt="{alt}">{label}</points>'
  return sentence.format(tag=tag, count=len(percents))


# Points are searched for from the opening of a tag to the coords attribute that ends its brackets;
# alt texts may hold anything but a line break, '>' included.
_OPENING_OR_COORDS = re.compile(r'(<points|<tracks)|\n| coords="([0-9\t:;, .]+)"/?>')
_FRAME = re.compile(r'([0-9]+\.?[0-9]*|\.[0-9]+) (.+)')
# Upstream sets no limit to the index; without one the search of a hostile text would never end.
_TRIPLE = re.compile(r'([0-9]{1,20}) ([0-9]{3,4}) ([0-9]{3,4})')


def parse_frame_points(text: str) -> list[FramePoint]:
  """All points of `<points>` and `<tracks>` tags with a coords attribute, in order of the text.

  The closing tag is not required. A coordinate has three or four digits, of a longer one the first
  four count; what is no triple is left out, and so is a point outside the frame (above 1000).
  """
  found, open_tag = [], False
  for match in _OPENING_OR_COORDS.finditer(text):
    opening, coords = match.groups()
    for group in re.split('[\t;:,]', coords) if open_tag and coords else ():
      frame = _FRAME.fullmatch(group)
      for index, x, y in _TRIPLE.findall(frame.group(2)) if frame else ():
        if int(x) <= 1000 and int(y) <= 1000:
          found.append(FramePoint(frame.group(1), index, int(x) / 1000, int(y) / 1000))
    open_tag = opening is not None            # a line break or the end of the attribute closes it
  return found


_PERCENT = r'([0-9]+\.[0-9]),%s([0-9]+\.[0-9])\)'
_CLICK = re.compile(r'Click\(' + _PERCENT % ' ?'), 100
# The other ways in which Molmo v1 writes points, with the number that stands for the full side.
_V1_FORMS = (
  (re.compile(r'\(' + _PERCENT % '? ?'), 100),
  (re.compile(r'x\d*="\s*([0-9]+(?:\.[0-9]+)?)"\s+y\d*="\s*([0-9]+(?:\.[0-9]+)?)"'), 100),
  (re.compile(r'(?:\d|p)\s*=\s*([0-9]{3})\s*,\s*([0-9]{3})'), 1000))
# Molmo2's points without their tag: of these and of the forms of v1 the first that occurs is read.
_TRIPLE_FORMS = ((re.compile(r'[0-9] ([0-9]{3}) ([0-9]{3})'), 1000),
                 (re.compile(r'[0-9] ([0-9]+\.[0-9]) ([0-9]+\.[0-9])'), 100))


def parse_points(text: str, width: float, height: float, *, old_forms: bool = True,
                 ) -> list[tuple[float, float]]:
  """The points that an answer about one image gives, in pixels (x, y) of a `width`×`height` image.

  Frame ids are ignored. With `old_forms`, a text without any readable coords tag is read as older
  models wrote points, the first that occurs of `Click(12.3, 45.6)`, `1 123 456`, `1 12.3 45.6`, and
  the other forms of Molmo v1 together. A point outside the image is left out.
  """
  found = [(p.x * width, p.y * height) for p in parse_frame_points(text)]
  for forms in ((_CLICK,), *((form,) for form in _TRIPLE_FORMS), _V1_FORMS):
    if found or not old_forms:
      break
    found = _pixels(text, forms, width, height)
  return found


def parse_points_v1(text: str, width: float, height: float, *, repeats: bool = True,
                    ) -> list[tuple[float, float]]:
  """The points of an answer of Molmo v1, in pixels (x, y) of a `width`×`height` image.

  Reads `Click(12.3, 45.6)`, `(12.3, 45.6)`, `x="63.5" y="44.6"` (percent) and `p=123, 456`,
  `1=123, 456` (thousandths), all that occur, form by form. A point outside the image is left out.

  Upstream bug, reproduced: a Click is found twice, since it holds what the second form looks for;
  `repeats=False` reads the first form that occurs.
  """
  by_form = [_pixels(text, [form], width, height) for form in (_CLICK, *_V1_FORMS)]
  return sum(by_form, []) if repeats else next(filter(None, by_form), [])


def _pixels(text: str, forms: Sequence[tuple[re.Pattern, int]], width: float, height: float,
            ) -> list[tuple[float, float]]:
  found = [(float(x) / full, float(y) / full) for pattern, full in forms
           for x, y in pattern.findall(text)]
  return [(x * width, y * height) for x, y in found if x <= 1 and y <= 1]


_V1_NUMBER = r'"\s*\d+(?:\.\d+)?"'
_V1_SIGNED = r'\s*-?\d+(?:\.\d+)?\s*'
_V1_THOUSANDTHS = r'=\s*\d{3}\s*,\s*\d{3}'
_V1_REST = r'alt="(?>[\s\S]*?">)[\s\S]*'
_V1_TAG = re.compile(
    rf'<point\s+(?:x={_V1_NUMBER}\s+y={_V1_NUMBER}|p{_V1_THOUSANDTHS})\s+{_V1_REST}</point>'
    rf'|<points\s+(?:(?:x\d+={_V1_NUMBER}\s+y\d+={_V1_NUMBER}\s+)+|(?:\d+{_V1_THOUSANDTHS}\s+)+)'
    rf'{_V1_REST}</points>|(?:\({_V1_SIGNED},{_V1_SIGNED}\)\n?)+')


def is_v1_points(text: str) -> bool:
  """Whether a text is only a Molmo v1 tag of points, or lines `(12.3, 45.6)`, and whitespace."""
  return _V1_TAG.fullmatch(text.strip()) is not None


def parse_multi_image_points(text: str, sizes: Sequence[tuple[float, float]], *,
                             wrap_zero: bool = True) -> list[tuple[int, float, float]]:
  """The points of an answer about several images: (number of the image from 1, x, y in pixels).

  A point whose frame id is no number of an image is left out (upstream raises an error).

  Args:
    text: the answer.
    sizes: (width, height) of every image, pixels.
    wrap_zero: upstream bug, reproduced by default: an image 0 is reported, with pixels of the last
      image. False leaves its points out.
  """
  by_id = {str(number): number for number in range(0 if wrap_zero else 1, len(sizes) + 1) if sizes}
  found = []
  for point in parse_frame_points(text):
    number = by_id.get(point.frame.lstrip('0') or '0')
    if number is not None:
      width, height = sizes[number - 1]
      found.append((number, point.x * width, point.y * height))
  return found
