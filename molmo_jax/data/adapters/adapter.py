"""What a public dataset declares so that its files become a manifest, and the program that does it.

An adapter is data: which files, which media a row is about, and which conversations it holds.
Everything else (reading tables, finding media, joining rows about the same media into message
trees, writing, counting) is here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from molmo_jax.data.adapters.media import Media, MediaFolder, MissingMedia, url_name
from molmo_jax.data.manifest import ManifestError, parse_record
from molmo_jax.data.tables import TableError, read_table
from molmo_jax.files import write_atomically
from molmo_jax.preprocess.points import format_points

Row = dict[str, Any]
Schema = Literal['card', 'loader', 'reader', 'memory']


@dataclasses.dataclass(frozen=True)
class Conversation:
  """User and assistant in turn; `style` announces it, `weight` is its loss weight per token (None:
  the stage's).
  """
  messages: tuple[str, ...]
  style: str
  weight: float | None = None


@dataclasses.dataclass(frozen=True)
class Context:
  """What a conversation may depend on besides its row."""
  rng: np.random.Generator
  # 'none': pre-training, where the style's tag is the prompt
  prompts: Literal['templates', 'none'] = 'templates'
  points: Literal['html-v1', 'html-v2'] = 'html-v2'      # pre-training: html-v1
  # of the row's image, pixels (width, height)
  size: Callable[[], tuple[int, int]] | None = None

  def points_text(self, points: dict[int | float, list[tuple[float, float]]], label: str,
                  mode: str) -> str:
    """The answer that points at fractions of the sides (`preprocess.points.format_points`)."""
    return format_points(points, label, mode=mode, version=self.points)


Conversations = Callable[[Row, Context], Iterable[Conversation]]


@dataclasses.dataclass(frozen=True)
class Adapter:
  """How the files of a dataset become records.

  `schema` says how the columns were checked: 'card' the dataset's card on the Hub; 'loader' the
  code that trained the released models reads them so, in a public copy of it; 'reader' other public
  code does; 'memory' none of these.
  """
  # patterns below the root; the first one that matches something counts
  files: tuple[str, ...]
  media: Callable[[Row], Media]
  conversations: Conversations
  schema: Schema
  records: str | None = None              # this and the next four: see `tables.read_table`
  key: str | None = None
  separator: str | None = None
  columns: tuple[str, ...] | None = None
  kind: str | None = None
  explode: Callable[[Row], Iterable[Row]] | None = None   # rows of a row, for files that nest them
  keep: Callable[[Row], bool] | None = None
  grouped: bool = False                   # rows about the same media become one message tree
  most: int | None = None                 # rows of a tree; more become further records
  cost: Callable[[Row], int] | None = None   # of a row's conversation, for `budget`
  # largest sum of costs in a tree; a row that passes it alone is left out
  budget: int | None = None
  modes: tuple[str, ...] = ()             # every row once in each of these modes: row['mode']


@dataclasses.dataclass
class Counts:
  """What became of the rows."""
  rows: int = 0
  records: int = 0
  missing: int = 0                        # records whose media are not there
  unusable: int = 0                       # rows without an answer, or that no record can hold
  first_missing: str = ''
  first_unusable: str = ''


def convert(name: str, adapter: Adapter, root: Path, out: Path, *, prompts: str = 'templates',
            points: str = 'html-v2',
            seed: int = 0, files: str | None = None, limit: int | None = None,
            progress: Callable[[int, int, str], None] = lambda done, total, text: None) -> Counts:
  """Writes the manifest `out` for the dataset below `root`.

  Args:
    name: of the dataset, for messages and for media that are unpacked beside `out`.
    prompts, points: `Context`.
    seed: for the choice of prompts; the same seed gives the same file.
    files: a pattern below `root` instead of the adapter's.
    limit: largest number of rows that are read.
    progress: called with (files done, files, text).

  Raises:
    TableError: no file matches, or one cannot be read.
  """
  counts, rng = Counts(), np.random.default_rng([seed, *name.encode()])
  folder = MediaFolder(root, out, name)
  out.parent.mkdir(parents=True, exist_ok=True)
  temporary = out.with_name(f'.{out.name}.tmp')
  try:
    with open(temporary, 'w', encoding='utf-8', newline='\n') as file:
      rows = _rows(adapter, _find(root, adapter, files), counts, limit, progress)
      for group in _trees(adapter, rows):
        record = _record(adapter, group, folder, counts, rng, prompts, points)
        if record is None:
          continue
        try:
          parse_record(record, f'{name}, record {counts.records + 1}')
        except ManifestError as error:
          counts.unusable += 1
          counts.first_unusable = counts.first_unusable or str(error)
          continue
        file.write(json.dumps(record, ensure_ascii=False) + '\n')
        counts.records += 1
    temporary.replace(out)
  except KeyError as error:
    raise TableError(f'{name}: row {counts.rows} lacks the column {error}: the files below {root} '
      f'are others than the adapter expects (its columns were checked against: {adapter.schema})') from error
  finally:
    temporary.unlink(missing_ok=True)
  return counts


def write_urls(adapter: Adapter, root: Path, out: Path, files: str | None = None) -> int:
  """Writes a line 'URL, tab, file below the root' for every image that the dataset names by URL;
  returns how many.

  Raises:
    TableError: no file matches, or one cannot be read.
  """
  urls: dict[str, None] = {}
  for row in _rows(adapter, _find(root, adapter, files), Counts(), None, lambda done, total,
                   text: None):
    urls |= {source: None for source in adapter.media(row).images if isinstance(source, str)
             and '://' in source}
  write_atomically(out, ''.join(f'{url}\timages/{url_name(url)}\n' for url in urls))
  return len(urls)


def _find(root: Path, adapter: Adapter, files: str | None) -> list[Path]:
  patterns = (files,) if files else adapter.files
  for pattern in patterns:
    found = sorted(path for path in root.glob(pattern) if path.is_file())
    if found:
      return found
  raise TableError(f'{root}: holds no file {" or ".join(patterns)}; see docs/datasets.md for where '
    'to get it, or name the files with --files')


def _rows(adapter: Adapter, paths: list[Path], counts: Counts, limit: int | None,
          progress: Callable[[int, int, str], None]) -> Iterator[Row]:
  for number, path in enumerate(paths):
    for row in read_table(path, adapter.records, adapter.key, adapter.separator, adapter.columns,
                          adapter.kind):
      for part in adapter.explode(row) if adapter.explode else (row,):
        if limit is not None and counts.rows >= limit:
          return
        counts.rows += 1
        if counts.rows % 500 == 0:
          progress(number, len(paths),
                   f'{counts.rows:,} rows, {counts.records:,} records, {counts.missing:,} missing')
        if adapter.keep is None or adapter.keep(part):
          yield part
  progress(len(paths), len(paths), f'{counts.rows:,} rows')


def _trees(adapter: Adapter, rows: Iterable[Row]) -> Iterator[list[Row]]:
  """The rows of each record."""
  groups: Iterable[list[Row]] = ([row] for row in rows)
  if adapter.grouped:
    by_media: dict[Hashable, list[Row]] = {}
    for row in rows:
      by_media.setdefault(adapter.media(row), []).append(row)
    groups = by_media.values()
  for group in groups:
    for part in _parts(adapter, group):
      yield from ([[row | {'mode': mode} for row in part] for mode in adapter.modes]
                  if adapter.modes else [part])


def _parts(adapter: Adapter, rows: list[Row]) -> Iterator[list[Row]]:
  part, spent = [], 0
  for row in rows:
    cost = adapter.cost(row) if adapter.cost else 0
    if adapter.budget is not None and cost > adapter.budget:
      continue
    if part and (len(part) == adapter.most or adapter.budget is not None
                 and spent + cost > adapter.budget):
      yield part
      part, spent = [], 0
    part.append(row)
    spent += cost
  if part:
    yield part


def _record(adapter: Adapter, rows: list[Row], folder: MediaFolder, counts: Counts,
            rng: np.random.Generator,
            prompts: str, points: str) -> dict[str, Any] | None:
  media = adapter.media(rows[0])
  try:
    record = folder.record(media)
  except MissingMedia as error:
    counts.missing += 1
    counts.first_missing = counts.first_missing or str(error)
    return None
  context = Context(rng, prompts, points, lambda: folder.size(record))
  conversations = [c for row in rows for c in adapter.conversations(row, context)
                   if len(c.messages) > 1 and all(c.messages[1::2])]
  if not conversations:
    counts.unusable += 1
    counts.first_unusable = counts.first_unusable or f'a row without an answer: {str(rows[0])[:200]}'
    return None
  record['conversations'] = [
    [{'role': ('user', 'assistant')[i % 2], 'content': text} for i, text in enumerate(c.messages)]
    for c in conversations]
  styles = [c.style for c in conversations]
  record |= {'style': styles[0]} if len(set(styles)) == 1 else {'styles': styles}
  if any(c.weight is not None for c in conversations):
    record['weights'] = [c.weight for c in conversations]
  return record
