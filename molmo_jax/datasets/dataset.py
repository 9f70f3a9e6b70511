"""What a public dataset declares: where its files are, how a row is read, and what it is used for.

A `Dataset` is data. Its `rows` come from tables; `Fields` say which column is what. Training
(`datasets.training`) takes the facts of a row; a benchmark (`datasets.benchmark`) asks with the
same facts and keeps what an answer is scored by. A new dataset is one entry for both.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from absl import logging

from molmo_jax.data.facts import Fact
from molmo_jax.datasets.files import Files, MissingTable, Row, TaskError
from molmo_jax.datasets.prompts import Prompt, choose
from molmo_jax.metrics.choices import LETTERS
from molmo_jax.metrics.counting import is_counting_question

# a column (dots lead into objects), or a function of the row
Value = str | Callable[[Row], Any] | None
Rows = Callable[[Files], Iterator[Row]]
# How the columns were checked: 'card' the dataset's card on the Hub; 'loader' the code that trained
# or evaluated the released models reads them so; 'fork' a fork of it does; 'reader' other public
# code does; 'own' a table that a user writes; 'memory' none of these.
Schema = Literal['card', 'loader', 'fork', 'reader', 'own', 'memory']


@dataclasses.dataclass(frozen=True)
class Fields:
  """Where in a row the parts of a question are. What is None is not there."""
  question: Value = None
  image: Value = None                         # path, URL, bytes or the Hub's picture
  images: Value = None                        # a list of these
  # a column with the name of a video, or its path
  video: str | Callable[[Files, Row], str] | None = None
  options: Value = None                       # texts of the options, without letters
  index: Value = None                         # of the right option, from 0
  letter: Value = None                        # of the right option
  answers: Value = None                       # a text, or a list of accepted ones
  style: str | Callable[[Row], str] = ''
  parts: Value = None                         # a list of questions about the same media
  clip: Callable[[Row], tuple[float, float] | None] | None = None
  subtitles: Callable[[Files, Row], list[dict] | str | None] | None = None
  sampling: Callable[[Row], dict[str, Any]] | None = None   # of frames, where not as configured
  # training alone
  # instead of those of question and answer
  facts: Callable[[Row], Iterable[Fact]] | None = None
  more: Mapping[str, Value] = dataclasses.field(default_factory=dict)   # further keys of the fact
  # questions that count ask for an answer without points
  counting: bool = False
  unlabelled: Callable[[Row], bool] | None = None   # whether the options are labels themselves
  # benchmarks alone
  prompt: Prompt = choose                     # for a question with options
  metadata: Mapping[str, Value] = dataclasses.field(default_factory=dict)
  # names of the groups of the summary that the row belongs to
  groups: Sequence[Value] = ()
  id: Value = None                            # None: the number of the row


@dataclasses.dataclass(frozen=True)
class Training:
  """A dataset as training uses it: which rows make a record."""
  name: str
  rows: Rows | None = None                    # None: the dataset's
  fields: Fields | None = None                # None: the dataset's
  flat: bool = False                          # every one of `parts` is a record of its own
  # rows about the same media become one message tree; a function: those rows that it takes
  grouped: bool | Callable[[Row], Any] = False
  key: str = ''                               # a column that rows of one tree share, beside media
  most: int | None = None                     # conversations of a tree; more become further records
  # of a row's conversation; a sum above `budget` begins a new record
  cost: Callable[[Row], int] | None = None
  budget: int | None = None
  modes: tuple[str, ...] = ()                 # every record once in each of these: row['mode']
  dialogue: float = 0.0                       # probability that a tree becomes one dialogue
  backdrop: str = ''                          # folder of media for records that are about none
  note: str = ''


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A public dataset and its uses."""
  folder: str                                 # its name, and that of its folder below a data root
  rows: Rows
  fields: Fields
  source: str = ''                            # where to get the files
  licence: str = 'see source'                 # from memory: the dataset's own words count
  schema: Schema = 'memory'
  # shuffles, cuts or holds out questions of a split
  arrange: Callable[[list[Row], str], list[Row]] | None = None
  training: tuple[Training, ...] = ()
  benchmarks: tuple[Any, ...] = ()            # `task.Task`

  def questions(self, files: Files, rows: Rows | None = None, fields: Fields | None = None,
                flat: bool = True,
                arrange: Callable[[list[Row], str], list[Row]] | None = None) -> Iterator[Row]:
    """The rows of a split; with `flat`, a row for every one of its questions."""
    fields, arrange = fields or self.fields, arrange or self.arrange
    found: Iterable[Row] = (rows or self.rows)(files)
    if flat and fields.parts is not None:
      found = (row | {'_part': part} | part for row in found for part in get(row, fields.parts))
    return iter(arrange(list(found), files.split) if arrange else found)


def table(files: str | tuple[str, ...] | Mapping[str, str | tuple[str, ...]], *,
          each: Callable[[Row], Iterable[Row]] | None = None,
          keep: Callable[[Row], Any] | None = None, **reading: Any) -> Rows:
  """Rows of the tables that fit a pattern (the first that any fits counts), or that of the split.

  Args:
    each: turns a row into several.
    keep: which rows stay.
    reading: `records`, `key`, `separator`, `columns`, `kind` of `tables.read_table`.
  """
  def rows(source: Files) -> Iterator[Row]:
    patterns = files[source.split] if isinstance(files, Mapping) else files
    found: Iterable[Row] = source.tables(patterns, **reading)
    if each is not None:
      found = itertools.chain.from_iterable(map(each, found))
    return iter(filter(keep, found) if keep is not None else found)
  return rows


