"""From tables with the columns of the public datasets to packed batches of a released recipe."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from molmo_jax.configuration import build, with_defaults
from molmo_jax.data.pipeline import DataConfig, TrainingData, read_sources
from molmo_jax.datasets.recipes import recipe
from molmo_jax.preprocess.tokenizer import Tokenizer, train_tokenizer
from molmo_jax.preprocess.types import ImageConfig, PreprocessConfig, TextConfig, VideoConfig
from tests.datasets.stages import DATASETS, write_stage

TEXT = {'pretrain': TextConfig(style_prefix='style_and_length_v2', message_weight='none'),
        'sft': TextConfig(style_prefix='demo_or_style_v2')}


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  path = tmp_path_factory.mktemp('tokenizer') / 'tokenizer.json'
  train_tokenizer(['a question? number 1 long_caption transcript pointing'], 400, path)
  return Tokenizer.from_file(path, base_vocab_size=400)


@pytest.mark.parametrize('stage', DATASETS)
def test_a_stage_gives_packed_batches_of_all_its_datasets(tmp_path, tokenizer, stage):
  write_stage(tmp_path, stage)
  preprocess = PreprocessConfig(
    ImageConfig(crop_size=12, patch_size=4, overlap_margins=(0, 0), max_crops=2),
    VideoConfig(max_frames=4), dataclasses.replace(TEXT[stage], max_sequence_length=300))
  section = dict(train='', validation='', tokenizer='', batch_size=2, sequence_length=1200,
                 crops=24,
                 visual_tokens=1200, packing=dict(buffer=12, image_weight=1),
                 **recipe(stage, tmp_path, True))
  config = build(DataConfig, with_defaults(DataConfig, section).to_dict())
  sources = read_sources(config)
  assert {s.name for s in sources} == set(DATASETS[stage])
  data = TrainingData(config, preprocess, sources, tokenizer, slots=9)
  batches = [next(data) for _ in range(6)]
  assert not data.skipped_by_dataset
  assert all((b['segments'].max(axis=1) >= 100_000).all() and b['crops'].any() for b in batches)
  weights = np.concatenate([b['loss_weights'][b['loss_weights'] > 0] for b in batches])
  assert (np.float32(0.2) in weights) == (stage == 'sft')
  assert np.mean([b['segments'] >= 0 for b in batches]) > 0.5
