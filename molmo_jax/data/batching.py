"""From encoded examples to batches of static shape: the one place where rows are padded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from molmo_jax.preprocess.padding import pad_field
from molmo_jax.preprocess.types import (
  PADDING_VALUES,
  SEQUENCE_FIELDS,
  VISUAL_FIELDS,
  EncodingError,
  ImageConfig,
)

Row = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, order=True)
class RowShape:
  """The static sizes of one row of a batch."""
  sequence: int                      # S: tokens
  crops: int                         # C: crops and frames
  visual: int                        # V: pooled visual tokens
  slots: int                         # W: slots of a pooling window


def shape_of(encoded: Row, slots: int) -> RowShape:
  """The smallest row that holds this example; fields that it does not have take no space."""
  size = lambda name: len(encoded.get(name, ()))
  return RowShape(size('tokens'), size('crops'), size('pool_index'), slots)


def bucket(shape: RowShape, smallest: tuple[int, int, int] = (64, 2, 16)) -> RowShape:
  """The next larger of a small set of shapes, so that few programs are compiled.

  Sizes are powers of two and their 1.5-folds, from `smallest` (tokens, crops, visual tokens) on;
  rows without any media have none.
  """
  crops, visual = ((bucket_size(shape.crops, smallest[1]), bucket_size(shape.visual, smallest[2]))
                   if shape.visual else (0, 0))
  return RowShape(bucket_size(shape.sequence, smallest[0]), crops, visual, shape.slots)


def bucket_size(n: int, smallest: int) -> int:
  """The least of `smallest` and all larger powers of two and their 1.5-folds that is ≥ `n`."""
  size = smallest
  while size < n:
    is_power = size & (size - 1) == 0
    size = size * 3 // 2 if is_power and size * 3 // 2 >= n else 1 << size.bit_length()
  return size


def check_fits(encoded: Row, shape: RowShape) -> None:
  """Raises `EncodingError` for an example that no row of `shape` holds; names the limit."""
  need = shape_of(encoded, shape.slots)
  for name, flag in (('sequence', 'sequence_length'), ('crops', 'crops'),
                     ('visual', 'visual_tokens')):
    if getattr(need, name) > getattr(shape, name):
      raise EncodingError(f'needs {getattr(need, name)} {name.replace("visual", "visual tokens")}, '
                          f'more than data.{flag}={getattr(shape, name)}')


def pad_row(encoded: Row, shape: RowShape) -> dict[str, np.ndarray]:
  """The fields of a batch that one example has, each padded to `shape` at its end.

  Raises:
    EncodingError: the example does not fit; names the limit of the configuration.
  """
  check_fits(encoded, shape)
  def sizes(name: str, x: np.ndarray) -> tuple[int, ...]:
    first = (shape.sequence if name in SEQUENCE_FIELDS else
             shape.visual if name in VISUAL_FIELDS else shape.crops)
    return (first, shape.slots) if name == 'pool_index' else (first, *x.shape[1:])

  return {name: pad_field(name, encoded[name], sizes(name, encoded[name]))
          for name in PADDING_VALUES if encoded.get(name) is not None}


def empty_row(shape: RowShape, image: ImageConfig) -> dict[str, np.ndarray]:
  """A row of padding alone, with the fields that rows of this configuration have."""
  side, patches = image.crop_size, image.grid ** 2
  pixels = np.float32 if image.resize == 'letterbox' else np.uint8
  nothing = {name: np.zeros(0, np.float32 if name == 'loss_weights' else np.int32)
             for name in SEQUENCE_FIELDS}
  nothing |= dict(crops=np.zeros((0, side, side, 3), pixels),
                  pool_index=np.zeros((0, shape.slots), np.int32),
                  layout_index=np.zeros((0, 4), np.int32), layout_box=np.zeros((0, 4), np.float32))
  if image.has_patch_mask:
    nothing['patch_mask'] = np.zeros((0, patches), np.float32)
  return pad_row(nothing, shape)


def stack_rows(rows: Sequence[Row]) -> dict[str, np.ndarray]:
  """Rows of one shape → arrays with a leading batch axis."""
  return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
