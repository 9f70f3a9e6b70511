"""Benchmarks about one image: questions, charts, documents, diagrams, counting by words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from molmo_jax.evaluation.tasks.diagrams import diagrams
from molmo_jax.evaluation.tasks.prompts import choose, explain_first
from molmo_jax.evaluation.tasks.reader import Reader, Row, TaskError
from molmo_jax.evaluation.tasks.rows import Fields, Record, optional, rows
from molmo_jax.evaluation.tasks.task import Task
from molmo_jax.metrics.android import parse_box

LOADER = 'a public copy of the loader of allenai/molmo2'
VQA_SAMPLE, VQA_SEED = 8192, 69282
SCENE_TEXT_SAMPLE, SCENE_TEXT_SEED = 1024, 63069


def messages(row: Row) -> Iterator[Row]:
  """The questions of a row of the datasets that AI2 publishes for training: 'message_list' about
  one image.
  """
  for message in row['message_list']:
    yield row | message


def _sample(found: list[Row]) -> list[Row]:
  np.random.RandomState(VQA_SEED).shuffle(found)
  return found[:VQA_SAMPLE]


def _question_of_message(**fields: Any) -> Fields:
  return Fields(question='question', image='image', id=optional('question_id'), **fields)


def _hub(split: str) -> str:
  """Parquet files of a split on the Hub, whether its configurations are folders or prefixes."""
  return f'**/{split}-*.parquet'


def _by_config(*splits: str) -> dict[str, str]:
  """Files of the AI2 datasets, whose splits are configurations, each a folder."""
  return {split: f'**/{split}/*.parquet' for split in splits}


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
  pictures = [option for option in _mmmu_options(row) or () if re.match(r"<img='.*?'>", option)]
  return None if len(pictures) > 1 else row['image_1']


def _mmmu_prompt(question: str, options: Any, version: str) -> str:
  return choose(question, options, version) if options else question


def _mmmu(reader: Reader) -> Iterator[Record]:
  fields = Fields(question='question', image=_mmmu_image, options=_mmmu_options,
                  prompt=_mmmu_prompt, id='id',
                  style=lambda r: 'a_okvqa_mc' if r['question_type'] == 'multiple-choice'
                  else 'vqa2',
                  answers=_mmmu_answers, metadata={'question_type': 'question_type'},
                  groups=(lambda r: re.sub(r'_\d+$', '', r['id'].split('_', 1)[-1]),))
  yield from rows({'validation': '**/validation-*.parquet', 'test': '**/test-*.parquet'},
                  fields)(reader)


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


REAL_WORLD_QA = Fields(
    question=lambda r: r['question'].split('\n')[0] if _is_short(r) else r['question'],
    image='image',
    answers='answer', style=lambda r: 'eval_short_answer' if _is_short(r)
    else 'eval_multiple_choice',
    options=lambda r: None if _is_short(r) else ['A', 'B', 'C', 'D'],
    metadata={'question_type': lambda r: 'short_answer' if _is_short(r) else 'multiple_choice'})

MATH_VISTA = Fields(
    question=lambda r: r['question'].split('Question:')[-1].split('Hint:')[0].strip(),
    image='decoded_image',
    options=lambda r: r['choices'] if r['question_type'] == 'multi_choice' else None,
    answers='answer', id='pid',
    prompt=lambda q, options, version: choose(q, options, version) if options else q,
    style=lambda r: 'eval_multiple_choice' if r['question_type'] == 'multi_choice'
    else 'eval_short_answer',
    metadata={'question_type': 'question_type', 'answer_type': 'answer_type',
              'precision': 'precision',
              'query': 'question'})

CHART_QA = dict(question='query', image='image', answers='label',
                metadata={'is_human': lambda r: r['human_or_machine'] == 0})
CHART_FILES = {'validation': _hub('val'), 'test': _hub('test')}


def _scene_text(found: list[Row]) -> list[Row]:
  found.sort(key=lambda row: row['question_id'])
  np.random.RandomState(SCENE_TEXT_SEED).shuffle(found)
  return found[:SCENE_TEXT_SAMPLE]


def _st_qa(reader: Reader) -> Iterator[Record]:
  fields = Fields(question='question', image='file_path', answers=lambda r: r.get('answers', []),
                  id='question_id')
  if reader.split == 'test':
    yield from rows('test_task_3.json', fields, records='data')(reader)
  else:
    yield from rows('train_task_3.json', fields, records='data', arrange=_scene_text)(reader)


def _clock_row(row: Row) -> Row:
  """Clock faces have 12 hours; the benchmark shows no seconds."""
  return row | {'hour': int(row['hour']) % 12, 'minute': int(row['minute']), 'second': -1}


def _gqa_image(row: Row) -> str:
  return f'images/{row["imageId"]}.jpg'


def downloaded(row: Row) -> Any:
  """A picture that the user fetched from its URL: `image` where the table has one, else the file
  named by its hash.
  """
  return row['image'] if row.get('image') else f'images/{row["image_sha256"]}'


def _android_box(row: Row) -> list[float] | None:
  box = row.get('target_box')
  if not box:
    return None
  return list(parse_box(box)) if isinstance(box, str) else [float(v) for v in box]


SINGLE, TEST, MORE = ('single_image',), ('single_image_test',), ('more_image',)
AI2 = 'huggingface.co/datasets/allenai'
COCO = 'CC BY 4.0 (questions); COCO images: Flickr terms'

TASKS = (
  Task('coco_2014_vqa_8192', 'image', 'vqa2', ('validation',), 'vqa2', 'vqa_score',
       aliases=('vqa2',),
       records=rows(_by_config('validation'), _question_of_message(answers='answers'),
                    each=messages, arrange=_sample),
       source=f'{AI2}/molmo2-vqa2-2014 (parquet); COCO val2014 images', licence=COCO, schema=LOADER,
       groups=SINGLE,
       note='8192 of the single questions, shuffled with seed 69282'),
  Task('text_vqa', 'image', 'text_vqa', ('validation', 'test'), 'text_vqa', 'vqa_score',
       groups=SINGLE + TEST,
       records=rows(_by_config('validation', 'test'), _question_of_message(answers='answers'),
                    each=messages),
       source=f'{AI2}/molmo2-text-vqa; images: textvqa.org', licence='CC BY 4.0', schema=LOADER),
  Task('okvqa', 'image', 'okvqa', ('val',), 'okvqa', 'vqa_score', groups=MORE,
       records=rows(_by_config('val'), _question_of_message(
         answers=lambda r: [a['raw_answer'] for a in r['answers']]),
                    each=lambda r: (r | q for q in r['qas'])),
       source=f'{AI2}/molmo2-okvqa; COCO val2014 images', licence=COCO, schema=LOADER),
  Task('chart_qa', 'image', 'chart_qa', ('validation', 'test'), 'chart_qa', 'chart_qa',
       groups=SINGLE + TEST,
       records=rows(CHART_FILES, Fields(**CHART_QA)),
       source='huggingface.co/datasets/HuggingFaceM4/ChartQA',
       licence='GPL-3.0', schema=LOADER),
  Task('chart_qa_exp', 'image', 'chart_qa', ('validation', 'test'), 'chart_qa_exp', 'chart_qa',
       max_new_tokens=256,
       records=rows(CHART_FILES, Fields(**CHART_QA, prompt=explain_first)), groups=MORE,
       source='huggingface.co/datasets/HuggingFaceM4/ChartQA', licence='GPL-3.0', schema=LOADER,
       note='asks for the reasoning first, in our own words'),
  Task('doc_qa', 'image', 'doc_qa', ('validation', 'test'), 'doc_qa', 'doc_qa',
       groups=SINGLE + TEST,
       records=rows({'validation': '**/val_v1.0_withQT.json', 'test': '**/test_v1.0.json'},
                    Fields(question='question', image='image',
                           answers=lambda r: r.get('answers', ['']),
                           id='questionId'), records='data'),
       source='rrc.cvc.uab.es/?ch=17, task 1 (registration)', licence='research only',
       schema=LOADER),
  Task('info_qa', 'image', 'info_qa', ('validation', 'test'), 'info_qa', 'doc_qa',
       groups=SINGLE + TEST,
       records=rows({'validation': '**/infographicsVQA_val_v1.0_withQT.json',
                     'test': '**/infographicsVQA_test_v1.0.json'},
                    Fields(question='question', image=lambda r: f'images/{r["image_local_name"]}',
                           answers=lambda r: r.get('answers', ['']), id='questionId'),
                    records='data'),
       source='rrc.cvc.uab.es/?ch=17, task 3 (registration)', licence='research only',
       schema=LOADER),
  Task('st_qa', 'image', 'st_qa', ('validation', 'test'), 'st_qa', 'doc_qa', groups=MORE,
       records=_st_qa,
       source='rrc.cvc.uab.es/?ch=11, task 3 (registration)', licence='research only',
       schema=LOADER,
       note='validation: 1024 training questions, seed 63069'),
  *(Task(f'ai2_diagram_v2{suffix}', 'image', 'ai2d', ('validation', 'test'), 'ai2_diagram', metric,
         groups=groups,
         aliases=aliases, max_new_tokens=tokens, records=diagrams(boxes),
         source='allenai.org/data/diagrams (ai2d-all.zip: questions/, images/, abc_images/), lists '
         'of ids per split; abc_images_transparent/ must be drawn from annotations/',
         licence='CC BY-SA 4.0', schema='memory')
    for suffix, boxes, metric, tokens, groups, aliases in (
        ('_mix_transparent', 'both', 'ai2d', 32, SINGLE + TEST, ('ai2d',)),
        ('', 'opaque', 'ai2d', 12, MORE,
     ('ai2_diagram',)),
        ('_transparent', 'transparent', 'ai2d', 12, MORE, ()))),
  Task('mmmu_test', 'image', 'mmmu', ('validation',), 'a_okvqa_mc', 'mmmu', max_new_tokens=64,
       groups=SINGLE + TEST,
       records=_mmmu, aliases=('mmmu',), source='huggingface.co/datasets/MMMU/MMMU',
       licence='Apache-2.0',
       schema=LOADER, note='the 900 questions of validation; only the first image'),
  Task('real_world_qa_no_instruction', 'image', 'real_world_qa', ('test',), 'eval_multiple_choice',
       'real_world_qa',
       records=rows(_hub('{split}'), REAL_WORLD_QA), groups=SINGLE + TEST,
       aliases=('real_world_qa',),
       source='huggingface.co/datasets/xai-org/RealworldQA', licence='CC BY-ND 4.0', schema=LOADER),
  Task('math_vista_v2', 'image', 'math_vista', ('testmini',), 'eval_short_answer', 'math_vista',
       max_new_tokens=32,
       records=rows(_hub('{split}'), MATH_VISTA), groups=SINGLE + TEST, aliases=('math_vista',),
       source='huggingface.co/datasets/AI4Math/MathVista', licence='CC BY-SA 4.0', schema=LOADER,
       note='scored without a language model; `judge` extracts answers with one, as published'),
  Task('a_okvqa_mc', 'image', 'a_okvqa', ('val', 'test'), 'a_okvqa_mc', 'letter_choice',
       max_new_tokens=32, groups=TEST,
       records=rows(_by_config('val', 'test'),
                    _question_of_message(options='choices', index=optional('answer_idx'),
                                        prompt=choose), each=messages),
       source=f'{AI2}/molmo2-a-ok-vqa; COCO 2017 images', licence=COCO, schema=LOADER),
  Task('a_okvqa_da', 'image', 'a_okvqa', ('val', 'test'), 'a_okvqa_da', 'a_okvqa_score',
       groups=TEST,
       records=rows(_by_config('val', 'test'), _question_of_message(answers='direct_answers'),
                    each=messages,
                    keep=lambda r: not r['difficult_direct_answer']),
       source=f'{AI2}/molmo2-a-ok-vqa; COCO 2017 images', licence=COCO, schema=LOADER),
  Task('science_qa_img', 'image', 'science_qa', ('test', 'validation'), 'science_qa',
       'letter_choice',
       max_new_tokens=32, groups=MORE,
       records=rows(_hub('{split}'), Fields(
           question=lambda r: '\n'.join(filter(None, (r['hint'], r['question']))), image='image',
           options='choices',
           index='answer', prompt=choose), keep=lambda r: r['image'] is not None),
       source='huggingface.co/datasets/derek-thomas/ScienceQA', licence='CC BY-SA 4.0',
       schema=LOADER),
  Task('tally_qa', 'image', 'tally_qa', ('test',), 'tally_qa', 'exact_answer', groups=MORE,
       records=rows(_by_config('test'),
                    _question_of_message(answers=lambda r: r.get('answers', r.get('answer'))),
                    each=messages),
       source=f'{AI2}/molmo2-tally-qa; COCO 2014 and Visual Genome images', licence='Apache-2.0',
       schema=LOADER),
  Task('gqa', 'image', 'gqa', ('testdev', 'val'), 'gqa', 'exact_answer', groups=MORE,
       records=rows('**/{split}_balanced_questions.json',
                    Fields(question='question', image=_gqa_image, answers='answer',
                           id='question_id'),
                    key='question_id'),
       source='cs.stanford.edu/people/dorarad/gqa (questions, images)', licence='CC BY 4.0',
       schema='memory'),
  Task('clock_bench', 'image', 'clock_bench', ('coco', 'openimg', 'movies'), 'clocks', 'clock',
       groups=MORE,
       records=rows('{split}.*',
                    Fields(question=lambda r: 'What time is being shown?', image='image',
                           metadata={n: n for n in ('hour', 'minute', 'second')},
                           id=optional('image_id')), each=lambda r: [_clock_row(r)]),
       source='"It’s About Time" (Yang et al. 2022): a table {split}.csv with image, hour, minute',
       licence='unknown',
       schema=LOADER + ' (the table that it makes)'),
  Task('vqa_v2_test', 'image', 'vqa2', ('test2015', 'test-dev2015'), 'vqa2', 'predictions_only',
       groups=MORE,
       records=rows('**/v2_OpenEnded_mscoco_{split}_questions.json', Fields(
           question='question', image=lambda r: f'test2015/COCO_test2015_{r["image_id"]:012d}.jpg',
           id='question_id'),
           records='questions'),
       source='visualqa.org/download.html; COCO test2015 images', licence=COCO, schema='memory',
       note='the answers are with the test server'),
  Task('pixmo_ask_model_anything', 'image', 'pixmo_ask_model_anything', ('validation',), 'user_qa',
       'judged_open_qa',
       max_new_tokens=384, groups=MORE,
       records=rows('{split}*', Fields(question=lambda r: r['question'].strip(), image=downloaded,
                                       answers='answer')),
       source=f'{AI2}/pixmo-ask-model-anything; images by image_url, saved as '
       'images/<image_sha256>.*',
       licence='ODC-BY', schema=LOADER,
       note='the published hold-out depends on which images could be downloaded: choose your own'),
  Task('dense_caption_eval', 'image', 'dense_caption_eval', ('test',), 'long_caption',
       'predictions_only',
       max_new_tokens=448, groups=MORE,
       records=rows('{split}.jsonl',
                    Fields(question=lambda r: 'Describe this image.', image='image')),
       source='not published: a table test.jsonl with image', licence='-', schema='own'),
  Task('user_qa', 'image', 'user_qa', ('test',), 'user_qa', 'predictions_only', groups=MORE,
       records=rows('{split}.jsonl', Fields(question='question', image='image')),
       source='not published: a table test.jsonl with image, question', licence='-', schema='own'),
  Task('android_control_ll', 'image', 'android_control', ('test', 'validation'), 'android_control',
       'android_control',
       max_new_tokens=16, groups=MORE, version='v1',
       records=rows('{split}.*',
                    Fields(question=lambda r: f'low_level: {r["ll_instruction"]}', image='image',
                           answers='target_action', metadata={'box': _android_box})),
       source='github.com/google-research/google-research/tree/master/android_control, converted '
       'from TFRecord to a table with image, ll_instruction, target_action, target_box',
       licence='Apache-2.0',
       schema='a public copy of the loader of allenai/molmo (the table that it makes)'),
  Task('pixmo_clocks', 'image', 'pixmo_clocks', ('validation',), 'clocks', 'clock_training',
       groups=MORE,
       aliases=('clocks',),
       records=rows('**/{split}*', Fields(question=lambda r: 'What time is being shown?',
                                          image='image', metadata={
                                              n: (lambda r, n=n: int(r[n]))
                                              for n in ('hour', 'minute', 'second')})),
       source=f'{AI2}/pixmo-clocks (rendered, with image, hour, minute, second; −1 for none)',
       licence='ODC-BY',
       schema='memory'),
)
