"""Points as text, and text as points (docs/training.md §4.4, §4.5, §13.5, §13.7).

Molmo2 writes

    <points alt="ALT" coords="FRAME;FRAME…">LABEL</points>      FRAME = frame id, then " index XXX YYY" for every point

XXX and YYY are thousandths of the width and the height. The frame id is 1 for a single image, the
1-based number of the image where there are several, and seconds with one decimal for a video
(`tracks`). Molmo v1 writes percent:

    <point x="63.5" y="44.6" alt="LABEL">LABEL</point>      <points x1="10.0" y1="5.0" x2="63.5" y2="44.6" alt=…
"""

from __future__ import annotations

import dataclasses
import numbers
import re
from collections.abc import Mapping, Sequence

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


def format_points(
    points_by_frame: Mapping[int | float, Sequence[tuple[float, float]]],
    label: str,
    *,
    mode: str = 'point',
    version: str = 'html-v2',
    alt: str | None = None,
) -> str:
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
  if mode not in SENTENCES:
    raise ValueError(f'point mode {mode!r} does not exist; the modes are: {", ".join(SENTENCES)}')
  if version not in FRAME_SEPARATORS:
    raise ValueError(f'point format {version!r} does not exist; the formats are: '
      f'{", ".join(FRAME_SEPARATORS)}')
  count = sum(len(points) for points in points_by_frame.values())
  if not count:
    return NO_POINTS
  frames, index = [], 1
  for frame, points in points_by_frame.items():
    triples = []
    for x, y in sorted(thousandths(x, y) for x, y in points):
      triples.append(f'{index} {x:03d} {y:03d}')
      index += 1
    frames.append(f'{frame_id(frame)} {" ".join(triples)}')
  alt_attribute = '' if alt is None else f'alt="{alt}" '
  tag = f'<points {alt_attribute}coords="{FRAME_SEPARATORS[version].join(frames)}">{label}</points>'
  return SENTENCES[mode].format(tag=tag, count=count)


def frame_id(frame: int | float) -> str:
  """A frame as it is written: the number of an image (an integer), or seconds with one decimal (a
  float).
  """
  return str(frame) if isinstance(frame, numbers.Integral) else str(round(float(frame), 1))


def thousandths(x: float, y: float) -> tuple[int, int]:
  """A point, given as fractions of the sides, as it is written: thousandths, rounded half to even.
  """
  # Molmo2 was trained with x limited to 0…1 only where y is in that range, and with y never limited
  # (§13.5).
  if 0 <= y <= 1:
    x = min(max(x, 0), 1)
  return round(1000 * x), round(1000 * y)       # half to even


V1_SENTENCES = {mode: SENTENCES[mode] for mode in ('point', 'point_count')}


def format_points_v1(
    points: Sequence[tuple[float, float]],
    label: str,
    *,
    scale: float | tuple[float, float] = 1.0,
    mode: str = 'point',
) -> str:
  """The answer that points at `points` of one image, as Molmo v1 was trained on it.

  Args:
    points: (x, y).
    label: what is pointed at; it is written in lower case.
    scale: what stands for the full side: 1 for fractions, 100 for percent, (width, height) for
      pixels.
    mode: 'point' the tag alone, 'point_count' a sentence that also counts.

  Returns:
    The text; 'There are none.' without points. Percent with one decimal, sorted by x, then y, as
    they are written.

  Raises:
    ValueError: a mode that does not exist.
  """
  if mode not in V1_SENTENCES:
    raise ValueError(f'point mode {mode!r} does not exist in Molmo v1; the modes are: '
      f'{", ".join(V1_SENTENCES)}')
  if not points:
    return NO_POINTS
  full_x, full_y = scale if isinstance(scale, Sequence) else (scale, scale)
  percents = sorted((_percent(x, full_x), _percent(y, full_y)) for x, y in points)
  label = label.lower()
  if len(percents) == 1:
    x, y = percents[0]
    tag = f'<point x="{x:.1f}" y="{y:.1f}" alt="{label}">{label}</point>'
  else:
    pairs = ' '.join(f'x{i}="{x:.1f}" y{i}="{y:.1f}"' for i, (x, y) in enumerate(percents, start=1))
    tag = f'<points {pairs} alt="{label}">{label}</points>'
  return V1_SENTENCES[mode].format(tag=tag, count=len(percents))


def _percent(value: float, full: float) -> float:
  # Half to even on the tenths, as numpy rounds: 83.55 → 83.6, although the float is a little less.
  return round(10 * (value if full == 100 else value / full * 100)) / 10


_TAG = re.compile(r'<(?:points|tracks)\b[^<>]*?\scoords="([0-9\t:;, .]+)"')
_FRAME = re.compile(r'\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s(.*)')
_MAX_IMAGE_DIGITS = 9
_TRIPLE = re.compile(r'(?<![0-9.])([0-9]+) ([0-9]{3,4}) ([0-9]{3,4})(?![0-9.])')


