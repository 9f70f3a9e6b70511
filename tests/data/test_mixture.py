"""Rates of datasets, and which record comes when."""

from __future__ import annotations

import json

import numpy as np
import pytest
from absl import flags
from PIL import Image

from molmo_jax.configuration import ConfigError, build, with_defaults
from molmo_jax.data import mixture
from molmo_jax.data.manifest import ManifestError
from molmo_jax.data.mixture import (
  DatasetConfig,
  MixedOrder,
  read_mixture,
  sample_dataset,
  sampling_rates,
)
from molmo_jax.data.packing import PackingConfig
from molmo_jax.data.pipeline import DataConfig, TrainingData, read_sources
from molmo_jax.data.unusable import Shard
from molmo_jax.preprocess.types import Example, Message, PreprocessConfig
from tests.data.records import PREPROCESS, tokenizer_in, write_records

flags.FLAGS.mark_as_parsed()   # Grain's workers read flags

LENGTHS = dict(big=10_000, small=100, words=400)


def rates(groups=(), **datasets):
  return sampling_rates({name: DatasetConfig('', **fields) for name, fields in datasets.items()},
                        LENGTHS, dict(groups))


def close(a, b):
  return list(a) == list(b) and np.allclose(list(a.values()), list(b.values()), rtol=1e-12)


def test_datasets_count_by_the_square_root_of_their_size_and_are_sorted():
  assert close(rates(words={}, small={}, big={}),
               dict(big=100 / 130, small=10 / 130, words=20 / 130))


@pytest.mark.parametrize('size, root', [(2500, 50), (0.25, 50), (1, 1), (0, 1), (None, 100)])
def test_a_size_is_a_number_of_records_or_a_part_of_them(size, root):
  assert close(rates(big=dict(size=size), small={}),
               dict(big=root / (root + 10), small=10 / (root + 10)))


def test_a_group_divides_its_rate_and_everything_sums_to_one():
  got = rates(dict(a=0.6, b=0.2), big=dict(group='a', rate=0.5), small=dict(group='a'),
              words=dict(group='b'))
  assert close(got, dict(big=0.75 * 50 / 60, small=0.75 * 10 / 60, words=0.25))


@pytest.mark.parametrize('groups, fields, message', [
  ({}, dict(group='a'), 'every group needs a rate'),
  (dict(a=1.0, b=1.0), dict(group='a'), 'at least one dataset'),
  (dict(a=0.0), dict(group='a'), 'nothing to sample'),
  (dict(a=-1.0), dict(group='a'), 'not negative'),
  (dict(a=1.0), dict(group='a', rate=0.0), 'needs a dataset'),
  ({}, dict(rate=-1.0), 'data.mixture.big'), ({}, dict(size=-5), 'data.mixture.big')])
def test_rates_that_make_no_sense_are_errors(groups, fields, message):
  with pytest.raises(ManifestError, match=message):
    rates(groups, big=fields)


def test_draws_are_independent_with_the_rates_as_probabilities():
  p, n = (0.5, 0.3, 0.2), 40_000
  drawn = np.array([sample_dataset(p, 1, i)[0] for i in range(n)])
  pairs = np.zeros((3, 3))
  np.add.at(pairs, (drawn[:-1], drawn[1:]), 1)
  expected = np.outer(p, p) * n
  # chi², 8 degrees of freedom: p > 0.0007
  assert ((pairs - expected) ** 2 / expected).sum() < 27
  counts = (drawn.reshape(-1, 100) == 0).sum(axis=1)
  assert 0.75 < counts.var() / 25 < 1.25                     # a fixed quota would not vary


