"""Benchmarks about one image that nothing is trained on: what the declarations in
`image_benchmarks.toml` need code for.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from molmo_jax.data.facts import Fact
from molmo_jax.datasets.files import Row, TaskError
from molmo_jax.metrics.android import parse_box

WHAT_TIME = 'What time is being shown?'


def mmmu_options(row: Row) -> list[str] | None:
  """MMMU writes the options as a list in Python's notation; one may be a picture, '<img=…>'."""
  if row['question_type'] != 'multiple-choice':
    return None
  options = row['options']
  try:
    return [str(o) for o in (ast.literal_eval(options) if isinstance(options, str) else options)]
  except (ValueError, SyntaxError):
    raise TaskError(f"{row.get('_file')}: 'options' is no list: {str(options)[:80]}") from None


def mmmu_image(row: Row) -> Any:
  """The first image, unless options are images too."""
  pictures = [o for o in mmmu_options(row) or () if re.match(r"<img='.*?'>", o)]
  return None if len(pictures) > 1 else row['image_1']


def mmmu_answers(row: Row) -> Any:
  """The answer, or the several accepted ones."""
  answer = row['answer']
  if isinstance(answer, str) and answer.startswith('[') and answer.endswith(']'):
    try:
      return [str(a) for a in ast.literal_eval(answer)]
    except (ValueError, SyntaxError):
      pass
  return answer


def mmmu_style(row: Row) -> str:
  """With or without options."""
  return 'a_okvqa_mc' if row['question_type'] == 'multiple-choice' else 'vqa2'


def mmmu_subject(row: Row) -> str:
  """The subject, from an id such as 'validation_Art_12'."""
  return re.sub(r'_\d+$', '', row['id'].split('_', 1)[-1])


def real_world(row: Row) -> Iterator[Row]:
  """Questions of RealWorldQA end with an instruction; options are in the text."""
  question = row['question']
  if 'Please answer directly with a single word or number.' in question:
    yield row | {'kind': 'short_answer', 'question': question.split('\n')[0], 'options': None}
  else:
    yield row | {'kind': 'multiple_choice', 'options': ['A', 'B', 'C', 'D']}


def math_vista(row: Row) -> Iterator[Row]:
  """MathVista: the question without its hint, and options where there are any."""
  choice = row['question_type'] == 'multi_choice'
  yield row | {'kind': 'multiple_choice' if choice else 'short_answer',
               'asked': row['question'].split('Question:')[-1].split('Hint:')[0].strip(),
               'choices': row['choices'] if choice else None}


def clock(row: Row) -> Iterator[Row]:
  """A clock and its time."""
  yield row | {'question': WHAT_TIME} | {n: int(row[n]) for n in ('hour', 'minute', 'second')}


def clock_face(row: Row) -> Iterator[Row]:
  """Clock faces have 12 hours; the benchmark shows no seconds."""
  yield row | {'question': WHAT_TIME, 'hour': int(row['hour']) % 12, 'minute': int(row['minute']),
               'second': -1}


def android_box(row: Row) -> list[float] | None:
  """The box of what is to be touched, where there is one."""
  box = row.get('target_box')
  if not box:
    return None
  return list(parse_box(box)) if isinstance(box, str) else [float(v) for v in box]


def android_steps(row: Row) -> Iterator[Fact]:
  """The same step asked for by its instruction, its goal, both, and by its goal with the plan."""
  low, goal, action = row['ll_instruction'], row['hl_instruction'], row['target_action']
  asked = {f'low_level: {low}': action, f'high_level: {goal} low_level: {low}': action,
           f'high_level: {goal}': action,
           f'high_level_cot: {goal}': f'Plan: {low} Action: {action}'}
  for question, answer in asked.items():
    yield {'style': 'android_control', 'question': question, 'texts': [answer]}
