"""eval.py from the outside, on a released checkpoint, one that was converted to a run, and one that
was fine-tuned: what it asks and how much it shows.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from molmo_jax.data.manifest import read_manifest
from molmo_jax.datasets import TASKS as TASKS_BY_NAME
from molmo_jax.preprocess.encode import encode
from molmo_jax.preprocess.types import Example, Message
from molmo_jax.processor.processor import Processor
from molmo_jax.tools.convert import main as convert
from tests.datasets.public_tables import png, write_table
from tests.programs import ROOT, command, finish

CHECKPOINT = Path(__file__).parents[1] / 'golden/molmo2_olmo_hub'
TASKS = ('chart_qa', 'muir_bench')
START, END = '<|im_start|>user\n', '<|im_end|>\n<|im_start|>assistant\n'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """The evaluation of two benchmarks with large pictures, without any setting."""
  folder = tmp_path_factory.mktemp('asked')
  large = lambda value: {'bytes': png(value, (1200, 900)), 'path': None}
  write_table(folder / 'data/chart_qa/data/val-0.parquet', [
    {'image': large(1), 'query': 'How much?', 'label': ['7'], 'human_or_machine': 0}])
  write_table(folder / 'data/muir_bench/data/test-0.parquet', [
    {'idx': '1', 'task': 'Counting', 'image_relation': 'x', 'image_type': 'y',
     'counterpart_idx': '2', 'question': 'Is <image> like <image>?', 'options': ['yes', 'no'],
     'answer': 'B', 'image_list': [large(i) for i in range(2)]}])
  evaluate(folder, f'--model={CHECKPOINT}', '--out=out')
  return folder


def evaluate(folder, *flags):
  """Everything that an evaluation of the two benchmarks prints."""
  status, printed = finish(command(folder, 'eval.py', *flags, f'--tasks={",".join(TASKS)}'))
  assert status == 0, printed
  return printed


def first_prompt(folder, task, out='out'):
  return json.loads((folder / out / task / 'summary.json').read_text())['first_prompt']


def check_asked_alike(folder, workdir):
  """The run of `workdir` is asked, without any setting, what the released checkpoint is asked."""
  printed = evaluate(folder, f'--workdir={workdir}', f'--out={workdir}_out')
  prompts = {task: first_prompt(folder, task) for task in TASKS}
  assert {task: first_prompt(folder, task, f'{workdir}_out') for task in TASKS} == prompts
  overall = json.loads((folder / f'{workdir}_out' / 'summary.json').read_text())
  assert overall['first_prompts'] == prompts
  assert all(prompt in printed for prompt in prompts.values())


def test_a_checkpoint_converted_to_a_run_asks_as_the_released_one(folder):
  assert convert([str(CHECKPOINT), str(folder / 'run'), '--layout', 'orbax']) == 0
  check_asked_alike(folder, 'run')


def test_a_fine_tuned_checkpoint_asks_as_the_one_it_started_from(folder):
  (folder / 'mine.jsonl').write_text(json.dumps({'question': 'Which?', 'answer': 'red'}) + '\n')
  values = {'init_from': CHECKPOINT, 'data.train': 'mine.jsonl', 'data.validation': 'mine.jsonl',
            'data.batch_size': 2, 'data.sequence_length': 256, 'data.crops': 4,
            'data.visual_tokens': 160, 'training.steps': 1, 'model.dtype': 'float32'}
  status, printed = finish(command(
    folder, 'train.py', f'--config={ROOT}/configs/finetune.py', '--workdir=tuned', '--noevaluate',
    *(f'--config.{name}={value}' for name, value in values.items())))
  assert status == 0, printed
  check_asked_alike(folder, 'tuned')


def test_an_evaluation_shows_the_first_20_of_more_images():
  processor = Processor.from_pretrained(CHECKPOINT)
  config = TASKS_BY_NAME['muir_bench'].preprocess(processor.config)
  images = tuple(np.full((30, 30, 3), i, np.uint8) for i in range(23))

  def shown(count):
    example = Example(images=images[:count], conversations=((Message('user', 'Which?'),),))
    tokens = encode(example, config, processor.tokenizer, training=False).tokens
    return int((tokens == processor.tokenizer.special['<im_patch>']).sum())

  assert shown(23) == shown(20) == 20 * (shown(3) - shown(2))


def patches(prompt):
  return sum(int(n or 1) for n in re.findall(r'<im_patch>(?:×(\d+))?', prompt))


def test_prompts_have_the_style_tags_of_the_released_models(folder):
  assert first_prompt(folder, 'chart_qa').endswith(f'chart_qa: How much?{END}')
  # multiple choice is asked as in a conversation, without a tag
  assert first_prompt(folder, 'muir_bench').endswith(
    'Is Image 1 like Image 2?\nOnly return the correct answer option.\nA. yes\nB. no' + END)
  assert all(START in first_prompt(folder, task) for task in TASKS)
  assert 'chart_qa: How much?' in (folder / 'out/chart_qa/report.html').read_text()


@pytest.mark.parametrize('task, single, several, other', [
  ('chart_qa', 24, 8, (8, 8)), ('muir_bench', 24, 8, (24, 24))])
def test_one_image_has_24_crops_and_each_of_several_8(folder, task, single, several, other):
  processor = Processor.from_pretrained(CHECKPOINT)
  example = read_manifest(folder / 'manifests' / f'{task}.jsonl')[0]

  def shown(single, several):
    image = dataclasses.replace(processor.config.image, max_crops_eval=single,
                                max_multi_image_crops=several, max_images_eval=20)
    config = dataclasses.replace(processor.config, image=image)
    tokens = encode(example, config, processor.tokenizer, training=False).tokens
    return int((tokens == processor.tokenizer.special['<im_patch>']).sum())

  assert patches(first_prompt(folder, task)) == shown(single, several) != shown(*other)
