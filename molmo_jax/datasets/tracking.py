"""Tracking: where the sets of `tracking.toml` keep the videos and masks of their benchmarks."""

from __future__ import annotations

from typing import Any

from molmo_jax.datasets.files import Row
from molmo_jax.datasets.mask_files import as_pictures, in_mask_dict, in_row
from molmo_jax.datasets.places import video_tracks
from molmo_jax.datasets.tracking_rows import frame_sampling


def sampling(row: Row) -> dict[str, Any]:
  """How the frames of a row are sampled."""
  return frame_sampling(row['fps'])


def _davis_folder(row: Row) -> str:
  return f'Annotations/480p/{row["video"].removesuffix(".mp4")}'


mevis = video_tracks('valid_u/videos', in_mask_dict)
ref_yt_vos = video_tracks('valid/videos', as_pictures('Annotations/{video}/{qid}'))
ref_davis17 = video_tracks('valid/videos', as_pictures(_davis_folder, by_number=True))
reasonvos = video_tracks('videos', as_pictures('Annotations/{anno_id[0]}'))
molmo2_video = video_tracks('videos', in_row)
