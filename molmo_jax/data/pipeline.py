"""Order, workers and position of the training data (Grain), and what happens to records that cannot be used."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import grain
import numpy as np
from absl import logging

from molmo_jax.data.batching import RowShape, pad_row, stack_rows
from molmo_jax.data.manifest import Manifest, ManifestError
from molmo_jax.preprocess.encode import encode
from molmo_jax.preprocess.tokenizer import Tokenizer
from molmo_jax.preprocess.types import EncodingError, MediaError, PreprocessConfig

USABLE_ERRORS = (ManifestError, MediaError, EncodingError)   # faults of a record, as opposed to faults of the program


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
  seed: int = 0
  workers: int = 0                   # processes that read and encode; 0: threads of this one
  threads: int = 2                   # of each process
  prefetch: int = 32                 # examples read ahead
  on_error: Literal['skip', 'raise'] = 'skip'
  scenes_root: str = ''              # folder that the synthetic scenes are generated into, if a manifest lies in it


class BadRecordError(RuntimeError):
  """A record that cannot be used, with `data.on_error='raise'`, or a manifest without a usable record."""


class EncodeRecord(grain.transforms.RandomMap):
  """Index → row of arrays, or `{'error': message}` for a record that cannot be used."""

  def __init__(self, manifest: Manifest, preprocess: PreprocessConfig, tokenizer: Tokenizer, shape: RowShape):
    self._manifest, self._preprocess, self._tokenizer, self._shape = manifest, preprocess, tokenizer, shape

  def random_map(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
    source = ''
    try:
      example = self._manifest[index]
      source = example.source
      encoded = encode(example, self._preprocess, self._tokenizer, training=True, rng=rng)
      return pad_row(vars(encoded), self._shape)
    except USABLE_ERRORS as error:
      message = str(error)
      return {'error': message if source in message else f'{source}: {message}'}


class SkipBadRecords(grain.IterDataset):
  """Drops the records that could not be used, counts them, and names each one in the log once."""

  def __init__(self, parent: grain.IterDataset, on_error: str, patience: int):
    super().__init__(parent)
    self._on_error, self._patience = on_error, patience

  def __iter__(self) -> grain.DatasetIterator:
    return _SkipIterator(self._parent.__iter__(), self._on_error, self._patience)


class _SkipIterator(grain.DatasetIterator):
  """`skipped` counts over the whole run: it is part of the state that is saved with a checkpoint."""

  def __init__(self, parent: grain.DatasetIterator, on_error: str, patience: int):
    super().__init__(parent)
    self._on_error, self._patience = on_error, patience
    self.skipped, self._named = 0, set()

  def __next__(self) -> Mapping[str, np.ndarray]:
    for _ in range(self._patience):
      record = next(self._parent)
      if 'error' not in record:
        return record
      message = str(record['error'])
      if self._on_error == 'raise':
        raise BadRecordError(message)
      self.skipped += 1
      if message not in self._named:
        self._named.add(message)
        logging.warning('record skipped: %s', message)
    raise BadRecordError(f'{self._patience} records in a row could not be used; the last: {message}')

  def get_state(self) -> dict[str, Any]:
    return {'parent': self._parent.get_state(), 'skipped': self.skipped}

  def set_state(self, state: Mapping[str, Any]) -> None:
    self._parent.set_state(state['parent'])
    self.skipped = int(state['skipped'])


class TrainingData:
  """An endless iterator of batches (numpy), shuffled anew every epoch, whose position can be saved.

  Every process reads its own share of the examples and gets `batch_size / process_count` rows of every batch.
  `iterator` is what a checkpoint saves; `skipped` counts the records that could not be used.
  """

  def __init__(self, config: DataConfig, preprocess: PreprocessConfig, manifest: Manifest, tokenizer: Tokenizer,
               slots: int, process_index: int = 0, process_count: int = 1):
    if config.batch_size % process_count:
      raise ValueError(f'data.batch_size={config.batch_size} must be a multiple of the {process_count} processes')
    if len(manifest) < process_count:
      raise ValueError(f'{config.train} has {len(manifest)} records for {process_count} processes')
    shape = RowShape(config.sequence_length, config.crops, config.visual_tokens, slots)
    examples = grain.MapDataset.range(len(manifest)).seed(config.seed).shuffle()[process_index::process_count]
    share = len(examples)
    examples = examples.repeat().random_map(EncodeRecord(manifest, preprocess, tokenizer, shape))
    rows = examples.to_iter_dataset(grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=config.prefetch))
    if config.workers:
      rows = rows.mp_prefetch(grain.MultiprocessingOptions(num_workers=config.workers))
    self._rows = SkipBadRecords(rows, config.on_error, patience=max(share, 100))
    self.iterator = iter(self._rows.batch(config.batch_size // process_count, batch_fn=stack_rows))

  def __next__(self) -> dict[str, np.ndarray]:
    return next(self.iterator)

  @property
  def skipped(self) -> int:
    """Records that could not be used so far, those read ahead not counted."""
    iterator = self.iterator
    while not isinstance(iterator, _SkipIterator):
      iterator = iterator._parent
    return iterator.skipped
