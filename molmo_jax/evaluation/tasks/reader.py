"""The files of one dataset: tables of records, and media that lie in folders or inside of the
tables.
"""

from __future__ import annotations

import dataclasses
import glob
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from molmo_jax.data.tables import SUFFIXES, read_table
from molmo_jax.errors import MolmoError
from molmo_jax.metrics.versions import MOLMO2
from molmo_jax.preprocess.types import MediaError

Row = dict[str, Any]

_SUFFIXES = {b'\x89PNG': '.png', b'\xff\xd8\xff': '.jpg', b'GIF8': '.gif', b'RIFF': '.webp',
             b'BM': '.bmp'}
_VIDEO_SUFFIXES = ('.mp4', '.mkv', '.webm', '.mov', '.avi')


class TaskError(MolmoError):
  """A dataset that is not where it should be, or is of another form; the message says what would be
  right.
  """


@dataclasses.dataclass(frozen=True)
class Reader:
  """Where a dataset lies, and where what must be unpacked goes."""
  root: Path                                  # the dataset's folder
  split: str
  media: Path                                 # pictures that lie inside of tables are written here
  version: str = MOLMO2                       # of the model that is asked: 'molmo2' or 'v1'

  def tables(self, pattern: str, records: str | None = None,
             key: str | None = None) -> Iterator[Row]:
    """The rows of all files that fit, in the order of their names; '_file' is the file's path below
    the root.

    Raises:
      TaskError: no file fits.
    """
    wanted = pattern.replace('{split}', self.split)
    names = glob.glob(wanted, root_dir=self.root, recursive=True)
    paths = sorted(self.root / name for name in names
                   if name.removesuffix('.gz').endswith(SUFFIXES))
    if not paths:
      raise TaskError(f'{self.root}: there is no table {wanted} ({", ".join(SUFFIXES)}); '
        'docs/evaluation.md says where to get the dataset')
    for path in paths:
      for row in read_table(path, records, key):
        yield row | {'_file': path.relative_to(self.root).as_posix()}

  def file(self, name: str) -> str:
    """Path of a file below the root.

    Leading folders that were not kept when the dataset was unpacked may be missing, and so may the
    suffix in `name`.

    A file that is nowhere keeps the whole path, so that whoever reads it says which one is missing.
    """
    parts = Path(name.removeprefix('/')).parts
    for start in range(len(parts)):
      if (path := self.root.joinpath(*parts[start:])).is_file():
        return str(path)
      if not path.suffix and (found := sorted(path.parent.glob(glob.escape(path.name) + '.*'))):
        return str(found[0])
    return str(self.root / name.removeprefix('/'))

  def video(self, folder: str, name: str) -> str:
    """Path of a video whose suffix may be another than `name` says."""
    path = self.root / folder / name
    for candidate in (path, *(path.with_suffix(suffix) for suffix in _VIDEO_SUFFIXES)):
      if candidate.is_file():
        return str(candidate)
    return str(path)

  def picture(self, value: Any, name: str) -> str:
    """Path of a picture: of one that lies in a folder, or of the file `name` that its bytes are
    written to.

    Args:
      value: a path below the root, bytes, or {'bytes': …, 'path': …} as in the parquet files of the
        Hugging Face Hub.

    Raises:
      TaskError: none of these.
    """
    if isinstance(value, str):
      return self.file(value)
    data = value.get('bytes') if isinstance(value, Mapping) else value
    if isinstance(value, Mapping) and not data and value.get('path'):
      return self.file(value['path'])
    if not isinstance(data, bytes) or not data:
      raise TaskError(f'{self.root}: {name}: a picture is a path or bytes, not '
        f'{type(data).__name__}')
    suffix = next((suffix for start, suffix in _SUFFIXES.items() if data.startswith(start)), '.img')
    path = self.media / f'{name}{suffix}'
    if not path.exists() or path.stat().st_size != len(data):
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(data)
    return str(path)

  def size(self, path: str) -> tuple[int, int]:
    """Width and height of a picture, without decoding it."""
    try:
      with Image.open(path) as image:
        width, height = image.size
        # EXIF orientation: readers turn the picture upright
        turned = image.getexif().get(0x0112) in (5, 6, 7, 8)
    except (OSError, UnidentifiedImageError) as error:
      raise MediaError(f'{path}: cannot be read as a picture ({error})') from None
    return (height, width) if turned else (width, height)
