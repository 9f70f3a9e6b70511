"""Plots as data: axes with round ticks, lines that are smoothed and thinned. plots.html draws them.

Units are those of the SVG: a panel is 420 wide, on a wide screen about as many CSS pixels.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np

WIDTH, HEIGHT = 420, 240                        # of one panel
LEFT, RIGHT, TOP, BOTTOM = 52, 22, 34, 34       # margins of the plot inside the panel
MAX_POINTS = 800                                # of a line; longer ones are thinned
LETTER = 7.0                                    # width of a character, about

Point = tuple[float, float]


def smooth(values: Sequence[float], smoothing: float) -> list[float]:
  """A weighted average around each value; a value d places away has the weight smoothing^d.

  The weights reach as far back as ahead, so that the line does not lag behind the points as a
  moving average of the past does, and starts and ends at the first and the last value.
  """
  array, out = np.asarray(values, float), []
  # beyond this many places the weights are below 1e-6
  most = math.ceil(math.log(1e-6, smoothing)) if smoothing else 0
  for place in range(len(array)):
    reach = min(place, len(array) - 1 - place, most)
    weights = smoothing ** np.abs(np.arange(-reach, reach + 1.0))
    out.append(float(weights @ array[place - reach:place + reach + 1] / weights.sum()))
  return out


def thin(points: Sequence[Point], limit: int = MAX_POINTS) -> list[Point]:
  """At most `limit` of the points: first, last, and the extremes of equal pieces between them."""
  if len(points) <= limit:
    return list(points)
  pieces = (limit - 2) // 2
  edges = [1 + i * (len(points) - 2) // pieces for i in range(pieces + 1)]
  kept = [points[0]]
  for start, end in zip(edges, edges[1:]):
    piece = points[start:end]
    kept += sorted({f(piece, key=lambda p: p[1]) for f in (min, max)})
  return [*kept, points[-1]]


def linear_ticks(low: float, high: float, count: int = 5) -> list[float]:
  """About `count` round numbers (1, 2 or 5 times a power of ten apart) inside low…high."""
  rough = (high - low) / count
  power = 10.0 ** math.floor(math.log10(rough))
  step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
  return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
  """1, 2 and 5 times powers of ten inside low…high; powers alone where that would be too many."""
  powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
  multiples = (1, 2, 5) if len(powers) <= 4 else (1,)
  ticks = [m * 10.0 ** p for p in powers for m in multiples if low <= m * 10.0 ** p <= high]
  return ticks if len(ticks) >= 2 else linear_ticks(low, high)


def short(value: float) -> str:
  """A number that fits beside an axis: 0.0002 → 2e-4, 81000 → 81k."""
  if abs(value) < 1e-12:
    return '0'
  if abs(value) < 1e-3:
    mantissa, exponent = f'{value:.2e}'.split('e')
    return f'{float(mantissa):g}e{int(exponent)}'
  for limit, unit, suffix in ((1e9, 1e9, 'G'), (1e6, 1e6, 'M'), (1e4, 1e3, 'k')):
    if abs(value) >= limit:
      return f'{value / unit:.4g}{suffix}'
  return f'{value:.4g}'


@dataclasses.dataclass(frozen=True)
class Axis:
  """From values to units: `low` stands at `start`, `high` at `end`."""
  low: float
  high: float
  start: float
  end: float
  log: bool = False

  def __call__(self, value: float) -> float:
    scale = math.log if self.log else float
    part = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
    return self.start + part * (self.end - self.start)

  def marks(self) -> list[tuple[float, str]]:
    """Ticks: where they stand, and what they say."""
    ticks = (log_ticks if self.log else linear_ticks)(self.low, self.high)
    return [(self(tick), short(tick)) for tick in ticks]


def axis_over(values: Sequence[float], start: float, end: float, log: bool = False,
              margin: float = 0.0) -> Axis:
  """The axis that holds all `values`, with `margin` of their range on both sides."""
  low, high = min(values), max(values)
  if high - low <= 1e-9 * max(abs(low), abs(high)):   # one value only: a range around it
    half = abs(low) / 2 or 0.5
    low, high = (low / 2, high * 2) if log else (low - half, high + half)
  elif log:
    low, high = low * (low / high) ** margin, high * (high / low) ** margin
  else:
    low, high = low - margin * (high - low), high + margin * (high - low)
  return Axis(low, high, start, end, log)


@dataclasses.dataclass(frozen=True)
class Line:
  """Points (step, value), and what is drawn with them in the same colour."""
  points: Sequence[Point]
  colour: str = 'var(--bar)'
  dots: Sequence[Point] = ()
  band: Sequence[Point] = ()                    # corners of a filled area


@dataclasses.dataclass(frozen=True)
class CurvePanel:
  """Lines over steps."""
  title: str
  note: str                                     # in the right upper corner
  lines: Sequence[Line]
  log: bool = False                             # the axis of the values

  width, height, title_x, bottom = WIDTH, HEIGHT, LEFT, HEIGHT - BOTTOM

  @functools.cached_property
  def x(self) -> Axis:
    """The horizontal axis, over the steps of all lines."""
    return axis_over([p[0] for line in self.lines for p in line.points], LEFT, WIDTH - RIGHT)

  @functools.cached_property
  def y(self) -> Axis:
    """The vertical axis, over all that is drawn."""
    values = [p[1] for line in self.lines for p in (*line.points, *line.dots, *line.band)]
    return axis_over(values, HEIGHT - BOTTOM, TOP, self.log, margin=0.05)

  def path(self, points: Sequence[Point], between: str = 'L') -> str:
    """The points as commands of an SVG path."""
    return between.join(f'{self.x(step):.1f} {self.y(value):.1f}' for step, value in points)


@dataclasses.dataclass(frozen=True)
class Interval:
  """One row of an `IntervalPanel`, in %."""
  name: str
  colour: str
  values: Sequence[float]
  mean: float
  low: float | None                             # None without an interval
  high: float | None


@dataclasses.dataclass(frozen=True)
class IntervalPanel:
  """Means with their intervals, in %; `chance` is a dashed line."""
  title: str
  note: str
  rows: Sequence[Interval]
  chance: float

  width, title_x, top, row = WIDTH, 0, TOP - 4, 26

  @property
  def bottom(self) -> int:
    """Vertical position below the last row, in pixels."""
    return self.top + self.row * len(self.rows)

  @property
  def height(self) -> int:
    """Height of the drawing, in pixels."""
    return self.bottom + BOTTOM - 6

  @functools.cached_property
  def x(self) -> Axis:
    """In steps of 5 around all values and the parts of the intervals inside 0…100."""
    bounds = [b for row in self.rows for b in (row.low, row.high) if b is not None]
    values = [v for row in self.rows for v in row.values] + [min(max(b, 0), 100) for b in bounds]
    low, high = math.floor(min(values) / 5 - 0.5) * 5, math.ceil(max(values) / 5 + 0.5) * 5
    left = 14 + LETTER * max(len(row.name) for row in self.rows)
    return Axis(max(0.0, low), min(100.0, high), left, WIDTH - RIGHT)

  def inside(self, value: float) -> float:
    """Where a value stands, at the nearer end of the axis if it is outside."""
    return self.x(min(max(value, self.x.low), self.x.high))
