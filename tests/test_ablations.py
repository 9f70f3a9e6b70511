"""configs/ablations.py: its studies are what they say, their data fit, and docs/ablations.md has a
place for each.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from configs import ablations
from molmo_jax.data.batching import RowShape, check_fits
from molmo_jax.data.manifest import read_manifest
from molmo_jax.lab.sweep.study import Study, plan
from molmo_jax.preprocess.encode import encode
from molmo_jax.preprocess.tokenizer import Tokenizer, train_tokenizer
from molmo_jax.scenes.generate import all_text, generate

STUDIES = {name: Study(**study) for name, study in ablations.STUDIES.items()}
NAMES = {'pooling', 'layers', 'bidirectional', 'layout', 'columns', 'crops', 'window', 'frames',
         'timestamps',
         'projector'}
FEW = 12                                        # records of each kind


@pytest.fixture(scope='module')
def planned(tmp_path_factory):
  return plan(ablations.get_config(), {}, STUDIES, 1, tmp_path_factory.mktemp('lab'))


def test_there_is_a_study_for_every_claim(planned):
  assert NAMES <= set(STUDIES)
  assert len(planned.runs) >= 26


@pytest.mark.parametrize('name', list(STUDIES))
def test_every_example_fits_into_the_rows_of_every_arm(planned, name, tmp_path):
  """With all its questions: none is dropped in an arm whose pictures take more tokens."""
  runs = {arm: planned.runs[runs[0]].experiment for arm, runs in planned.arms[name].items()}
  first, folder = next(iter(runs.values())), tmp_path / 'scenes'
  generate(dataclasses.replace(first.scenes, train=few(first.scenes.train), val_per_task=FEW),
           folder)
  train_tokenizer((f' {text}' for text in all_text(folder)), first.model.llm.vocab,
                  tmp_path / 'words.json')
  tokenizer = Tokenizer.from_file(tmp_path / 'words.json', base_vocab_size=first.model.llm.vocab)
  longest = 0
  for run in runs.values():
    shape = RowShape(run.data.sequence_length, run.data.crops, run.data.visual_tokens,
                     run.model.connector.pool_slots)
    unlimited = dataclasses.replace(run.preprocess.text, max_sequence_length=None)
    for example in read_manifest(folder / 'train.jsonl'):
      encoded = vars(encode(example, dataclasses.replace(run.preprocess, text=unlimited), tokenizer,
                            training=True,
                            rng=np.random.default_rng(0)))
      check_fits(encoded, shape)
      longest = max(longest, len(encoded['tokens']))
  assert longest > 0.5 * first.data.sequence_length   # rows are not mostly padding


def few(counts):
  return dataclasses.replace(counts,
                             **{k: min(FEW, n) for k, n in dataclasses.asdict(counts).items()})


def test_the_document_has_a_place_for_every_study():
  text = (Path(__file__).parent.parent / 'docs/ablations.md').read_text(encoding='utf-8')
  for name in ('overview', *STUDIES):
    assert f'<!-- sweep {name}: begin -->' in text and f'<!-- sweep {name}: end -->' in text, name
