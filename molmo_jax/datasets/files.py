"""The files of one dataset: tables of rows, and media that lie in folders or inside of the tables.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import glob
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from molmo_jax.datasets.tables import AS_NAMED, SUFFIXES, TableError, TableFormat, read_places
from molmo_jax.errors import MolmoError
from molmo_jax.files import open_regular

Row = dict[str, Any]

_SUFFIXES = {b'\x89PNG': '.png', b'\xff\xd8': '.jpg', b'GIF8': '.gif', b'RIFF': '.webp',
             b'BM': '.bmp'}
VIDEO_SUFFIXES = ('.mp4', '.mkv', '.webm', '.mov', '.avi', '.gif')


class TaskError(MolmoError):
  """A dataset that is not where it should be, or is of another form; the message says what would be
  right.
  """


class MissingTable(TableError):
  """No file of a dataset fits the pattern of its table."""


@dataclasses.dataclass(frozen=True)
class Files:
  """Where a dataset lies, and where what must be unpacked goes."""
  root: Path                                  # the dataset's folder
  split: str
  media: Path                                 # pictures that lie inside of tables are written here
  pattern: str = ''                           # files of the table, in the place of the usual ones

  def tables(self, patterns: str | tuple[str, ...], form: TableFormat = AS_NAMED) -> Iterator[Row]:
    """The rows of all files that fit the first pattern that any fits, in the order of their names;
    '_file' is the file's path below the root, '_where' the file
    with the line.

    Args:
      patterns: below the root; '{split}' is the split's name. 'hub:folder/split' are the parquet
        files of a split of the configuration `folder`, as a copy of a Hub dataset may have them.
      reading: as `tables.read_places` takes it.

    Raises:
      MissingTable: no file fits.
    """
    given = self.pattern or patterns
    wanted = [found.replace('{split}', self.split)
              for pattern in ([given] if isinstance(given, str) else given)
              for found in _of_hub(pattern)]
    for pattern in wanted:
      names = sorted(name for name in glob.glob(pattern, root_dir=self.root, recursive=True)
                     if name.removesuffix('.gz').endswith(SUFFIXES))
      for name in names:
        for where, row in read_places(self.root / name, form):
          yield row | {'_file': Path(name).as_posix(), '_where': where}
      if names:
        return
    raise MissingTable(f'{self.root}: there is no table {" or ".join(wanted)} '
                     f'({", ".join(SUFFIXES)}); docs/datasets.md and docs/evaluation.md say where '
                     'to get the dataset')

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

  def video(self, name: str) -> str:
    """Path of a video: of a file below the root whose suffix may be another than `name` says, or,
    of a bare name, anywhere below it by the name of the file or of the folder that it has alone.
    """
    path = Path(self.file(name))
    candidates = (path, *(path.with_suffix(suffix) for suffix in VIDEO_SUFFIXES),
                  *(path.with_name(path.name + suffix) for suffix in VIDEO_SUFFIXES))
    found = next((str(candidate) for candidate in candidates if candidate.is_file()), None)
    if found or '/' in name:
      return found or str(path)
    videos = _videos(self.root)
    return videos.get(name) or videos.get(Path(name).stem) or str(path)

  def picture(self, value: Any, name: str = '') -> str:
    """Path of a picture: of one that lies in a folder, or that its bytes are written to.

    Args:
      value: a path below the root, a URL (its picture is in `images/`, called by the SHA-256 of the
        URL in hex, with or without a suffix), bytes, or {'bytes': …, 'path': …} as in the parquet
        files of the Hugging Face Hub.
      name: of the file that bytes are written to; '': their SHA-256.

    Raises:
      TaskError: none of these.
    """
    if isinstance(value, Mapping):
      value = value.get('bytes') or value.get('path')
    if isinstance(value, str) and value:
      return self.file(f'images/{url_name(value)}' if '://' in value else value)
    if not isinstance(value, bytes) or not value:
      raise TaskError(f'{self.root}: {name}: a picture is a path or bytes, not '
                      f'{type(value).__name__}')
    suffix = next((s for start, s in _SUFFIXES.items() if value.startswith(start)), '.img')
    path = self.media / f'{name or hashlib.sha256(value).hexdigest()}{suffix}'
    if not path.exists() or path.stat().st_size != len(value):
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(value)
    return str(path)


def _of_hub(pattern: str) -> tuple[str, ...]:
  if not pattern.startswith('hub:'):
    return (pattern,)
  folder, slash, split = pattern.removeprefix('hub:').rpartition('/')
  inside = folder + slash
  return (f'{inside}data/{split}-*.parquet', f'{inside}{split}-*.parquet',
          f'{inside}{split}/*.parquet', f'**/{inside}{split}-*.parquet')


@functools.lru_cache(maxsize=1)
def _videos(root: Path) -> dict[str, str]:
  """All videos below a folder by their names without suffix, and by those of their folders."""
  index: dict[str, str] = {}
  for folder, _, files in sorted(os.walk(root)):
    videos = sorted(f for f in files if f.lower().endswith(VIDEO_SUFFIXES))
    if len(videos) == 1:
      index.setdefault(Path(folder).name, str(Path(folder, videos[0])))
    index |= {Path(video).stem: str(Path(folder, video)) for video in videos}
  return index


@functools.lru_cache(maxsize=1)               # the same file for every row, or one for each
def read_json(path: Path) -> Any:
  """What a JSON file of a dataset holds.

  Raises:
    TaskError: missing, or not JSON.
  """
  try:
    with open_regular(path) as file:
      return json.load(file)
  except (OSError, ValueError, RecursionError) as error:
    raise TaskError(f'{path}: {error}; docs/evaluation.md says where to get the dataset') from None


@contextlib.contextmanager
def at(row: Row) -> Iterator[None]:
  """Whatever goes wrong inside is a fault of this row: one error with the file and the line.

  Raises:
    TaskError: in the place of any error that is not the project's own.
  """
  try:
    yield
  except MolmoError:
    raise
  except Exception as error:
    reason = f'there is no {error}' if isinstance(error, KeyError) else (
      f'{type(error).__name__}: {str(error)[:200]}')
    raise TaskError(f'{where(row)}: the row is not as the dataset has them ({reason})') from error


def where(row: Row) -> str:
  """File and line of a row, as far as they are known."""
  return row.get('_where') or row.get('_file') or 'the row'


def url_name(url: str) -> str:
  """The name of the file that holds what a URL gives: its SHA-256 in hex."""
  return hashlib.sha256(url.encode('utf-8', 'surrogatepass')).hexdigest()
