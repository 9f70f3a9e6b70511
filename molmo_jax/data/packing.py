"""Several examples in one row: which of the waiting ones fill it best, and their arrays as one.

Source: docs/training.md §3.6. Rows have a fixed size, examples have not: most of a row with one
example would be padding. Tokens and crops are the two limits of a knapsack; the buffer of waiting
examples is what it chooses from.

    arriving   ──►  buffer (48 examples)  ──►  row
    tokens crops     ▇▇▇▇ ▇▇ ▇▇▇▇▇▇ ▇ …        ▇▇▇▇▇▇▇▇▇▇▇▇│▇▇▇▇▇│▇▇▇▇│░
                                    segments   0…          │100000…│200000…│−1

The k-th example of a row has segments from 100000·k on: the attention mask (kernels/mask.py) lets
no token see another example, positions begin anew, and windows point into the example's own crops.
A packed example therefore has the same loss as one that is alone in its row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grain
import numpy as np

from molmo_jax.configuration import Count, NonNegative, Positive
from molmo_jax.data.batching import Row, RowShape, pad_row, shape_of
from molmo_jax.preprocess.types import PADDING_VALUES

# segment = EXAMPLE_STRIDE * example + subsegment (preprocess.types.Encoded)
EXAMPLE_STRIDE = 100_000
TOKEN_UNITS = 512               # the knapsack counts tokens in 512ths of a row, rounded up


@dataclasses.dataclass(frozen=True)
class PackingConfig:
  """How rows are filled. Released recipes: buffer 48; image_weight 1 in pretraining, 30 in SFT."""
  buffer: Count = 0               # examples to choose from; 0: one example per row
  token_weight: Positive = 1.0    # value of a token in a row
  image_weight: NonNegative = 30.0  # value of a crop in a row
  # an example whose crops fill a row is a row at once (one whose tokens do always is)
  shortcut: bool = False


def next_row(waiting: Sequence[RowShape], new: RowShape, limits: RowShape,
             config: PackingConfig) -> list[int]:
  """What leaves the packer when an example arrives: indices into [*waiting, new], in the order of
  the row.

  An example that fills a row alone leaves at once. Otherwise nothing leaves before the buffer is
  full; then the best set of the waiting examples leaves and the new one waits. At most one row
  leaves at an arrival, and a full buffer never grows.

  Args:
    waiting: sizes in the order of arrival.
    limits: size of a row; every example fits it alone.
  """
  unit = token_unit(limits.sequence)
  fills_tokens = -(-new.sequence // unit) >= limits.sequence // unit
  if fills_tokens or config.shortcut and new.crops >= limits.crops:
    return [len(waiting)]
  if len(waiting) < config.buffer:
    return []
  chosen = choose(waiting, limits, config)
  kept, visual = [], 0
  for index in chosen:     # a limit of static shapes alone: what is too much waits for another row
    if visual + waiting[index].visual <= limits.visual:
      kept.append(index)
      visual += waiting[index].visual
  return kept


def token_unit(sequence_length: int) -> int:
  """Tokens are counted in this many at a time, so that the knapsack's table stays small."""
  return max(1, sequence_length // TOKEN_UNITS)


def choose(waiting: Sequence[RowShape], limits: RowShape, config: PackingConfig) -> list[int]:
  """The set of examples of the highest value that fits a row's tokens and crops, the last arrived
  first.

  Exact: a float32 table over examples, units of tokens and crops, with value = token_weight ·
  tokens + image_weight · crops. An example that does not raise the value stays out, so of equal
  sets the earlier examples win.
  """
  unit = token_unit(limits.sequence)
  capacity = limits.sequence // unit
  tokens = [-(-size.sequence // unit) for size in waiting]
  # of the examples so far, for every remaining space
  best = np.zeros((capacity + 1, limits.crops + 1), np.float32)
  taken = np.zeros((len(waiting), *best.shape), bool)
  for i, (t, size) in enumerate(zip(tokens, waiting)):
    value = np.float32(config.token_weight * size.sequence + config.image_weight * size.crops)
    with_it = best[:best.shape[0] - t, :best.shape[1] - size.crops] + value
    without_it = best[t:, size.crops:]
    taken[i, t:, size.crops:] = with_it > without_it
    best[t:, size.crops:] = np.maximum(with_it, without_it)
  chosen, t, c = [], capacity, limits.crops
  for i in reversed(range(len(waiting))):
    if taken[i, t, c]:
      chosen.append(i)
      t, c = t - tokens[i], c - waiting[i].crops
  return chosen


def concatenate(examples: Sequence[Row], patches: int) -> dict[str, np.ndarray]:
  """One example made of several: their arrays one after the other, none of which sees another
  (docs/training.md §3.6).

  Args:
    examples: arrays as in `types.Encoded`.
    patches: P of a crop.

  Returns:
    The fields of `Encoded` without `frame_times`. Segments of the k-th example grow by 100000·k,
    `pool_index` by the patches and `feature_index` by the visual tokens before it; windows are as
    wide as the widest.
  """
  slots = max(example['pool_index'].shape[1] for example in examples)
  shifted, crops, visual = [], 0, 0
  for number, example in enumerate(examples):
    feature, pool = example['feature_index'], example['pool_index']
    pool = np.pad(pool, ((0, 0), (0, slots - pool.shape[1])), constant_values=-1)
    shifted.append(dict(example) | dict(
      segments=example['segments'] + EXAMPLE_STRIDE * number,
      feature_index=np.where(feature >= 0, feature + visual, -1).astype(feature.dtype),
      pool_index=np.where(pool >= 0, pool + crops * patches, -1).astype(pool.dtype)))
    crops, visual = crops + len(example['crops']), visual + len(pool)
  return {name: np.concatenate([example[name] for example in shifted]) for name in PADDING_VALUES
          if examples[0].get(name) is not None}


class PackRows(grain.DatasetIterator):
  """Encoded examples → padded rows of several examples.

  The state is the parent's and the positions of the waiting examples, whose arrays are read
  again when it is restored: a checkpoint stays small, and the next rows are the same.

  Nothing is read ahead here, so a state taken between two rows is all that the next rows depend on.
  """

  def __init__(self, parent: grain.DatasetIterator, config: PackingConfig, shape: RowShape,
               patches: int, read_again: Callable[[int], Row], threads: int = 1):
    """Packs what `parent` gives.

    Args:
      parent: its `position`, an int, says which example it gave last.
      config: how rows are filled.
      shape: of a row; every example fits it.
      patches: P of a crop.
      read_again: position → the same example once more, for a restored buffer.
      threads: examples that are read again at a time.
    """
    super().__init__(parent)
    self._config, self._shape, self._patches = config, shape, patches
    self._read_again, self._threads = read_again, threads
    self._waiting: list[tuple[int, Row]] = []

  def __next__(self) -> dict[str, np.ndarray]:
    shape = self._shape
    while True:
      example = next(self._parent)
      sizes = [shape_of(waiting, shape.slots) for _, waiting in self._waiting]
      row = next_row(sizes, shape_of(example, shape.slots), shape, self._config)
      self._waiting.append((self._parent.position, example))
      if row:
        members = [self._waiting[i][1] for i in row]
        self._waiting = [entry for i, entry in enumerate(self._waiting) if i not in row]
        return pad_row(concatenate(members, self._patches), shape) | {
          'records': np.concatenate([member['records'] for member in members])}

  def get_state(self) -> dict[str, Any]:
    return {'parent': self._parent.get_state(), 'waiting': [number for number, _ in self._waiting]}

  def set_state(self, state: Mapping[str, Any]) -> None:
    self._parent.set_state(state['parent'])
    positions = [int(number) for number in state['waiting']]
    with ThreadPoolExecutor(self._threads) as pool:
      self._waiting = list(zip(positions, pool.map(self._read_again, positions)))
