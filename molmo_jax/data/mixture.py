"""Several manifests as one stream of examples: how often each dataset is sampled, and which record
of it comes when.

Source: docs/training.md §2.1. Every number of the stream stands for a dataset, sampled by its rate,
and a record; the records of a dataset come in epochs that are shuffled anew. Which record the n-th
one is follows from (seed, n) in O(log n): nothing is replayed when a run resumes, and processes and
workers share the stream by its numbers.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
import zlib
from collections.abc import Mapping, Sequence

import grain
import numpy as np

from molmo_jax.configuration import NonNegative, Rate
from molmo_jax.data.manifest import Manifest, ManifestError, read_manifest
from molmo_jax.preprocess.types import Example, Few, PreprocessConfig

SPAN = 1 << 29      # numbers under one root of the tree; numpy's hypergeometric needs less than 1e9
LEAF = 1 << 10      # numbers of a leaf


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
  """One dataset of a mixture: `data.mixture.<name>`."""
  manifest: str                   # docs/data.md
  group: str = ''                 # whose rate it shares: a key of `data.groups`
  # counted as this many records; 0…1: this part of them; 0: one; None: all of them
  size: NonNegative | None = None
  rate: NonNegative = 1.0         # factor on the square root of the size
  # loss weight per token of conversations without one of their own
  message_weight: NonNegative | None = None
  # probability that an example's images are cut into up to `high_res_crops` crops
  p_high_res: Rate = 0.0
  high_res_crops: Few = 24           # K of those examples


@dataclasses.dataclass(frozen=True)
class MixedDataset:
  """A manifest with its settings and the probability that it is sampled."""
  name: str
  records: Manifest
  config: DatasetConfig
  rate: float = 1.0

  def adapted(self, example: Example) -> Example:
    """`example` with the dataset's loss weight where it has none of its own."""
    if self.config.message_weight is None:
      return example
    own = example.weights or (None,) * len(example.conversations)
    return dataclasses.replace(
      example, weights=tuple(self.config.message_weight if w is None else w for w in own))

  def preprocess(self, config: PreprocessConfig, rng: np.random.Generator) -> PreprocessConfig:
    """`config`, with more crops per image with probability `p_high_res`."""
    if not self.config.p_high_res or rng.random() >= self.config.p_high_res:
      return config
    return dataclasses.replace(
      config, image=dataclasses.replace(config.image, max_crops=self.config.high_res_crops))


def read_mixture(datasets: Mapping[str, DatasetConfig],
                 groups: Mapping[str, float]) -> tuple[MixedDataset, ...]:
  """Opens the manifests of a mixture; sorted by name.

  Raises:
    ManifestError: a manifest cannot be read, or groups and datasets do not go together.
  """
  manifests = {}
  for name, config in sorted(datasets.items()):
    try:
      manifests[name] = read_manifest(config.manifest)
    except ManifestError as error:
      raise ManifestError(f'data.mixture.{name}: {error}') from None
  rates = sampling_rates(datasets, {name: len(manifest) for name, manifest in manifests.items()},
                         groups)
  return tuple(MixedDataset(name, manifest, datasets[name], rates[name])
               for name, manifest in manifests.items())


def sampling_rates(datasets: Mapping[str, DatasetConfig], lengths: Mapping[str, int],
                   groups: Mapping[str, float]) -> dict[str, float]:
  """The probability of every dataset, sorted by name; they sum to 1 (docs/training.md §2.1).

  In a group, a dataset counts √N · rate, with N as `DatasetConfig.size` says. The group's rate is
  divided in these proportions, and what comes out is normalised over all groups.

  Args:
    datasets: their configurations, by name.
    lengths: records of each dataset.
    groups: the rate of each group; empty if no dataset names one.

  Raises:
    ManifestError: a group without a rate or without datasets, a negative number, or rates
      that are all 0.
  """
  named = {config.group for config in datasets.values()}
  groups = groups or {'': 1.0}
  if named != set(groups):
    raise ManifestError(f'data.mixture names the groups {sorted(named)}, data.groups has '
                        f'{sorted(groups)}; every group needs a rate and at least one dataset')
  sizes = {name: _root_size(name, config, lengths[name]) for name, config in datasets.items()}
  totals = {group: math.fsum(sizes[n] for n, c in datasets.items() if c.group == group)
            for group in groups}
  if any(rate < 0 or rate > 0 and not totals[group] for group, rate in groups.items()):
    raise ManifestError(f'data.groups={dict(groups)}: rates are not negative, and a group with a '
                        'rate needs a dataset with one')
  rates = {name: groups[c.group] * sizes[name] / (totals[c.group] or 1.0)
           for name, c in sorted(datasets.items())}
  total = math.fsum(rates.values())
  if not total:
    raise ManifestError('data.mixture: all rates are 0, so there is nothing to sample')
  return {name: rate / total for name, rate in rates.items()}


