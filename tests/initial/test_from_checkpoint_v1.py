"""Molmo v1 as the start of a run and under eval.py --model: the checkpoint decides the same things
as with Molmo2.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import molmo_jax
from configs import finetune as finetune_config
from molmo_jax.configuration import ConfigError
from molmo_jax.experiment import from_config
from molmo_jax.initial import from_checkpoint
from molmo_jax.processor.processor import Processor
from tests.checkpoint import v1_hub
from tests.programs import ROOT, command, finish

CASE = 'olmo_openai'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
  return v1_hub.write_case(tmp_path_factory.mktemp('v1') / CASE, CASE)


def adopted(checkpoint, **changes):
  config = finetune_config.get_config()
  config.init_from = str(checkpoint)
  config.update_from_flattened_dict(changes)
  return from_config(from_checkpoint.adopt(config))


def test_architecture_and_cutting_come_from_the_checkpoint_and_choices_from_the_run(checkpoint):
  run = adopted(checkpoint,
                **{'preprocess.image.max_crops': 2, 'preprocess.image.max_crops_eval': 4})
  assert run.model.bidirectional == 'none' and run.model.vit.keep_unread
  assert (run.model.llm.first_extra_id == 160
          and run.model.connector.padding_embed == 'pad_and_partial_pad')
  image, theirs = run.preprocess.image, Processor.from_pretrained(checkpoint).config.image
  assert (image.max_crops, image.max_crops_eval, theirs.max_crops) == (2, 4, 4)
  assert (image.resize, image.shift_patch_mask, image.pool_per_crop) == ('letterbox', True, True)
  assert image.overlap_margins == theirs.overlap_margins == (2, 2)
  assert run.preprocess.text.message_format == 'role'


def test_a_value_that_the_checkpoint_decides_cannot_be_set(checkpoint):
  with pytest.raises(ConfigError,
                     match=r'preprocess\.image\.resize=stretch_bicubic: '
                           r'the checkpoint .* has letterbox'):
    adopted(checkpoint, **{'preprocess.image.resize': 'stretch_bicubic'})


def test_evaluation_gives_the_answers_of_the_public_face(checkpoint, tmp_path):
  Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 90, 3), np.uint8)).save(tmp_path
                                                                                         / 'a.png')
  (tmp_path / 'mine.jsonl').write_text(json.dumps(dict(image='a.png', question='what?', answer='x'))
                                       + '\n')
  status, printed = finish(command(
    tmp_path, 'eval.py', f'--model={checkpoint}', '--manifest=mine.jsonl',
    f'--config={ROOT}/configs/finetune.py',
    '--config.evaluation.generation.max_new_tokens=4', '--config.evaluation.batch_size=1',
    '--config.model.dtype=float32', '--config.preprocess.image.max_crops_eval=4'))
  assert status == 0, printed
  prediction = json.loads((
    tmp_path / f'runs/{CASE}/evaluation_mine/predictions.jsonl').read_text())['prediction']
  molmo = molmo_jax.from_pretrained(checkpoint, dtype='float32')
  parts = [{'type': 'image', 'image': str(tmp_path / 'a.png')}, {'type': 'text', 'text': 'what?'}]
  assert prediction == molmo.generate([{'role': 'user', 'content': parts}], 4)
