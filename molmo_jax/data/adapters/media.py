"""Where the pictures and videos of a dataset are: named by path, by URL or by id, or stored inside
the table.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

IMAGE_SUFFIXES = ('', '.jpg', '.jpeg', '.png', '.webp', '.gif')
VIDEO_SUFFIXES = ('.mp4', '.mkv', '.webm', '.mov', '.avi', '.gif')
SIGNATURES = {b'\x89PNG': '.png', b'\xff\xd8': '.jpg', b'GIF8': '.gif', b'RIFF': '.webp'}


class MissingMedia(LookupError):
  """A picture or a video that is not below the root; the message names it."""


@dataclasses.dataclass(frozen=True)
class Media:
  """What a row is about: nothing, images (bytes, URLs or paths), or a video (a path, or its id).

  `subtitles` are (start, end, text) in seconds of the video, or plain text; `clip` is the part of
  it that is shown.
  """
  images: tuple[str | bytes, ...] = ()
  video: str = ''
  clip: tuple[float, float] | None = None
  subtitles: tuple[tuple[float, float, str], ...] | str = ()


def image(value: str | bytes | Mapping[str, Any] | None) -> tuple[str | bytes, ...]:
  """The images of a table's cell: a URL or path, bytes, or the Hub's {'bytes': …, 'path': …}."""
  if isinstance(value, Mapping):
    value = value.get('bytes') or value.get('path')
  return (value,) if value else ()


class MediaFolder:
  """Finds media below the root of a dataset and names them as a manifest does, relative to its
  folder.

  Images that are named by URL are expected in `images/`, called by the SHA-256 of the URL in hex,
  with or without a usual suffix. Images inside the table are unpacked into the folder
  `<manifest>_media`, called by their own hash. A video is found by its path, its name without
  suffix, or the name of the folder that holds it alone.
  """

  def __init__(self, root: Path, manifest: Path, name: str):
    self._root, self._manifest, self._name = root, manifest, name

  def record(self, media: Media) -> dict[str, Any]:
    """The media part of a record.

    Raises:
      MissingMedia: a file is not there.
    """
    if media.video:
      record: dict[str, Any] = {'video': self._relative(self._video(media.video))}
      if media.clip:
        record['clip'] = list(media.clip)
      if isinstance(media.subtitles, str):
        record['subtitles'] = media.subtitles
      elif media.subtitles:
        record['subtitles'] = [{'start': s, 'end': e, 'text': text}
                               for s, e, text in media.subtitles]
      return record
    paths = [self._relative(self._image(source)) for source in media.images]
    return {} if not paths else {'image': paths[0]} if len(paths) == 1 else {'images': paths}

  def size(self, record: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height of a record's only image, pixels."""
    with Image.open(self._manifest.parent / record['image']) as picture:
      return picture.size

  def _relative(self, path: Path) -> str:
    return os.path.relpath(path, self._manifest.parent)

  def _image(self, source: str | bytes) -> Path:
    if isinstance(source, bytes):
      return self._unpacked(source)
    is_url = '://' in source
    stem = self._root / ('images/' + url_name(source) if is_url else source)
    for suffix in IMAGE_SUFFIXES:
      path = stem.with_name(stem.name + suffix)
      if path.is_file():
        return path
    raise MissingMedia(f'{source}: expected as {stem}{" (any image suffix)" if is_url else ""}')

  def _unpacked(self, data: bytes) -> Path:
    suffix = next((s for signature, s in SIGNATURES.items() if data.startswith(signature)), '.img')
    path = self._manifest.with_name(
      f'{self._manifest.stem}_media') / f'{hashlib.sha256(data).hexdigest()}{suffix}'
    if not path.exists():
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(data)
    return path

  def _video(self, name: str) -> Path:
    path = self._root / name
    if path.is_file():
      return path
    found = self._videos.get(name) or self._videos.get(Path(name).stem)
    if found is None:
      raise MissingMedia(f'{name}: no video of this name below {self._root}')
    return found

  @functools.cached_property
  def _videos(self) -> dict[str, Path]:
    index: dict[str, Path] = {}
    for folder, _, files in sorted(os.walk(self._root)):
      videos = sorted(f for f in files if f.lower().endswith(VIDEO_SUFFIXES))
      if len(videos) == 1:
        index.setdefault(Path(folder).name, Path(folder, videos[0]))
    for folder, _, files in sorted(os.walk(self._root)):
      for file in sorted(files):
        if file.lower().endswith(VIDEO_SUFFIXES):
          index[Path(file).stem] = Path(folder, file)
    return index


def url_name(url: str) -> str:
  """The name of the file that holds what a URL gives: its SHA-256 in hex."""
  return hashlib.sha256(url.encode()).hexdigest()
