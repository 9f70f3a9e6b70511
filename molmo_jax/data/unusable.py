"""Records that cannot be used: what counts as a record's fault, and what a run does about one.

Whatever goes wrong while one record is read, worded or encoded is its own fault and becomes one
sentence with its file and line; no list of exception types says what may go wrong in the files of
others. Only what ends the process itself is passed on: `MemoryError` (what one picture may take is
bounded before it is decoded, so memory that runs out is not the record's fault), and what is no
`Exception`, such as Ctrl-C.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grain
import numpy as np
from absl import logging

from molmo_jax.errors import MolmoError
from molmo_jax.files import append_json, read_json_lines
from molmo_jax.preprocess.types import Example
from molmo_jax.visible import visible, well_formed

LONGEST_PATIENCE = 10_000      # unusable records in a row, after which a run ends


class BadRecordError(MolmoError):
  """A record that cannot be used, or data without a usable record."""


@contextlib.contextmanager
def record_at(source: str) -> Iterator[None]:
  """Turns any fault inside into a BadRecordError that says 'file.jsonl:12: reason'."""
  try:
    yield
  except MemoryError as error:
    raise MemoryError(f'{source}: memory ran out ({error})') from error
  except Exception as error:     # a record comes from others and may fail in any way
    reason = str(error) if isinstance(error, ValueError) else f'{type(error).__name__}: {error}'
    reason = ' '.join(reason.removeprefix(f'{source}: ').splitlines())
    raise BadRecordError(f'{source}: {reason}') from error


def usable(records: Any) -> Iterator[Example]:
  """The records of a manifest that can be read; the others are left out."""
  for index in range(len(records)):
    with contextlib.suppress(BadRecordError), record_at(records.source(index)):
      yield records[index]


class SkippedRecords:
  """`skipped_records.jsonl` of a run: file, line and reason of every record that could not be used,
  once, however often it was met.
  """

  def __init__(self, path: Path | None):
    """Continues the file; None: nothing is written."""
    self._path, self._known = path, set()
    if path is not None and path.exists():
      self._known |= set(read_json_lines(path, lambda x: (str(x['file']), int(x['line'])))[0])

  def add(self, source: str, message: str) -> None:
    """Writes the record at 'file.jsonl:12' and the message of its BadRecordError, and logs it."""
    source = well_formed(source)
    file, _, line = source.rpartition(':')
    if (file, int(line)) not in self._known:
      self._known.add((file, int(line)))
      logging.warning('record skipped: %s', message)
      if self._path is not None:
        append_json(self._path, {'file': file, 'line': int(line),
                                 'reason': message.removeprefix(f'{visible(source)}: ')})


@dataclasses.dataclass(frozen=True)
class Shard:
  """The records of one process, by their numbers in the common order: start + index, then every
  `count`-th.
  """
  index: int = 0
  count: int = 1
  start: int = 0                # records that all processes together have read before


ALL = Shard()


class Stage(grain.IterDataset):
  """A Grain stage that `iterator` makes of its parent's iterator."""

  def __init__(self, parent: grain.IterDataset,
               iterator: Callable[[grain.DatasetIterator], grain.DatasetIterator]):
    super().__init__(parent)
    self._iterator = iterator

  def __iter__(self) -> grain.DatasetIterator:
    return self._iterator(self._parent.__iter__())


class SkipBadRecords(grain.DatasetIterator):
  """Drops the records that could not be used; each is counted and named once.

  `skipped` has the numbers of these records by dataset, over the whole run: it is part of the state
  that is saved with a checkpoint. `position` counts what the parent gave: that of the newest
  element, from 0.
  """

  def __init__(self, parent: grain.DatasetIterator, on_error: str, patience: int, shard: Shard,
               names: SkippedRecords):
    super().__init__(parent)
    self._on_error, self._patience, self._shard = on_error, patience, shard
    self._names, self.position = names, -1
    self.skipped: dict[str, set[int]] = {}

  def __next__(self) -> Mapping[str, np.ndarray]:
    for _ in range(self._patience):
      record = next(self._parent)
      self.position += 1
      if 'error' not in record:
        return record
      message = str(record['error'])
      if self._on_error == 'raise':
        raise BadRecordError(message)
      self.skipped.setdefault(str(record['dataset']), set()).add(int(record['index']))
      self._names.add(str(record['source']), message)
    raise BadRecordError(f'{self._patience} records in a row could not be used; the last: '
                         f'{message}')

  def get_state(self) -> dict[str, Any]:
    return {'parent': self._parent.get_state(), 'position': self.position,
            'skipped': {name: sorted(numbers) for name, numbers in self.skipped.items()},
            'shard': dataclasses.asdict(self._shard)}

  def set_state(self, state: Mapping[str, Any]) -> None:
    shard = dataclasses.asdict(self._shard)
    if state['shard'] != shard:
      raise ValueError(f'the saved position is that of {state["shard"]}, this is {shard}; with '
                       'another number of processes, begin at start=next_start(states)')
    self._parent.set_state(state['parent'])
    self.position = int(state['position'])
    self.skipped = {name: set(map(int, numbers)) for name, numbers in state['skipped'].items()}
