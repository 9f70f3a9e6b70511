"""The walkthrough as one self-contained page: table, drawings, tokens and mask. Texts of users are
escaped.
"""

from __future__ import annotations

import html

import numpy as np
from PIL import Image

from molmo_jax.evaluation.media import TINY_SIDE, data_uri
from molmo_jax.kernels.mask import MODES
from molmo_jax.lab.walkthrough import drawing, timeline, token_page
from molmo_jax.lab.walkthrough.example import Part, Walkthrough
from molmo_jax.lab.walkthrough.style import CSS
from molmo_jax.lab.walkthrough.table import (
  design_note,
  limit_notes,
  number,
  stages,
  visual_tokens,
)


def page(w: Walkthrough) -> str:
  """The HTML text of the page; it asks for nothing outside itself."""
  names = ', '.join(part.source.name for part in w.parts)
  mode = 'training' if w.training else 'inference'
  body = [f'<h1>{html.escape(names)}: from pixels to tokens</h1><p class="lead">What '
    f'<code>{html.escape(w.run.name)}</code> makes of {"it" if len(w.parts) == 1 else "them"} for '
    f'{mode}. Its counts are those of the arrays that {"training" if w.training else "a prompt"} '
    'gets.</p>', _facts(w), _table(w)]
  count = _Count()
  for index, part in enumerate(w.parts):
    if len(w.parts) > 1:
      body.append(f'<h2 class="file">{html.escape(part.source.name)}</h2>')
    body += timeline.sections(w, count) if w.is_video else _image(w, part, f'p{index}', count)
  body += [_tokens(w, count), _mask(w, count)]
  return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
    f'content="width=device-width,initial-scale=1"><title>{html.escape(names)}: from pixels to '
    f'tokens</title><style>{CSS}</style></head><body>\n{"".join(body)}\n<footer>python -m '
    'molmo-jax walkthrough</footer></body></html>\n')


class _Count:
  """Numbers of sections."""
  def __init__(self):
    self.value = 0

  def section(self, name: str, title: str, say: str, *content: str) -> str:
    """A section with its one or two sentences; `say` is HTML."""
    self.value += 1
    return (f'<section data-section="{name}"><h2><b>{self.value}</b>{html.escape(title)}</h2><p '
      f'class="say">{say}</p>{"".join(content)}</section>')


def _facts(w: Walkthrough) -> str:
  features = len(w.encoded.pool_index)
  visual = sum(visual_tokens(w, part) for part in w.parts)
  facts = ((len(w.encoded.crops), 'frames' if w.is_video else 'crops, global view included'),
           (len(w.encoded.crops) * w.grid ** 2, 'patches in the vision tower'),
           (features, 'patch tokens'),
           (visual, 'visual tokens'), (len(w.encoded.tokens), 'tokens in all'))
  return f'<div class="facts">{"".join(f"<div><b>{number(n)}</b><span>{what}</span></div>" for n, what in facts)}</div>'


def _table(w: Walkthrough) -> str:
  several = len(w.parts) > 1
  heads = [part.source.name for part in w.parts] + ['all'] if several else ['numbers']
  rows = []
  for index, stage in enumerate(stages(w), 1):
    cells = stage.cells(len(w.parts))
    values = ''.join(f'<td class="v">{html.escape(cell)}</td>' for cell in cells)
    note = html.escape(stage.note)
    note = (f'</tr><tr><td></td><td class="note under" colspan="{1 + len(cells)}">{note}</td>'
            if several else
            f'<td class="note">{note}</td>')
    rows.append(f'<tr><td class="n">{index}</td><td '
      f'class="step">{stage.name}</td>{values}{note}</tr>')
  head = ''.join(f'<th>{html.escape(text)}</th>' for text in heads) + ('' if several
                                                                       else '<th></th>')
  remark = design_note(w)
  notes = f'<p class="note">{html.escape(remark)}</p>' if remark else ''
  notes += ''.join(f'<p class="warn">{html.escape(note)}</p>' for note in limit_notes(w))
  return (
    f'<section data-section="table"><div class="panel scroll"><table{"" if several else " class=single"}><thead><tr><th></th><th class="step">step</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>{notes}</section>')


def _image(w: Walkthrough, part: Part, name: str, count: _Count) -> list[str]:
  """The sections about one image."""
  side = w.grid * w.run.preprocess.image.patch_size
  global_view = drawing.as_uint8(w.encoded.crops[part.crops.start])
  box = w.encoded.layout_box[part.views[0].rows]
  out = [count.section(
      'global', 'The global view', f'The whole image in one crop of {side} × {side} px '
      f'({_way(w)}), with its {{}} × {{}} pooling windows: the model reads it first.'.format(
        *part.views[0].grid),
      _definitions(drawing.definition(f'{name}g', global_view)),
      f'<div class="panel pair"><figure><img alt="the image" src="{_photo(part)}"><figcaption>the '
      f'image, {part.source.width} × {part.source.height} '
      f'px</figcaption></figure><figure>{drawing.view(f"{name}g", box, side)}<figcaption>as crop '
      '0</figcaption></figure></div>')]
  if part.tiling is None:
    return out
  pixels, corners = drawing.canvas(part, w)
  return [*out, _tiling(w, part, name, pixels, corners, count),
          _survivors(w, part, name, corners, count),
          _windows(w, part, name, pixels, count)]


