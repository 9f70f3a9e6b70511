"""eval.py on a released checkpoint, from the outside: what it asks and how many crops it shows."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from molmo_jax.data.manifest import read_manifest
from molmo_jax.preprocess.encode import encode
from molmo_jax.processor.processor import Processor
from tests.datasets.public_tables import png, write_table
from tests.programs import command, finish

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
  status, printed = finish(command(folder, 'eval.py', f'--model={CHECKPOINT}', '--out=out',
                                   f'--tasks={",".join(TASKS)}'))
  assert status == 0, printed
  return folder


def first_prompt(folder, task):
  return json.loads((folder / 'out' / task / 'summary.json').read_text())['first_prompt']


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
