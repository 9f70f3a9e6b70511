"""The token sequence as runs of equal tokens, as lines, and as groups for the attention mask."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from molmo_jax.kernels.mask import MaskInfo, visible
from molmo_jax.lab.walkthrough.example import END, PATCH, ROW_END, View, Walkthrough
from molmo_jax.preprocess import images

VIEW_NAMES = {images.GLOBAL: 'global view', images.CROP: 'crops', images.FRAME: 'frame'}

TEXT_KINDS = ('text', 'answer')
MAP_FRAMES = 24                               # frames in the map; the middle of more is left out

NOTHING, PART, AHEAD, ALL = 'nothing', 'part', 'ahead', 'all'


@dataclasses.dataclass(frozen=True)
class TokenRun:
  """Neighbouring tokens with the same name; text tokens are runs of one."""
  kind: str
  name: str
  count: int


@dataclasses.dataclass(frozen=True)
class TokenGroup:
  """Tokens that the mask treats alike."""
  label: str
  # 'bos', 'text', 'answer' or 'patch' for all tokens of a view
  kind: str
  start: int
  stop: int


def token_name(w: Walkthrough, index: int) -> str:
  """A token as it is written, blanks and line breaks made visible."""
  return w.tokenizer.decode([index], keep_special=True).replace(' ', '␣').replace('\n', '⏎')


def lines(w: Walkthrough) -> list[list[TokenRun]]:
  """The sequence as lines of runs.

  A line ends after BOS, after a column or end token, and where text follows a view.
  """
  out: list[list[TokenRun]] = [[]]
  for (kind, token), same in itertools.groupby(zip(w.kinds, w.encoded.tokens.tolist())):
    count, line = len(list(same)), out[-1]
    last = line[-1].kind if line else None
    ends = last in ('bos', END) or (last == ROW_END and kind != END)
    if ends or (last is not None and last not in TEXT_KINDS and kind in TEXT_KINDS):
      line = []
      out.append(line)
    each, times = (1, count) if kind in TEXT_KINDS else (count, 1)
    line += [TokenRun(kind, token_name(w, token), each)] * times
  return out


def folded(rows: Sequence[list[TokenRun]], head: int = 2,
           tail: int = 1) -> list[list[TokenRun] | int]:
  """`rows` with the middle of long stretches of alike ones replaced by the number of rows left out.

  Rows are alike if their visual tokens are equal: the times before frames differ.
  """
  out: list[list[TokenRun] | int] = []
  for _, alike in itertools.groupby(rows, lambda row: [run for run in row
                                                       if run.kind not in TEXT_KINDS]):
    alike = list(alike)
    hidden = len(alike) - head - tail
    out += [*alike[:head], hidden, *alike[-tail:]] if hidden > 1 else alike
  return out


def groups(w: Walkthrough, most_frames: int = 5) -> Sequence[TokenGroup | None]:
  """The sequence as groups for the mask; None stands for omitted frames of a long video."""
  views = [(view, part_number) for part_number, part in enumerate(w.parts, 1)
           for view in part.views]
  out, place, length = [TokenGroup('BOS', 'bos', 0, 1)], 1, len(w.kinds)
  for number, (view, part_number) in enumerate(views, 1):
    if view.tokens.start > place:
      out.append(TokenGroup('time' if w.is_video else 'label', 'text', place, view.tokens.start))
    counted = f' {number if w.is_video else part_number}' if w.is_video or len(w.parts) > 1 else ''
    out.append(TokenGroup(VIEW_NAMES[view.kind] + counted, PATCH, view.tokens.start,
                          view.tokens.stop))
    place = view.tokens.stop
  answer = w.kinds.index('answer', place) if 'answer' in w.kinds else length
  out += [TokenGroup(*group) for group in (('question', 'text', place, answer),
                                           ('answer', 'answer', answer, length))
          if group[3] > group[2]]
  if not w.is_video or len(views) <= most_frames:
    return out
  each = 1 + sum(group.label == 'time' for group in out) // len(views)
  head, tail = 1 + each * (most_frames - 2), each * 2 + sum(g.start >= place for g in out)
  return [*out[:head], None, *out[-tail:]]


def mask(w: Walkthrough, members: Sequence[TokenGroup]) -> list[list[str]]:
  """What queries of one group (row) see of keys of another (column): NOTHING, PART, ALL or AHEAD.

  PART: a causal triangle. AHEAD: all, though some of it comes later. Asked of the kernels' own rule
  at the first, middle and last token of each group.
  """
  places = np.asarray([(g.start, (g.start + g.stop - 1) // 2, g.stop - 1) for g in members],
                      np.int32)
  row = places.reshape(1, -1)
  arrays: Any = w.encoded.segments[row], w.encoded.visual[row], row
  info = MaskInfo(*arrays)
  seen = np.asarray(visible(info, info, w.run.model.bidirectional))[0]
  seen = seen.reshape(len(members), 3, len(members), 3)   # query, place in it, key, place in it
  later = places > places[:, :, None, None]               # the key comes after the query
  states = np.select([~seen.any(axis=(1, 3)), ~seen.all(axis=(1, 3)), later.any(axis=(1, 3))],
                     [NOTHING, PART, AHEAD], ALL)
  return states.tolist()


def token_map(w: Walkthrough) -> list[int | View | str]:
  """The sequence as the page maps it.

  A view stands for its patches and the row ends among them, every other token for itself, and a
  text for the omitted frames.
  """
  views = [view for part in w.parts for view in part.views]
  hidden = views[MAP_FRAMES - 4:-3] if len(views) > MAP_FRAMES else []
  out, place = [], 0
  for view in views:
    if view not in hidden:
      kinds = w.kinds[view.tokens]
      first, behind = kinds.index(PATCH), len(kinds) - kinds[::-1].index(PATCH)
      markers = (i for i in range(view.tokens.start + behind, view.tokens.stop)
                 if w.kinds[i] != ROW_END)
      out += [*range(place, view.tokens.start + first), view, *markers]
    elif view is hidden[0]:
      out.append(f'⋯ {len(hidden)} frames ⋯')
    place = view.tokens.stop
  return [*out, *range(place, len(w.kinds))]


def spans(members: Sequence[TokenGroup | None]) -> list[tuple[TokenGroup | None, float, float]]:
  """Every group with its start and its length in the drawing of the mask, on a logarithmic scale.
  """
  out, start = [], 0.0
  for group in members:
    size = 14.0 if group is None else 24 + 8 * math.log2(group.stop - group.start)
    out.append((group, start, size))
    start += size + 2
  return out
