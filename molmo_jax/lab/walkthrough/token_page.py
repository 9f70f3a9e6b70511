"""The token sequence and its attention mask as HTML."""

from __future__ import annotations

import html
import math

from molmo_jax.lab.walkthrough.example import PATCH, ROW_END, View, Walkthrough
from molmo_jax.lab.walkthrough.sequence import (
  AHEAD,
  ALL,
  NOTHING,
  Group,
  Run,
  folded,
  groups,
  lines,
  mask,
  token_name,
)

# of the map: side of a token and distance of two, CSS pixels
CELL, PITCH = 6, 7
MAP_FRAMES = 24                               # frames in the map; the middle of more is left out


def chips(w: Walkthrough) -> str:
  """The sequence, line by line, with runs of equal tokens and stretches of equal lines shortened.
  """
  out = []
  for row in folded(lines(w)):
    if isinstance(row, int):
      out.append(f'<p class="more">⋮ {row} more {"frames" if w.is_video else "rows"} like this</p>')
    else:
      nested = ' nested' if row[0].kind == PATCH else ''
      out.append(f'<div class="row{nested}">{"".join(map(_chip, row))}</div>')
  if w.training:
    out.append('<div class="row"><span class="chip target k-answer">target after the last token: '
               f'{html.escape(token_name(w, int(w.encoded.targets[-1])))}</span></div>')
  return f'<div class="chips">{"".join(out)}</div>'


def _chip(run: Run) -> str:
  count = f'<b>×{run.count}</b>' if run.count > 1 else ''
  bos = 'BOS ' if run.kind == 'bos' else ''
  return f'<span class="chip k-{run.kind}">{bos}{html.escape(run.name)}{count}</span>'


def token_map(w: Walkthrough) -> str:
  """Every token as a small square: a view's patches row by row, its markers beside them."""
  out, place = [], 0
  views = [view for part in w.parts for view in part.views]
  shown = views if len(views) <= MAP_FRAMES else [*views[:MAP_FRAMES - 4], None, *views[-3:]]
  for view in shown:
    if view is None:
      out.append(f'<span class="say">⋯ {len(views) - MAP_FRAMES + 1} frames ⋯</span>')
      place = views[-3].tokens.start
      continue
    first, last = _patches_of(w, view)
    out += _squares(w, place, first)
    out.append(_grid(w, view))
    place = view.tokens.stop
    out += _squares(w, last, place, but=ROW_END)
  return f'<div class="map">{"".join([*out, *_squares(w, place, len(w.kinds))])}</div>'


def _patches_of(w: Walkthrough, view: View) -> tuple[int, int]:
  """Places of the first patch of a view, and behind the last one."""
  kinds = w.kinds[view.tokens]
  return (view.tokens.start + kinds.index(PATCH),
          view.tokens.stop - list(reversed(kinds)).index(PATCH))


def _squares(w: Walkthrough, start: int, stop: int, but: str | None = None) -> list[str]:
  return [f'<u class="k-{w.kinds[i]}" '
    f'title="{html.escape(token_name(w, int(w.encoded.tokens[i])))}"></u>'
    for i in range(start, stop) if w.kinds[i] != but]


def _grid(w: Walkthrough, view: View) -> str:
  """The patches of a view, and its column tokens as a column behind them."""
  rows, cols = view.grid
  square = f'M{{}} {{}}h{CELL}v{CELL}h-{CELL}z'.format
  dots = ''.join(square(c * PITCH, r * PITCH) for r in range(rows) for c in range(cols))
  has_columns = ROW_END in w.kinds[view.tokens]
  ends = ''.join(square(cols * PITCH, r * PITCH) for r in range(rows)) if has_columns else ''
  width, height = (cols + has_columns) * PITCH - 1, rows * PITCH - 1
  return (f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
          f'aria-label="{rows} × {cols} patch tokens"><path class="cell k-patch" d="{dots}"/>'
          f'<path class="cell k-column" d="{ends}"/></svg>')


def mask_drawing(w: Walkthrough) -> str:
  """The attention mask over groups of tokens as SVG: lines are queries, columns keys."""
  members = groups(w)
  sizes = [14 if group is None else 24 + 8 * math.log2(group.stop - group.start)
           for group in members]
  starts = [sum(sizes[:i]) + 2 * i for i in range(len(sizes))]
  side, left, top = starts[-1] + sizes[-1], 150, 110
  real = [i for i, group in enumerate(members) if group is not None]
  states = mask(w, [members[i] for i in real])
  out = []
  for i, group in enumerate(members):
    middle = starts[i] + sizes[i] / 2
    out += [_name(group, left, top + middle, turned=False),
            _name(group, left + middle, top, turned=True)]
  for q, row in zip(real, states, strict=True):
    for k, state in zip(real, row, strict=True):
      out.append(_pair(members[q], members[k], state,
                       (left + starts[k], top + starts[q], sizes[k], sizes[q])))
  width, height = left + side + 60, top + side   # the last name needs room
  return (f'<svg class="mask" role="img" aria-label="attention mask" viewBox="0 0 {width:.0f} '
    f'{height:.0f}" style="width:100%;max-width:{width:.0f}px;height:auto">{"".join(out)}</svg>')


def _name(group: Group | None, x: float, y: float, turned: bool) -> str:
  """A group's name left of its line, or, turned, above its column."""
  if group is None:
    text = '⋯' if turned else '⋮'
    return f'<text class="small" x="{x if turned else x - 10:.1f}" y="{y - 8 if turned else y + 4:.1f}">{text}</text>'
  count = f'<tspan class="small"> {group.stop - group.start:,}</tspan>'
  if turned:
    return f'<text transform="translate({x + 4:.1f} {y - 8:.1f}) rotate(-50)">{group.label}{count}</text>'
  return f'<text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{group.label}{count}</text>'


def _pair(query: Group, key: Group, state: str, place: tuple[float, float, float, float]) -> str:
  """One cell of the mask: `place` is x, y, width, height."""
  x, y, width, height = place
  visual = 'vis' if query.kind == key.kind == PATCH else 'see'
  title = {NOTHING: 'sees nothing of', ALL: 'sees all of',
           AHEAD: 'sees all of, later tokens too,'}.get(
               state, 'sees earlier tokens of')
  out = ['<rect '
    f'class="{dict([(NOTHING, "no"), (ALL, visual), (AHEAD, "ahead")]).get(state, "no")}" '
    f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2"/>']
  if state == AHEAD and query is key:
    out.append(f'<path class="vis" d="M{x:.1f} {y:.1f}v{height:.1f}h{width:.1f}z"/>')
  elif state not in (NOTHING, ALL, AHEAD):
    out.append(f'<path class="{visual}" d="M{x:.1f} {y:.1f}v{height:.1f}h{width:.1f}z"/>')
  return f'<g><title>{query.label} {title} {key.label}</title>{"".join(out)}</g>'
