"""Order, workers and position of the training data (Grain)."""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import grain
import numpy as np

from molmo_jax import stopping
from molmo_jax.configuration import ConfigError, NonNegative, Range, Seed, Size
from molmo_jax.data.batching import RowShape, check_fits, pad_row, stack_rows
from molmo_jax.data.conversations import Prompts
from molmo_jax.data.formatting import Formatter
from molmo_jax.data.manifest import ManifestError, read_manifest
from molmo_jax.data.mixture import DatasetConfig, MixedDataset, MixedOrder, read_mixture
from molmo_jax.data.packing import PackingConfig, PackRows
from molmo_jax.data.unusable import (
  ALL,
  LONGEST_PATIENCE,
  BadRecordError,
  Shard,
  SkipBadRecords,
  SkippedRecords,
  Stage,
  record_at,
)
from molmo_jax.preprocess.encode import encode, shown_times
from molmo_jax.preprocess.tokenizer import Tokenizer
from molmo_jax.preprocess.types import PreprocessConfig

AHEAD = 2      # batches that are made while the devices compute
# else Grain puts lines of its own into the message of every error
grain.config.update('py_traceback_filtering', 'off')


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """Where examples come from and the static shape of their rows."""
  train: str                         # manifest (docs/data.md)
  validation: str                    # manifest that evaluation reads
  tokenizer: str                     # tokenizer.json
  batch_size: Size = 8               # rows in a global batch
  sequence_length: Size = 16384      # S
  crops: Size = 128                  # C
  visual_tokens: Size = 10368        # V
  seed: Seed = 0                     # of the order of examples and their draws
  # processes that read and encode; 0: threads of this one
  workers: Annotated[int, Range(0, 1024)] = 0
  threads: Size = 2                  # of each process
  prefetch: Size = 32                # examples read ahead
  on_error: Literal['skip', 'raise'] = 'skip'  # what a record that cannot be used does
  # folder that the synthetic scenes are generated into, if a manifest lies in it
  scenes_root: str = ''
  packing: PackingConfig = PackingConfig()   # several examples in a row; off
  # several manifests, instead of `train`
  mixture: dict[str, DatasetConfig] = dataclasses.field(default_factory=dict)
  # rates of the mixture's groups; none: one group
  groups: dict[str, NonNegative] = dataclasses.field(default_factory=dict)
  prompts: Prompts = 'molmo2'        # how facts are worded: fine-tuning, pre-training, Molmo v1
  wordings: str = ''                 # a file that replaces lists of data/wordings.toml

  def formatter(self) -> Formatter:
    """What words the facts of records."""
    return Formatter(self.prompts, self.wordings)


class EncodeRecord(grain.transforms.RandomMap):
  """Which record is next → the arrays of its example, or `{'error': message, 'dataset': name,
  'index': number, 'source': 'file.jsonl:12'}` for a record that cannot be used.

  The element is the number of the dataset and of its record, or the record's alone where there is
  one dataset.

  Args:
    datasets: whose records are numbered.
    preprocess: settings of images, videos and text.
    tokenizer: of the model.
    shape: sizes of a row; a larger example cannot be used.
    padded: whether an example becomes a whole row, padded; else it is packed later.
    formatter: words the facts of a record.
  """

  def __init__(self, datasets: Sequence[MixedDataset], preprocess: PreprocessConfig,
               tokenizer: Tokenizer, shape: RowShape, padded: bool, formatter: Formatter):
    self._datasets, self._preprocess, self._tokenizer = datasets, preprocess, tokenizer
    self._shape, self._padded, self._formatter = shape, padded, formatter

  def random_map(self, element: int | tuple[int, int], rng: np.random.Generator) -> dict[str, Any]:
    """The encoded example of a record; `element` is its index, or (dataset, index) in a mixture."""
    number, index = element if isinstance(element, tuple) else (0, element)
    dataset = self._datasets[number]
    source = dataset.records.source(index)
    try:
      with record_at(source):
        record = dataset.records[index]
        example = dataset.adapted(self._formatter(
          record, rng, times=lambda: shown_times(record, self._preprocess, training=True)))
        encoded = vars(encode(example, dataset.preprocess(self._preprocess, rng), self._tokenizer,
                              training=True, rng=rng))
        if self._padded:
          return pad_row(encoded, self._shape) | {'records': np.array([[number, index]])}
        check_fits(encoded, self._shape)
        return {name: x for name, x in encoded.items() if x is not None} | {
          'records': np.array([[number, index]])}
    except BadRecordError as error:
      return {'error': str(error), 'dataset': dataset.name, 'index': index, 'source': source}

  def __setstate__(self, state: dict[str, Any]) -> None:
    self.__dict__.update(state)
    end_with_parent()                # unpickled: this is a worker


