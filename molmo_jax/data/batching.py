"""From encoded examples to batches of static shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from molmo_jax.preprocess.types import PADDING, SEQUENCE_FIELDS, EncodingError, ImageConfig


@dataclasses.dataclass(frozen=True, order=True)
class RowShape:
  """The static sizes of one row of a batch."""
  sequence: int                      # S: tokens
  crops: int                         # C: crops and frames
  visual: int                        # V: pooled visual tokens
  slots: int                         # W: slots of a pooling window


def shape_of(encoded: Mapping[str, np.ndarray], slots: int) -> RowShape:
  """The smallest row that holds this example."""
  return RowShape(len(encoded['tokens']), len(encoded['crops']), len(encoded['pool_index']), slots)


def bucket(shape: RowShape, smallest: tuple[int, int, int] = (64, 2, 16)) -> RowShape:
  """The next larger of a small set of shapes, so that few programs are compiled.

  Sizes are powers of two and their 1.5-folds, from `smallest` (tokens, crops, visual tokens) on;
  rows without any media have none.
  """
  def up(n: int, least: int) -> int:
    size = least
    while size < n:
      size = size * 3 // 2 if size & (size
                                      - 1) == 0 and size * 3 // 2 >= n else 1 << size.bit_length()
    return size
  crops, visual = (up(shape.crops, smallest[1]),
                   up(shape.visual, smallest[2])) if shape.visual else (0, 0)
  return RowShape(up(shape.sequence, smallest[0]), crops, visual, shape.slots)


def check_fits(encoded: Mapping[str, np.ndarray], shape: RowShape) -> None:
  """Raises `EncodingError` for an example that no row of `shape` holds; says which limit it passes.
  """
  need = shape_of(encoded, shape.slots)
  for name, flag in (('sequence', 'sequence_length'), ('crops', 'crops'),
                     ('visual', 'visual_tokens')):
    if getattr(need, name) > getattr(shape, name):
      raise EncodingError(f'needs {getattr(need, name)} {name.replace("visual", "visual tokens")}, '
        f'more than data.{flag}={getattr(shape, name)}')


def pad_row(encoded: Mapping[str, np.ndarray], shape: RowShape) -> dict[str, np.ndarray]:
  """One example padded to `shape`; `patch_mask` only where the example has one.

  Raises:
    EncodingError: the example does not fit; says which limit of the configuration it passes.
  """
  check_fits(encoded, shape)

  def pad(name: str, sizes: tuple[int, ...]) -> np.ndarray:
    x = encoded[name]
    # zeros cost nothing
    out = np.full(sizes, PADDING[name], x.dtype) if PADDING[name] else np.zeros(sizes, x.dtype)
    out[tuple(slice(0, n) for n in x.shape)] = x
    return out

  row = {name: pad(name, (shape.sequence,)) for name in SEQUENCE_FIELDS}
  row['crops'] = pad('crops', (shape.crops, *encoded['crops'].shape[1:]))
  if encoded.get('patch_mask') is not None:
    row['patch_mask'] = pad('patch_mask', (shape.crops, encoded['patch_mask'].shape[1]))
  row['pool_index'] = pad('pool_index', (shape.visual, shape.slots))
  row |= {name: pad(name, (shape.visual, 4)) for name in ('layout_index', 'layout_box')}
  return row


def empty_row(shape: RowShape, image: ImageConfig) -> dict[str, np.ndarray]:
  """A row of padding alone, with the fields that rows of this configuration have."""
  side, patches = image.crop_size, image.grid ** 2
  nothing = {name: np.zeros(0, np.float32 if name == 'loss_weights' else np.int32)
             for name in SEQUENCE_FIELDS}
  nothing |= dict(crops=np.zeros((0, side, side, 3),
                                 np.float32 if image.resize == 'letterbox' else np.uint8),
                  pool_index=np.zeros((0, shape.slots), np.int32),
                  layout_index=np.zeros((0, 4), np.int32),
                  layout_box=np.zeros((0, 4), np.float32))
  if image.has_patch_mask:
    nothing['patch_mask'] = np.zeros((0, patches), np.float32)
  return pad_row(nothing, shape)


def stack_rows(rows: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
  """Rows of one shape → arrays with a leading batch axis."""
  return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
