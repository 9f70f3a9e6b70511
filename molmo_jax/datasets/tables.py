"""Public datasets come as tables: reads JSON, JSON lines, CSV, TSV, text and parquet, one record (a
dict) at a time.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from molmo_jax.errors import MolmoError
from molmo_jax.files import open_regular

# all but parquet also with .gz behind
SUFFIXES = ('.json', '.jsonl', '.csv', '.tsv', '.txt', '.parquet')
Places = Iterator[tuple[str, dict[str, Any]]]   # where in a file a record is, and the record


class TableError(MolmoError):
  """A file that cannot be read as a table; the message names it, the line where it can, and what
  would be right.
  """


@dataclasses.dataclass(frozen=True)
class TableFormat:
  """How a table file is read.

  Attributes:
    records: where the records lie in a JSON object: 'annotations', or 'data.questions' for nested
      objects.
    key: the field that receives the name of each record, for a JSON object of objects.
    separator: of the columns of a text file; None: ',' in .csv and a tab in .tsv.
    columns: names of the columns of a CSV or TSV file whose first line is a record.
    kind: one of `SUFFIXES`, where the file's own says something else.
  """
  records: str | None = None
  key: str | None = None
  separator: str | None = None
  columns: tuple[str, ...] | None = None
  kind: str | None = None


AS_NAMED = TableFormat()


def read_table(path: str | os.PathLike, **form: Any) -> Iterator[dict[str, Any]]:
  """The records of a file, in its order. The suffix says what the file is: `SUFFIXES`.

  A JSON file holds a list of objects, or an object of objects {"id": {…}, …}; JSON lines hold
  objects, or a list of columns and then lists of values. Values of CSV and TSV are strings, a text
  file gives {'line': …} for every line, and parquet gives Python objects (bytes, lists and dicts
  included), read a row group at a time.

  Args:
    form: fields of `TableFormat`, for files that are otherwise.

  Raises:
    TableError: no such file, another suffix, a damaged file, or records that are no objects.
  """
  return (record for _, record in read_places(path, TableFormat(**form)))


def read_places(path: str | os.PathLike, form: TableFormat) -> Places:
  """As `read_table`, and before each record where it is: 'file:line', or what a file has instead of
  lines.
  """
  path = Path(path)
  suffixes = [s.lower() for s in path.suffixes]
  kind = form.kind or next((suffix for suffix in reversed(suffixes) if suffix != '.gz'), '')
  if kind not in SUFFIXES:
    raise TableError(f'{path}: a table ends in {", ".join(SUFFIXES)} (or .gz behind it)')
  if not path.is_file():
    raise TableError(f'{path}: no such file')
  if kind == '.parquet':
    return _parquet(path)
  readers = {'.json': lambda file: _json(path, file, form.records, form.key),
             '.jsonl': lambda file: _lines(path, file),
             '.txt': lambda file: ((f'{path}:{number}', {'line': line.rstrip('\r\n')})
                                   for number, line in enumerate(file, start=1) if line.strip()),
             '.csv': lambda file: _separated(path, file, form.separator or ',', form.columns),
             '.tsv': lambda file: _separated(path, file, form.separator or '\t', form.columns)}
  return _text(path, readers[kind])


def _text(path: Path, read: Callable[[TextIO], Iterator[tuple[str, Any]]]) -> Places:
  opened = open_regular(path)
  unpacked = gzip.open(opened) if path.suffix.lower() == '.gz' else opened
  # csv reads line ends inside quotes itself
  with opened, io.TextIOWrapper(unpacked, encoding='utf-8-sig', newline='') as file:
    try:
      for where, record in read(file):
        if not isinstance(record, dict):
          raise TableError(f'{where}: a record is a JSON object {{"field": value, …}}, not '
                           f'{type(record).__name__}')
        yield where, record
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
      raise TableError(f'{path}: the file is damaged or not UTF-8 ({error})') from None


def _parsed(text: str, path: Path, line: int | None = None) -> Any:
  try:
    return json.loads(text)
  except json.JSONDecodeError as error:
    raise TableError(f'{path}:{line or error.lineno}: not valid JSON ({error.msg})') from None
  except (ValueError, RecursionError) as error:   # a number of thousands of digits; nesting
    raise TableError(f'{path}:{line or 1}: cannot be read as JSON ({error})') from None


def _json(path: Path, file: TextIO, records: str | None,
          key: str | None) -> Iterator[tuple[str, Any]]:
  value = _parsed(file.read(), path)
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
      named = isinstance(record, dict) and key
      yield f'{where}[{name!r}]', record | {key: name} if named else record
  elif isinstance(value, list):
    yield from ((f'{where}[{i}]', record) for i, record in enumerate(value))
  else:
    raise TableError(f'{where} is no list of records but a {type(value).__name__}')


def _lines(path: Path, file: TextIO) -> Iterator[tuple[str, Any]]:
  columns = None
  for number, line in enumerate(file, start=1):
    record = _parsed(line, path, number) if line.strip() else None
    if isinstance(record, list) and columns is None and all(isinstance(n, str) for n in record):
      columns = record
    elif isinstance(record, list) and columns and len(record) == len(columns):
      yield f'{path}:{number}', dict(zip(columns, record))
    elif line.strip():
      yield f'{path}:{number}', record


def _separated(path: Path, file: TextIO, separator: str,
               columns: Sequence[str] | None) -> Iterator[tuple[str, Any]]:
  # quotes are part of the text in TSV files as they are published
  quoting: Any = csv.QUOTE_MINIMAL if separator == ',' else csv.QUOTE_NONE
  reader = csv.DictReader(file, columns, delimiter=separator, quoting=quoting)
  limit = csv.field_size_limit(1 << 27)   # transcripts are longer than csv's 128 KiB
  try:
    for record in reader:
      if None in record or None in record.values():
        names = reader.fieldnames or ()
        raise TableError(f'{path}:{reader.line_num}: the line does not have '
                         f'{len(names)} columns ({", ".join(names)})')
      yield f'{path}:{reader.line_num}', record
  except csv.Error as error:
    raise TableError(f'{path}:{reader.line_num}: {error}') from None
  finally:
    csv.field_size_limit(limit)


def _parquet(path: Path) -> Places:
  try:
    import pyarrow
    import pyarrow.parquet
  except ImportError:
    raise TableError(f'{path}: reading parquet needs pyarrow: pip install pyarrow') from None
  number = 0
  try:
    with open_regular(path) as opened, pyarrow.parquet.ParquetFile(opened) as file:
      for batch in file.iter_batches(batch_size=256):
        for row in batch.to_pylist():
          number += 1
          yield f'{path}: row {number}', row
  except (pyarrow.ArrowException, OSError, ValueError) as error:   # UnicodeDecodeError too
    raise TableError(f'{path}: after row {number}: not a whole parquet file ({error})') from None