@functools.cache     # once per process
def end_with_parent() -> None:
  """In a worker process: ends it when the program that started it is gone, even by SIGKILL."""
  parent = multiprocessing.parent_process()

  def watch() -> None:
    parent.join()
    os._exit(1)
  if parent is not None:
    threading.Thread(target=watch, daemon=True).start()


def read_sources(config: DataConfig) -> tuple[MixedDataset, ...]:
  """The datasets of `data.mixture`, or, if there are none, the manifest `data.train` as one.

  Raises:
    ManifestError: a manifest cannot be read, or the rates of a mixture make no sense.
  """
  if config.mixture:
    return read_mixture(config.mixture, config.groups)
  return (MixedDataset('data.train', read_manifest(config.train), DatasetConfig(config.train)),)


def check_loss_tokens(batch: Mapping[str, np.ndarray], manifest: str) -> None:
  """Raises ManifestError for a batch that nothing can be learned from."""
  if not (batch['loss_weights'] > 0).any():
    raise ManifestError(f'{manifest}: the first batch has no token with a loss weight; answers '
                        'need weights above 0')


def next_start(states: Sequence[Mapping[str, Any]]) -> int:
  """`start` for a run that resumes with another number of processes: the first record, in the
  common order, that none of them has read.

  Examples that were waiting to be packed are lost, `packing.buffer` at most for each process.

  Args:
    states: `TrainingData.position()` of every process, in any order.
  """
  return max(state['shard']['start'] + (state['position'] + 1) * state['shard']['count']
             for state in map(_skip_state, states))


def _skip_state(state: Mapping[str, Any]) -> Mapping[str, Any]:
  while 'shard' not in state:
    state = state['parent']
  return state


