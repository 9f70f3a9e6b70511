"""The family of datasets with one question per row of a table: which column is what, and how it
becomes a record.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from molmo_jax.evaluation.tasks.prompts import Prompt, plain
from molmo_jax.evaluation.tasks.reader import Reader, Row, TaskError
from molmo_jax.metrics.choices import LETTERS

# a column (dots lead into objects), or a function of the row
Value = str | Callable[[Row], Any] | None
Record = dict[str, Any]                         # as in docs/data.md, without task and metric
Adapter = Callable[[Reader], Iterator[Record]]


@dataclasses.dataclass(frozen=True)
class Fields:
  """Where in a row the parts of a record are. What is None is not there."""
  question: Value
  image: Value = None                         # path, bytes or the Hub's picture
  images: Value = None                        # a list of these
  video: Callable[[Reader, Row], str] | None = None
  # texts of the options, without letters unless `prompt` wants them
  options: Value = None
  index: Value = None                         # of the right option
  letter: Value = None                        # of the right option
  answers: Value = None                       # a text, or a list of accepted ones
  prompt: Prompt = plain
  style: Value = None                         # where it is not the task's for every row; a function
  clip: Callable[[Row], tuple[float, float] | None] | None = None
  subtitles: Callable[[Reader, Row], list[dict] | None] | None = None
  metadata: Mapping[str, Value] = dataclasses.field(default_factory=dict)
  # names of the groups of the summary that the row belongs to
  groups: Sequence[Value] = ()
  id: Value = None                            # None: the number of the row


def rows(files: str | Mapping[str, str | Sequence[str]], fields: Fields, *,
         records: str | None = None,
         key: str | None = None, each: Callable[[Row], Iterable[Row]] | None = None,
         keep: Callable[[Row], Any] | None = None,
         arrange: Callable[[list[Row]], list[Row]] | None = None) -> Adapter:
  """An adapter for tables.

  Args:
    files: pattern of the files, or of each split's; '{split}' is the split's name.
    records, key: as in `data.tables.read_table`.
    each: turns a row into several questions.
    keep: which questions stay.
    arrange: shuffles or cuts the list of questions.
  """
  def adapter(reader: Reader) -> Iterator[Record]:
    patterns = files if isinstance(files, str) else files[reader.split]
    found: Iterable[Row] = itertools.chain.from_iterable(
        reader.tables(pattern, records, key)
        for pattern in ([patterns] if isinstance(patterns, str) else patterns))
    if each is not None:
      found = itertools.chain.from_iterable(map(each, found))
    if keep is not None:
      found = filter(keep, found)
    if arrange is not None:
      found = arrange(list(found))
    for number, row in enumerate(found):
      yield record_of(row, fields, reader, number)
  return adapter


def record_of(row: Row, fields: Fields, reader: Reader, number: int) -> Record:
  """The record of one row, the `number`-th question of the task.

  Raises:
    TaskError: a column that does not exist; the message names the file and the columns that do.
  """
  def get(value: Value) -> Any:
    return None if value is None else value(row) if callable(value) else column(row, value)

  options = get(fields.options)
  options = None if options is None else [str(option) for option in options]
  name = f'{number:06d}'
  record: Record = {'id': name if fields.id is None else str(get(fields.id)),
                    'question': fields.prompt(str(get(fields.question)), options or (),
                                              reader.version)}
  if fields.image is not None and (image := get(fields.image)) is not None:
    record['image'] = reader.picture(image, name)
  if fields.images is not None:
    record |= _images([reader.picture(image, f'{name}_{i}')
                       for i, image in enumerate(get(fields.images), start=1)])
  if fields.video is not None:
    record['video'] = fields.video(reader, row)
  if options:
    record['options'] = options
  if (answers := _answers(get(fields.index), get(fields.letter), get(fields.answers))) is not None:
    record['answers'] = answers
  for part, value in (('style', get(fields.style)), ('clip', fields.clip and fields.clip(row)),
                      ('subtitles', fields.subtitles and fields.subtitles(reader, row))):
    if value:
      record[part] = list(value) if part == 'clip' else value
  metadata = {part: get(value) for part, value in fields.metadata.items()}
  groups = [str(group) for group in map(get, fields.groups) if group is not None]
  if metadata or groups:
    record['metadata'] = metadata | ({'groups': groups} if groups else {})
  return record


def _images(paths: list[str]) -> Record:
  return {'image': paths[0]} if len(paths) == 1 else {'images': paths}


def _answers(index: Any, letter: Any, answers: Any) -> list[str] | None:
  if index is not None:
    return [LETTERS[int(index)]]
  if letter is not None:
    return [str(letter).strip()]
  if answers is None:
    return None
  return [str(a) for a in answers] if isinstance(answers, list | tuple) else [str(answers)]


def column(row: Row, name: str) -> Any:
  """The value of a column; 'a.b' is the field b of the object in column a.

  Raises:
    TaskError: there is none.
  """
  value: Any = row
  for part in name.split('.'):
    if not isinstance(value, Mapping) or part not in value:
      there = ', '.join(k for k in row if k != '_file')
      raise TaskError(f"{row.get('_file', 'the row')}: there is no column '{name}'; the columns "
        f"are: {there}. Is this the file that docs/evaluation.md names?")
    value = value[part]
  return value


def optional(name: str) -> Callable[[Row], Any]:
  """The value of a column, None where there is none."""
  return lambda row: row.get(name)
