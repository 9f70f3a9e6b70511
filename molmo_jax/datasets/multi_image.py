"""Benchmarks about several images: what the declarations in `multi_image.toml` need code for."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

from molmo_jax.datasets.files import Row
from molmo_jax.metrics.benchmarks import VSI_CHOICES
from molmo_jax.metrics.choices import LETTERS

# The views of Ego3D-Bench in the order in which they are shown, by the dataset that they come from.
# The question calls two of Argoverse's views otherwise than the files do.
EGO3D_VIEWS = {
  'nuscenes': 'Front_Left Front Front_Right Back_Right Back Back_Left',
  'waymo': 'Front Front_Left Side_Left Front_Right Side_Right',
  'argoverse': 'Front_Left Front Front_Right Side_Right Back_Right Back_Left Side_Left'}
EGO3D_CALLED = {'argoverse': {'Side_Right': 'Right', 'Side_Left': 'Left'}}


def numbered(row: Row) -> Iterator[Row]:
  """Every '<image>' of question and options, in this order, becomes 'Image 1', 'Image 2', …"""
  count = itertools.count(1)

  def number(text: str) -> str:
    return re.sub('<image>', lambda match: f'Image {next(count)}', text)

  question = number(row['question'])
  yield row | {'question': question,
               'options': [number(option) for option in row.get('options') or ()]}


def mmiu_options(row: Row) -> list[str]:
  """Options as lines 'A: cat'."""
  return [text for _, text in re.findall(r'(?:^|\n)([A-Z]):\s?([^\n]+)', row['options'])]


def mmiu_relation(row: Row) -> str:
  """The kind of relation, which is the folder of the images."""
  return row['input_image_path'][0].removeprefix('./').split('/')[0]


def number_of_images(row: Row) -> str:
  """A group of the summary by how many images there are."""
  count = len(row['input_image_path'])
  return ('num_images<=10' if count <= 10 else 'num_images<=20' if count <= 20 else 'num_images>20')


def blink(row: Row) -> Iterator[Row]:
  """The one to four images of a BLINK question, and its letter; test questions have none."""
  images = [row[f'image_{i}'] for i in range(1, 5) if row.get(f'image_{i}') is not None]
  letter = row['answer'].strip('()')
  if letter in LETTERS:
    yield row | {'images': images, 'letter': letter, 'style': (
      'mantis_instruct_mc' if len(images) > 1 else 'eval_multiple_choice')}


def _is_choice(row: Row) -> bool:
  return row['question_type'] == 'multi-choice'


def without_letters(row: Row) -> list[str] | None:
  """Options without '(A)', where there are any."""
  return [re.sub(r'\([A-Z]\)\s*', '', o.lstrip(), count=1)
          for o in row['options']] if _is_choice(row) else None


def mantis_style(row: Row) -> str:
  """With or without options."""
  return 'mantis_instruct_mc' if _is_choice(row) else 'mantis_instruct_da'


def mantis_prompt(question: str, options: Any, version: str) -> str:
  """Options as '(A) cat', then an instruction."""
  listed = [f'({letter}) {option}' for letter, option in zip(LETTERS, options)]
  return '\n'.join([question, *listed, 'Select the correct answer from the options above.'])


def mmsi_options(row: Row) -> list[str]:
  """Options 'A: cat, B: dog' at the end of the question."""
  return re.findall(r'[A-D]:\s*(.*?)(?=\s+[A-D]:|$)', row['question'], flags=re.DOTALL)


def ego3d(row: Row) -> Iterator[Row]:
  """The views in order, each called by its number; a question without options wants a number."""
  source = row['source']
  views, called = EGO3D_VIEWS[source].split(), EGO3D_CALLED.get(source, {})
  question = row['question']
  for i, view in enumerate(views, start=1):
    name = re.escape(called.get(view, view).replace('_', ' '))
    question = re.sub(rf'(?mi)^({name})\s+view\s*:\s*<image>', rf'\1 view: Image {i}', question)
  options = row.get('options')
  yield row | {
    'images': [f'images/{row["images"][view]}' for view in views],
    'question': question if options else f'{question}\nAnswer with a single number only.',
    'options': [option[2:].lstrip() for option in options] if options else None,
    'style': f'eval_multi_image_{"mc" if options else "da"}',
    'question_type': 'multi_choice' if options else 'number'}


def vsi_options(row: Row) -> list[str] | None:
  """Options of VSI-Bench come with letters, 'A. 3.2'."""
  options = row.get('options')
  return [re.sub(r'^[A-D]\.\s*', '', o) for o in options] if options else None


def vsi_style(row: Row) -> str:
  """With or without options."""
  return ('video_eval_multiple_choice' if row['question_type'] in VSI_CHOICES
          else 'video_eval_short_answer')
