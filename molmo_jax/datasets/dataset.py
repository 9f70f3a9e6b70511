"""What a public dataset declares: where its files are, how a row is read, and what it is used for.

The declarations are TOML files beside the modules, `image_qa.toml` beside `image_qa.py`, and
`datasets.declarations` reads them. Training (`datasets.training`) takes the facts of a row; a
benchmark (`datasets.benchmark`) asks with the same facts and keeps what an answer is scored by.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal

from absl import logging

from molmo_jax.data.facts import Fact
from molmo_jax.datasets.files import Files, MissingTable, Row, TaskError, at, where
from molmo_jax.datasets.prompts import Prompt, choose
from molmo_jax.datasets.tables import AS_NAMED, TableFormat
from molmo_jax.metrics.choices import LETTERS
from molmo_jax.metrics.counting import is_counting_question

# What stands for a value of a row (`get`): a column, a text with columns in braces, or a function
# of the row. In a TOML file a function is '@name'.
Value = str | Callable[[Row], Any] | None
Rows = Callable[[Files], Iterator[Row]]
# How the columns were checked: 'card' the dataset's card on the Hub; 'loader' the code that trained
# or evaluated the released models reads them so; 'fork' a fork of it does; 'reader' other public
# code does; 'own' a table that a user writes; 'memory' none of these.
Checked = Literal['card', 'loader', 'fork', 'reader', 'own', 'memory']


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fields:
  """Where in a row the parts of a question are. What is empty is not there."""
  question: Value = None
  image: Value = None                         # path, URL, bytes or the Hub's picture
  images: Value = None                        # a list of these
  # name or path of a video; or for each table, by its name without suffix, how it is called there
  video: str | dict[str, str] | Callable[[Files, Row], str] | None = None
  # texts of the options, without letters; or columns that have one each
  options: str | tuple[str, ...] | Callable[[Row], Any] | None = None
  index: Value = None                         # of the right option, from 0
  letter: Value = None                        # of the right option
  answers: Value = None                       # a text, or a list of accepted ones
  style: str | Callable[[Row], str] = ''      # a text, with columns in braces
  parts: Value = None                         # a list of questions about the same media
  # the columns with start and end, in seconds
  clip: tuple[str, str] | Callable[[Row], tuple[float, float] | None] | None = None
  subtitles: str | Callable[[Files, Row], list[dict] | str | None] | None = None
  sampling: Callable[[Row], dict[str, Any]] | None = None   # of frames, where not as configured
  # training alone
  # instead of those of question and answer; without a style of their own they get `style`
  facts: Callable[[Row], Iterable[Fact]] | None = None
  asks: str = ''                              # kind of request, where there is no question
  texts: Value = None                         # captions or the like, instead of answers
  # texts of wrong options, among which the answer is put anywhere
  wrong: str | tuple[str, ...] | Callable[[Row], Any] | None = None
  asked: tuple[Fields, ...] = ()              # several facts of a row, each with its own fields
  more: dict[str, Value] = dataclasses.field(default_factory=dict)   # further keys of the fact
  # questions that count ask for an answer without points
  counting: bool = False
  unlabelled: Callable[[Row], bool] | None = None   # whether the options are labels themselves
  # benchmarks alone
  prompt: Prompt = choose                     # for a question with options
  metadata: dict[str, Value] = dataclasses.field(default_factory=dict)
  group_by: tuple[Value, ...] = ()            # groups of the summary that the row belongs to
  id: Value = None                            # None: the number of the row


@dataclasses.dataclass(frozen=True, kw_only=True)
class Use(Fields):
  """One use of a public dataset: which rows, and what is in them."""
  name: str = ''
  folder: str = ''                            # the dataset's name, and its folder in a data root
  source: str = ''                            # where to get the files
  licence: str = 'see source'                 # from memory: the dataset's own words count
  checked: Checked = 'memory'
  # patterns below the folder, the first that any file fits counts; or those of each split
  files: str | dict[str, str | tuple[str, ...]] | tuple[str, ...] = 'hub:{split}'
  table: TableFormat = AS_NAMED
  rows: Rows | None = None                    # instead of `files` and `table`
  chain: tuple[Use, ...] = ()                 # the rows of several, instead of these
  each: Callable[[Row], Iterable[Row]] | None = None   # turns a row into several
  keep: Value = None                          # true for the rows that stay
  # column → values that it must have, and values that it must not have
  only: dict[str, tuple[str | int | bool, ...]] = dataclasses.field(default_factory=dict)
  drop: dict[str, tuple[str | int | bool, ...]] = dataclasses.field(default_factory=dict)
  # column → least and most value; of a list, how many items it has
  between: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
  # shuffles, cuts or holds out questions of a split
  arrange: Callable[[list[Row], str], list[Row]] | None = None
  note: str = ''

  def read(self, files: Files) -> Iterator[Row]:
    """The rows of a split."""
    patterns = self.files if isinstance(self.files, str | tuple) else self.files[files.split]
    for row in (chained(files, self.chain) if self.chain else self.rows(files) if self.rows
                else files.tables(patterns, form=self.table)):
      with at(row):
        found = [one for one in (self.each(row) if self.each else [row]) if self._stays(one)]
      yield from found

  def _stays(self, row: Row) -> bool:
    return ((not self.keep or bool(get(row, self.keep)))
            and all(get(row, column) in values for column, values in self.only.items())
            and not any(get(row, column) in values for column, values in self.drop.items())
            and all(least <= _size(get(row, column)) <= most
                    for column, (least, most) in self.between.items()))

  def questions(self, files: Files, flat: bool = True) -> Iterator[Row]:
    """The arranged rows of a split; with `flat`, a row for every one of its questions."""
    found = self._parts(files) if flat and self.parts else self.read(files)
    return iter(self.arrange(list(found), files.split)) if self.arrange else found

  def _parts(self, files: Files) -> Iterator[Row]:
    for row in self.read(files):
      with at(row):
        found = [row | {'_part': part} | part for part in get(row, self.parts) or ()]
      yield from found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(Use):
  """A dataset as training uses it: which rows make a record."""
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


def _size(value: Any) -> float:
  return math.nan if value is None else len(value) if isinstance(value, list) else value


def chained(files: Files, uses: Sequence[Use]) -> Iterator[Row]:
  """The rows of several tables, one after the other; those that are not there are left out, with a
  word in the log.
  """
  absent: list[MissingTable] = []
  for use in uses[:1] if files.pattern else uses:
    try:
      yield from use.read(files)
    except MissingTable as error:
      absent.append(error)
  if len(absent) == len(uses):
    raise absent[0]
  for error in absent:
    logging.warning('%s: left out', error)


def get(row: Row, value: Value | tuple[str, ...]) -> Any:
  """What `value` stands for in a row: the result of a function; of several columns the list of
  those that have something; or what a text says.

  'a' is a column, 'a?' one that may be absent (None), 'a.b' the field b of the object in column a
  (of each object, if a holds a list), 'photos/{a}.jpg' a text with the values of columns, and
  'a|b' the first of several that has a value.

  Raises:
    TaskError: a column does not exist.
  """
  if not value:
    return None
  if callable(value):
    return value(row)
  if isinstance(value, tuple):
    return [found for name in value if (found := row.get(name)) not in (None, '')]
  *others, last = value.split('|')
  found = next(filter(None, (_one(row, name, True) for name in others)), None)
  return found or _one(row, last, False)


def _one(row: Row, name: str, optional: bool) -> Any:
  if '{' in name:
    return name.format_map(_Columns(row))
  bare = name.removesuffix('?')
  there = bare.partition('.')[0] in row
  return column(row, bare) if there or bare == name and not optional else None


class _Columns(dict):
  """The columns of a row, for a text with braces."""

  def __missing__(self, name: str) -> Any:
    return column(self, name)


def column(row: Row, name: str) -> Any:
  """The value of a column; 'a.b' is the field b of the object in column a, or of each in its list.

  Raises:
    TaskError: there is none.
  """
  value: Any = row
  for part in name.split('.'):
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(v, Mapping) and part in v for v in values):
      there = ', '.join(k for k in row if k[:1] != '_')
      raise TaskError(f"{where(row)}: there is no column '{name}'; the columns "
                      f'are: {there}. Is this the file that the page of the dataset names?')
    value = [v[part] for v in values] if isinstance(value, list) else value[part]
  return value


def clip_of(row: Row, fields: Fields) -> tuple[float, float] | None:
  """The part of a video that a row is about, in seconds; None: all of it."""
  if not isinstance(fields.clip, tuple):
    return get(row, fields.clip)
  start, end = (row.get(name) for name in fields.clip)
  return None if start is None or end is None else (float(start), float(end))


def video_of(row: Row, fields: Fields, files: Files) -> str:
  """Path of the video of a row."""
  if callable(fields.video):
    return fields.video(files, row)
  named: Any = fields.video
  if isinstance(named, dict):
    stem = PurePosixPath(row['_file']).stem
    if stem not in named:
      raise TaskError(f'{where(row)}: there is no part {stem}; the parts are: {", ".join(named)}')
    named = named[stem]
  return files.video(str(get(row, named)))


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
  return str(fields.style) if is_fixed(fields.style) else get(row, fields.style)


def is_fixed(style: str | Callable) -> bool:
  """Whether all rows of a use have the same style."""
  return isinstance(style, str) and '{' not in style


def facts_of(row: Row, fields: Fields) -> list[Fact]:
  """What a row holds for training; empty where it has no answer."""
  if fields.parts and '_part' not in row:
    return [fact for part in get(row, fields.parts) or ()
            for fact in facts_of(row | {'_part': part} | part, fields)]
  if fields.asked:
    return [fact for one in fields.asked for fact in facts_of(row, one)]
  fact: dict[str, Any] = {'style': style} if (style := style_of(row, fields)) else {}
  if fields.facts is not None:
    return [found if 'styles' in found else {**fact, **found} for found in fields.facts(row)]
  if fields.asks:
    fact['asks'] = fields.asks
  if fields.question:
    fact['question'] = str(get(row, fields.question))
  options, answers = get(row, fields.options), get(row, fields.answers)
  if fields.texts:
    texts = get(row, fields.texts)
    fact['texts'] = list(filter(None, texts if isinstance(texts, list) else [texts]))
    return [fact] if fact['texts'] else []
  if fields.wrong:
    return [fact | {'options': [answers, *get(row, fields.wrong)], 'right': 0, 'order': 'insert'}]
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
  if (image := get(row, fields.image)) is not None:
    record['image'] = files.picture(image, name)
  if fields.images:
    pictures = [files.picture(image, name and f'{name}_{i}')
                for i, image in enumerate(get(row, fields.images), start=1)]
    if pictures:
      record |= {'image': pictures[0]} if len(pictures) == 1 else {'images': pictures}
  if fields.video:
    record['video'] = video_of(row, fields, files)
    if clip := clip_of(row, fields):
      record['clip'] = list(clip)
    if sampling := get(row, fields.sampling):
      record['sampling'] = sampling
    subtitles = (fields.subtitles(files, row) if callable(fields.subtitles)
                 else get(row, fields.subtitles))
    if subtitles:
      record['subtitles'] = subtitles
  return record
