"""Academic questions about videos, for training and as benchmarks: the JSON, CSV and TSV files that
the datasets publish. Labels: `video_labels`.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Iterator

from absl import logging

from molmo_jax.data.facts import Fact
from molmo_jax.datasets.dataset import (
  Dataset,
  Fields,
  Rows,
  Training,
  Value,
  chained,
  clip_of,
  columns,
  facts_of,
  optional,
  table,
)
from molmo_jax.datasets.files import Files, MissingTable, Row
from molmo_jax.datasets.image_qa import AI2
from molmo_jax.datasets.molmo2 import among_others
from molmo_jax.datasets.prompts import LETTER_DIRECTLY, with_instruction
from molmo_jax.datasets.task import Task
from molmo_jax.datasets.video_columns import MC, in_folder

SHORT, OPTIONS = 'video_short_answer', 'video_multiple_choice'
FIVE = columns('a0', 'a1', 'a2', 'a3', 'a4')
SUTD = ('option0', 'option1', 'option2', 'option3')
HOW2QA = ('vid', 'span', 'wrong0', 'wrong1', 'wrong2', 'question', 'answer')
NARRATOR = re.compile(r'^#\S\s*')           # '#C C picks up a cup' of Ego4D's narrations
TIMES_OR_SCORES = ('H1', 'C1', 'M1', 'C4', 'C5')   # tasks of FunQA
HUB = 'huggingface.co/datasets'


def _open(question: Value, answers: Value, **more) -> Fields:
  return Fields(question, answers=answers, style=SHORT, **more)


def _choice(question: Value, options: Value, index: Value, **more) -> Fields:
  return Fields(question, options=options, index=index, style=OPTIONS, **more)


def _both(first: Fields, second: Fields):
  """Two questions of a row, such as an open one and one with options."""
  return lambda row: [*facts_of(row, first), *facts_of(row, second)]


def _tgif(row: Row) -> Iterator[Fact]:
  """Actions and transitions come with options and are asked both ways; counts and frames are open.
  """
  if 'a1' not in row:
    yield from facts_of(row, _open('question', 'answer'))
    return
  options = [row[f'a{i}'] for i in range(1, 6)]
  yield from facts_of(row, _choice('question', lambda r: options, 'answer'))
  yield from facts_of(row, _open('question', lambda r: options[int(row['answer'])]))


def _clevrer(row: Row) -> Iterator[Fact]:
  for q in row['questions']:
    if 'answer' in q:
      yield {'style': SHORT, 'question': q['question'], 'answers': [q['answer']]}
      continue
    right = [i for i, c in enumerate(q['choices']) if c['answer'] == 'correct']
    if len(right) == 1:
      yield {'style': OPTIONS, 'question': q['question'], 'right': right[0],
             'options': [c['choice'] for c in q['choices']]}


def _llava(name: str, style: str, *suffixes: str) -> Dataset:
  """LLaVA-Video-178K: turns of 'human' and 'gpt'; `suffixes` say which kind of question a file
  holds.
  """
  def facts(row: Row) -> Iterator[Fact]:
    texts = [turn['value'] for turn in row['conversations']]
    for question, answer in zip(texts[::2], texts[1::2]):
      yield {'style': style, 'question': question.removeprefix('<image>\n'),
             'answers': [answer.strip()]}
  return Dataset(name, table(tuple(f'*/*{suffix}*.json' for suffix in suffixes)),
                 Fields(video=lambda f, r: f.video(f'{r["data_source"]}/{r["video"]}'),
                        facts=facts),
                 f'{HUB}/lmms-lab/LLaVA-Video-178K', schema='loader',
                 training=(Training(name, grouped=True, key='id'),))


def _action_of(text: str) -> str:
  text = NARRATOR.sub('', text)
  return text[:1].upper() + text[1:]


def _antonym(row: Row) -> Iterator[Fact]:
  """What is done against its opposite: Something-Something V2 and Ego4D."""
  if 'rel_vid_path' in row:
    right, wrong = row['label'], row['label_action_antonym_clip_text']
  else:
    right, wrong = _action_of(row['clip_text']), _action_of(row['action_antonym_clip_text'])
  yield {'style': OPTIONS, 'asks': 'matching_action', 'options': [right, wrong, 'Not sure'],
         'right': 0, 'order': 'any'}


def _span(end: int):
  """Start or end of '[12.5:30.25]'."""
  return lambda row: float(row['span'].strip('[] ').split(':')[end])


def _cinepile(row: Row) -> Iterator[Fact]:
  style = f'{OPTIONS}_w_subtitle' if row.get('subtitles') else OPTIONS
  for q in row.get('examples') or [row]:
    yield from facts_of(q, Fields('question', options='choices', index='answer_key_position',
                                  style=style))


def _star(row: Row) -> list[Fact]:
  options = [c['choice'] for c in row['choices']]
  row = row | {'options': options,
               'right': options.index(row['answer']) if row['answer'] in options else None}
  return _both(_open('question', 'answer'), _choice('question', 'options', 'right'))(row)


def _funqa_choice(row: Row) -> Iterator[Row]:
  """The last two lines of an instruction: 'The Question is: …', 'The Options are: [Options 1: …]'.
  """
  *_, question, listed = row['instruction'].split('\n')
  options = ast.literal_eval(listed.replace('The Options are: ', '').strip())
  if str(row['gt']).isdigit() and 0 < int(row['gt']) <= len(options):
    yield {'visual_input': row['visual_input'], 'right': int(row['gt']) - 1,
           'question': question.replace('The Question is:', '').strip(),
           'options': [o.replace(f'Options {i}: ', '').strip()
                       for i, o in enumerate(options, start=1)]}


def _funqa(row: Row) -> list[Fact]:
  return facts_of(row, _choice('question', 'options', 'right') if 'options' in row
                  else _open('instruction', 'output'))


def _tv_questions(files: Files) -> Iterator[Row]:
  """TVQA with what is said in the part of the episode that a question is about, in its seconds."""
  rows = [row for row in files.tables('tvqa_train.jsonl') if 'nan' not in row['ts']]
  try:
    said = {} if files.pattern else {
      row['vid_name']: row['sub'] for row in files.tables('**/tvqa_preprocessed_subtitles.jsonl')}
  except MissingTable as error:
    logging.warning('%s: questions without subtitles', error)
    said = {}
  for row in rows:
    start, end = map(float, row['ts'].split('-'))
    yield row | {'subtitles': [
      {'start': max(line['start'] - start, 0.0), 'end': line['end'] - start, 'text': line['text']}
      for line in said.get(row['vid_name']) or ()
      if line['end'] > start and line['start'] < end]}


def _tv_question(row: Row) -> list[Fact]:
  style = f'{OPTIONS}_w_subtitle' if row['subtitles'] else OPTIONS
  return facts_of(row, dataclasses.replace(_choice('q', FIVE, 'answer_idx'), style=style))


def _camera(row: Row) -> list[Fact]:
  return [among_others(q['Question'], q['Answer'], list(q['NegativeAnswers']))
          for q in row['mc_qa_list']]


def _repetitions(files: Files) -> Iterator[Row]:
  """Countix as it was prepared: every class of actions has questions of its own."""
  questions = json.loads((files.root / 'class_to_question.json').read_text(encoding='utf-8'))
  for row in files.tables('**/countix_train_mapped.csv'):
    yield row | {'questions': questions[row['class']]}


def _set(name: str, rows: Rows, video, facts, source: str, **more) -> Dataset:
  """A set for training alone, all questions about a video in one tree."""
  fields = Fields(video=video, facts=facts if callable(facts) else lambda r: facts_of(r, facts),
                  **{k: more.pop(k) for k in ('clip', 'subtitles') if k in more})
  return Dataset(name, rows, fields, source, schema=more.pop('schema', 'loader'),
                 training=(Training(name, grouped=True, **more),))


NEXT_QA = _choice(lambda r: r['question'].strip(), lambda r: [r[f'a{i}'].strip() for i in range(5)],
                  'answer', video=in_folder('NExTVideo', 'video', '.mp4'), groups=('type',),
                  prompt=with_instruction(LETTER_DIRECTLY))
PERCEPTION = _choice('question', 'options', lambda r: r.get('answer_id'),
                     video=in_folder('videos', 'video_name', '.mp4'),
                     prompt=with_instruction(LETTER_DIRECTLY),
                     groups=(optional('area'), optional('reasoning')))

DATASETS = (
  _set('tgif', chained(*(table(f'**/Train_{part}_question.csv', separator='\t')
                         for part in ('action', 'count', 'transition', 'frameqa'))),
       'gif_name', _tgif, f'{AI2}/Molmo2-TGIF; GIFs: github.com/raingo/TGIF-Release'),
  _set('tvqa_with_sub', _tv_questions, 'vid_name', _tv_question,
       'tvqa.cs.unc.edu (tvqa_train.jsonl, tvqa_preprocessed_subtitles.jsonl)',
       clip=clip_of(lambda r: r['ts'].split('-')[0], lambda r: r['ts'].split('-')[1]),
       subtitles=lambda f, r: r['subtitles']),
  _set('paxion', chained(
    table('**/antonyms/train_with_rel_path.json'),
    table('**/train.jsonl', keep=lambda r: float(r['clip_start']) < float(r['clip_end']))),
       lambda f, r: f.video(str(r.get('rel_vid_path') or r['video_uid'])), _antonym,
       f'{AI2}/Molmo2-Paxion; videos: Something-Something V2, Ego4D',
       clip=lambda r: clip_of('clip_start', 'clip_end')(r)),
  _llava('llava_video_mc_academic', OPTIONS, 'mc_qa', 'mc'),
  _llava('llava_video_oe_academic', SHORT, 'oe_qa', 'oe'),
  Dataset('perception_test', table({'validation': '**/mc_question_val/*.parquet',
                                    'test': '**/mc_question/test-*.parquet'}),
          PERCEPTION, f'{HUB}/lmms-lab/PerceptionTest_Val; training: '
          'github.com/google-deepmind/perception_test', 'CC BY 4.0', 'loader',
          training=(Training('perception_test', table(('all_train.json', '*train*.json'),
                                                      key='video'),
                             Fields(**vars(PERCEPTION) | {'video': 'video', 'index': 'answer_id',
                                                          'parts': lambda r: r['mc_question']
                                                          or ()})),),
          benchmarks=(Task('perception_test', 'perception_test', 'video', ('validation', 'test'),
                           style=MC, groups=('short_video',)),)),
  Dataset('nextqa', table('MC/test-*.parquet'), NEXT_QA,
          f'{HUB}/lmms-lab/NExTQA; training: github.com/doc-doc/NExT-QA', 'MIT', 'loader',
          training=(Training('nextqa_mc', table(('train.csv', '**/train.csv')),
                             Fields(**vars(NEXT_QA) | {'video': 'video', 'question': 'question',
                                                       'options': FIVE}), grouped=True),),
          benchmarks=(Task('nextqa_mc', 'nextqa', 'video', style=MC, groups=('short_video',)),)),
  _set('intent_qa', table(('train.csv', '**/train.csv')), 'video_id',
       _both(_open('question', lambda r: r[f'a{r["answer"]}']),
             _choice('question', FIVE, 'answer')), 'github.com/JoseponLee/IntentQA'),
  _set('social_iq2', table(('qa/qa_train.json', 'qa_train.json'), kind='.jsonl'), 'vid_name',
       _choice('q', columns('a0', 'a1', 'a2', 'a3'), 'answer_idx'),
       'github.com/abwilf/Social-IQ-2.0-Challenge'),
  _set('news_video_qa', table(('**/new_train.json', 'train.json')), 'uni_clipped_id',
       _open('question', 'answer'), f'{AI2}/Molmo2-NewsVideoQA; videos: cvit.iiit.ac.in'),
  _set('how2qa', table('how2QA_train_release.csv', columns=HOW2QA,
                       keep=lambda r: _span(0)(r) < _span(1)(r)), 'vid',
       lambda r: [among_others(r['question'], r['answer'], [r[f'wrong{i}'] for i in range(3)])],
       'github.com/ych133/How2R-and-How2QA', clip=clip_of(_span(0), _span(1))),
  _set('sutd_trafficqa', table('R2_train.jsonl'), 'vid_filename',
       _choice('q_body', columns(*SUTD),
               lambda r: columns(*SUTD)(r).index(r[SUTD[int(r['answer'])]])),
       'github.com/SUTDCV/SUTD-TrafficQA'),
  _set('sportsqa_oe', table(('meta-data/train.json', 'train.json')), 'video',
       _open('question', 'answer'), 'github.com/HopLee6/Sports-QA'),
  _set('road_text_vqa', table('train.json', records='data'), 'video',
       _open('question', 'answer', more={'pick': lambda r: 'any'}),
       'cvit.iiit.ac.in/research/projects/cvit-projects/roadtextvqa'),
  _set('video_localized_narratives', table('**/qa_text_output*.json', records='annotations'),
       'video_name', _open('raw_question', 'raw_answer', parts='qa_pairs'),
       'google.github.io/video-localized-narratives (CC BY 4.0); videos: oops.cs.columbia.edu'),
  _set('clevrer', table('train.json'), 'video_filename', _clevrer, 'clevrer.csail.mit.edu'),
  _set('star', table('STAR_train.json'), 'video_id', _star, 'bobbywu.com/STAR',
       clip=clip_of('start', 'end'), most=10),
  _set('funqa', chained(
    table('FunQA_train.json', keep=lambda row: row['task'] not in TIMES_OR_SCORES),
    table('Funqa_mcqa_v1.json', each=_funqa_choice)), 'visual_input', _funqa,
       'github.com/Jingkang50/FunQA'),
  _set('camerabench_qa', table('**/camerabench_qa.parquet'), 'video_path', _camera,
       f'{AI2}/Molmo2-CameraBenchTrain; videos: github.com/sy77777en/CameraBench'),
  _set('cinepile_with_sub', table(('v2/train-*.parquet', 'data/train-*.parquet',
                                   '**/train-*.parquet')),
       lambda f, r: f.video(str(r.get('video_id') or r['videoID'])), _cinepile,
       f'{HUB}/tomg-group-umd/cinepile',
       subtitles=lambda f, r: (r['subtitles'] or '').replace('<subtitle> ', '').strip()),
  Dataset('countix', _repetitions,
          Fields(video='video_path', facts=lambda r: [
            {'style': SHORT, 'questions': r['questions'], 'answers': [str(r['count'])]}]),
          f'{AI2}/Molmo2-Countix; videos: Kinetics-700', schema='loader',
          training=(Training('countix_oe'),)),
)