def _root_size(name: str, config: DatasetConfig, length: int) -> float:
  size = config.size
  if config.rate < 0 or size is not None and size < 0:
    raise ManifestError(f'data.mixture.{name}: rate and size must not be negative, got '
                        f'{config.rate} and {size}')
  count = length if size is None else size if size >= 1 else length * size if size > 0 else 1
  return math.sqrt(count) * config.rate


class MixedOrder(grain.MapDataset[tuple[int, int]]):
  """The endless stream of a mixture: number → (index of the dataset, index of its record)."""

  def __init__(self, datasets: Sequence[MixedDataset], seed: int):
    super().__init__()
    self._rates, self._mixture_seed = tuple(dataset.rate for dataset in datasets), seed
    # a shuffled epoch is a function of the index, and an index past the end is in a later epoch
    self._orders = [grain.MapDataset.range(len(d.records)).shuffle(seed=_seed(seed, d.name))
                    for d in datasets]

  def __len__(self) -> int:
    return sys.maxsize

  def __getitem__(self, number):
    if isinstance(number, slice):
      return self.slice(number)
    dataset, before = sample_dataset(self._rates, self._mixture_seed, number)
    return dataset, self._orders[dataset][before]


def _seed(seed: int, name: str) -> int:
  return int(np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1)[0])


def sample_dataset(rates: tuple[float, ...], seed: int, number: int) -> tuple[int, int]:
  """Which dataset this number of the stream takes, and how often it was taken before.

  The choices are independent with probabilities `rates`. How many of the first n take each dataset
  is found without looking at them: a binary tree over the numbers holds the counts of every span;
  the counts of a root are multinomial, those of a left half given its parent's multivariate
  hypergeometric, and in a leaf their order is a permutation.
  """
  labels, earlier = _leaf(rates, seed, number // LEAF)
  at = number % LEAF
  return int(labels[at]), int(earlier[at])


@functools.lru_cache(maxsize=64)
def _leaf(rates: tuple[float, ...], seed: int, leaf: int) -> tuple[np.ndarray, np.ndarray]:
  """Datasets of a leaf's numbers, and how often each was taken before: int64 [LEAF] both."""
  root, inside = divmod(leaf, SPAN // LEAF)
  *before_root, counts = (_generator(seed, r, SPAN, 0).multinomial(SPAN, rates)
                          for r in range(root + 1))
  before = sum(before_root, np.zeros(len(rates), np.int64))
  span, node = SPAN, 0
  while span > LEAF:
    span //= 2
    left = _generator(seed, root, span, node).multivariate_hypergeometric(counts, span,
                                                                          method='marginals')
    right_side = inside * LEAF // span % 2
    before, counts = (before + left, counts - left) if right_side else (before, left)
    node = 2 * node + right_side
  ordered = np.repeat(np.arange(len(rates)), counts)
  labels = _generator(seed, root, 0, inside).permutation(ordered)
  earlier = np.empty(LEAF, np.int64)
  for dataset in np.flatnonzero(counts):
    earlier[labels == dataset] = before[dataset] + np.arange(counts[dataset])
  return labels, earlier


def _generator(*key: int) -> np.random.Generator:
  return np.random.default_rng(key)