def _tiling(w: Walkthrough, part: Part, name: str, pixels: np.ndarray, corners: np.ndarray,
            count: _Count) -> str:
  height, width = pixels.shape[:2]
  side, margin = w.grid * w.run.preprocess.image.patch_size, sum(
    w.run.preprocess.image.overlap_margins)
  picture = drawing.tiling(f'{name}c', pixels.shape[:2], corners, side)
  return count.section(
      'tiling', 'The crops and their overlaps',
      f'The image once more, {_way(w)} to a canvas of {width} × {height} px and cut into {{}} × '
      f'{{}} crops. '.format(*part.tiling) + f'Neighbours share {margin} patches, so that each '
      'sees around its edge.',
      _definitions(drawing.definition(f'{name}c', pixels)), f'<div class="panel">{picture}'
      + _key(('#ffd23f', 'shared by neighbours'),
             ('#ff2e63', f'one crop in full: {side} × {side} px')) + '</div>')


def _survivors(w: Walkthrough, part: Part, name: str, corners: np.ndarray, count: _Count) -> str:
  kept = w.kept(part.crops)[1:]
  say = (f'The crops drawn apart. <b>{number(int(kept.sum()))}</b> of {number(kept.size)} patches '
    'go on. The vision tower sees the faded ones too, but their place in the image is left to the '
    'neighbour.')
  return count.section('patches', 'Which patches survive', say,
                       '<div class="panel">' + drawing.survivors(
                           f'{name}c', corners, kept, w)
                       + _key(('var(--card)', 'left to the neighbour')) + '</div>')


def _windows(w: Walkthrough, part: Part, name: str, pixels: np.ndarray, count: _Count) -> str:
  view, size = part.views[-1], w.run.preprocess.image.patch_size
  picture, straddling = drawing.windows(f'{name}c', pixels.shape[:2], view, w)
  box = w.encoded.layout_box[view.rows][(view.grid[0] // 2) * view.grid[1] + view.grid[1] // 2]
  say = 'What survives is one grid again: <b>{} × {}</b> windows of {} × {} patches. '.format(
      *view.grid, *w.run.preprocess.image.pooling)
  say += 'Each becomes one feature, which is added to one <code>&lt;im_patch&gt;</code> token; '
  say += f'{number(straddling)} of them take patches of several crops.' if straddling else 'each lies within one crop.'
  key = [('#9aa4ae', 'tinted: every other crop')] + [('#00d1d9', 'over the seam of two crops')] * (
    straddling > 0)
  return count.section(
      'windows', 'The pooled grid', say, f'<div class="panel">{picture}{_key(*key)}</div><div '
      'class="panel '
      f'close"><figure>{drawing.close_up(f"{name}c", box, pixels.shape[:2], size)}</figure><p '
      f'class="say">One window close up: the lines are patches of {size} px. The features of its '
      f'patches become one by <code>{w.run.model.connector.pooling}</code>.</p></div>')


def _tokens(w: Walkthrough, count: _Count) -> str:
  say = ('What the language model reads. Equal tokens in a row are one chip; below, every token is '
    'a square, patches stand where they stand in the image.')
  if not w.real_tokenizer:
    say += (f' <code>{html.escape(w.run.data.tokenizer)}</code> does not exist here, so a stand-in '
      'splits the text; visual tokens are not affected.')
  kinds = [('patch', 'patch'), ('column', 'end of a row'), ('start', 'start'), ('end', 'end'),
           ('text', 'text')]
  kinds.append(('answer', 'text with loss'))
  key = _key(*((f'var(--{kind})', text) for kind, text in kinds if kind in w.kinds))
  return count.section('tokens', 'The token sequence', say,
                       f'<div class="panel">{token_page.chips(w)}</div>',
                       f'<div class="panel">{token_page.token_map(w)}{key}</div>')


def _mask(w: Walkthrough, count: _Count) -> str:
  mode = MODES[w.run.model.bidirectional]
  key = [('var(--text)', 'seen'), ('var(--patch)', 'seen, visual to visual')]
  if mode.ahead:
    key.append(('var(--ahead)', 'seen although it comes later'))
  say = f'{mode.meaning} Lines look, columns are looked at; sizes are on a logarithmic scale.'
  return count.section('mask', 'Who sees whom', say,
                       f'<div class="panel">{token_page.mask_drawing(w)}{_key(*key, ("var(--soft)", "not seen"))}</div>')


def _way(w: Walkthrough) -> str:
  return 'letterboxed' if w.run.preprocess.image.resize == 'letterbox' else 'stretched'


def _photo(part: Part) -> str:
  return data_uri(Image.fromarray(part.source.small),
                  lossless=max(part.source.small.shape) <= TINY_SIDE)


def _definitions(content: str) -> str:
  return f'<svg class="defs" aria-hidden="true"><defs>{content}</defs></svg>'


def _key(*items: tuple[str, str]) -> str:
  return ('<p class="key">' + ''.join(f'<span><i style="background:{colour}"></i>{text}</span>'
                                      for colour, text in items) + '</p>')
