"""train.py --config.init_from and eval.py --model, from the outside, on a tiny checkpoint in the
released layout.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp
from PIL import Image

import molmo_jax
from configs import finetune as finetune_config
from molmo_jax.checkpoint import native
from molmo_jax.checkpoint.hf_config import read_model_config
from molmo_jax.configuration import ConfigError
from molmo_jax.experiment import from_config
from molmo_jax.initial import from_checkpoint
from molmo_jax.model.molmo import Network
from molmo_jax.parameters import flatten_paths
from molmo_jax.terminal import Terminal
from molmo_jax.training.state import init_params
from tests.programs import ROOT, command, finish, one_line_error

CHECKPOINT = Path(__file__).parents[1] / 'golden/molmo2_olmo_hub'
FLAGS = (f'--config={ROOT}/configs/finetune.py', f'--config.init_from={CHECKPOINT}',
         '--config.data.train=mine.jsonl',
         '--config.data.validation=mine.jsonl', '--config.data.batch_size=2',
         '--config.data.sequence_length=256',
         '--config.data.crops=4', '--config.data.visual_tokens=160', '--config.training.steps=3',
         '--config.training.log_every=1', '--config.evaluation.batch_size=2',
         '--config.evaluation.generation.max_new_tokens=2',
         '--config.model.dtype=float32', '--config.optimizer.groups.llm.warmup=1')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('finetune')
  lines = []
  for i, colour in enumerate(('red', 'blue', 'green')):
    Image.new('RGB', (60 + 40 * i, 80), colour).save(folder / f'{colour}.png')
    lines.append(json.dumps(dict(image=f'{colour}.png', question='Which colour?', answer=colour)))
  (folder / 'mine.jsonl').write_text('\n'.join(lines) + '\n')
  return folder


@pytest.fixture(scope='module')
def tuned(folder):
  """The folder of a fine-tuning run."""
  status, printed = finish(command(folder, 'train.py', *FLAGS, '--workdir=tuned'))
  assert status == 0, printed
  return folder / 'tuned'


def test_a_run_starts_from_the_newest_weights_of_an_earlier_run(folder, tuned):
  flags = [f for f in FLAGS if 'init_from' not in f]
  status, printed = finish(
    command(folder, 'train.py', *flags, '--config.init_from=tuned', '--workdir=second',
            '--noevaluate', '--config.optimizer.groups.llm.learning_rate=0.0'))
  assert status == 0 and 'starting from step 3 of tuned' in printed, printed
  earlier, later = (json.loads((folder / name / 'config.json').read_text())
                    for name in ('tuned', 'second'))
  assert earlier['model'] == later['model'] and earlier['data']['tokenizer'] == later['data'][
    'tokenizer']

  def blocks(name):
    step = ocp.checkpointables_metadata(folder / name / 'checkpoints/3').metadata['state']['params']
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), step)
    with native.open_checkpoints(folder / name / 'checkpoints') as checkpoints:
      return flatten_paths(native.restore_params(checkpoints, 3, abstract)[0]['decoder'])

  first, second = blocks('tuned'), blocks('second')
  assert first and all((np.asarray(first[name]) == second[name]).all() for name in first)


def test_a_run_starts_from_the_weights_of_the_checkpoint(tuned):
  config = json.loads((tuned / 'config.json').read_text())
  assert config['model']['llm']['layers'] == read_model_config(CHECKPOINT).llm.layers
  assert config['preprocess']['image']['crop_size'] == 126
  first = json.loads((tuned / 'metrics.jsonl').read_text().splitlines()[0])
  released = molmo_jax.from_pretrained(CHECKPOINT, dtype='float32')
  # the loss of step 1 is that of the untouched weights: about what the released model gives to
  # 'red', 'blue', 'green'
  scores = released.logits(released.processor([{'role': 'user', 'content': 'Which colour?'}]))[-1]
  assert abs(first['loss'] - (np.log(np.exp(scores).sum()) - scores.mean())) < 3


def test_its_folder_is_complete_without_the_checkpoint(tuned):
  assert json.loads((tuned / 'config.json').read_text())['data']['tokenizer'] == 'tuned/processor'
  assert (tuned / 'processor/tokenizer.json').read_bytes() == (CHECKPOINT
                                                               / 'tokenizer.json').read_bytes()
  assert (tuned / 'evaluation/summary.json').exists()


def test_the_same_command_goes_on_and_the_tuned_model_is_evaluated_again(folder, tuned):
  status, printed = finish(command(folder, 'train.py', *FLAGS, '--workdir=tuned', '--noevaluate'))
  assert status == 0 and 'resuming from step 3' in printed, printed
  status, printed = finish(command(folder, 'eval.py', '--workdir=tuned', '--out=again'))
  assert status == 0, printed
  before, after = ((p / 'predictions.jsonl').read_text()
                   for p in (tuned / 'evaluation', folder / 'again'))
  assert before == after


def test_a_released_checkpoint_is_evaluated_on_records_of_ones_own(folder):
  status, printed = finish(
    command(folder, 'eval.py', f'--model={CHECKPOINT}', '--manifest=mine.jsonl',
            f'--config={ROOT}/configs/finetune.py',
            '--config.evaluation.generation.max_new_tokens=3',
            '--config.evaluation.batch_size=2', '--config.model.dtype=float32'))
  assert status == 0, printed
  out = folder / 'runs/molmo2_olmo_hub/evaluation_mine'
  summary = json.loads((out / 'summary.json').read_text())
  assert summary['overall']['n'] == 3
  predictions = [json.loads(line)['prediction'] for line in
                 (out / 'predictions.jsonl').read_text().splitlines()]
  molmo = molmo_jax.from_pretrained(CHECKPOINT, dtype='float32')
  picture = {'type': 'image', 'image': str(folder / 'red.png')}
  question = {'type': 'text', 'text': 'Which colour?'}
  assert predictions[0] == molmo.generate([{'role': 'user', 'content': [picture, question]}], 3)


def test_a_value_that_the_checkpoint_decides_cannot_be_set(folder):
  printed = one_line_error(folder, 'train.py', *FLAGS, '--config.model.llm.width=128',
                           '--workdir=other')
  assert re.search(r'error: model\.llm\.width=128: the checkpoint .* has 64', printed)
  assert not (folder / 'other').exists()


def test_a_folder_without_a_checkpoint_is_named(folder):
  printed = one_line_error(folder, 'train.py', *FLAGS, f'--config.init_from={folder}',
                           '--workdir=other')
  assert 'config.json' in printed


def adopted(**changes):
  config = finetune_config.get_config()
  config.init_from = str(CHECKPOINT)
  config.update_from_flattened_dict(changes)
  return from_config(from_checkpoint.adopt(config))


def test_choices_of_the_run_are_kept_and_the_rest_is_the_checkpoint_s():
  run = adopted(**{'preprocess.image.max_crops': 3, 'model.llm.response_residual_dropout': 0.2,
                   'model.bidirectional': 'within_image'})
  released = read_model_config(CHECKPOINT)
  assert run.preprocess.image.max_crops == 3
  assert run.model.bidirectional == 'within_image'
  assert run.model.llm == dataclasses.replace(released.llm, response_residual_dropout=0.2)
  assert run.model.vit == released.vit


def test_every_choice_is_a_key_of_the_configuration():
  keys = set(finetune_config.get_config().to_dict())
  assert {name.split('.')[0] for name in from_checkpoint.CHOICES} <= keys
  run = adopted()
  for name in from_checkpoint.CHOICES | from_checkpoint.INHERITED:
    value = run
    for part in name.split('.'):
      value = getattr(value, part)


def test_layout_embeddings_start_at_zero_and_change_nothing():
  plain, run = adopted(), adopted(**{'model.connector.layout_embedding': True})
  def load(run):
    abstract = jax.eval_shape(lambda: init_params(Network(run.model), jax.random.key(0)))
    return flatten_paths(from_checkpoint.load_params(run, abstract, Terminal(quiet=True)))
  with_layout, without = load(run), load(plain)
  new = with_layout.keys() - without.keys()
  assert new and all(name.startswith('connector/layout/') for name in new)
  assert not any(jnp.any(with_layout[name]) for name in new)
  assert all(np.array_equal(with_layout[name], without[name]) for name in without)


def test_a_conflict_in_how_pictures_are_cut_is_named():
  with pytest.raises(ConfigError, match=r'preprocess\.image\.pooling=\(3, 3\): the checkpoint'):
    adopted(**{'preprocess.image.pooling': (3, 3)})
