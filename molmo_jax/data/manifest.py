"""The JSONL manifest that users write: its lines are indexed once, and read when they are needed.

Schema with examples: docs/data.md.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from molmo_jax.data.record import ManifestError, parse_record
from molmo_jax.preprocess.types import Example


class Manifest:
  """Random access to the records of a JSONL file; blank lines are skipped.

  Only the offsets of the lines are kept in memory. The file is opened at the first access and not
  pickled, and lines are read with `pread`, so one instance may be shared by threads and sent to
  worker processes.
  """

  def __init__(self, path: Path, starts: np.ndarray, lengths: np.ndarray, numbers: np.ndarray):
    """Keeps `starts` and `lengths` int64 [n] in bytes, and `numbers` int64 [n], the lines' numbers
    from 1.
    """
    self.path = path
    self._starts, self._lengths, self._numbers = starts, lengths, numbers
    self._file: BinaryIO | None = None

  def __len__(self) -> int:
    return len(self._starts)

  def __getitem__(self, index: int) -> Example:
    """Parses one record.

    Raises:
      IndexError: there is no such record.
      ManifestError: the line is not a valid record.
    """
    if not -len(self) <= index < len(self):
      raise IndexError(f'{self.path} has {len(self)} records; there is no record {index}')
    source = f'{self.path}:{self._numbers[index]}'
    try:
      record = json.loads(self._read(index))
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
      raise ManifestError(f'{source}: the line is not valid JSON in UTF-8 ({error}); '
                          'write one JSON object per line') from None
    return parse_record(record, source, self.path.parent)

  def _read(self, index: int) -> str:
    file = self._file
    if file is None:
      file = self._file = open(self.path, 'rb')
    data = os.pread(file.fileno(), int(self._lengths[index]), int(self._starts[index]))
    return data.decode('utf-8-sig')

  def __getstate__(self) -> dict[str, Any]:
    return self.__dict__ | {'_file': None}

  def __repr__(self) -> str:
    return f'Manifest({str(self.path)!r}, {len(self)} records)'


def read_manifest(path: str | os.PathLike) -> Manifest:
  """Indexes the lines of a JSONL manifest; no line is parsed before it is accessed.

  Raises:
    ManifestError: the file cannot be read, or it holds no record.
  """
  path = Path(path)
  starts, lengths, numbers = [], [], []
  offset = 0
  try:
    with open(path, 'rb') as file:
      for number, line in enumerate(file, start=1):
        if line.strip():
          starts.append(offset)
          lengths.append(len(line))
          numbers.append(number)
        offset += len(line)
  except OSError as error:
    raise ManifestError(f'{path}: cannot read the manifest ({error.strerror}); '
                        'give the path of a .jsonl file with one record per line') from None
  if not starts:
    raise ManifestError(f'{path}: the manifest is empty; write one JSON object per line '
                        '(docs/data.md)')
  return Manifest(path, np.array(starts, np.int64), np.array(lengths, np.int64),
                  np.array(numbers, np.int64))
