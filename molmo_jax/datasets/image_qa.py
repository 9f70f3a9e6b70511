"""Academic questions about images, for training and as benchmarks."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from molmo_jax.data.facts import Fact
from molmo_jax.datasets.dataset import Dataset, Fields, Training, hub, optional, table
from molmo_jax.datasets.files import Files, Row, TaskError
from molmo_jax.datasets.task import Task

AI2 = 'huggingface.co/datasets/allenai'
COCO = 'CC BY 4.0 (questions); COCO images: Flickr terms'
# Groups of benchmarks.
SINGLE, TEST, MORE = ('single_image',), ('single_image_test',), ('more_image',)

VQA_SAMPLE, VQA_SEED = 8192, 69282
SCENE_TEXT_HELD_OUT, SCENE_TEXT_SEED = 1024, 63069
# questions of ChartQA; weighted so that both parts count alike (docs/training.md §2.5)
HUMAN, AUGMENTED = 7398, 20901


def _configurations(*splits: str) -> dict[str, tuple[str, ...]]:
  """Files of the sets that AI2 published, whose splits are configurations."""
  return {split: (f'**/{split}/*.parquet', *hub('train' if split == 'train' else split))
          for split in splits}


def _sampled(rows: list[Row], split: str) -> list[Row]:
  np.random.RandomState(VQA_SEED).shuffle(rows)
  return rows[:VQA_SAMPLE]


def hold_out_scene_text(rows: list[Row], split: str) -> list[Row]:
  """The first 1,024 shuffled training questions are the validation set, and not trained on."""
  if split == 'test':
    return rows
  rows.sort(key=lambda row: row['question_id'])
  np.random.RandomState(SCENE_TEXT_SEED).shuffle(rows)
  return (rows[:SCENE_TEXT_HELD_OUT] if split == 'validation' else rows[SCENE_TEXT_HELD_OUT:])


def _chart_weight(row: Row) -> dict[str, float]:
  part = AUGMENTED if row['human_or_machine'] == 0 else HUMAN
  return {'weight': 2 * part / (HUMAN + AUGMENTED)}


def _letters_alone(row: Row) -> bool:
  """Whether the options are letters of the diagram (all but one may be something else), which get
  no labels of their own.
  """
  return bool(row['abc_label']) and sum(row['option_is_abc']) >= len(row['answer_texts']) - 1


def _diagram_options(row: Row) -> list[str]:
  return [text.upper() if letter and _letters_alone(row) else text
          for text, letter in zip(row['answer_texts'], row['option_is_abc'])]


def _diagrams(files: Files) -> Iterator[Row]:
  """AI2D: a table for training, or one JSON file per diagram with lists of ids per split."""
  if not (files.root / 'questions').is_dir():
    yield from files.tables(hub('train'))
    return
  ids = set(_lines(files, f'ai2d_{files.split}_ids.csv'))
  for path in sorted((files.root / 'questions').glob('*.json')):
    if path.name.split('.')[0] in ids:
      yield from _diagram_questions(json.loads(path.read_text(encoding='utf-8')), path.name)


def _diagram_questions(diagram: dict[str, Any], file: str) -> Iterator[Row]:
  """Diagrams with letters come twice, with opaque and with transparent boxes."""
  for question, detail in diagram['questions'].items():
    options = [o for o in dict.fromkeys(detail['answerTexts']) if o != '{}']
    right = options.index(detail['answerTexts'][detail['correctAnswer']])
    letters = [len(o.strip()) == 1 and o.strip().isalpha() for o in options]
    for folder, transparent in ((('abc_images', False), ('abc_images_transparent', True))
                                if detail['abcLabel'] else (('images', False),)):
      yield {'question': question, 'image': f'{folder}/{diagram["imageName"]}', '_file': file,
             'answer_texts': options, 'correct_answer': right, 'option_is_abc': letters,
             'abc_label': detail['abcLabel'], 'has_transparent_box': transparent,
             'question_id': detail['questionId']}


def _lines(files: Files, name: str) -> list[str]:
  try:
    return (files.root / name).read_text(encoding='utf-8').split()
  except OSError as error:
    raise TaskError(f'{files.root / name}: {error.strerror}; a text file with the ids of the '
                    'diagrams of the split, one a line') from None


def _of_boxes(transparent: bool):
  return lambda rows, split: [
    row for row in rows if not row['abc_label'] or row['has_transparent_box'] == transparent]


def _mantis_facts(row: Row) -> Iterator[Fact]:
  for question, options, right in zip(row['mc_question'], row['choices'],
                                      row['correct_choice_idx']):
    yield {'style': 'mantis_instruct_mc', 'question': question, 'options': options, 'right': right,
           'order': 'any'}


def _mantis(name: str, folder: str) -> Dataset:
  return Dataset(f'mantis_{name}', table((f'{folder}/train-*.parquet', *hub('train')),
                                         keep=lambda row: len(row['images'] or ()) > 1),
                 Fields(images='images', facts=_mantis_facts),
                 f'{AI2}/molmo2-mantis-instruct-{folder}; images: TIGER-Lab/Mantis-Instruct',
                 schema='loader', training=(Training(f'mantis_{name}'),))


def _by_question(row: Row) -> Iterator[Row]:
  """Tables of plots may hold the questions about a picture as lists below `questions`."""
  if 'questions' not in row:
    yield row
    return
  for question, answer in zip(row['questions']['question'], row['questions']['answer']):
    yield row | {'question': question, 'question_string': question, 'answer': str(answer)}


def _plot(path: str):
  """The picture of a row: in the table, or the file that a column names."""
  return lambda row: row['image'] if 'questions' in row else path.format_map(row)


def _plots(name: str, files: tuple[str, ...], fields: Fields, source: str, licence: str,
           **reading: Any) -> Dataset:
  """Questions about rendered plots: all about one picture make a tree."""
  rows = table(files, each=_by_question, **reading)
  return Dataset(name, rows, fields, source, licence, 'loader',
                 training=(Training(name, grouped=True),))


VQA = Fields('question', 'image', answers='answers', style='vqa2', parts='message_list',
             id=optional('question_id'))
TALLY = dataclasses.replace(VQA, style='tally_qa',
                            answers=lambda r: r.get('answers') or r.get('answer'))
DOCUMENTS = Fields('question', 'image', answers=lambda r: r.get('answers', ['']), style='doc_qa',
                   id='questionId')
CHART = Fields('query', 'image', answers='label', style='chart_qa',
               metadata={'is_human': lambda r: r['human_or_machine'] == 0})
A_OKVQA = Fields('question', 'image', options='choices', index=optional('answer_idx'),
                 style='a_okvqa_mc', parts='message_list', id=optional('question_id'))
A_OKVQA_OPEN = dataclasses.replace(A_OKVQA, options=None, index=None, answers='direct_answers',
                                   style='a_okvqa_da')
AI2D = Fields(
  'question', 'image', options=_diagram_options, index='correct_answer', unlabelled=_letters_alone,
  style=lambda r: 'ai2_diagram_no_letter' if _letters_alone(r) else 'ai2_diagram', id='question_id',
  metadata={'abc_label': 'abc_label', 'has_transparent_box': 'has_transparent_box',
            'unlabelled': _letters_alone})

DATASETS = (
  Dataset('vqa2', table(_configurations('train', 'validation')), VQA,
          f'{AI2}/molmo2-vqa2-2014 (parquet); COCO 2014 images', COCO, 'loader',
          training=(Training('coco_2014_vqa_multi'),),
          benchmarks=(
            Task('coco_2014_vqa_8192', 'vqa_score', splits=('validation',), groups=SINGLE,
                 arrange=_sampled, aliases=('vqa2',),
                 note='8192 of the single questions, shuffled with seed 69282'),
            Task('vqa_v2_test', 'predictions_only', splits=('test2015', 'test-dev2015'),
                 rows=table('**/v2_OpenEnded_mscoco_{split}_questions.json', records='questions'),
                 fields=Fields(
                   'question', lambda r: f'test2015/COCO_test2015_{r["image_id"]:012d}.jpg',
                   style='vqa2', id='question_id'), groups=MORE,
                 note='questions of visualqa.org; the answers are with the test server'))),
  Dataset('text_vqa', table(_configurations('train', 'validation', 'test')),
          dataclasses.replace(VQA, style='text_vqa', answers=lambda r: r.get('answers')),
          f'{AI2}/molmo2-text-vqa; images: textvqa.org', 'CC BY 4.0', 'loader',
          training=(Training('text_vqa'),),
          benchmarks=(Task('text_vqa', 'vqa_score', splits=('validation', 'test'),
                           groups=SINGLE + TEST),)),
  Dataset('okvqa', table(_configurations('train', 'val')),
          Fields('question', 'image', answers=lambda r: [a['raw_answer'] for a in r['answers']],
                 style='okvqa', parts='qas', id=optional('question_id')),
          f'{AI2}/molmo2-okvqa; COCO 2014 images', COCO, 'loader',
          training=(Training('okvqa', flat=True),),
          benchmarks=(Task('okvqa', 'vqa_score', splits=('val',), groups=MORE),)),
  Dataset('chart_qa', table({'train': hub('train'), 'validation': hub('val'), 'test': hub('test')}),
          CHART, 'huggingface.co/datasets/HuggingFaceM4/ChartQA', 'GPL-3.0', 'loader',
          training=(Training('chart_qa_weighted', fields=dataclasses.replace(
            CHART, more={'weight': _chart_weight})),),
          benchmarks=(
            Task('chart_qa', 'chart_qa', splits=('validation', 'test'), groups=SINGLE + TEST),
            Task('chart_qa_exp', 'chart_qa', splits=('validation', 'test'), style='chart_qa_exp',
                 max_new_tokens=256, groups=MORE, note='asks for the reasoning first'))),
  Dataset('doc_qa', table({'train': 'train_v1.0*.json', 'validation': '**/val_v1.0_withQT.json',
                           'test': '**/test_v1.0.json'}, records='data'),
          DOCUMENTS, 'rrc.cvc.uab.es/?ch=17, task 1 (registration)', 'research only', 'loader',
          training=(Training('doc_qa'),),
          benchmarks=(Task('doc_qa', 'doc_qa', splits=('validation', 'test'),
                           groups=SINGLE + TEST),)),
  Dataset('info_qa', table({'train': '**/infographicsVQA_train*.json',
                            'validation': '**/infographicsVQA_val_v1.0_withQT.json',
                            'test': '**/infographicsVQA_test_v1.0.json'}, records='data'),
          dataclasses.replace(DOCUMENTS, style='info_qa',
                              image=lambda r: f'images/{r["image_local_name"]}'),
          'rrc.cvc.uab.es/?ch=17, task 3 (registration)', 'research only', 'loader',
          training=(Training('info_qa'),),
          benchmarks=(Task('info_qa', 'doc_qa', splits=('validation', 'test'),
                           groups=SINGLE + TEST),)),
  Dataset('st_qa', table({'train': 'train_task_3.json', 'validation': 'train_task_3.json',
                          'test': 'test_task_3.json'}, records='data'),
          Fields('question', 'file_path', answers=lambda r: r.get('answers', []), style='st_qa',
                 id='question_id'),
          'rrc.cvc.uab.es/?ch=11, task 3 (registration)', 'research only', 'loader',
          hold_out_scene_text, (Training('st_qa', note='without the 1,024 of validation'),),
          (Task('st_qa', 'doc_qa', splits=('validation', 'test'), groups=MORE,
                note='validation: 1024 training questions, seed 63069'),)),
  Dataset('ai2d', _diagrams, AI2D,
          'allenai.org/data/diagrams (ai2d-all.zip: questions/, images/, abc_images/), lists of '
          'ids per split; abc_images_transparent/ must be drawn from annotations/',
          'CC BY-SA 4.0', 'memory', training=(Training('ai2_diagram_v2_mix_transparent'),),
          benchmarks=(
            Task('ai2_diagram_v2_mix_transparent', 'ai2d', splits=('validation', 'test'),
                 max_new_tokens=32, groups=SINGLE + TEST, aliases=('ai2d',)),
            Task('ai2_diagram_v2', 'ai2d', splits=('validation', 'test'), groups=MORE,
                 arrange=_of_boxes(False), aliases=('ai2_diagram',)),
            Task('ai2_diagram_v2_transparent', 'ai2d', splits=('validation', 'test'), groups=MORE,
                 arrange=_of_boxes(True)))),
  Dataset('a_okvqa', table(_configurations('train', 'val', 'test')), A_OKVQA,
          f'{AI2}/molmo2-a-ok-vqa; COCO 2017 images', COCO, 'loader',
          training=(Training('a_okvqa_mc'), Training('a_okvqa_da', fields=A_OKVQA_OPEN)),
          benchmarks=(
            Task('a_okvqa_mc', 'letter_choice', splits=('val', 'test'), max_new_tokens=32,
                 groups=TEST),
            Task('a_okvqa_da', 'a_okvqa_score', splits=('val', 'test'), groups=TEST,
                 fields=A_OKVQA_OPEN, arrange=lambda rows, split: [
                   r for r in rows if not r['difficult_direct_answer']]))),
  Dataset('science_qa', table(hub(), keep=lambda row: row['image'] is not None),
          Fields(lambda r: '\n'.join(filter(None, (r['hint'], r['question']))), 'image',
                 options='choices', index='answer', style='science_qa'),
          'huggingface.co/datasets/derek-thomas/ScienceQA', 'CC BY-NC-SA 4.0', 'loader',
          training=(Training('science_qa_img'),),
          benchmarks=(Task('science_qa_img', 'letter_choice', splits=('test', 'validation'),
                           max_new_tokens=32, groups=MORE),)),
  Dataset('tally_qa', table(_configurations('train', 'test')), TALLY,
          f'{AI2}/molmo2-tally-qa; COCO 2014 and Visual Genome images', 'Apache-2.0', 'loader',
          training=(Training('tally_qa'),),
          benchmarks=(Task('tally_qa', 'exact_answer', groups=MORE),)),
  Dataset('gqa', table('**/{split}_balanced_questions.json', key='question_id'),
          Fields('question', lambda r: f'images/{r["imageId"]}.jpg', answers='answer', style='gqa',
                 id='question_id'),
          'cs.stanford.edu/people/dorarad/gqa (questions, images)', 'CC BY 4.0',
          benchmarks=(Task('gqa', 'exact_answer', splits=('testdev', 'val'), groups=MORE),)),
  Dataset('tabwmp', table('**/problems_train.json', key='id'),
          Fields('question', lambda r: f'tables/{r["id"]}.png', answers='answer',
                 style='tabwmp_da'),
          'github.com/lupantech/PromptPG', 'CC BY-NC-SA 4.0', 'loader',
          training=(Training('tabwmp_da'),)),
  _plots('dv_qa', ('train_qa.json',),
         Fields('question', _plot('images/{image}'), answers='answer', style='dv_qa'),
         'github.com/kushalkafle/DVQA_dataset', 'CC BY-NC 4.0'),
  _plots('figure_qa', ('train1/qa_pairs.json',),
         Fields('question_string', _plot('train1/png/{image_index}.png'), answers='answer',
                style='figure_qa'),
         'www.microsoft.com/en-us/research/project/figureqa-dataset', 'see source',
         records='qa_pairs'),
  _plots('plot_qa', ('train/qa_pairs_V2.json', '**/qa_pairs_V2.json'),
         Fields('question_string', _plot('train/png/{image_index}.png'), answers='answer',
                style='plot_qa'),
         'github.com/NiteshMethani/PlotQA', 'see source', records='qa_pairs'),
  _mantis('llava_665k_multi', 'llava_665k_multi'), _mantis('nlvr2', 'nlvr2'),
  _mantis('spot_the_diff', 'spot-the-diff'),
)
