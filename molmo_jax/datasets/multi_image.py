"""Benchmarks about several images."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

from molmo_jax.datasets.dataset import Dataset, Fields, hub, optional, table
from molmo_jax.datasets.files import Row
from molmo_jax.datasets.prompts import plain
from molmo_jax.datasets.task import Task
from molmo_jax.metrics.benchmarks import VSI_CHOICES
from molmo_jax.metrics.choices import LETTERS

HUB = 'huggingface.co/datasets'
MULTI, MORE = ('multi_image',), ('more_multi_image',)

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
  return ('num_images<=10' if count <= 10 else 'num_images<=20' if count <= 20 else 'num_images>20')


def _blink_images(row: Row) -> list[Any]:
  return [row[f'image_{i}'] for i in range(1, 5) if row.get(f'image_{i}') is not None]


def _blink_letter(row: Row) -> str:
  return row['answer'].strip('()')


def _is_choice(row: Row) -> bool:
  return row['question_type'] == 'multi-choice'


def _without_letters(row: Row) -> list[str] | None:
  return [re.sub(r'\([A-Z]\)\s*', '', o.lstrip(), count=1)
          for o in row['options']] if _is_choice(row) else None


def _mantis_prompt(question: str, options: Any, version: str) -> str:
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


def _vsi_options(row: Row) -> list[str] | None:
  """Options of VSI-Bench come with letters, 'A. 3.2'."""
  options = row.get('options')
  return [re.sub(r'^[A-D]\.\s*', '', o) for o in options] if options else None


DATASETS = (
  Dataset('muir_bench', table(hub(), each=numbered),
          Fields('question', images='image_list', options='options', letter='answer',
                 style='mantis_instruct_mc', id='idx', groups=('task',)),
          f'{HUB}/MUIRBENCH/MUIRBENCH', 'CC BY 4.0', 'loader', benchmarks=(
            Task('muir_bench', 'letter', 'images', max_new_tokens=32, groups=MULTI),)),
  Dataset('mmiu', table('**/*.parquet'),
          Fields('question', images='input_image_path', options=_mmiu_options, letter='output',
                 style='mantis_instruct_mc', groups=(_mmiu_relation, _number_of_images)),
          f'{HUB}/FanqingM/MMIU-Benchmark (table as parquet, pictures unpacked)', 'CC BY 4.0',
          'loader', benchmarks=(
            Task('mmiu', 'letter', 'images', max_new_tokens=32, groups=MULTI,
                 note='images behind the 20th are not seen'),)),
  Dataset('blink', table('**/val-*.parquet', keep=lambda r: _blink_letter(r) in LETTERS),
          Fields('prompt', images=_blink_images, options='choices', letter=_blink_letter,
                 prompt=plain, id='idx', groups=('sub_task',),
                 style=lambda r: ('mantis_instruct_mc' if len(_blink_images(r)) > 1
                                  else 'eval_multiple_choice')),
          f'{HUB}/BLINK-Benchmark/BLINK', 'Apache-2.0', 'loader', benchmarks=(
            Task('blink', 'letter', 'images', splits=('validation',), groups=MULTI),)),
  Dataset('mantis_eval', table(hub(), each=numbered),
          Fields('question', images='images', prompt=_mantis_prompt, answers='answer', id='id',
                 options=_without_letters,
                 style=lambda r: 'mantis_instruct_mc' if _is_choice(r) else 'mantis_instruct_da',
                 metadata={'question_type': 'question_type'},
                 groups=('question_type', 'category')),
          f'{HUB}/TIGER-Lab/Mantis-Eval', 'Apache-2.0', 'fork', benchmarks=(
            Task('mantis_eval', 'mantis_eval', 'images', max_new_tokens=32, groups=MORE),)),
  Dataset('mmsi_bench', table('**/*.parquet'),
          Fields(lambda r: f'{r["question"]}\nSelect the correct answer from the options above.',
                 images='images', options=_mmsi_options, letter='answer', prompt=plain, id='id',
                 style='eval_multi_image_mc', groups=('question_type',)),
          f'{HUB}/RunsenXu/MMSI-Bench', 'CC BY 4.0', 'fork', benchmarks=(
            Task('mmsi_bench', 'letter', 'images', max_new_tokens=32, groups=MORE),)),
  Dataset('mulset', table('**/{split}*', each=numbered),
          Fields('question', images='images', options='options', letter='answer',
                 style='mantis_instruct_mc', id=optional('id'), groups=('task',)),
          'huggingface.co: MulSeT (a table with images, question, options, answer, task)',
          'unknown', benchmarks=(Task('mulset', 'letter', 'images', groups=MORE),)),
  Dataset('ego3d_bench', table('**/{split}*.parquet', each=_ego3d),
          Fields('question', images='images', options='options', answers='answer',
                 style=lambda r: f'eval_multi_image_{"mc" if r["options"] else "da"}',
                 metadata={'category': 'category', 'question_type': lambda r: (
                   'multi_choice' if r['options'] else 'number')}),
          f'{HUB}/vbdai/Ego3D-Bench (raw_images.zip unpacked into images/)', 'unknown', 'fork',
          benchmarks=(Task('ego3d_bench', 'ego3d', 'images', groups=MORE),)),
  Dataset('vsi_bench', table('**/{split}*'),
          Fields('question', video=lambda f, r: f.file(f'{r["dataset"]}/{r["scene_name"]}.mp4'),
                 options=_vsi_options, answers='ground_truth', id='id',
                 style=lambda r: ('video_eval_multiple_choice'
                                  if r['question_type'] in VSI_CHOICES
                                  else 'video_eval_short_answer'),
                 metadata={'question_type': 'question_type'}, groups=('question_type',)),
          f'{HUB}/nyu-visionx/VSI-Bench', 'Apache-2.0', benchmarks=(
            Task('vsi_bench', 'vsi_bench', 'video', max_new_tokens=16, groups=MORE),)),
)