class TrainingData:
  """An endless iterator of batches (numpy), shuffled anew every epoch, whose position can be saved.

  Every process reads its own shard of the examples and gets `batch_size / count` rows of every
  batch. `iterator` is what a checkpoint saves.

  How a run resumes to the same bytes: which record comes when, and its random choices, follow from
  the seed and a number that counts records. Nothing is replayed; the position (and, with packing,
  the numbers of the examples that wait for a row) is all there is to restore.
  """

  def __init__(self, config: DataConfig, preprocess: PreprocessConfig,
               sources: Sequence[MixedDataset], tokenizer: Tokenizer, slots: int,
               shard: Shard = ALL, ahead: int = 0, skipped: Path | None = None):
    """Opens the data of one process.

    Args:
      config: order, workers, and the sizes of a row.
      preprocess: how examples are encoded.
      sources: of the records (`read_sources`).
      tokenizer: of the run.
      slots: W of a pooling window.
      shard: which of the records are read.
      ahead: batches that a thread makes before they are asked for.
      skipped: file that names the records which could not be used (`SkippedRecords`).

    Raises:
      ConfigError: rows or records cannot be divided among the processes.
    """
    if config.batch_size % shard.count:
      raise ConfigError(f'data.batch_size={config.batch_size} must be a multiple of the '
                        f'{shard.count} processes')
    records = sum(len(dataset.records) for dataset in sources)
    if records < shard.count:
      raise ConfigError(f'{config.train or "data.mixture"} has {records} records for '
                        f'{shard.count} processes')
    shape = RowShape(config.sequence_length, config.crops, config.visual_tokens, slots)
    packed = config.packing.buffer > 0
    order = (grain.MapDataset.range(records).seed(config.seed).shuffle().repeat()
             if len(sources) == 1 else MixedOrder(sources, config.seed).seed(config.seed))
    # in this order: the random choices for a record are those of its number in the common order
    examples = order.random_map(EncodeRecord(
      sources, preprocess, tokenizer, shape, not packed, config.formatter()))[
        shard.start + shard.index::shard.count]
    rows = examples.to_iter_dataset(
      grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=config.prefetch))
    if config.workers:
      # Python frees the shared memory of examples that were read ahead, and would warn of it.
      os.environ.setdefault('PYTHONWARNINGS', 'ignore:resource_tracker')
      rows = rows.mp_prefetch(grain.MultiprocessingOptions(num_workers=config.workers),
                              stopping.leave_to_parent)
    patience = min(max(records // shard.count, 100), LONGEST_PATIENCE)
    rows = Stage(rows, functools.partial(
      SkipBadRecords, on_error=config.on_error, patience=patience, shard=shard,
      names=SkippedRecords(skipped)))
    if packed:
      rows = Stage(rows, functools.partial(
        PackRows, config=config.packing, shape=shape, patches=preprocess.image.grid ** 2,
        read_again=functools.partial(_read_again, examples), threads=config.threads))
    rows = rows.batch(config.batch_size // shard.count, batch_fn=_stack_rows)
    # those of the batch given last, for `named`; they are no part of what the model sees
    self.records, self._sources = np.zeros((0, 2), np.int64), sources
    self.iterator = iter(grain.experimental.ThreadPrefetchIterDataset(
      rows, prefetch_buffer_size=ahead))

  def __next__(self) -> dict[str, np.ndarray]:
    batch = dict(next(self.iterator))
    self.records = batch.pop('records')
    return batch

  def named(self, records: np.ndarray) -> list[str]:
    """File and line of `records` int [n,2]: the number of the dataset and of its record."""
    return [self._sources[dataset].records.source(index) for dataset, index in records.tolist()]

  @property
  def skipped_by_dataset(self) -> dict[str, int]:
    """Records that could not be used so far, for each dataset that has any; those read ahead are
    not counted. The dataset of `data.train` is called so.
    """
    return {k: len(records) for k, records in _skip_state(self.position())['skipped'].items()}

  def position(self) -> dict[str, Any]:
    """Where this process is in its shard, after the batch given last: plain values, for
    `open_data`.
    """
    return self.iterator.get_state()

  def close(self) -> None:
    """Ends the thread that makes batches ahead."""
    self.iterator.close()


def open_data(config: DataConfig, preprocess: PreprocessConfig, sources: Sequence[MixedDataset],
              tokenizer: Tokenizer, slots: int, process: tuple[int, int] = (0, 1),
              positions: Mapping[str, Any] | None = None, folder: Path | None = None
              ) -> TrainingData:
  """The data of one process, from the beginning or a checkpoint, with batches made ahead.

  Args:
    config, preprocess, sources, tokenizer, slots: see `TrainingData`.
    process: which shard of the records this process reads, and how many there are.
    positions: `TrainingData.position()` of every shard, by its index as text. With as many shards
      as now the data continues exactly; with another number from the first record that none of them
      had read (`next_start`).
    folder: of the run; gets `skipped_records.jsonl` (with the shard's number from other processes).
  """
  index, count = process
  exactly, start = len(positions or ()) == count, 0
  if positions:
    start = (_skip_state(positions['0'])['shard']['start'] if exactly else
             next_start(list(positions.values())))
  skipped = folder and folder / f'skipped_records{f".{index}" if index else ""}.jsonl'
  data = TrainingData(config, preprocess, sources, tokenizer, slots, Shard(index, count, start),
                      AHEAD, skipped)
  if exactly:
    data.iterator.set_state(positions[str(index)])
  return data


def _stack_rows(rows: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
  """`stack_rows`, with the records of all rows as one list."""
  fields = [{name: x for name, x in row.items() if name != 'records'} for row in rows]
  return stack_rows(fields) | {'records': np.concatenate([row['records'] for row in rows])}


def _read_again(examples: grain.MapDataset, position: int) -> Mapping[str, np.ndarray]:
  example = examples[position]
  if 'error' in example:
    raise BadRecordError('an example that waited to be packed when the checkpoint was written '
                         f'cannot be read any more: {example["error"]}')
  return example
