"""Media for records that are about nothing they show: images or a video from a folder
(`backdrop` of a record, docs/data.md).
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

# of the kinds of media: one image, a video, two to five images, none
PROBABILITIES = (0.25, 0.25, 0.15, 0.35)
VIDEO_SUFFIXES = ('.mp4', '.mkv', '.webm', '.mov', '.avi')


def draw_backdrop(folder: str, rng: np.random.Generator) -> dict[str, Any]:
  """`images` or `video` of an example, drawn from the files of a folder; no key for none."""
  images, videos = _files(folder)
  kinds = np.array(PROBABILITIES) * [bool(images), bool(videos), bool(images), True]
  kind = rng.choice(len(kinds), p=kinds / kinds.sum())
  if kind == 1:
    return {'video': videos[rng.integers(len(videos))]}
  count = (1, 0, int(rng.integers(2, 6)), 0)[kind]
  chosen = rng.integers(len(images), size=count) if count else ()
  return {'images': tuple(images[i] for i in chosen)} if count else {}


@functools.cache
def _files(folder: str) -> tuple[list[str], list[str]]:
  found = [path for path in sorted(Path(folder).rglob('*')) if path.is_file()]
  is_video = [path.suffix.lower() in VIDEO_SUFFIXES for path in found]
  return ([str(path) for path, video in zip(found, is_video) if not video],
          [str(path) for path, video in zip(found, is_video) if video])
