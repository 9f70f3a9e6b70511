"""The eleven rows of the walkthrough: from the pixels of a file to the tokens of a sequence.

The order is that in which things happen: Molmo v1 pools every crop and then leaves overlaps out,
Molmo2 the other way round (docs/model.md §6.3). Counts are lengths of the encoded example's arrays;
shapes behind the vision tower, which is not run, come from the configuration.
"""

from __future__ import annotations

import collections
import dataclasses

import numpy as np

from molmo_jax.lab.walkthrough.example import (
  END,
  PATCH,
  ROW_END,
  START,
  Part,
  View,
  Walkthrough,
  canvas_places,
)
from molmo_jax.preprocess import images
from molmo_jax.preprocess.reading import load_image

DESIGN_SIZE = (1920, 1080)                      # the design card's own example, width and height


@dataclasses.dataclass(frozen=True)
class Stage:
  """One row of the table."""
  name: str
  values: tuple[str, ...]                     # one per file; empty where only the whole counts
  total: str                                  # of all files
  note: str

  def cells(self, files: int) -> list[str]:
    """A cell for every file and one for all of them; for a single file, one cell."""
    return [*(self.values or [''] * files),
            self.total] if files > 1 else [(*self.values, self.total)[0]]


def stages(w: Walkthrough) -> list[Stage]:
  """The eleven rows."""
  if w.is_video:
    middle = (_no_overlap, _pooled)
  elif w.run.preprocess.image.pool_per_crop:
    middle = (_pooled_crops, _unique_windows)
  else:
    middle = (_unique_patches, _pooled)
  rows = (_input, _frames if w.is_video else _tiling, _resized, _crops, _patches, _features,
          *middle, _projected,
          _layout, _sequence)
  return [row(w) for row in rows]


def number(value: int) -> str:
  return f'{value:,}'


def visual_tokens(w: Walkthrough, part: Part) -> int:
  """Tokens of a file that are no text: patches and layout tokens."""
  return sum(kind in (PATCH, ROW_END, START, END) for kind in w.kinds[part.tokens])


def _has_crops(w: Walkthrough) -> bool:
  return any(part.tiling for part in w.parts)


def _count(part: Part) -> int:
  return part.rows.stop - part.rows.start


def _sum(counts: list[int]) -> str:
  return number(sum(counts))


def _input(w: Walkthrough) -> Stage:
  source = w.parts[0].source
  values = tuple(f'{part.source.width} × {part.source.height} px' for part in w.parts)
  if w.is_video:
    frames = f'{number(source.frames)} frames' if source.frames else 'the file does not say how many frames'
    return Stage('video', values, values[0],
                 frames + (f', {source.fps:.3g} a second' if source.fps else ''))
  return Stage('image', values, f'{len(values)} images', 'width × height, upright, RGB, uint8')


def _frames(w: Walkthrough) -> Stage:
  times, config = w.encoded.frame_times, w.run.preprocess.video
  most = config.max_frames if w.training else config.max_frames_eval
  value = f'{number(len(times))} frames'
  gap = f', one every {np.median(np.diff(times)):.2f} s' if len(times) > 1 else ''
  return Stage('sampled frames', (value,), value,
               f'at most F = {most}{gap}; the last one at {times[-1]:.2f} s')


def _tiling(w: Walkthrough) -> Stage:
  values = tuple('one crop' if part.tiling is None else '{} × {} crops'.format(*part.tiling)
                 for part in w.parts)
  total = _sum([int(np.prod(part.tiling)) if part.tiling else 1 for part in w.parts])
  if not _has_crops(w):
    return Stage('tiling', values, f'{total} crops',
                 f'image.mode={w.run.preprocess.image.mode}: the global view alone')
  return Stage('tiling', values, f'{total} crops', f'rows × columns, at most K = {w.max_crops} for '
               'an image: the least that shrinks it nowhere, or else the one that shrinks it least')


def _resized(w: Walkthrough) -> Stage:
  image = w.run.preprocess.image
  side = image.crop_size
  view = f'{side} × {side} px'
  ways = {'stretch': 'stretched, bilinear without antialias',
          'stretch_bicubic': 'stretched, bicubic with antialias',
          'letterbox': 'aspect kept, bilinear with antialias, black around it'}
  if w.is_video:
    return Stage('resized', (view,), view, f'every frame on its own: {ways[image.resize]}')
  values = tuple(f'{view} and {size[1]} × {size[0]} px' if (size := _canvas(w, part)) else view
                 for part in w.parts)
  what = 'global view and canvas of the crops, both from the original' if _has_crops(
    w) else 'global view'
  note = f'{what}: {ways[image.resize]}'
  if image.resize == 'letterbox' and len(w.parts) == 1 and w.parts[0].tiling:
    note += ' ({} × {} px of the canvas are picture)'.format(*_picture_size(w, w.parts[0]))
  return Stage('resized', values, 'each on its own', note)


