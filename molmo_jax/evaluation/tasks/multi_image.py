"""Benchmarks about several images."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

from molmo_jax.evaluation.tasks.images import LOADER
from molmo_jax.evaluation.tasks.prompts import choose
from molmo_jax.evaluation.tasks.reader import Row
from molmo_jax.evaluation.tasks.rows import Fields, optional, rows
from molmo_jax.evaluation.tasks.task import Task
from molmo_jax.metrics.benchmarks import VSI_CHOICES
from molmo_jax.metrics.choices import LETTERS

# of an example; the models see no more, those behind are left out
MOST_IMAGES = 20
FORK = 'a loader of a fork of allenai/molmo2'

# The views of Ego3D-Bench in the order in which they are shown, by the dataset that they come from.
# The question calls two of Argoverse's views otherwise than the files do.
EGO3D_VIEWS = {
  'nuscenes': ('Front_Left', 'Front', 'Front_Right', 'Back_Right', 'Back', 'Back_Left'),
  'waymo': ('Front', 'Front_Left', 'Side_Left', 'Front_Right', 'Side_Right'),
  'argoverse': ('Front_Left', 'Front', 'Front_Right', 'Side_Right', 'Back_Right', 'Back_Left',
                'Side_Left'),
}
EGO3D_CALLED = {'argoverse': {'Side_Right': 'Right', 'Side_Left': 'Left'}}


def numbered(row: Row) -> Iterator[Row]:
  """Every '<image>' of question and options, in this order, becomes 'Image 1', 'Image 2', …"""
  count = itertools.count(1)

  def number(text: str) -> str:
    return re.sub('<image>', lambda match: f'Image {next(count)}', text)

  question = number(row['question'])
  yield row | {'question': question,
               'options': [number(option) for option in row.get('options') or ()]}


def _mmiu_options(row: Row) -> list[str]:
  return [text for _, text in re.findall(r'(?:^|\n)([A-Z]):\s?([^\n]+)', row['options'])]


def _mmiu_relation(row: Row) -> str:
  return row['input_image_path'][0].removeprefix('./').split('/')[0]


def _number_of_images(row: Row) -> str:
  count = len(row['input_image_path'])
  return 'num_images<=10' if count <= 10 else 'num_images<=20' if count <= 20 else 'num_images>20'


def _blink_images(row: Row) -> list[Any]:
  return [row[f'image_{i}'] for i in range(1, 5) if row.get(f'image_{i}') is not None]


def _without_letter(option: str) -> str:
  return re.sub(r'\([A-Z]\)\s*', '', option.lstrip(), count=1)


def _mantis_prompt(question: str, options: Any, version: str) -> str:
  if not options:
    return question
  listed = [f'({letter}) {option}' for letter, option in zip(LETTERS, options)]
  return '\n'.join([question, *listed, 'Select the correct answer from the options above.'])


def _mmsi_options(row: Row) -> list[str]:
  return re.findall(r'[A-D]:\s*(.*?)(?=\s+[A-D]:|$)', row['question'], flags=re.DOTALL)


def _ego3d(row: Row) -> Iterator[Row]:
  source = row['source']
  views, called = EGO3D_VIEWS[source], EGO3D_CALLED.get(source, {})
  question = row['question']
  for i, view in enumerate(views, start=1):
    name = re.escape(called.get(view, view).replace('_', ' '))
    question = re.sub(rf'(?mi)^({name})\s+view\s*:\s*<image>', rf'\1 view: Image {i}', question)
  options = row.get('options')
  yield row | {
    'images': [f'images/{row["images"][view]}' for view in views],
    'question': question if options else f'{question}\nAnswer with a single number only.',
    'options': [option[2:].lstrip() for option in options] if options else None}


def _choose_or_number(question: str, options: Any, version: str) -> str:
  return choose(question, options, version) if options else question


def _vsi(row: Row) -> Iterator[Row]:
  """Options of VSI-Bench come with letters, 'A. 3.2'."""
  options = row.get('options')
  yield row | {'options': [re.sub(r'^[A-D]\.\s*', '', o) for o in options] if options else None}


MULTI, MORE = ('multi_image',), ('more_multi_image',)

TASKS = (
  Task('muir_bench', 'images', 'muir_bench', ('test',), 'mantis_instruct_mc', 'letter',
       max_new_tokens=32, groups=MULTI,
       records=rows('**/{split}-*.parquet', Fields(
           question='question', images=lambda r: r['image_list'][:MOST_IMAGES], options='options',
           letter='answer',
           prompt=choose, id='idx', groups=('task',)), each=numbered),
       source='huggingface.co/datasets/MUIRBENCH/MUIRBENCH', licence='CC BY 4.0', schema=LOADER),
  Task('mmiu', 'images', 'mmiu', ('test',), 'mantis_instruct_mc', 'letter', max_new_tokens=32,
       groups=MULTI,
       records=rows('**/*.parquet', Fields(
           question='question', images=lambda r: r['input_image_path'][:MOST_IMAGES],
           options=_mmiu_options,
           letter='output', prompt=choose, groups=(_mmiu_relation, _number_of_images))),
       source='huggingface.co/datasets/FanqingM/MMIU-Benchmark (table as parquet, pictures '
       'unpacked)',
       licence='CC BY 4.0', schema=LOADER, note='images behind the 20th are left out'),
  Task('blink', 'images', 'blink', ('validation',), 'eval_multiple_choice', 'letter', groups=MULTI,
       records=rows('**/val-*.parquet', Fields(
           question='prompt', images=_blink_images, options='choices',
           letter=lambda r: r['answer'].strip('()'),
           style=lambda r: 'mantis_instruct_mc' if len(_blink_images(r)) > 1
           else 'eval_multiple_choice', id='idx',
           groups=('sub_task',)), keep=lambda r: r['answer'].strip('()') in LETTERS),
       source='huggingface.co/datasets/BLINK-Benchmark/BLINK', licence='Apache-2.0', schema=LOADER),
  Task('mantis_eval', 'images', 'mantis_eval', ('test',), 'mantis_instruct_da', 'mantis_eval',
       max_new_tokens=32,
       groups=MORE,
       records=rows('**/{split}-*.parquet', Fields(
           question='question', images='images', prompt=_mantis_prompt, answers='answer', id='id',
           options=lambda r: [_without_letter(o) for o in r['options']]
           if r['question_type'] == 'multi-choice'
           else None,
           style=lambda r: 'mantis_instruct_mc' if r['question_type'] == 'multi-choice'
           else 'mantis_instruct_da',
           metadata={'question_type': 'question_type'}, groups=('question_type', 'category')),
                    each=numbered),
       source='huggingface.co/datasets/TIGER-Lab/Mantis-Eval', licence='Apache-2.0', schema=FORK),
  Task('mmsi_bench', 'images', 'mmsi_bench', ('test',), 'eval_multi_image_mc', 'letter',
       max_new_tokens=32, groups=MORE,
       records=rows('**/*.parquet', Fields(
           question=lambda r: f'{r["question"]}\nSelect the correct answer from the options above.',
           images='images',
           options=_mmsi_options, letter='answer', id='id', groups=('question_type',))),
       source='huggingface.co/datasets/RunsenXu/MMSI-Bench', licence='CC BY 4.0', schema=FORK),
  Task('mulset', 'images', 'mulset', ('test',), 'mantis_instruct_mc', 'letter', groups=MORE,
       records=rows('**/{split}*', Fields(
           question='question', images='images', options='options', letter='answer', prompt=choose,
           id=optional('id'),
           groups=('task',)), each=numbered),
       source='huggingface.co: MulSeT (a table with images, question, options, answer, task)',
       licence='unknown',
       schema='memory'),
  Task('ego3d_bench', 'images', 'ego3d_bench', ('test',), 'eval_multi_image_mc', 'ego3d',
       groups=MORE,
       records=rows('**/{split}*.parquet', Fields(
           question='question', images='images', options='options', prompt=_choose_or_number,
           answers='answer', style=lambda r: 'eval_multi_image_mc' if r['options']
           else 'eval_multi_image_da',
           metadata={'category': 'category',
                     'question_type': lambda r: 'multi_choice' if r['options'] else 'number'}),
           each=_ego3d),
       source='huggingface.co/datasets/vbdai/Ego3D-Bench (raw_images.zip unpacked into images/)',
       licence='unknown',
       schema=FORK),
  Task('vsi_bench', 'video', 'vsi_bench', ('test',), 'video_eval_short_answer', 'vsi_bench',
       max_new_tokens=16,
       groups=MORE,
       records=rows('**/{split}*', Fields(
           question='question', video=lambda reader,
           r: reader.file(f'{r["dataset"]}/{r["scene_name"]}.mp4'),
           options='options', answers='ground_truth', prompt=_choose_or_number, id='id',
           style=lambda r: 'video_eval_multiple_choice' if r['question_type'] in VSI_CHOICES
           else 'video_eval_short_answer',
           metadata={'question_type': 'question_type'}, groups=('question_type',)), each=_vsi),
       source='huggingface.co/datasets/nyu-visionx/VSI-Bench', licence='Apache-2.0',
       schema='memory'),
)
