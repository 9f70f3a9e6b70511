"""Training curves from a metrics JSONL, as SVG that needs nothing else to be seen.

A line of the file is one JSON object with 'step' and any of the columns below:
`{"step": 20, "loss": 2.31, "accuracy": 0.52, "learning_rate": 0.0002, "tokens_per_second": 81000}`.
"""

from __future__ import annotations

import dataclasses
import html
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from molmo_jax.files import write_atomically

# The columns that are drawn, in this order, where the file has them.
TITLES = {
  'loss': 'Loss',
  'accuracy': 'Token accuracy',
  'learning_rate': 'Learning rate',
  'tokens_per_second': 'Tokens per second',
}

# user units of one panel; on a wide screen about CSS pixels
WIDTH, HEIGHT = 420, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 22, 34, 34       # margins of the plot inside the panel
# of one panel; longer runs are thinned, their extremes kept
MAX_POINTS = 800

CSS = """
.curves{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,380px),1fr));gap:16px}
.curves svg{width:100%;height:auto;font:13px system-ui,sans-serif;fill:currentColor}
.curves .grid{stroke:currentColor;stroke-opacity:.14;fill:none}
.curves .raw{stroke:#2f6fb3;stroke-opacity:.35;stroke-width:3;stroke-linecap:round;fill:none}
.curves .smooth{stroke:#2f6fb3;stroke-width:2;stroke-linejoin:round;fill:none}
.curves .title{font-weight:600;font-size:14px}
.curves .tick,.curves .last{fill-opacity:.72}
@media(prefers-color-scheme:dark){.curves .raw,.curves .smooth{stroke:#7db4ee}}
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title><style>
:root{{color-scheme:light dark}}
body{{margin:0 auto;max-width:1040px;padding:24px 16px;font:15px/1.5 system-ui,sans-serif}}
body{{background:#fff;color:#1c2126}}
h1{{font-size:1.35rem;overflow-wrap:anywhere}}
@media(prefers-color-scheme:dark){{body{{background:#15181b;color:#e4e7ea}}}}
</style></head><body><h1>{title}</h1>{curves}</body></html>
"""


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
  """The rows of a metrics JSONL. A last line without its newline (a run is writing it) is left out
  if unreadable.

  Raises:
    ValueError: a line that is not a JSON object with a numeric 'step'; the message names file and
      line.
  """
  rows = []
  with open(path, encoding='utf-8') as file:
    for number, line in enumerate(file, start=1):
      if not line.strip():
        continue
      try:
        row = json.loads(line)
      except ValueError as error:
        if not line.endswith('\n'):
          break
        raise ValueError(f'{path}:{number}: not JSON: {error}') from error
      if not isinstance(row, dict) or not _is_finite(row.get('step')):
        raise ValueError(f"{path}:{number}: a JSON object with a numeric 'step' is needed, not "
          f"{line.strip()[:80]}")
      rows.append(row)
  return rows


def write_curves(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]], *,
                 title: str = 'Training curves',
                 log_loss: bool = False, smoothing: float = 0.9) -> None:
  """Writes one HTML file with the curves of `rows`; arguments as in `curves_svg`."""
  curves = curves_svg(rows, log_loss=log_loss, smoothing=smoothing)
  write_atomically(path, _PAGE.format(title=html.escape(title), curves=curves))


def curves_svg(rows: Sequence[Mapping[str, Any]], *, log_loss: bool = False,
               smoothing: float = 0.9) -> str:
  """One SVG panel per column of `TITLES` that `rows` have, in a `<div>` that brings its own style.

  Args:
    rows: `{'step': …, column: value}`; a row without a column, or with a value that is not a finite
      number, is a gap of that curve. Where a step occurs twice (a resumed run) the later value
      counts.
    log_loss: logarithmic axis for the loss; values that are not positive are then left out.
    smoothing: how wide the average is that is drawn over the raw points (`smooth`), 0 ≤ smoothing <
      1; 0 joins them. The learning rate has no noise and is never smoothed.

  Returns:
    HTML, colours for light and dark backgrounds; the text takes the page's colour.

  Raises:
    ValueError: smoothing outside its range, or rows that hold nothing to draw.
  """
  if not 0 <= smoothing < 1:
    raise ValueError(f'smoothing is {smoothing}; it must be at least 0 and below 1')
  panels = []
  for column, title in TITLES.items():
    log = log_loss and column == 'loss'
    values = _column(rows, column, positive=log)
    if values:
      panels.append(_panel(title, values, log, 0.0 if column == 'learning_rate' else smoothing))
  if not panels:
    raise ValueError(f"no row has 'step' and a finite value of any of: {', '.join(TITLES)}; there "
      "is nothing to draw")
  return f'<div class="curves"><style>{CSS}</style>{"".join(panels)}</div>'


