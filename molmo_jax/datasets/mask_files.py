"""Where tracking datasets keep the masks of their objects: in the table, in one JSON file, or as
pictures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from molmo_jax.datasets.dataset import Value, get
from molmo_jax.datasets.files import Files, Row, TaskError, read_json
from molmo_jax.metrics.masks import encode_mask
from molmo_jax.preprocess.media_files import open_media
from molmo_jax.preprocess.reading import open_image

# For a row: (object, frame) → its mask in the encoding of COCO, None where it is not to be seen.
Masks = Callable[[str, int], dict[str, Any] | None]
MaskSource = Callable[[Files, Row], Masks]


def plain_mask(mask: Mapping[str, Any] | str) -> dict[str, Any]:
  """A mask of COCO as JSON can hold it."""
  mask = json.loads(mask) if isinstance(mask, str) else mask
  counts = mask['counts']
  return {'size': [int(n) for n in mask['size']],
          'counts': counts.decode() if isinstance(counts, bytes) else counts}


def in_row(files: Files, row: Row) -> Masks:
  """Masks that the row holds: [{object_id, masks of every frame}, …]."""
  return _of_lists({str(of_object['object_id']): of_object['masks'] for of_object in row['masks']})


def in_mask_dict(files: Files, row: Row) -> Masks:
  """MeViS: mask_dict.json has the masks of every frame by annotation; a row names the annotations
  of its objects.
  """
  paths = sorted(files.root.glob(f'**/{files.split}/mask_dict.json'))
  if not paths:
    raise TaskError(f'{files.root}: there is no {files.split}/mask_dict.json, the masks of MeViS')
  masks = read_json(paths[0])
  return _of_lists({str(name): masks[str(annotation)]
                    for name, annotation in zip(row['mask_id'], row['anno_id'])})


def _of_lists(by_object: Mapping[str, Sequence[Any]]) -> Masks:
  def masks(name: str, frame: int) -> dict[str, Any] | None:
    of_frames = by_object.get(name, ())
    return plain_mask(of_frames[frame]) if frame < len(of_frames) and of_frames[frame] else None
  return masks


def as_pictures(folder: Value, by_number: bool = False) -> MaskSource:
  """Masks as one picture per frame.

  Args:
    folder: of a row's pictures, anywhere below the root: a text with columns, or a function.
    by_number: the value of a pixel is the number of its object (DAVIS); else white is the one
      object.
  """
  def source(files: Files, row: Row) -> Masks:
    name = get(row, folder)
    paths = sorted(files.root.glob(f'**/{name}/*.png'))
    if not paths:
      raise TaskError(f'{files.root}: there are no masks {name}/*.png for {row["id"]}')
    values = {str(name): int(value)
              for name, value in zip(row['mask_id'], row['obj_id'])} if by_number else {}
    size = int(row['width']), int(row['height'])

    def masks(of_object: str, frame: int) -> dict[str, Any] | None:
      if frame >= len(paths):
        return None
      with open_media('image', paths[frame]) as file, open_image(file) as image:
        pixels = np.asarray((image if by_number
                             else image.convert('L')).resize(size, Image.Resampling.NEAREST))
      return encode_mask(pixels == values[of_object] if by_number else pixels == 255)
    return masks
  return source
