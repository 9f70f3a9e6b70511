"""Order, workers and position of the training data (Grain), and what happens to records that cannot
be used.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import grain
import numpy as np
from absl import logging

from molmo_jax.data.batching import RowShape, check_fits, pad_row, stack_rows
from molmo_jax.data.manifest import Manifest, ManifestError, read_manifest
from molmo_jax.data.mixture import Dataset, DatasetConfig, Draws, read_mixture
from molmo_jax.data.packing import PackingConfig, PackRows
from molmo_jax.errors import MolmoError
from molmo_jax.preprocess.encode import encode
from molmo_jax.preprocess.tokenizer import Tokenizer
from molmo_jax.preprocess.types import EncodingError, MediaError, PreprocessConfig

LONGEST_PATIENCE = 10_000      # unusable records in a row, after which a run ends
# faults of a record, as opposed to faults of the program
USABLE_ERRORS = (ManifestError, MediaError, EncodingError)


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """Where examples come from and the static shape of their rows."""
  train: str                         # manifest (docs/data.md)
  validation: str                    # manifest that evaluation reads
  tokenizer: str                     # tokenizer.json
  batch_size: int = 8                # rows in a global batch
  sequence_length: int = 16384       # S
  crops: int = 128                   # C
  visual_tokens: int = 10368         # V
  seed: int = 0                      # of the order of examples and their draws
  workers: int = 0                   # processes that read and encode; 0: threads of this one
  threads: int = 2                   # of each process
  prefetch: int = 32                 # examples read ahead
  on_error: Literal['skip', 'raise'] = 'skip'  # what a record that cannot be used does
  # folder that the synthetic scenes are generated into, if a manifest lies in it
  scenes_root: str = ''
  packing: PackingConfig = PackingConfig()   # several examples in a row; off
  # several manifests, instead of `train`
  mixture: dict[str, DatasetConfig] = dataclasses.field(default_factory=dict)
  # rates of the mixture's groups; none: one group
  groups: dict[str, float] = dataclasses.field(default_factory=dict)


class BadRecordError(MolmoError):
  """A record that cannot be used, with `data.on_error='raise'`, or a manifest without a usable
  record.
  """


class EncodeRecord(grain.transforms.RandomMap):
  """Draw → arrays of the example, or `{'error': message, 'dataset': name}` for a record that cannot
  be used.

  A draw is the numbers of a dataset and a record, or the record's alone where there is one dataset.
  """

  def __init__(self, datasets: Sequence[Dataset], preprocess: PreprocessConfig,
               tokenizer: Tokenizer, shape: RowShape,
               padded: bool):
    self._datasets, self._preprocess, self._tokenizer, self._shape = datasets, preprocess, tokenizer, shape
    self._padded = padded

  def random_map(self, draw: int | tuple[int, int], rng: np.random.Generator) -> dict[str, Any]:
    number, index = draw if isinstance(draw, tuple) else (0, draw)
    dataset, source = self._datasets[number], ''
    try:
      example = dataset.adapted(dataset.records[index])
      source = example.source
      preprocess = dataset.preprocess(self._preprocess, rng)
      encoded = vars(encode(example, preprocess, self._tokenizer, training=True, rng=rng))
      if self._padded:
        return pad_row(encoded, self._shape)
      check_fits(encoded, self._shape)
      return {name: x for name, x in encoded.items() if x is not None}
    except USABLE_ERRORS as error:
      message = str(error)
      return {'error': message if source in message else f'{source}: {message}',
              'dataset': dataset.name}

  def __setstate__(self, state: dict[str, Any]) -> None:
    self.__dict__.update(state)
    end_with_parent()                # unpickled: this is a worker


@dataclasses.dataclass(frozen=True)
class Share:
  """The draws of a process: those from `start` on whose distance from it is `process` modulo
  `processes`.
  """
  start: int
  process: int
  processes: int


def end_with_parent() -> None:
  """In a worker process: ends it when the program that started it is gone, even by SIGKILL; once
  per process.
  """
  parent = multiprocessing.parent_process()
  if parent is None or any(thread.name == end_with_parent.__name__
                           for thread in threading.enumerate()):
    return

  def watch() -> None:
    parent.join()
    os._exit(1)
  threading.Thread(target=watch, name=end_with_parent.__name__, daemon=True).start()


class SkipBadRecords(grain.IterDataset):
  """Drops the records that could not be used, counts them, and names each one in the log once."""

  def __init__(self, parent: grain.IterDataset, on_error: str, patience: int, share: Share):
    super().__init__(parent)
    self._skipper = (on_error, patience, share)

  def __iter__(self) -> grain.DatasetIterator:
    return _SkipIterator(self._parent.__iter__(), *self._skipper)


class _SkipIterator(grain.DatasetIterator):
  """`skipped` counts by dataset and over the whole run: it is part of the state that is saved with
  a checkpoint.

  `place` is the place in the parent's sequence of the record that was given last.
  """

  def __init__(self, parent: grain.DatasetIterator, on_error: str, patience: int, share: Share):
    super().__init__(parent)
    self._on_error, self._patience, self._share = on_error, patience, share
    self.skipped: dict[str, int] = {}
    self.place, self._named = -1, set()

  def __next__(self) -> Mapping[str, np.ndarray]:
    for _ in range(self._patience):
      record = next(self._parent)
      self.place += 1
      if 'error' not in record:
        return record
      message, dataset = str(record['error']), str(record['dataset'])
      if self._on_error == 'raise':
        raise BadRecordError(message)
      self.skipped[dataset] = self.skipped.get(dataset, 0) + 1
      if message not in self._named:
        self._named.add(message)
        logging.warning('record skipped: %s', message)
    raise BadRecordError(
      f'{self._patience} records in a row could not be used; the last: {message}')

  def get_state(self) -> dict[str, Any]:
    return {'parent': self._parent.get_state(), 'place': self.place, 'skipped': dict(self.skipped),
            'share': dataclasses.asdict(self._share)}

  def set_state(self, state: Mapping[str, Any]) -> None:
    share = dataclasses.asdict(self._share)
    if state['share'] != share:
      raise ValueError(f'the saved position is that of {state["share"]}, this is {share}; with '
        'another number of processes, begin a new position at start=next_draw(states)')
    self._parent.set_state(state['parent'])
    self.place = int(state['place'])
    self.skipped = {name: int(count) for name, count in state['skipped'].items()}


def read_sources(config: DataConfig) -> Manifest | tuple[Dataset, ...]:
  """What `TrainingData` draws from: the manifest `data.train`, or the datasets of `data.mixture` if
  there are any.

  Raises:
    ManifestError: a manifest cannot be read, or the rates of a mixture make no sense.
  """
  return read_mixture(config.mixture,
                      config.groups) if config.mixture else read_manifest(config.train)


def check_loss_tokens(batch: Mapping[str, np.ndarray], manifest: str) -> None:
  """Raises ManifestError for a batch that nothing can be learned from."""
  if not (batch['loss_weights'] > 0).any():
    raise ManifestError(f'{manifest}: the first batch has no token with a loss weight; answers '
                        'need weights above 0')


def next_draw(states: Sequence[Mapping[str, Any]]) -> int:
  """`start` for a run that goes on with another number of processes: the first draw that none of
  them has read.

  Examples that were waiting to be packed are lost, `packing.buffer` at most for each process.

  Args:
    states: `TrainingData.iterator.get_state()` of every process, in any order.
  """
  shares = [_skip_state(state) for state in states]
  return max(s['share']['start'] + (s['place'] + 1) * s['share']['processes'] for s in shares)


def _skip_state(state: Mapping[str, Any]) -> Mapping[str, Any]:
  while 'share' not in state:
    state = state['parent']
  return state


class TrainingData:
  """An endless iterator of batches (numpy), shuffled anew every epoch, whose position can be saved.

  Every process reads its own share of the examples and gets `batch_size / process_count` rows of
  every batch. `iterator` is what a checkpoint saves. `skipped` counts the records that could not be
  used.
  """

  def __init__(self, config: DataConfig, preprocess: PreprocessConfig,
               sources: Manifest | Sequence[Dataset],
               tokenizer: Tokenizer, slots: int, process_index: int = 0, process_count: int = 1,
               start: int = 0):
    """Opens the data of one process; `start` draws of all processes together were made before
    (`next_draw`).

    Raises:
      ValueError: rows or records cannot be divided among the processes.
    """
    if config.batch_size % process_count:
      raise ValueError(f'data.batch_size={config.batch_size} must be a multiple of the '
        f'{process_count} processes')
    if isinstance(sources, Manifest):
      sources = (Dataset('data.train', sources, DatasetConfig(config.train)),)
    records = sum(len(dataset.records) for dataset in sources)
    if records < process_count:
      raise ValueError(f'{config.train or "data.mixture"} has {records} records for '
        f'{process_count} processes')
    shape = RowShape(config.sequence_length, config.crops, config.visual_tokens, slots)
    packed = config.packing.buffer > 0

    encoding = EncodeRecord(sources, preprocess, tokenizer, shape, padded=not packed)
    share = slice(start + process_index, None, process_count)
    if len(sources) == 1:
      draws = grain.MapDataset.range(records).seed(config.seed).shuffle().repeat()
    else:
      draws = Draws(sources, config.seed).seed(config.seed)
    # in this order: the randomness of a draw is that of its number
    examples = draws.random_map(encoding)[share]
    rows = examples.to_iter_dataset(
      grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=config.prefetch))
    if config.workers:
      rows = rows.mp_prefetch(grain.MultiprocessingOptions(num_workers=config.workers))
    patience = min(max(records // process_count, 100), LONGEST_PATIENCE)
    rows = SkipBadRecords(rows, config.on_error, patience,
                          Share(start, process_index, process_count))
    if packed:
      rows = PackRows(rows, config.packing, shape, preprocess.image.grid ** 2,
                      lambda place: _again(examples, place),
                      config.threads)
    self.iterator = iter(rows.batch(config.batch_size // process_count, batch_fn=stack_rows))

  def __next__(self) -> dict[str, np.ndarray]:
    return next(self.iterator)

  @property
  def skipped(self) -> int:
    """Records that could not be used so far, those read ahead not counted."""
    return sum(self.skipped_by_dataset.values())

  @property
  def skipped_by_dataset(self) -> dict[str, int]:
    """The same for each dataset that has any; the one of `data.train` is called so."""
    iterator = self.iterator
    while not isinstance(iterator, _SkipIterator):
      iterator = iterator._parent
    return dict(iterator.skipped)


  def position(self) -> dict[str, Any]:
    """Where this process is in its share: plain values, for `open_data`."""
    return self.iterator.get_state()


def open_data(config: DataConfig, preprocess: PreprocessConfig,
              sources: Manifest | Sequence[Dataset],
              tokenizer: Tokenizer, slots: int, index: int, count: int,
              positions: Mapping[str, Any] | None = None) -> TrainingData:
  """The data of part `index` of `count`, from the beginning or from where a checkpoint was written.

  Args:
    positions: `TrainingData.position()` of every part, by its index as text. With as many parts as
      now the data goes on exactly; with another number from the first draw that none of them had
      read (`next_draw`).
  """
  if not positions:
    return TrainingData(config, preprocess, sources, tokenizer, slots, index, count)
  exactly = len(positions) == count
  start = _skip_state(positions['0'])['share']['start'] if exactly else next_draw(
    list(positions.values()))
  data = TrainingData(config, preprocess, sources, tokenizer, slots, index, count, start)
  if exactly:
    data.iterator.set_state(positions[str(index)])
  return data


def _again(examples: grain.MapDataset, place: int) -> Mapping[str, np.ndarray]:
  example = examples[place]
  if 'error' in example:
    raise BadRecordError('an example that waited to be packed when the checkpoint was written '
      f'cannot be read any more: {example["error"]}')
  return example