def _is_finite(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _column(rows: Sequence[Mapping[str, Any]], column: str,
            positive: bool) -> list[tuple[float, float]]:
  """(step, value) in the order of the steps."""
  values = {row['step']: row[column] for row in rows if _is_finite(row.get('step'))
            and _is_finite(row.get(column))}
  return [(float(s), float(v)) for s, v in sorted(values.items()) if v > 0 or not positive]


def smooth(values: Sequence[float], smoothing: float) -> list[float]:
  """The average of all values around each one, a value d rows away having the weight smoothing^d.

  The weights reach both ways, so that the line does not lag behind the points as a moving average
  of the past does.
  """
  past, future = _decayed_sums(values, smoothing), _decayed_sums(values[::-1], smoothing)[::-1]
  return [(p + f - v) / (pw + fw - 1)
          for v, (p, pw), (f, fw) in zip(values, past, future, strict=True)]


def _decayed_sums(values: Sequence[float], decay: float) -> list[tuple[float, float]]:
  """For every value, the weighted sum of it and of those before it, and the sum of the weights."""
  total, weight, sums = 0.0, 0.0, []
  for value in values:
    total, weight = decay * total + value, decay * weight + 1
    sums.append((total, weight))
  return sums


def thin(points: Sequence[tuple[float, float]],
         limit: int = MAX_POINTS) -> list[tuple[float, float]]:
  """At most `limit` of the points: the first, the last, and the lowest and highest of equal pieces
  between them.
  """
  if len(points) <= limit:
    return list(points)
  pieces = (limit - 2) // 2
  edges = [1 + i * (len(points) - 2) // pieces for i in range(pieces + 1)]
  kept = [points[0]]
  for start, end in zip(edges, edges[1:], strict=False):
    piece = points[start:end]
    extremes = {min(piece, key=lambda p: p[1]), max(piece, key=lambda p: p[1])}
    kept.extend(sorted(extremes))
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


@dataclasses.dataclass(frozen=True)
class _Axis:
  """From values to user units of the SVG: `low` stands at `start`, `high` at `end`."""
  low: float
  high: float
  start: float
  end: float
  log: bool = False

  def __call__(self, value: float) -> float:
    transform = math.log if self.log else float
    share = (transform(value) - transform(self.low)) / (transform(self.high) - transform(self.low))
    return self.start + share * (self.end - self.start)

  def ticks(self) -> list[float]:
    return log_ticks(self.low, self.high) if self.log else linear_ticks(self.low, self.high)


def _axis(values: Sequence[float], start: float, end: float, log: bool = False,
          margin: float = 0.0) -> _Axis:
  low, high = min(values), max(values)
  if high - low <= 1e-9 * max(abs(low), abs(high)):   # one value only: a range around it
    low, high = (low / 2, high * 2) if log else (low - (abs(low) / 2 or 0.5),
                                                 high + (abs(high) / 2 or 0.5))
  elif log:
    low, high = low * (low / high) ** margin, high * (high / low) ** margin
  else:
    low, high = low - margin * (high - low), high + margin * (high - low)
  return _Axis(low, high, start, end, log)


def _panel(title: str, points: Sequence[tuple[float, float]], log: bool, smoothing: float) -> str:
  smoothed = smooth([v for _, v in points], smoothing)
  raw = thin(points)
  line = thin([(s, v) for (s, _), v in zip(points, smoothed, strict=True)])
  x = _axis([s for s, _ in points], LEFT, WIDTH - RIGHT)
  y = _axis([v for _, v in points], HEIGHT - BOTTOM, TOP, log, margin=0.05)
  dots = ''.join(f'M{x(s):.1f} {y(v):.1f}h0' for s, v in raw)
  path = 'M' + 'L'.join(f'{x(s):.1f} {y(v):.1f}' for s, v in line)
  last = f'{_number(smoothed[-1])} at step {_number(points[-1][0])}'
  scale = ', log scale' if log else ''
  return (f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}{scale}: {last}">'
          f'<text class="title" x="{LEFT}" y="18">{title}{scale}</text>'
          f'<text class="last" x="{WIDTH - RIGHT}" y="18" text-anchor="end">{last}</text>'
          f'{_grid(x, y)}<path class="raw" d="{dots}"/><path class="smooth" d="{path}"/></svg>')


def _grid(x: _Axis, y: _Axis) -> str:
  parts = []
  for value in y.ticks():
    parts.append(f'<path class="grid" d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}"/><text '
      f'class="tick" x="{LEFT - 6}" y="{y(value) + 4:.1f}" '
      f'text-anchor="end">{_number(value)}</text>')
  for value in x.ticks():
    parts.append(f'<text class="tick" x="{x(value):.1f}" y="{HEIGHT - BOTTOM + 17}" '
      f'text-anchor="middle">{_number(value)}</text>')
  return ''.join(parts)


def _number(value: float) -> str:
  """A number that fits beside an axis: 0.0002 → 2e-4, 81000 → 81k."""
  if value == 0 or abs(value) < 1e-12:
    return '0'
  if abs(value) < 1e-3:
    mantissa, exponent = f'{value:.2e}'.split('e')
    return f'{float(mantissa):g}e{int(exponent)}'
  for limit, suffix in ((1e9, 'G'), (1e6, 'M'), (1e4, 'k')):
    if abs(value) >= limit:
      return f'{value / (1000.0 if suffix == "k" else limit):.4g}{suffix}'
  return f'{value:.4g}'