def parse_frame_points(text: str) -> list[FramePoint]:
  """Every point of every `<points>` and `<tracks>` tag with a coords attribute, in the order of the
  text.

  The closing tag is not required. A coordinate that does not have three or four digits makes its
  triple unreadable; it is left out. A point outside the frame (above 1000) is left out.
  """
  found = []
  for tag in _TAG.finditer(text):
    for group in re.split('[\t;:,]', tag.group(1)):
      frame = _FRAME.fullmatch(group)
      if frame is None:
        continue
      for index, x, y in _TRIPLE.findall(frame.group(2)):
        if int(x) <= 1000 and int(y) <= 1000:
          found.append(FramePoint(frame.group(1), index, int(x) / 1000, int(y) / 1000))
  return found


_PERCENT = r'([0-9]+\.[0-9]), ?([0-9]+\.[0-9])'

# The ways in which Molmo v1 writes points, with the number that stands for the full side.
_V1_FORMS = (
  (re.compile(rf'Click\({_PERCENT}\)'), 100),
  (re.compile(rf'\({_PERCENT}\)'), 100),
  (re.compile(r'\bx[0-9]*="\s*([0-9]+(?:\.[0-9]+)?)"\s+y[0-9]*="\s*([0-9]+(?:\.[0-9]+)?)"'), 100),
  (re.compile(r'(?:\bp|\b[0-9]+)\s*=\s*([0-9]{3})\s*,\s*([0-9]{3})\b'), 1000),
)

# Molmo2's points without their tag, tried after those of v1.
_OLD_FORMS = _V1_FORMS + (
  (re.compile(r'(?<![0-9.])[0-9]+ ([0-9]{3,4}) ([0-9]{3,4})(?![0-9.])'), 1000),
  (re.compile(r'(?<![0-9.])[0-9]+ ([0-9]+\.[0-9]) ([0-9]+\.[0-9])(?![0-9.])'), 100),
)


def parse_points(text: str, width: float, height: float, *,
                 old_forms: bool = True) -> list[tuple[float, float]]:
  """The points that an answer about one image gives, in pixels (x, y) of a `width`×`height` image.

  Frame ids are ignored. With `old_forms`, a text without any readable coords tag is read as Molmo
  v1 wrote points (`<point x="63.5" y="44.6">`, percent) and in a few looser forms (`Click(12.3,
  45.6)`, `(12.3, 45.6)`, `p=123, 456`, `1 123 456`), the first one that occurs. A point outside the
  image is left out.
  """
  found = [(p.x * width, p.y * height) for p in parse_frame_points(text)]
  if found or not old_forms:
    return found
  for pattern, full in _OLD_FORMS:
    matches = pattern.findall(text)
    if matches:
      return _pixels(matches, full, width, height)
  return []


def parse_points_v1(text: str, width: float, height: float, *,
                    repeats: bool = True) -> list[tuple[float, float]]:
  """The points of an answer of Molmo v1, in pixels (x, y) of a `width`×`height` image.

  Reads `Click(12.3, 45.6)`, `(12.3, 45.6)`, `x="63.5" y="44.6"` (percent) and `p=123, 456`, `1=123,
  456` (thousandths), all that occur, form by form. A point outside the image is left out.

  Upstream bug, reproduced: a Click is found twice, since it holds what the second form looks for;
  `repeats=False` reads the first form that occurs.
  """
  points = []
  for pattern, full in _V1_FORMS:
    points += _pixels(pattern.findall(text), full, width, height)
    if points and not repeats:
      break
  return points


def _pixels(matches: Sequence[tuple[str, str]], full: int, width: float,
            height: float) -> list[tuple[float, float]]:
  percents = [(float(x) / (full / 100), float(y) / (full / 100)) for x, y in matches]
  return [(x / 100 * width, y / 100 * height) for x, y in percents if x <= 100 and y <= 100]


_V1_NUMBER = r'"\s*[0-9]+(?:\.[0-9]+)?"'
_V1_TAG = re.compile(
    rf'<point(?: x={_V1_NUMBER} y={_V1_NUMBER}| p=[0-9]{{3}}, ?[0-9]{{3}})(?: alt="[^"]*")?>[^<]*</point>|'
    rf'<points(?: x[0-9]+={_V1_NUMBER} y[0-9]+={_V1_NUMBER}| [0-9]+=[0-9]{{3}}, ?[0-9]{{3}})++(?: alt="[^"]*")?>[^<]*'
    rf'</points>|\({_PERCENT}\)')


def is_v1_points(text: str) -> bool:
  """Whether a text is one tag of points as Molmo v1 writes it, or one `(12.3, 45.6)`, and nothing
  else.
  """
  return _V1_TAG.fullmatch(text) is not None


def parse_multi_image_points(text: str, sizes: Sequence[tuple[float, float]], *,
                             wrap_zero: bool = True,
                             ) -> list[tuple[int, float, float]]:
  """The points of an answer about several images: (number of the image, x, y), numbers from 1,
  pixels of that image.

  A point whose frame id is no number of an image is left out (upstream raises an error).

  Args:
    text: the answer.
    sizes: (width, height) of every image, pixels.
    wrap_zero: upstream bug, reproduced by default: an image 0 is reported, with pixels of the last
      image. False leaves its points out.
  """
  found = []
  for point in parse_frame_points(text):
    if point.frame.isdigit() and len(point.frame) <= _MAX_IMAGE_DIGITS:
      number = int(point.frame)
      if (0 if wrap_zero else 1) <= number <= len(sizes) and sizes:
        width, height = sizes[number - 1]
        found.append((number, point.x * width, point.y * height))
  return found
