"""Benchmarks about one image that nothing is trained on."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from molmo_jax.data.facts import Fact
from molmo_jax.datasets.dataset import Dataset, Fields, Training, hub, optional, table
from molmo_jax.datasets.files import Row, TaskError
from molmo_jax.datasets.image_qa import AI2, MORE, SINGLE, TEST
from molmo_jax.datasets.prompts import plain
from molmo_jax.datasets.task import Task
from molmo_jax.metrics.android import parse_box

WHAT_TIME = 'What time is being shown?'


# MMMU writes the options as a list in Python's notation; an option may be a picture, '<img=…>'.
def _mmmu_options(row: Row) -> list[str] | None:
  if row['question_type'] != 'multiple-choice':
    return None
  options = row['options']
  try:
    return [str(o) for o in (ast.literal_eval(options) if isinstance(options, str) else options)]
  except (ValueError, SyntaxError):
    raise TaskError(f"{row.get('_file')}: 'options' is no list: {str(options)[:80]}") from None


def _mmmu_image(row: Row) -> Any:
  pictures = [o for o in _mmmu_options(row) or () if re.match(r"<img='.*?'>", o)]
  return None if len(pictures) > 1 else row['image_1']


def _mmmu_answers(row: Row) -> Any:
  answer = row['answer']
  # several accepted answers
  if isinstance(answer, str) and answer.startswith('[') and answer.endswith(']'):
    try:
      return [str(a) for a in ast.literal_eval(answer)]
    except (ValueError, SyntaxError):
      pass
  return answer


def _is_short(row: Row) -> bool:
  return 'Please answer directly with a single word or number.' in row['question']


def _is_choice(row: Row) -> bool:
  return row['question_type'] == 'multi_choice'


def _clock_row(row: Row) -> list[Row]:
  """Clock faces have 12 hours; the benchmark shows no seconds."""
  return [row | {'hour': int(row['hour']) % 12, 'minute': int(row['minute']), 'second': -1}]


def _android_box(row: Row) -> list[float] | None:
  box = row.get('target_box')
  if not box:
    return None
  return list(parse_box(box)) if isinstance(box, str) else [float(v) for v in box]


def _android_steps(row: Row) -> Iterator[Fact]:
  """The same step asked for by its instruction, its goal, both, and by its goal with the plan."""
  low, goal, action = row['ll_instruction'], row['hl_instruction'], row['target_action']
  asked = {f'low_level: {low}': action, f'high_level: {goal} low_level: {low}': action,
           f'high_level: {goal}': action,
           f'high_level_cot: {goal}': f'Plan: {low} Action: {action}'}
  for question, answer in asked.items():
    yield {'style': 'android_control', 'question': question, 'texts': [answer]}


DATASETS = (
  Dataset('mmmu', table({'validation': '**/validation-*.parquet', 'test': '**/test-*.parquet'}),
          Fields('question', _mmmu_image, options=_mmmu_options, answers=_mmmu_answers, id='id',
                 style=lambda r: ('a_okvqa_mc' if r['question_type'] == 'multiple-choice'
                                  else 'vqa2'),
                 metadata={'question_type': 'question_type'},
                 groups=(lambda r: re.sub(r'_\d+$', '', r['id'].split('_', 1)[-1]),)),
          'huggingface.co/datasets/MMMU/MMMU', 'Apache-2.0', 'loader', benchmarks=(
            Task('mmmu_test', 'mmmu', splits=('validation',), max_new_tokens=64,
                 groups=SINGLE + TEST, aliases=('mmmu',),
                 note='the 900 questions of validation; only the first image'),)),
  Dataset('real_world_qa', table(hub()),
          Fields(lambda r: r['question'].split('\n')[0] if _is_short(r) else r['question'], 'image',
                 answers='answer', prompt=plain,
                 style=lambda r: 'eval_short_answer' if _is_short(r) else 'eval_multiple_choice',
                 options=lambda r: None if _is_short(r) else ['A', 'B', 'C', 'D'],
                 metadata={'question_type': lambda r: ('short_answer' if _is_short(r)
                                                       else 'multiple_choice')}),
          'huggingface.co/datasets/xai-org/RealworldQA', 'CC BY-ND 4.0', 'loader', benchmarks=(
            Task('real_world_qa_no_instruction', 'real_world_qa', groups=SINGLE + TEST,
                 aliases=('real_world_qa',)),)),
  Dataset('math_vista', table(hub()),
          Fields(lambda r: r['question'].split('Question:')[-1].split('Hint:')[0].strip(),
                 'decoded_image', options=lambda r: r['choices'] if _is_choice(r) else None,
                 answers='answer', id='pid',
                 style=lambda r: 'eval_multiple_choice' if _is_choice(r) else 'eval_short_answer',
                 metadata={'question_type': 'question_type', 'answer_type': 'answer_type',
                           'precision': 'precision', 'query': 'question'}),
          'huggingface.co/datasets/AI4Math/MathVista', 'CC BY-SA 4.0', 'loader', benchmarks=(
            Task('math_vista_v2', 'math_vista', splits=('testmini',), max_new_tokens=32,
                 groups=SINGLE + TEST, aliases=('math_vista',),
                 note='scored without a language model; `judge` extracts answers with one, as '
                      'published'),)),
  Dataset('clock_bench', table('{split}.*', each=_clock_row),
          Fields(lambda r: WHAT_TIME, 'image', style='clocks', id=optional('image_id'),
                 metadata={n: n for n in ('hour', 'minute', 'second')}),
          '"It’s About Time" (Yang et al. 2022): a table {split}.csv with image, hour, minute',
          'unknown', 'loader', benchmarks=(
            Task('clock_bench', 'clock', splits=('coco', 'openimg', 'movies'), groups=MORE),)),
  Dataset('pixmo_clocks', table('**/{split}*'),
          Fields(lambda r: WHAT_TIME, 'image', style='clocks', metadata={
            n: (lambda r, n=n: int(r[n])) for n in ('hour', 'minute', 'second')}),
          f'{AI2}/pixmo-clocks (rendered, with image, hour, minute, second; −1 for none)', 'ODC-BY',
          benchmarks=(Task('pixmo_clocks', 'clock_training', splits=('validation',), groups=MORE,
                           aliases=('clocks',)),)),
  Dataset('dense_caption_eval', table('{split}.jsonl'), Fields(image='image', style='long_caption'),
          'not published: a table test.jsonl with image', '-', 'own', benchmarks=(
            Task('dense_caption_eval', 'predictions_only', max_new_tokens=448, groups=MORE),)),
  Dataset('user_qa', table('{split}.jsonl'), Fields('question', 'image', style='user_qa'),
          'not published: a table test.jsonl with image, question', '-', 'own',
          benchmarks=(Task('user_qa', 'predictions_only', groups=MORE),)),
  Dataset('android_control', table('{split}.*'),
          Fields(lambda r: f'low_level: {r["ll_instruction"]}', 'image', answers='target_action',
                 style='android_control', metadata={'box': _android_box}),
          'github.com/google-research/google-research/tree/master/android_control, converted from '
          'TFRecord to a table with image, ll_instruction, hl_instruction (the goal), '
          'target_action, target_box', 'Apache-2.0', 'loader', training=(
            Training('android_control', fields=Fields(image='image', facts=_android_steps)),),
          benchmarks=(Task('android_control_ll', 'android_control',
                           splits=('test', 'validation'), max_new_tokens=16, groups=MORE,
                           version='v1'),)),
)