def chained(*sources: Rows) -> Rows:
  """The rows of several tables, one after the other; those that are not there are left out, with a
  word in the log.
  """
  def rows(files: Files) -> Iterator[Row]:
    absent: list[MissingTable] = []
    for source in sources[:1] if files.pattern else sources:
      try:
        yield from source(files)
      except MissingTable as error:
        absent.append(error)
    if len(absent) == len(sources):
      raise absent[0]
    for error in absent:
      logging.warning('%s: left out', error)
  return rows


def get(row: Row, value: Value) -> Any:
  """The value of a column or of a function of the row."""
  return None if value is None else value(row) if callable(value) else column(row, value)


def column(row: Row, name: str) -> Any:
  """The value of a column; 'a.b' is the field b of the object in column a.

  Raises:
    TaskError: there is none.
  """
  value: Any = row
  for part in name.split('.'):
    if not isinstance(value, Mapping) or part not in value:
      there = ', '.join(k for k in row if k[:1] != '_')
      raise TaskError(f"{row.get('_file', 'the row')}: there is no column '{name}'; the columns "
                      f'are: {there}. Is this the file that the page of the dataset names?')
    value = value[part]
  return value


def optional(name: str) -> Callable[[Row], Any]:
  """The value of a column, None where there is none."""
  return lambda row: row.get(name)


def columns(*names: str) -> Callable[[Row], list[Any]]:
  """Options that lie in columns of their own."""
  return lambda row: [row[name] for name in names if row.get(name) not in (None, '')]


def clip_of(start: Value, end: Value) -> Callable[[Row], tuple[float, float] | None]:
  """The part of a video between two columns, seconds; None where a row has no such part."""
  def clip(row: Row) -> tuple[float, float] | None:
    ends = [row.get(v) if isinstance(v, str) else get(row, v) for v in (start, end)]
    return None if None in ends else (float(ends[0]), float(ends[1]))
  return clip


def hub(split: str = '{split}', folder: str = '') -> tuple[str, ...]:
  """Where the parquet files of a split may lie in a copy of a Hub dataset.

  Args:
    folder: of a configuration.
  """
  inside = f'{folder}/' if folder else ''
  return (f'{inside}data/{split}-*.parquet', f'{inside}{split}-*.parquet',
          f'{inside}{split}/*.parquet', f'**/{inside}{split}-*.parquet')


def right_option(row: Row, fields: Fields, options: Sequence[str]) -> int | None:
  """The number of the right option; None where the row does not say or it does not exist."""
  number, letter = get(row, fields.index), get(row, fields.letter)
  if number is None and isinstance(letter, str):
    number = LETTERS.find(letter.strip())
  try:
    number = int(number)
  except (TypeError, ValueError):
    return None
  return number if 0 <= number < len(options) else None


def style_of(row: Row, fields: Fields) -> str:
  """The style of a row, which may depend on its columns."""
  return fields.style(row) if callable(fields.style) else fields.style


def facts_of(row: Row, fields: Fields) -> list[Fact]:
  """What a row holds for training; empty where it has no answer."""
  if fields.parts is not None and '_part' not in row:
    return [fact for part in get(row, fields.parts)
            for fact in facts_of(row | {'_part': part} | part, fields)]
  if fields.facts is not None:
    return list(fields.facts(row))
  fact: dict[str, Any] = {'style': style_of(row, fields)}
  if fields.question is not None:
    fact['question'] = str(get(row, fields.question))
  options, answers = get(row, fields.options), get(row, fields.answers)
  if options is not None:
    fact['options'] = [str(o) for o in options]
    fact['right'] = right_option(row, fields, options)
    if fact['right'] is None or len(options) < 2:
      return []
    if fields.unlabelled is not None and fields.unlabelled(row):
      fact['unlabelled'] = True
  else:
    answers = answers if isinstance(answers, list | tuple) else [answers]
    fact['answers'] = [str(a) for a in answers if a is not None and str(a).strip()]
    if not fact['answers']:
      return []
  fact |= {key: value for key, of in fields.more.items() if (value := get(row, of)) is not None}
  if fields.counting and is_counting_question(fact['question']):
    fact['no_pointing'] = True
  return [fact]


def media_of(row: Row, fields: Fields, files: Files, name: str = '') -> dict[str, Any]:
  """The media part of a record, with whole paths; of a file that is nowhere, where it should be."""
  record: dict[str, Any] = {}
  if fields.image is not None and (image := get(row, fields.image)) is not None:
    record['image'] = files.picture(image, name)
  if fields.images is not None:
    pictures = [files.picture(image, name and f'{name}_{i}')
                for i, image in enumerate(get(row, fields.images), start=1)]
    if pictures:
      record |= {'image': pictures[0]} if len(pictures) == 1 else {'images': pictures}
  if fields.video is not None:
    record['video'] = (fields.video(files, row) if callable(fields.video)
                       else files.video(str(column(row, fields.video))))
    for key, of in (('clip', fields.clip), ('sampling', fields.sampling)):
      if of is not None and (value := of(row)):
        record[key] = list(value) if key == 'clip' else value
    if fields.subtitles is not None and (subtitles := fields.subtitles(files, row)):
      record['subtitles'] = subtitles
  return record
