"""From the files of a public dataset to the manifest that training reads: records of facts.

Reading tables, finding media, joining rows about the same media into message trees, writing and
counting are here; what differs between datasets is in their `Dataset` and `Training`.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from molmo_jax.data.facts import Fact
from molmo_jax.data.formatting import Formatter
from molmo_jax.data.record import ManifestError, parse_record
from molmo_jax.datasets.dataset import Training, clip_of, facts_of, get, media_of
from molmo_jax.datasets.files import Files, Row, TaskError, at, url_name
from molmo_jax.datasets.tables import TableError
from molmo_jax.files import write_atomically
from molmo_jax.preprocess.reading import image_size
from molmo_jax.visible import well_formed

MEDIA_KEYS = ('image', 'images', 'video')


@dataclasses.dataclass
class Counts:
  """What became of the rows."""
  rows: int = 0
  records: int = 0
  missing: int = 0                        # records whose media are not there
  unusable: int = 0                       # rows without an answer, or that no record can hold
  first_missing: str = ''
  first_unusable: str = ''


@dataclasses.dataclass
class Reading:
  """One pass over the files of a dataset for training."""
  use: Training
  files: Files
  limit: int | None = None                # largest number of rows that are read
  progress: Callable[[Counts], None] = lambda counts: None
  counts: Counts = dataclasses.field(default_factory=Counts)

  def rows(self) -> Iterator[Row]:
    """The rows, counted; errors name the row and the dataset."""
    for row in itertools.islice(self.use.questions(self.files, self.use.flat), self.limit):
      self.counts.rows += 1
      if self.counts.rows % 500 == 0:
        self.progress(self.counts)
      yield row

  def records(self) -> Iterator[dict[str, Any]]:
    """The records, with media named by whole paths; what cannot be one is counted."""
    for rows in self.trees():
      with at(rows[0]):
        record = media_of(rows[0], self.use, self.files)
      if self.use.backdrop and not record:
        record['backdrop'] = self._backdrop()
      paths = [path for key in MEDIA_KEYS if key in record
               for path in ([record[key]] if key != 'images' else record[key])]
      missing = next((path for path in paths if not Path(path).is_file()), None)
      if missing is not None:
        self.counts.missing += 1
        self.counts.first_missing = self.counts.first_missing or self._absent(missing, rows[0])
        continue
      facts: list[Fact] = []
      for row in rows:
        with at(row):
          facts += facts_of(self._sized(row, record), self.use)
      if not facts:
        self.reject(f'a row without an answer: {str(rows[0])[:200]}')
        continue
      yield from (record | part for part in self.parts(facts))

  def parts(self, facts: list[Fact]) -> Iterator[dict[str, Any]]:
    """The facts about the same media, as each record holds them."""
    for part in _even(facts, self.use.most):
      yield {'facts': part} | ({'dialogue': self.use.dialogue}
                               if self.use.dialogue and len(part) > 1 else {})

  def trees(self) -> Iterator[list[Row]]:
    """The rows of each record."""
    joins, groups = self.use.grouped, ([row] for row in self.rows())
    if joins:
      by_media: dict[Hashable, list[Row]] = {}
      for row in self.rows():
        by_media.setdefault(self._about(row), []).append(row)
      groups = (group for rows in by_media.values()
                for group in ([[row] for row in rows] if callable(joins) and not joins(rows[0])
                              else [rows]))
    for group in groups:
      for part in self._parts(group):
        yield from ([[row | {'mode': mode} for row in part] for mode in self.use.modes]
                    if self.use.modes else [part])

  def reject(self, reason: str) -> None:
    """Counts a row that cannot be used, and keeps the first reason."""
    self.counts.unusable += 1
    self.counts.first_unusable = self.counts.first_unusable or reason

  def _absent(self, path: str, row: Row) -> str:
    url = next((url for url in urls_of(row, self.use) if Path(path).name == url_name(url)), '')
    return f'no file {path}' + (f' of {url}' if url else '')

  def _about(self, row: Row) -> Hashable:
    use: Any = self.use
    video = use.video(self.files, row) if callable(use.video) else get(row, use.video)
    return json.dumps([video, clip_of(row, use), get(row, use.image), get(row, use.images),
                       use.key and row.get(use.key)], default=repr)

  def _parts(self, rows: list[Row]) -> Iterator[list[Row]]:
    part, spent = [], 0
    for row in rows:
      cost = self.use.cost(row) if self.use.cost else 0
      if self.use.budget is not None and cost > self.use.budget:
        continue
      if part and self.use.budget is not None and spent + cost > self.use.budget:
        yield part
        part, spent = [], 0
      part.append(row)
      spent += cost
    if part:
      yield part

  def _backdrop(self) -> str:
    folder = self.files.root / self.use.backdrop
    if not folder.is_dir():
      raise TableError(f'{folder}: there is no such folder; put pictures and videos of other sets '
                       f'into it, which {self.use.name} is shown with')
    return str(folder)

  def _sized(self, row: Row, record: dict[str, Any]) -> Row:
    """The row with the size of its only image, for points in pixels."""
    return row | {'_size': lambda: image_size(record['image'])}


def _even(facts: list, most: int | None) -> Iterator[list]:
  """As few parts as `most` allows, as equal in length as can be."""
  parts = 1 if most is None else -(-len(facts) // most)
  for numbers in np.array_split(np.arange(len(facts)), parts):
    yield [facts[number] for number in numbers]


def urls_of(row: Row, use: Training) -> list[str]:
  """The images that a row names by URL."""
  images = [get(row, use.image), *(get(row, use.images) or ())]
  return [image for image in images if isinstance(image, str) and '://' in image]


def convert(use: Training, root: Path, out: Path, *, files: str = '',
            limit: int | None = None, formatter: Formatter | None = None, seed: int = 0,
            progress: Callable[[Counts], None] = lambda counts: None) -> Counts:
  """Writes the manifest `out` for a dataset whose files are below `root`.

  Args:
    use: of `registry.TRAINING`.
    files: a pattern below `root` in the place of the dataset's.
    limit: largest number of rows that are read.
    formatter: words the facts once, so that the manifest holds conversations; None keeps facts.
    seed: for `formatter`; the same seed gives the same file.

  Raises:
    TableError: no file matches, or one cannot be read.
  """
  media = out.with_name(f'{out.stem}_media')
  reading = Reading(use, Files(root, 'train', media, pattern=files), limit, progress)
  rng, counts = np.random.default_rng([seed, *use.name.encode()]), reading.counts
  out.parent.mkdir(parents=True, exist_ok=True)
  temporary = out.with_name(f'.{out.name}.tmp')
  try:
    with open(temporary, 'w', encoding='utf-8', newline='\n') as file:
      for record in reading.records():
        source = f'{use.name}, record {counts.records + 1}'
        try:
          example = parse_record(record, source)
          if formatter is not None:
            record = _worded(record, formatter(example, rng))
            parse_record(record, source)
        except ManifestError as error:
          reading.reject(str(error))
          continue
        file.write(well_formed(json.dumps(relative(record, out.parent), ensure_ascii=False)) + '\n')
        counts.records += 1
    temporary.replace(out)
  except TaskError as error:
    raise TableError(f'{use.name}: row {counts.rows} cannot be read ({error}): the files below '
                     f'{root} are others than the dataset expects (its columns were checked '
                     f'against: {use.checked})') from error
  finally:
    temporary.unlink(missing_ok=True)
  return counts


def _worded(record: dict[str, Any], example: Any) -> dict[str, Any]:
  kept = {key: record[key] for key in (*MEDIA_KEYS, 'clip', 'subtitles', 'sampling')
          if key in record}
  kept['conversations'] = [[dataclasses.asdict(m) for m in talk] for talk in example.conversations]
  kept |= {'styles': list(example.styles)} if example.styles else {'style': example.style}
  return kept | ({'weights': list(example.weights)} if example.weights else {})


def relative(record: dict[str, Any], folder: Path) -> dict[str, Any]:
  """`record` with its media named relative to the folder of its manifest."""
  moved: dict[str, Any] = {key: os.path.relpath(record[key], folder)
                           for key in ('image', 'video', 'backdrop') if key in record}
  if 'images' in record:
    moved['images'] = [os.path.relpath(path, folder) for path in record['images']]
  return record | moved


def write_urls(use: Training, root: Path, out: Path, files: str = '') -> int:
  """Writes a line 'URL, tab, file below the root' for every image that the dataset names by URL;
  returns how many lines.

  Raises:
    TableError: no file matches, or one cannot be read.
  """
  reading = Reading(use, Files(root, 'train', out.parent, pattern=files))
  urls = dict.fromkeys(url for row in reading.rows() for url in urls_of(row, use))
  write_atomically(out, ''.join(f'{url}\timages/{url_name(url)}\n' for url in urls))
  return len(urls)
