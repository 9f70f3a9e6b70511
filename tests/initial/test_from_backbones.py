"""train.py with --config.init_llm and init_vit, from the outside: it starts from both folders, and
goes on without.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from configs import image, molmo_v1
from molmo_jax.configuration import ConfigError
from molmo_jax.experiment import from_config
from molmo_jax.model.config import LlmConfig, VitConfig
from tests.checkpoint.backbones import image_tower, language_model, write
from tests.programs import command, finish, one_line_error
from tests.tiny_run import tiny_config

STEPS = 4
# of tiny_run
LLM = LlmConfig(vocab=400, width=16, layers=1, heads=2, kv_heads=1, head_dim=8, mlp=16, tied=True)
VIT = VitConfig(image_size=24, patch_size=12, width=8, layers=1, heads=2, head_dim=4, mlp=8)
FLAGS = ('train.py', '--config=tiny.py', '--noevaluate')
CHANGED = (("name='tiny'", "name='tiny', init_llm='llm', init_vit='vit'"),
           ('checkpoint_every=25', 'checkpoint_every=2'),
           ('learning_rate=1e-2', 'learning_rate=0.0'))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('backbones')
  text = tiny_config(STEPS)
  for before, after in CHANGED:
    assert before in text
    text = text.replace(before, after)
  (folder / 'tiny.py').write_text(text)
  settings, tensors = language_model(LLM, 'qwen3')
  del tensors['lm_head.weight']
  write(folder / 'llm', settings | dict(tie_word_embeddings=True), tensors)
  write(folder / 'vit', *image_tower(VIT, 2))
  return folder


@pytest.fixture(scope='module')
def first(folder):
  """A run whose learning rate is zero, up to step 2 of 4, and what it printed."""
  status, printed = finish(command(folder, *FLAGS, '--workdir=run'))
  assert status == 0, printed
  return printed


@pytest.mark.filterwarnings('ignore:Sharding info not provided')
def test_a_run_starts_from_both_folders(folder, first):
  params = ocp.load_checkpointables(folder / 'run/checkpoints/2',
                                    {'state': None})['state']['params']
  assert np.array_equal(params['embedding']['base'],
                        language_model(LLM, 'qwen3')[1]['model.embed_tokens.weight'])
  tower = image_tower(VIT, 2)[1]
  assert np.array_equal(params['vit']['blocks']['mlp_norm']['bias'][0],
                        tower['vision_model.encoder.layers.0.layer_norm2.bias'])
  assert 'connector, embedding/extra: random initial values' in first
  assert 'blocks 1 to 1 are left out: nothing reads them' in first
  losses = [json.loads(line)['loss']
            for line in (folder / 'run/metrics.jsonl').read_text().splitlines()]
  assert len(losses) == STEPS and np.isfinite(losses).all()


def test_it_goes_on_without_them(folder, first):
  before = (folder / 'run/metrics.jsonl').read_text().splitlines()
  shutil.rmtree(folder / f'run/checkpoints/{STEPS}')
  for name in ('llm', 'vit'):
    (folder / name).rename(folder / f'{name}_moved')
  status, printed = finish(command(folder, *FLAGS, '--workdir=run'))
  assert status == 0 and 'resuming from step 2' in printed, printed
  after = (folder / 'run/metrics.jsonl').read_text().splitlines()
  loss = lambda line: json.loads(line)['loss']
  assert [loss(line) for line in after] == [loss(line) for line in before]
  for name in ('llm', 'vit'):
    (folder / f'{name}_moved').rename(folder / name)


def test_a_folder_that_does_not_fit_ends_with_one_error(folder, first):
  printed = one_line_error(folder, *FLAGS, '--workdir=other', '--config.model.llm.mlp=24')
  assert 'model.llm.mlp=24: the language model has 16' in printed and not (folder
                                                                           / 'other').exists()
  printed = one_line_error(folder, *FLAGS, '--workdir=nothing',
                           '--config.init_vit=nowhere/to/be/found')
  assert 'error: init_vit: nowhere/to/be/found: no such folder' in printed


@pytest.mark.parametrize('flag', ['init_llm', 'init_vit'])
def test_a_whole_checkpoint_and_its_parts_exclude_each_other(flag):
  config = image.get_config('size=4b')
  config.init_from, config[flag] = 'a', 'b'
  with pytest.raises(ConfigError, match='init_from=a is a whole model: leave init_llm and init_vit '
                     'out'):
    from_config(config)


def test_released_recipes_name_no_folder_of_their_own():
  """So that nothing is downloaded by a run that only wanted to try the recipe."""
  for config in (image.get_config('size=8b'), molmo_v1.get_config('size=7b_d')):
    assert (config.init_from, config.init_llm, config.init_vit) == ('', '', '')