@pytest.mark.parametrize('start',
                         [0, mixture.LEAF - 10, mixture.SPAN // 2 - 500, 2 * mixture.SPAN - 500])
def test_every_dataset_is_counted_on_without_a_gap(start):
  p = (0.6, 0.25, 0.15)
  last = {}
  for i in range(start, start + 1000):
    dataset, before = sample_dataset(p, 3, i)
    assert before == last.get(dataset, before - 1) + 1
    last[dataset] = before
  assert sum(last.values()) + len(last) == start + 1000      # all draws so far


def write_sets(folder, **counts):
  configs = {}
  for number, (name, count) in enumerate(counts.items()):
    (folder / name).mkdir()
    configs[name] = DatasetConfig(str(write_records(folder / name, count)))
    for i in range(count):
      Image.fromarray(np.full((12, 12, 3), 1 + 50 * number + i, np.uint8)).save(folder / name
                                                                                / f'{i}.png')
  tokenizer_in(folder)
  return configs


def mixed_data(folder, configs, process=0, processes=1, **fields):
  config = DataConfig(**dict(train='', validation='', tokenizer='', batch_size=2,
                             sequence_length=40, crops=1,
                             visual_tokens=4, threads=1, prefetch=2, mixture=configs) | fields)
  return TrainingData(config, PREPROCESS, read_sources(config), tokenizer_in(folder), 4,
                      Shard(process, processes))


def colours(data, batches):
  return [c for _ in range(batches) for c in (next(data)['crops'][:, 0, 0, 0, 0].tolist())]


def test_records_of_a_dataset_come_once_an_epoch_in_another_order_each(tmp_path):
  datasets = read_mixture(write_sets(tmp_path, a=7, b=5, c=1), {})
  order = MixedOrder(datasets, seed=4)
  records = [order[i] for i in range(200)]
  for number, length in enumerate((7, 5, 1)):
    mine = [index for dataset, index in records if dataset == number]
    epochs = [tuple(mine[i:i + length]) for i in range(0, len(mine) - length + 1, length)]
    assert len(epochs) > 2 and all(sorted(epoch) == list(range(length)) for epoch in epochs)
    assert length == 1 or len(set(epochs)) > 1


def test_processes_draw_every_example_once(tmp_path):
  configs = write_sets(tmp_path, a=12, b=8)
  whole = colours(mixed_data(tmp_path, configs), 12)
  shares = [colours(mixed_data(tmp_path, configs, p, 2), 24) for p in range(2)]
  assert [c for pair in zip(*shares) for c in pair][:24] == whole
  first_epoch = [c for c in whole if c < 50][:12]
  assert len(first_epoch) > 6 and len(set(first_epoch)) == len(first_epoch)


def test_the_order_depends_on_the_seed(tmp_path):
  configs = write_sets(tmp_path, a=12, b=8)
  orders = [colours(mixed_data(tmp_path, configs, seed=seed), 8) for seed in (1, 1, 2)]
  assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize('workers, packing', [(0, PackingConfig()), (0, PackingConfig(buffer=3)),
                                              (1, PackingConfig(buffer=3))])
def test_a_restored_position_gives_the_same_batches(tmp_path, workers, packing):
  configs = write_sets(tmp_path, a=6, b=3)
  (tmp_path / 'a' / '2.png').unlink()
  fields = dict(workers=workers, packing=packing, crops=2, visual_tokens=8)
  data = mixed_data(tmp_path, configs, **fields)
  for _ in range(6):
    next(data)
  state = json.loads(json.dumps(data.iterator.get_state()))
  expected = [next(data) for _ in range(6)]
  again = mixed_data(tmp_path, configs, **fields)
  again.iterator.set_state(state)
  for batch in expected:
    got = next(again)
    assert all(np.array_equal(got[name], batch[name]) for name in batch)
  assert again.skipped_by_dataset == data.skipped_by_dataset


def test_missing_media_are_counted_for_their_dataset(tmp_path):
  configs = write_sets(tmp_path, a=3, b=3, c=3)
  for path in (*(tmp_path / 'a').glob('*.png'), tmp_path / 'c' / '1.png'):
    path.unlink()
  data = mixed_data(tmp_path, configs)
  seen = colours(data, 20)
  assert set(seen) == {51, 52, 53, 101, 103}
  assert set(data.skipped_by_dataset) == {'a', 'c'}


def test_a_dataset_weights_the_conversations_that_have_no_weight():
  turn = (Message('user', 'q'), Message('assistant', 'a'))
  dataset = mixture.MixedDataset('a', None, DatasetConfig('', message_weight=0.2))
  assert dataset.adapted(Example(conversations=(turn, turn))).weights == (0.2, 0.2)
  assert dataset.adapted(Example(conversations=(turn, turn), weights=(3.0, None))).weights == (3.0,
                                                                                               0.2)
  plain = Example(conversations=(turn,))
  assert mixture.MixedDataset('a', None, DatasetConfig('')).adapted(plain) is plain


def test_some_examples_of_a_dataset_take_more_crops():
  dataset = mixture.MixedDataset('a', None, DatasetConfig('', p_high_res=0.3))
  rng = np.random.default_rng(0)
  crops = [dataset.preprocess(PreprocessConfig(), rng).image.max_crops for _ in range(1000)]
  assert set(crops) == {8, 24}
  assert 0.25 < crops.count(24) / 1000 < 0.35
  usual = mixture.MixedDataset('a', None, DatasetConfig(''))
  assert usual.preprocess(PreprocessConfig(), rng) == PreprocessConfig()


def test_a_missing_manifest_names_its_dataset(tmp_path):
  with pytest.raises(ManifestError, match='data.mixture.a: .*none.jsonl'):
    read_mixture({'a': DatasetConfig(str(tmp_path / 'none.jsonl'))}, {})


def test_a_mixture_is_a_section_of_the_configuration():
  section = dict(train='', validation='', tokenizer='', groups=dict(x=1),
                 mixture=dict(a=dict(manifest='a.jsonl', group='x', size=100_000)))
  data = build(DataConfig, with_defaults(DataConfig, section).to_dict())
  assert data.mixture['a'] == DatasetConfig('a.jsonl', group='x', size=100_000.0)
  assert data.groups == {'x': 1.0} and not data.packing.buffer
  with pytest.raises(ConfigError, match="'data.mixture.a.ratio'; did you mean 'rate'"):
    build(DataConfig, section | dict(mixture=dict(a=dict(manifest='', ratio=1))), 'data')


def test_a_single_dataset_in_a_mixture_is_the_plain_manifest(tmp_path):
  configs = write_sets(tmp_path, a=6)
  alone = mixed_data(tmp_path, {}, train=configs['a'].manifest)
  assert colours(mixed_data(tmp_path, configs), 6) == colours(alone, 6)
