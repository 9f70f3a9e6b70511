"""The eleven rows of the walkthrough: from the pixels of a file to the tokens of a sequence.

The order is that in which things happen: Molmo v1 pools every crop and then leaves overlaps out,
Molmo2 the other way round (docs/model.md §6.3). Counts are lengths of the encoded example's arrays;
shapes behind the vision tower, which is not run, come from the configuration.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable

import numpy as np

from molmo_jax.lab.walkthrough.example import (
  END,
  PATCH,
  ROW_END,
  START,
  Part,
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
    if files == 1:
      return [(*self.values, self.total)[0]]
    return [*(self.values or [''] * files), self.total]


def stages(w: Walkthrough) -> list[Stage]:
  """The eleven rows."""
  if w.is_video:
    middle = (_no_overlap, _pooled)
  elif w.run.preprocess.image.pool_per_crop:
    middle = (_pooled_crops, _unique_windows)
  else:
    middle = (_unique_patches, _pooled)
  return [row(w) for row in (_input, _frames if w.is_video else _tiling, _resized, _crops, _patches,
                             _features, *middle, _projected, _layout, _sequence)]


def visual_tokens(w: Walkthrough, part: Part) -> int:
  """Tokens of a file that are no text: patches and layout tokens."""
  return sum(kind in (PATCH, ROW_END, START, END) for kind in w.kinds[part.tokens])


def _per_file(w: Walkthrough, value: Callable[[Part], str]) -> tuple[str, ...]:
  return tuple(map(value, w.parts))


def _has_crops(w: Walkthrough) -> bool:
  return any(part.tiling for part in w.parts)


def _input(w: Walkthrough) -> Stage:
  source = w.parts[0].source
  values = _per_file(w, lambda part: f'{part.source.width} × {part.source.height} px')
  if not w.is_video:
    return Stage('image', values, f'{len(values)} images', 'width × height, upright, RGB, uint8')
  frames = f'{source.frames:,} frames' if source.frames else 'the file does not say how many frames'
  rate = f', {source.fps:.3g} a second' if source.fps else ''
  return Stage('video', values, values[0], frames + rate)


def _frames(w: Walkthrough) -> Stage:
  times, config = w.encoded.frame_times, w.run.preprocess.video
  most = config.max_frames if w.training else config.max_frames_eval
  gap = f', one every {np.median(np.diff(times)):.2f} s' if len(times) > 1 else ''
  return Stage('sampled frames', (), f'{len(times):,} frames',
               f'at most F = {most}{gap}; the last one at {times[-1]:.2f} s')


def _tiling(w: Walkthrough) -> Stage:
  values = _per_file(w, lambda part: '{} × {} crops'.format(*part.tiling) if part.tiling else
                     'one crop')
  total = sum(int(np.prod(part.tiling or 1)) for part in w.parts)
  note = f'image.mode={w.run.preprocess.image.mode}: the global view alone'
  if _has_crops(w):
    note = (f'rows × columns, at most K = {w.max_crops} for an image: the least that shrinks it '
            'nowhere, or else the one that shrinks it least')
  return Stage('tiling', values, f'{total:,} crops', note)


def _resized(w: Walkthrough) -> Stage:
  image, view = w.run.preprocess.image, f'{w.side} × {w.side} px'
  way = {'stretch': 'stretched, bilinear without antialias',
         'stretch_bicubic': 'stretched, bicubic with antialias',
         'letterbox': 'aspect kept, bilinear with antialias, black around it'}[image.resize]
  if w.is_video:
    return Stage('resized', (), view, f'every frame on its own: {way}')
  values = _per_file(w, lambda part: '{2} and {1} × {0} px'.format(*_canvas(w, part), view)
                     if part.tiling else view)
  crops = ' and canvas of the crops, both from the original' * _has_crops(w)
  note = f'global view{crops}: {way}'
  if image.resize == 'letterbox' and len(w.parts) == 1 and w.parts[0].tiling:
    _, real = images.fit(load_image(w.parts[0].source.path), *_canvas(w, w.parts[0]), image)
    width, height = (real.any(axis=axis).sum() for axis in (0, 1))
    note += f' ({width} × {height} px of the canvas are picture)'
  return Stage('resized', values, 'each on its own', note)


def _canvas(w: Walkthrough, part: Part) -> tuple[int, int]:
  """Height and width of the canvas, pixels."""
  (rows, cols), _ = canvas_places(part, w)
  return rows * w.run.preprocess.image.patch_size, cols * w.run.preprocess.image.patch_size


def _crops(w: Walkthrough) -> Stage:
  image, crops = w.run.preprocess.image, w.encoded.crops
  values = () if w.is_video else _per_file(
    w, lambda part: f'1 + {len(part.crops) - 1} = {len(part.crops)}' if part.tiling else '1')
  margin = sum(image.overlap_margins)
  what = 'every frame is one crop' if w.is_video else 'the global view'
  if _has_crops(w):
    what += (f' and the crops; neighbours share {margin} patches = {margin * image.patch_size} px')
  return Stage('crops', values, f'{len(crops):,}', f'{what}: {crops.dtype} {list(crops.shape)}')


def _patches(w: Walkthrough) -> Stage:
  values = _per_file(w, lambda part: f'{len(part.crops)} × {w.grid} × {w.grid} = '
                     f'{len(part.crops) * w.grid ** 2:,}')
  return Stage('patches', values, f'{len(w.encoded.crops) * w.grid ** 2:,}',
               f'{w.run.preprocess.image.patch_size} px each; the vision tower sees all of them')


def _features(w: Walkthrough) -> Stage:
  tower, layers = w.run.model.tower, w.run.model.connector.vit_layers
  width = f'{tower.width * len(layers):,}'
  blocks = ' and '.join(map(str, w.run.model.read))
  joined = f' of {tower.width:,} each, side by side' if len(layers) > 1 else ''
  return Stage('ViT features',
               _per_file(w, lambda part: f'{len(part.crops) * w.grid ** 2:,} × {width}'),
               f'{len(w.encoded.crops) * w.grid ** 2:,} × {width}',
               f'outputs of block{"s" * (len(layers) > 1)} {blocks} of {tower.layers} (counted '
               f'from 0){joined}')


def _no_overlap(w: Walkthrough) -> Stage:
  return Stage('overlap removal', (), f'{w.kept(w.parts[0].crops).sum():,}',
               'frames do not overlap: every patch stays')


def _unique_patches(w: Walkthrough) -> Stage:
  kept = [w.kept(part.crops) for part in w.parts]
  values = tuple(f'{k[0].sum():,} + {k[1:].sum():,} = {k.sum():,}' if len(k) > 1 else
                 f'{k.sum():,}' for k in kept)
  dropped = sum((~k).sum() for k in kept)
  note = f'global view + crops; {dropped:,} patches in inner margins are left to the neighbour'
  return Stage('overlap removal', values, f'{sum(k.sum() for k in kept):,}',
               note if _has_crops(w) else 'nothing overlaps: every patch stays')


def _pooled_crops(w: Walkthrough) -> Stage:
  rows, columns = images.pooled_grid((w.grid, w.grid), w.run.preprocess.image.pooling)
  values = _per_file(w, lambda part: f'{len(part.crops)} × {rows} × {columns} = '
                     f'{len(part.crops) * rows * columns:,}')
  return Stage('pooling', values, f'{len(w.encoded.crops) * rows * columns:,}',
               f'{_window(w)}, crop by crop')


def _unique_windows(w: Walkthrough) -> Stage:
  grid = images.pooled_grid((w.grid, w.grid), w.run.preprocess.image.pooling)
  dropped = len(w.encoded.crops) * int(np.prod(grid)) - len(w.encoded.pool_index)
  return Stage('overlap removal', _per_file(w, _grids), f'{len(w.encoded.pool_index):,}',
               f'global view + crops; {dropped:,} pooled features in inner margins are left to the '
               'neighbour')


def _pooled(w: Walkthrough) -> Stage:
  empty = (w.encoded.pool_index[:, :int(np.prod(_pooling(w)))] < 0).sum()
  over = 'every frame' if w.is_video else 'the global view'
  over += ' and the stitched crops' * _has_crops(w)
  slots = f'; {empty:,} slots of windows at an edge are empty' if empty else ''
  return Stage('pooling', _per_file(w, _grids), f'{len(w.encoded.pool_index):,}',
               f'{_window(w)}, over {over}{slots}')


def _grids(part: Part) -> str:
  grids = ['{} × {}'.format(*view.grid) for view in part.views]
  if part.source.is_video:
    return f'{len(grids)} × {grids[0]} = {part.features:,}'
  return f'{" + ".join(grids)} = {part.features:,}'


def _pooling(w: Walkthrough) -> tuple[int, int]:
  return (w.run.preprocess.video if w.is_video else w.run.preprocess.image).pooling


def _window(w: Walkthrough) -> str:
  kind = w.run.model.connector.pooling.replace('_', ' ')
  how = 'attention with a mean query' if kind.startswith('attention meanq') else kind
  return 'windows of {} × {} patches, {}'.format(*_pooling(w), how)


def _projected(w: Walkthrough) -> Stage:
  width = f'{w.run.model.llm.width:,}'
  layout = ', plus a learned layout embedding' if w.run.model.connector.layout_embedding else ''
  return Stage('projector', _per_file(w, lambda part: f'{part.features:,} × {width}'),
               f'{len(w.encoded.pool_index):,} × {width}', 'to the width of the language '
               f'model{layout}; added to the embeddings of as many <im_patch>')


def _layout(w: Walkthrough) -> Stage:
  names = {index: name for name, index in w.tokenizer.special.items()}
  tokens = [(token, kind) for part in w.parts for token, kind in
            zip(w.encoded.tokens[part.tokens].tolist(), w.kinds[part.tokens], strict=True)]
  counts = collections.Counter(names[token] for token, kind in tokens
                               if kind in (ROW_END, START, END))
  text = sum(kind == 'text' for _, kind in tokens)
  visual = [visual_tokens(w, part) for part in w.parts]
  values = tuple(f'{part.features:,} + {n - part.features:,} = {n:,}'
                 for part, n in zip(w.parts, visual))
  listed = ' '.join(f'{n:,} {name}' for name, n in counts.items())
  between = f', and {text:,} text tokens in between' if text else ''
  return Stage('layout tokens', values, f'{sum(visual):,}',
               f'<im_patch> + layout: {listed or "none"}{between}')


def _sequence(w: Walkthrough) -> Stage:
  visual, length = sum(visual_tokens(w, part) for part in w.parts), len(w.encoded.tokens)
  stand_in = '' if w.real_tokenizer else ' (text counted by a stand-in for the tokenizer)'
  loss = f'; {(w.encoded.loss_weights > 0).sum()} of them carry loss' if w.training else ''
  return Stage('sequence', (), f'1 + {visual:,} + {length - 1 - visual:,} = {length:,}',
               f'BOS + visual + text{stand_in}{loss}')


def limit_notes(w: Walkthrough) -> list[str]:
  """What the configuration has no room for, with the flags that make room."""
  if not w.training:
    return []
  data, longest = w.run.data, w.run.preprocess.text.max_sequence_length
  key = 'preprocess.text.max_sequence_length'
  if longest == data.sequence_length:
    key = 'data.sequence_length'
  cut = 'cut' if w.parts[-1].tokens.stop <= longest else 'refuse'
  sizes = ((key, 'tokens', w.encoded.tokens, longest, cut),
           ('data.crops', 'crops', w.encoded.crops, data.crops, 'refuse'),
           ('data.visual_tokens', 'pooled features', w.encoded.pool_index, data.visual_tokens,
            'refuse'))
  return [f'{len(array):,} {what} do not fit into {key}={limit}: training would {verb} this '
          f'example; set --config.{key}={len(array)} or more'
          for key, what, array, limit, verb in sizes if len(array) > limit]


def design_note(w: Walkthrough) -> str | None:
  """The design card's 'about 1,100 unique tokens' beside this run's; None for other sizes."""
  part = w.parts[0]
  size = (part.source.width, part.source.height)
  if w.is_video or len(w.parts) > 1 or size != DESIGN_SIZE or len(part.views) < 2:
    return None
  here = ' + '.join(f'{view.features:,}' for view in reversed(part.views))
  return ('The design card says "about 1,100 unique tokens" for 1920 × 1080. That is Molmo v1 with '
          'K = 12, in round numbers: 28 × 36 = 1,008 features of the crops and 12 × 12 = 144 of '
          'the global view make 1,152 (1,196 with layout tokens); K = 36 makes 2,592. Here, with '
          f'K = {w.max_crops}: {here} = {part.features:,}.')
