"""The JSONL manifest that users write: its lines are indexed once, and read when they are needed.

Schema with examples: docs/data.md.
"""

from __future__ import annotations

import array
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from molmo_jax.data.forms import ManifestError, shown
from molmo_jax.data.record import parse_record
from molmo_jax.files import open_regular
from molmo_jax.preprocess.types import Example
from molmo_jax.visible import well_formed


class Manifest:
  """Random access to the records of a JSONL file; blank lines are skipped.

  Only the offsets of the lines are kept in memory. The file is opened at the first access and not
  pickled, and lines are read with `pread`, so one instance may be shared by threads and sent to
  worker processes.
  """

  def __init__(self, path: Path, lines: np.ndarray):
    """Keeps `lines` int64 [n,3]: of each record its line's number from 1, and where it starts and
    how long it is in bytes.
    """
    self.path, self._lines = path, lines
    self._file: IO[bytes] | None = None

  def __len__(self) -> int:
    return len(self._lines)

  def source(self, index: int) -> str:
    """File and line of a record: 'file.jsonl:12'.

    Raises:
      IndexError: there is no such record.
    """
    if not -len(self) <= index < len(self):
      raise IndexError(f'{self.path} has {len(self)} records; there is no record {index}')
    return f'{self.path}:{self._lines[index, 0]}'

  def __iter__(self) -> Iterator[Example]:
    return (self[index] for index in range(len(self)))

  def __getitem__(self, index: int) -> Example:
    """Parses one record.

    Raises:
      IndexError: there is no such record.
      ManifestError: the line is not a valid record.
    """
    source = self.source(index)
    # a name of its own: another thread that opens the file at the same moment replaces `_file`, and
    # what nothing names is closed
    file = self._file = self._file or open_regular(self.path)
    _, start, length = self._lines[index].tolist()
    try:
      record = _decode(os.pread(file.fileno(), length, start))
    except ManifestError as error:
      raise ManifestError(f'{source}: {error}') from None
    except (ValueError, RecursionError) as error:   # of JSON, UTF-8, digits, nesting
      raise ManifestError(f'{source}: the line is not valid JSON in UTF-8 ({error}); '
                          'write one JSON object per line') from None
    return parse_record(record, source, self.path.parent)

  def __getstate__(self) -> dict[str, Any]:
    return self.__dict__ | {'_file': None}

  def __repr__(self) -> str:
    return f'Manifest({str(self.path)!r}, {len(self)} records)'


def _decode(line: bytes) -> Any:
  """The JSON value of a line. A key that stands twice, and NaN, are errors; half a surrogate pair,
  which can only be written as an escape, becomes U+FFFD.
  """
  text = line.decode('utf-8-sig')
  record = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
  if re.search(r'\\u[dD][89a-fA-F]', text):
    record = json.loads(well_formed(json.dumps(record, ensure_ascii=False)))
  return record


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  found = dict(pairs)
  if len(found) < len(pairs):
    twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
    raise ManifestError(f'the key {shown(twice)} stands twice in an object; keep one of them')
  return found


def _refuse(constant: str) -> None:
  raise ManifestError(f'{constant} is not JSON; write null, or leave the key out')


def read_manifest(path: str | os.PathLike) -> Manifest:
  """Indexes the lines of a JSONL manifest; no line is parsed before it is accessed.

  Raises:
    ManifestError: the file cannot be read, or it holds no record.
  """
  path, lines, offset = Path(path), array.array('q'), 0
  try:
    with open_regular(path) as file:
      for number, line in enumerate(file, start=1):
        if line.strip():
          lines.extend((number, offset, len(line)))
        offset += len(line)
  except OSError as error:
    raise ManifestError(f'{path}: cannot read the manifest ({error.strerror}); '
                        'give the path of a .jsonl file with one record per line') from None
  if not lines:
    raise ManifestError(f'{path}: the manifest is empty; write one JSON object per line '
                        '(docs/data.md)')
  return Manifest(path, np.array(lines).reshape(-1, 3))
