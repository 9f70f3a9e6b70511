"""Public datasets come as tables: reads JSON, JSON lines, CSV, TSV, text and parquet, one record (a
dict) at a time.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from molmo_jax.errors import MolmoError

# all but parquet also with .gz behind
SUFFIXES = ('.json', '.jsonl', '.csv', '.tsv', '.txt', '.parquet')


class TableError(MolmoError):
  """A file that cannot be read as a table; the message names it, the line where it can, and what
  would be right.
  """


def read_table(path: str | os.PathLike, records: str | None = None, key: str | None = None,
               separator: str | None = None, columns: Sequence[str] | None = None,
               kind: str | None = None) -> Iterator[dict[str, Any]]:
  """The records of a file, in its order. The suffix says what the file is: `SUFFIXES`.

  A JSON file holds a list of objects, or an object of objects {"id": {…}, …}; JSON lines hold
  objects, or a list of columns and then lists of values. Values of CSV and TSV are strings, a text
  file gives {'line': …} for every line, and parquet gives Python objects (bytes, lists and dicts
  included), read a row group at a time.

  Args:
    records: where the records lie in a JSON object: 'annotations', or 'data.questions' for nested
      objects.
    key: the field that receives the name of each record, for a JSON object of objects.
    separator: of the columns of a text file; None: ',' in .csv and a tab in .tsv.
    columns: names of the columns of a CSV or TSV file whose first line is a record.
    kind: one of `SUFFIXES`, where the file's own says something else.

  Raises:
    TableError: no such file, another suffix, a damaged file, or records that are no objects.
  """
  path = Path(path)
  suffixes = [s.lower() for s in path.suffixes]
  kind = kind or (suffixes[-2] if suffixes[-1:] == ['.gz'] and len(suffixes) > 1
                  else (suffixes or [''])[-1])
  if kind not in SUFFIXES:
    raise TableError(f'{path}: a table ends in {", ".join(SUFFIXES)} (or .gz behind it)')
  if not path.is_file():
    raise TableError(f'{path}: no such file')
  if kind == '.parquet':
    return _parquet(path)
  if kind == '.json':
    return _decoded(path, lambda file: _json(path, file, records, key))
  if kind == '.jsonl':
    return _decoded(path, lambda file: _lines(path, file))
  if kind == '.txt':
    return _decoded(path, lambda file: ({'line': line.rstrip('\r\n')} for line in file
                                        if line.strip()))
  return _decoded(path, lambda file: _separated(path, file, separator
                                                or (',' if kind == '.csv' else '\t'), columns))


def _decoded(path: Path, read: Callable[[
  TextIO], Iterator[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
  with _open(path) as file:
    try:
      yield from read(file)
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
      raise TableError(f'{path}: the file is damaged or not UTF-8 ({error})') from None


def _open(path: Path) -> TextIO:
  if path.suffix.lower() == '.gz':
    return io.TextIOWrapper(gzip.open(path), encoding='utf-8-sig', newline='')
  return open(path, encoding='utf-8-sig', newline='')   # csv reads line ends inside quotes itself


def _json(path: Path, file: TextIO, records: str | None,
          key: str | None) -> Iterator[dict[str, Any]]:
  try:
    value = json.load(file)
  except json.JSONDecodeError as error:
    raise TableError(f'{path}:{error.lineno}: not valid JSON ({error.msg})') from None
  for name in records.split('.') if records else ():
    if not isinstance(value, Mapping) or name not in value:
      known = (', '.join(map(repr, list(value)[:10])) if isinstance(value, Mapping)
               else type(value).__name__)
      raise TableError(f"{path}: the records should lie under '{records}', but there is no "
        f"'{name}'; there is: {known}")
    value = value[name]
  where = f"{path}: '{records}'" if records else str(path)
  if isinstance(value, Mapping):
    for name, record in value.items():
      yield _record(record, f'{where}[{name!r}]') | ({key: name} if key else {})
    return
  if not isinstance(value, list):
    raise TableError(f'{where} is no list of records but a {type(value).__name__}')
  for i, record in enumerate(value):
    yield _record(record, f'{where}[{i}]')


def _lines(path: Path, file: TextIO) -> Iterator[dict[str, Any]]:
  columns = None
  for number, line in enumerate(file, start=1):
    if not line.strip():
      continue
    try:
      record = json.loads(line)
    except json.JSONDecodeError as error:
      raise TableError(f'{path}:{number}: not valid JSON ({error.msg}); every line is one JSON '
        'object') from None
    if isinstance(record, list) and columns is None and all(isinstance(name, str)
                                                            for name in record):
      columns = record
    elif isinstance(record, list) and columns and len(record) == len(columns):
      yield dict(zip(columns, record))
    else:
      yield _record(record, f'{path}:{number}')


def _separated(path: Path, file: TextIO, separator: str,
               columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
  # quotes are part of the text in TSV files as they are published
  quoting = csv.QUOTE_MINIMAL if separator == ',' else csv.QUOTE_NONE
  reader = csv.DictReader(file, columns, delimiter=separator, quoting=quoting, restkey='',
                          restval=None)
  limit = csv.field_size_limit(1 << 27)   # transcripts are longer than csv's 128 KiB
  try:
    for record in reader:
      if '' in record or None in record.values():
        raise TableError(f'{path}:{reader.line_num}: the line does not have '
          f'{len(reader.fieldnames)} columns ({", ".join(reader.fieldnames)})')
      yield record
  except csv.Error as error:
    raise TableError(f'{path}:{reader.line_num}: {error}') from None
  finally:
    csv.field_size_limit(limit)


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
  try:
    import pyarrow
    import pyarrow.parquet
  except ImportError:
    raise TableError(f'{path}: reading parquet needs pyarrow: pip install pyarrow') from None
  try:
    file = pyarrow.parquet.ParquetFile(path)
  except pyarrow.ArrowInvalid as error:
    raise TableError(f'{path}: not a parquet file ({error})') from None
  return _batches(file)


def _batches(file: Any) -> Iterator[dict[str, Any]]:
  with file:
    for batch in file.iter_batches(batch_size=256):
      yield from batch.to_pylist()


def _record(value: Any, where: str) -> dict[str, Any]:
  if not isinstance(value, dict):
    raise TableError(f'{where}: a record is a JSON object {{"field": value, …}}, not '
      f'{type(value).__name__}')
  return value