def _canvas(w: Walkthrough, part: Part) -> tuple[int, int] | None:
  """Height and width of the canvas, pixels."""
  if part.tiling is None:
    return None
  (rows, cols), _ = canvas_places(part, w)
  return rows * w.run.preprocess.image.patch_size, cols * w.run.preprocess.image.patch_size


def _picture_size(w: Walkthrough, part: Part) -> tuple[int, int]:
  """Width and height of what is not padding in a letterboxed canvas."""
  _, real = images.fit(load_image(part.source.path), *_canvas(w, part), w.run.preprocess.image)
  return int(real.any(axis=0).sum()), int(real.any(axis=1).sum())


def _crops(w: Walkthrough) -> Stage:
  image, crops = w.run.preprocess.image, w.encoded.crops
  total = number(len(crops))
  array = f'{crops.dtype} [{", ".join(map(str, crops.shape))}]'
  if w.is_video:
    return Stage('crops', (total,), total, f'every frame is one crop: {array}')
  values = tuple(f'1 + {len(part.crops) - 1} = {len(part.crops)}' if part.tiling else '1'
                 for part in w.parts)
  margin = sum(image.overlap_margins)
  note = f'the global view and the crops; neighbours share {margin} patches = {margin * image.patch_size} px: {array}'
  return Stage('crops', values, total, note if _has_crops(w) else f'the global view: {array}')


def _patches(w: Walkthrough) -> Stage:
  values = tuple(f'{len(part.crops)} × {w.grid} × {w.grid} = '
    f'{number(len(part.crops) * w.grid ** 2)}'
    for part in w.parts)
  return Stage('patches', values, number(len(w.encoded.crops) * w.grid ** 2),
               f'{w.run.preprocess.image.patch_size} px each; the vision tower sees all of them')


def _features(w: Walkthrough) -> Stage:
  tower, layers = w.run.model.tower, w.run.model.connector.vit_layers
  width = number(tower.width * len(layers))
  values = tuple(f'{number(len(part.crops) * w.grid ** 2)} × {width}' for part in w.parts)
  blocks = ' and '.join(map(str, w.run.model.read))
  joined = f' of {number(tower.width)} each, side by side' if len(layers) > 1 else ''
  return Stage('ViT features', values, f'{number(len(w.encoded.crops) * w.grid ** 2)} × {width}',
               f'outputs of block{"s" * (len(layers) > 1)} {blocks} of {tower.layers} (counted from '
               f'0){joined}')


def _no_overlap(w: Walkthrough) -> Stage:
  kept = number(int(w.kept(w.parts[0].crops).sum()))
  return Stage('overlap removal', (kept,), kept, 'frames do not overlap: every patch stays')


def _unique_patches(w: Walkthrough) -> Stage:
  kept = [w.kept(part.crops) for part in w.parts]
  values = tuple(f'{number(int(k[0].sum()))} + {number(int(k[1:].sum()))} = {number(int(k.sum()))}'
                 if len(k) > 1 else
                 number(int(k.sum())) for k in kept)
  dropped = sum(int((~k).sum()) for k in kept)
  note = f'global view + crops; {number(dropped)} patches in inner margins are left to the neighbour'
  return Stage('overlap removal', values, _sum([int(k.sum()) for k in kept]),
               note if _has_crops(w) else 'nothing overlaps: every patch stays')


def _pooled_crops(w: Walkthrough) -> Stage:
  grid = images.pooled_grid((w.grid, w.grid), w.run.preprocess.image.pooling)
  each = int(np.prod(grid))
  values = tuple(f'{len(part.crops)} × {grid[0]} × {grid[1]} = {number(len(part.crops) * each)}'
                 for part in w.parts)
  return Stage('pooling', values, number(len(w.encoded.crops) * each),
               f'{_window(w)}, crop by crop')


def _unique_windows(w: Walkthrough) -> Stage:
  grid = images.pooled_grid((w.grid, w.grid), w.run.preprocess.image.pooling)
  dropped = len(w.encoded.crops) * int(np.prod(grid)) - len(w.encoded.pool_index)
  return Stage('overlap removal', tuple(_grids(part) for part in w.parts),
               number(len(w.encoded.pool_index)),
               f'global view + crops; {number(dropped)} pooled features in inner margins are left '
               'to the neighbour')


def _pooled(w: Walkthrough) -> Stage:
  empty = int((w.encoded.pool_index[:, :int(np.prod(_pooling(w)))] < 0).sum())
  over = 'every frame' if w.is_video else 'the global view' + ' and the stitched crops' * _has_crops(w)
  note = f'{_window(w)}, over {over}'
  if empty:
    note += f'; {number(empty)} slots of windows at an edge are empty'
  return Stage('pooling', tuple(_grids(part) for part in w.parts),
               number(len(w.encoded.pool_index)), note)


