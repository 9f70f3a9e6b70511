"""Records whose references are places: points with masks, boxes, tracks. Metadata as
`metrics.located` reads it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from molmo_jax.datasets.benchmark import Record
from molmo_jax.datasets.files import Files, Row, TaskError, where
from molmo_jax.datasets.mask_files import MaskSource, plain_mask
from molmo_jax.datasets.tracking_rows import frame_sampling
from molmo_jax.metrics.masks import encode_mask
from molmo_jax.preprocess.media_files import open_media
from molmo_jax.preprocess.reading import image_size, open_image

# frames of a second that are tracked in an evaluation
TRACKING_FPS = 1
Records = Callable[[Files], Iterator[Record]]


def pixmo_masks(row: Row) -> Iterator[Row]:
  """PixMo points: points in percent and one mask for each, as `metrics.located` reads them."""
  masks = np.asarray(row['masks'], bool)
  if masks.ndim != 3 or len(masks) != len(row['points']):
    raise TaskError(f'{where(row)}: {len(row["points"])} points and masks {masks.shape}')
  height, width = masks.shape[1:]
  yield row | {'width': width, 'height': height, 'masks': [encode_mask(mask) for mask in masks],
               'references': [[p['x'] * width / 100, p['y'] * height / 100]
                              for p in row['points']]}


def point_bench(files: Files) -> Iterator[Record]:
  """PointBench: a mask that holds all points; a category each."""
  for row in files.tables('data.json'):
    if 'mask_filename' not in row:
      continue
    image = files.file(f'selected_images/{row["category"]}/{row["image_filename"]}')
    mask = _mask_of_picture(files.file(f'selected_masks/{row["category"]}/{row["mask_filename"]}'))
    width, height = image_size(image)
    yield {'id': f'{row["category"]}/{row["image_filename"]}', 'image': image,
           'question': row['user_input'],
           'metadata': {'width': width, 'height': height, 'mask': encode_mask(mask),
                        'category': row['category'], 'groups': [row['category']]}}


def _mask_of_picture(path: str) -> np.ndarray:
  """bool [h,w]: where any channel of a picture is bright."""
  with open_media('image', path) as file, open_image(file) as image:
    pixels = np.asarray(image)
  bright = pixels > 127 if pixels.dtype != bool else pixels
  return bright if bright.ndim == 2 else np.any(bright, axis=2)


def object_points(row: Row) -> list[list[float]]:
  """One reference point [second, x, y] for each object of a video."""
  return [[t, p['x'], p['y']] for t, p in zip(row['two_fps_timestamps'], row['points'])]


def object_masks(row: Row) -> list[list[list[Any]]]:
  """The masks of each object of a video, with seconds: they were drawn at 2 frames a second."""
  return [[[mask['frame_id'] / 2, plain_mask(mask['rle'])] for mask in of_object]
          for of_object in row['masks']]


def find_video(files: Files, row: Row) -> str:
  """A video of Molmo2's pointing data, which was annotated on copies with 2 frames a second."""
  folder, _, name = str(row['video_id']).rpartition('/')
  below = f'{folder}-2fps/{name}' if folder else name
  found = [path for path in _copies(files.root).get(f'{name}_2fps', ())
           if path.endswith(f'/{below}_2fps.mp4')]
  return found[0] if found else files.video(f'{row["video_id"]}.mp4')


@functools.lru_cache(maxsize=1)
def _copies(root: Path) -> dict[str, list[str]]:
  """Videos with 2 frames a second below a folder, by name."""
  copies: dict[str, list[str]] = {}
  for path in sorted(root.glob('**/*_2fps.mp4')):
    copies.setdefault(path.stem, []).append(str(path))
  return copies


def video_tracks(videos: str, source: MaskSource) -> Records:
  """Records for tracking an expression: points at 1 frame a second, and masks of every object at
  these frames.

  Args:
    videos: folder of the videos below the root.
    source: of the masks.
  """
  def records(files: Files) -> Iterator[Record]:
    for row in files.tables('hub:{split}'):
      if row.get('sampling_fps', TRACKING_FPS) != TRACKING_FPS or row['fps'] % TRACKING_FPS:
        continue
      names = [str(name) for name in row['mask_id']]
      tracks = _tracks(row, names)
      masks = source(files, row)
      kept = {name: {frame: mask for frame in tracks
                     if (mask := masks(name, int(frame))) is not None} for name in names}
      width, height = (int(row[a] if a in row else row[b])
                       for a, b in (('width', 'w'), ('height', 'h')))
      yield {'id': str(row['id']),
             'video': files.video(f'{videos}/{row.get("clip", row["video"])}.mp4'),
             'sampling': frame_sampling(row['fps'], TRACKING_FPS), 'fps': TRACKING_FPS,
             'label': row.get('expression', row.get('exp')),
             'metadata': {'width': width, 'height': height, 'fps': row['fps'], 'tracks': tracks,
                          'masks': kept,
                          'groups': [row['video_dataset']] if row.get('video_dataset') else []}}
  return records


def _tracks(row: Row, names: Sequence[str]) -> dict[str, dict[str, list[float]]]:
  """Frame → object → point, at the tracked frames."""
  tracks: dict[str, dict[str, list[float]]] = {}
  if row.get('frame_trajectories') is not None:
    for moment in row['frame_trajectories']:
      points = {str(p['id']): p['point'] for p in moment['points'] if str(p['id']) in names
                and not p['occluded']}
      if points:
        tracks[str(moment['frame'])] = points
    return tracks
  step = row['fps'] // TRACKING_FPS
  for of_object in row['points']:
    for frame, point in enumerate(of_object['points']):
      if point and frame % step == 0:
        tracks.setdefault(str(frame), {})[str(of_object['object_id'])] = point
  return {frame: tracks[frame] for frame in sorted(tracks, key=int)}
