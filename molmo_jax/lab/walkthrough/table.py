"""The eleven rows of the walkthrough: from the pixels of a file to the tokens of a sequence.

The order is that in which things happen: Molmo v1 pools every crop and then leaves overlaps out,
Molmo2 the other way round (docs/model.md §6.3). Counts are lengths of the encoded example's arrays;
shapes behind the vision tower, which is not run, come from the configuration.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from molmo_jax.lab.walkthrough.example import END, ROW_END, START, Part, Walkthrough, canvas_places
from molmo_jax.preprocess import images
from molmo_jax.preprocess.reading import load_image

DESIGN_SIZE = (1920, 1080)                      # the design card's own example, width and height


@dataclasses.dataclass(frozen=True)
class Stage:
  """One row of the table."""
  name: str
  values: Sequence[str]                       # one per file; empty where only the whole counts
  total: str                                  # of all files
  note: str

  def cells(self, files: int) -> list[str]:
    """A cell for every file and one for all of them; for a single file, one cell."""
    if files == 1:
      return [(*self.values, self.total)[0]]
    return [*(self.values or [''] * files), self.total]


def stages(w: Walkthrough) -> list[Stage]:
  """The eleven rows."""
  pool_first = w.image.pool_per_crop and not w.is_video
  middle = (_pooled_crops, _unique_windows) if pool_first else (_unique_patches, _pooled)
  return [row(w) for row in (_input, _frames if w.is_video else _tiling, _resized, _crops, _patches,
                             _features, *middle, _projected, _layout, _sequence)]


def _input(w: Walkthrough) -> Stage:
  source = w.parts[0].source
  values = [f'{part.source.width} × {part.source.height} px' for part in w.parts]
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
  values = ['{} × {} crops'.format(*p.tiling) if p.tiling else 'one crop' for p in w.parts]
  total = sum(math.prod(part.tiling or ()) for part in w.parts)
  note = f'image.mode={w.image.mode}: the global view alone'
  if w.has_crops:
    note = (f'rows × columns, at most K = {w.max_crops} for an image: the least that shrinks it '
            'nowhere, or else the one that shrinks it least')
  return Stage('tiling', values, f'{total:,} crops', note)


def _resized(w: Walkthrough) -> Stage:
  view = f'{w.side} × {w.side} px'
  way = {'stretch': 'stretched, bilinear without antialias',
         'stretch_bicubic': 'stretched, bicubic with antialias',
         'letterbox': 'aspect kept, bilinear with antialias, black around it'}[w.image.resize]
  if w.is_video:
    return Stage('resized', (), view, f'every frame on its own: {way}')
  values = ['{2} and {1} × {0} px'.format(*_canvas(w, p), view) if p.tiling else view
            for p in w.parts]
  crops = ' and canvas of the crops, both from the original' * w.has_crops
  note = f'global view{crops}: {way}'
  if w.image.resize == 'letterbox' and len(w.parts) == 1 and w.has_crops:
    _, real = images.fit(load_image(w.parts[0].source.path, max_pixels=w.run.preprocess.max_pixels),
                         *_canvas(w, w.parts[0]), w.image)
    width, height = (np.any(real, axis=axis).sum() for axis in (0, 1))
    note += f' ({width} × {height} px of the canvas are picture)'
  return Stage('resized', values, 'each on its own', note)


def _canvas(w: Walkthrough, part: Part) -> tuple[int, int]:
  """Height and width of the canvas, pixels."""
  (rows, cols), _ = canvas_places(part, w)
  return rows * w.image.patch_size, cols * w.image.patch_size


def _crops(w: Walkthrough) -> Stage:
  crops, margin = w.encoded.crops, sum(w.image.overlap_margins)
  values = () if w.is_video else [f'1 + {len(p.crops) - 1} = {len(p.crops)}' if p.tiling else '1'
                                  for p in w.parts]
  what = 'every frame is one crop' if w.is_video else 'the global view'
  if w.has_crops:
    what += f' and the crops; neighbours share {margin} patches = {margin * w.image.patch_size} px'
  return Stage('crops', values, f'{len(crops):,}', f'{what}: {crops.dtype} {list(crops.shape)}')


def _patches(w: Walkthrough) -> Stage:
  return Stage('patches', _per_crop(w, w.grid, w.grid), f'{w.patches:,}',
               f'{w.image.patch_size} px each; the vision tower sees all of them')


def _per_crop(w: Walkthrough, rows: int, columns: int) -> list[str]:
  return [f'{len(p.crops)} × {rows} × {columns} = {len(p.crops) * rows * columns:,}'
          for p in w.parts]


def _features(w: Walkthrough) -> Stage:
  tower, layers = w.run.model.tower, w.run.model.connector.vit_layers
  width = f'{tower.width * len(layers):,}'
  blocks = ' and '.join(map(str, w.run.model.read))
  joined = f' of {tower.width:,} each, side by side' if len(layers) > 1 else ''
  return Stage('ViT features', [f'{len(p.crops) * w.grid ** 2:,} × {width}' for p in w.parts],
               f'{w.patches:,} × {width}', f'outputs of block{"s" * (len(layers) > 1)} {blocks} of '
               f'{tower.layers} (counted from 0){joined}')


def _unique_patches(w: Walkthrough) -> Stage:
  kept = [w.kept(part.crops) for part in w.parts]
  values = () if w.is_video else [f'{k[0].sum():,} + {k[1:].sum():,} = {k.sum():,}' if len(k) > 1
                                  else f'{k.sum():,}' for k in kept]
  note = f'{"frames do not overlap" if w.is_video else "nothing overlaps"}: every patch stays'
  if w.has_crops:
    dropped = sum((~k).sum() for k in kept)
    note = f'global view + crops; {dropped:,} patches in inner margins are left to the neighbour'
  return Stage('overlap removal', values, f'{sum(k.sum() for k in kept):,}', note)


def _pooled_crops(w: Walkthrough) -> Stage:
  grid = images.pooled_grid((w.grid, w.grid), w.image.pooling)
  return Stage('pooling', _per_crop(w, *grid), f'{len(w.encoded.crops) * math.prod(grid):,}',
               f'{_window(w)}, crop by crop')


def _unique_windows(w: Walkthrough) -> Stage:
  grid = images.pooled_grid((w.grid, w.grid), w.image.pooling)
  dropped = len(w.encoded.crops) * math.prod(grid) - w.features
  return Stage('overlap removal', _grids(w), f'{w.features:,}', f'global view + crops; {dropped:,} '
               'pooled features in inner margins are left to the neighbour')


def _pooled(w: Walkthrough) -> Stage:
  empty = (w.encoded.pool_index[:, :math.prod(_pooling(w))] < 0).sum()
  over = 'every frame' if w.is_video else 'the global view'
  over += ' and the stitched crops' * w.has_crops
  slots = f'; {empty:,} slots of windows at an edge are empty' if empty else ''
  return Stage('pooling', _grids(w), f'{w.features:,}', f'{_window(w)}, over {over}{slots}')


def _grids(w: Walkthrough) -> list[str]:
  grids = [['{} × {}'.format(*view.grid) for view in part.views] for part in w.parts]
  sums = [f'{len(g)} × {g[0]}' if w.is_video else ' + '.join(g) for g in grids]
  return [f'{text} = {part.features:,}' for text, part in zip(sums, w.parts)]


def _pooling(w: Walkthrough) -> tuple[int, int]:
  return (w.run.preprocess.video if w.is_video else w.image).pooling


def _window(w: Walkthrough) -> str:
  kind = w.run.model.connector.pooling.replace('_', ' ')
  how = 'attention with a mean query' if kind.startswith('attention meanq') else kind
  return 'windows of {} × {} patches, {}'.format(*_pooling(w), how)


def _projected(w: Walkthrough) -> Stage:
  width = f'{w.run.model.llm.width:,}'
  layout = ', plus a learned layout embedding' if w.run.model.connector.layout_embedding else ''
  return Stage('projector', [f'{part.features:,} × {width}' for part in w.parts],
               f'{w.features:,} × {width}', f'to the width of the language model{layout}; added to '
               'the embeddings of as many <im_patch>')


def _layout(w: Walkthrough) -> Stage:
  names = {index: name for name, index in w.tokenizer.special.items()}
  inside = [i for part in w.parts for i in range(part.tokens.start, part.tokens.stop)]
  counts = collections.Counter(names[w.encoded.tokens[i]] for i in inside
                               if w.kinds[i] in (ROW_END, START, END))
  listed = ' '.join(f'{n:,} {name}' for name, n in counts.items()) or 'none'
  text = sum(w.kinds[i] == 'text' for i in inside)
  between = f', and {text:,} text tokens in between' if text else ''
  visual = [w.visual_tokens(part.tokens) for part in w.parts]
  values = [f'{p.features:,} + {n - p.features:,} = {n:,}' for p, n in zip(w.parts, visual)]
  return Stage('layout tokens', values, f'{sum(visual):,}',
               f'<im_patch> + layout: {listed}{between}')


def _sequence(w: Walkthrough) -> Stage:
  visual, length = w.visual_tokens(), len(w.encoded.tokens)
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
  sizes = ((key, 'tokens', len(w.encoded.tokens), longest, cut),
           ('data.crops', 'crops', len(w.encoded.crops), data.crops, 'refuse'),
           ('data.visual_tokens', 'pooled features', w.features, data.visual_tokens, 'refuse'))
  return [f'{n:,} {what} do not fit into {key}={limit}: training would {verb} this example; set '
          f'--config.{key}={n} or more'
          for key, what, n, limit, verb in sizes if limit and n > limit]


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