def _grids(part: Part) -> str:
  grid = '{} × {}'.format
  if part.source.is_video:
    return f'{len(part.views)} × {grid(*part.views[0].grid)} = {number(_count(part))}'
  return ' + '.join(grid(*view.grid) for view in part.views) + f' = {number(_count(part))}'


def _pooling(w: Walkthrough) -> tuple[int, int]:
  return (w.run.preprocess.video if w.is_video else w.run.preprocess.image).pooling


def _window(w: Walkthrough) -> str:
  kind = w.run.model.connector.pooling
  how = 'attention with a mean query' if kind.startswith('attention_meanq') else kind.replace('_',
                                                                                              ' ')
  return 'windows of {} × {} patches, {}'.format(*_pooling(w), how)


def _projected(w: Walkthrough) -> Stage:
  width = number(w.run.model.llm.width)
  layout = ', plus a learned layout embedding' if w.run.model.connector.layout_embedding else ''
  return Stage('projector', tuple(f'{number(_count(part))} × {width}' for part in w.parts),
               f'{number(len(w.encoded.pool_index))} × {width}',
               f'to the width of the language model{layout}; added to the embeddings of as many '
               '<im_patch>')


def _layout(w: Walkthrough) -> Stage:
  counts, text = collections.Counter(), 0
  names = {index: name for name, index in w.tokenizer.special.items()}
  for part in w.parts:
    for token, kind in zip(w.encoded.tokens[part.tokens].tolist(), w.kinds[part.tokens],
                           strict=True):
      if kind in (ROW_END, START, END):
        counts[names[token]] += 1
      text += kind == 'text'
  values = tuple(f'{number(_count(part))} + {number(visual_tokens(w, part) - _count(part))} = '
                 f'{number(visual_tokens(w, part))}' for part in w.parts)
  listed = ' '.join(f'{number(n)} {name}' for name, n in counts.items())
  between = f', and {number(text)} text tokens in between' if text else ''
  return Stage('layout tokens', values, _sum([visual_tokens(w, part) for part in w.parts]),
               f'<im_patch> + layout: {listed or "none"}{between}')


def _sequence(w: Walkthrough) -> Stage:
  visual = sum(visual_tokens(w, part) for part in w.parts)
  length = len(w.encoded.tokens)
  value = f'1 + {number(visual)} + {number(length - 1 - visual)} = {number(length)}'
  stand_in = '' if w.real_tokenizer else ' (text counted by a stand-in for the tokenizer)'
  loss = f'; {int((w.encoded.loss_weights > 0).sum())} of them carry loss' if w.training else ''
  return Stage('sequence', (), value, f'BOS + visual + text{stand_in}{loss}')


def limit_notes(w: Walkthrough) -> list[str]:
  """What the configuration has no room for, with the flags that make room."""
  if not w.training:
    return []
  data, longest = w.run.data, w.run.preprocess.text.max_sequence_length
  key = 'data.sequence_length' if longest == data.sequence_length else 'preprocess.text.max_sequence_length'
  cut = 'cut' if w.parts[-1].tokens.stop <= longest else 'refuse'
  sizes = ((key, 'tokens', len(w.encoded.tokens), longest, cut),
           ('data.crops', 'crops', len(w.encoded.crops), data.crops, 'refuse'),
           ('data.visual_tokens', 'pooled features', len(w.encoded.pool_index), data.visual_tokens,
            'refuse'))
  return [f'{number(size)} {what} do not fit into {key}={limit}: training would {verb} this '
    f'example; set --config.{key}={size} or more' for key, what, size, limit, verb in sizes
    if size > limit]


def design_note(w: Walkthrough) -> str | None:
  """The design card's 'about 1,100 unique tokens' beside the numbers of this run; None for a picture
  of other size.
  """
  source, views = w.parts[0].source, w.parts[0].views
  if w.is_video or len(w.parts) > 1 or (source.width, source.height) != DESIGN_SIZE or len(views) < 2:
    return None
  here = ' + '.join(number(_windows(view)) for view in reversed(views))
  return ('The design card says "about 1,100 unique tokens" for 1920 × 1080. That is Molmo v1 with '
    'K = 12, in round numbers: 28 × 36 = 1,008 features of the crops and 12 × 12 = 144 of the '
    'global view make 1,152 (1,196 with layout tokens); K = 36 makes 2,592. Here, with K = '
    f'{w.max_crops}: {here} = {number(_count(w.parts[0]))}.')


def _windows(view: View) -> int:
  return view.rows.stop - view.rows.start
