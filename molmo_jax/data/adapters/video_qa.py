"""Academic questions about videos: the JSON, CSV and TSV files that the datasets publish. Labels:
`video_labels`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from molmo_jax.data.adapters import prompts
from molmo_jax.data.adapters.adapter import Adapter, Context, Conversation, Conversations, Row
from molmo_jax.data.adapters.fields import (
  Get,
  about_video,
  adapter,
  both,
  choice,
  columns,
  question,
)
from molmo_jax.data.adapters.media import Media
from molmo_jax.data.adapters.video_labels import ACTION

SHORT, OPTIONS = 'video_short_answer', 'video_multiple_choice'
FIVE = columns('a0', 'a1', 'a2', 'a3', 'a4')
FOUR = columns('a0', 'a1', 'a2', 'a3')
SUTD = ('option0', 'option1', 'option2', 'option3')
HOW2QA = ('vid', 'span', 'wrong0', 'wrong1', 'wrong2', 'question', 'answer')
NARRATOR = re.compile(r'^#\w+ ')            # '#C C picks up a cup' of Ego4D's narrations


def _both(column: str, options: Get, right: Get, text: Get) -> Conversations:
  return both(question(column, text, SHORT), choice(column, options, right, OPTIONS))


def _clevrer(row: Row) -> Iterator[Row]:
  for q in row['questions']:
    right = [i for i, c in enumerate(q.get('choices', ())) if c['answer'] == 'correct']
    yield dict(video=row['video_filename'], question=q['question'], answer=q.get('answer'),
               options=[c['choice'] for c in q.get('choices', ())],
               right=right[0] if len(right) == 1 else None)


def _perception(row: Row) -> Iterator[Row]:
  for q in row.get('mc_question') or ():
    yield q | {'video': row['video']}


def _narratives(row: Row) -> Iterator[Row]:
  for q in row['qa_pairs']:
    yield dict(video=row['video_name'], question=q['raw_question'], answer=q['raw_answer'])


def _llava(*suffixes: str) -> Adapter:
  """LLaVA-Video-178K: turns of 'human' and 'gpt'; `suffixes` say which kind of question a file
  holds.
  """
  style = OPTIONS if suffixes[0].startswith('mc') else SHORT
  def conversations(row: Row, context: Context) -> Iterator[Conversation]:
    texts = [turn['value'].replace('<image>\n', '').strip() for turn in row['conversations']]
    for i in range(0, len(texts) - 1, 2):
      yield Conversation((texts[i], texts[i + 1]), style)
  return adapter(tuple(f'*/*{suffix}*.json' for suffix in suffixes),
                 lambda row: Media(video=f'{row["data_source"]}/{row["video"]}'), conversations,
                 'loader')


def _antonym(row: Row, context: Context) -> Iterator[Conversation]:
  texts = [NARRATOR.sub('', row[name]).strip()
           for name in ('clip_text', 'action_antonym_clip_text')]
  right, wrong = (text[:1].upper() + text[1:] for text in texts)
  yield prompts.shuffled_choice(context, prompts.draw(context, ACTION), right, [wrong, 'Not sure'],
                                OPTIONS)


def _span(row: Row, end: int) -> float:
  """Start or end of '[12.5:30.25]'."""
  return float(row['span'].strip('[] ').split(':')[end])


def _how2qa(row: Row, context: Context) -> Iterator[Conversation]:
  wrong = [row[f'wrong{i}'] for i in range(3)]
  yield prompts.shuffled_choice(context, row['question'], row['answer'], wrong, OPTIONS)


def _cinepile(row: Row) -> Media:
  return Media(video=row['videoID'],
               subtitles=(row['subtitles'] or '').replace('<subtitle> ', '').strip())


VIDEO_QA = {
  'tgif': adapter('Train_*_question.csv', about_video('gif_name'),
                  both(question('question', lambda row: row['answer'] if 'a1' not in row else None, SHORT),
                       choice('question', columns('a1', 'a2', 'a3', 'a4', 'a5'), 'answer', OPTIONS)), 'loader',
                  separator='\t'),
  'tvqa_with_sub': adapter('tvqa_train.jsonl', about_video('vid_name', lambda row: row['ts'].split('-')[0],
                                                           lambda row: row['ts'].split('-')[1]),
                           choice('q', FIVE, 'answer_idx', OPTIONS), 'loader',
                           keep=lambda row: 'nan' not in row['ts']),
  'paxion': adapter('**/train.jsonl', about_video('video_uid', 'clip_start', 'clip_end'), _antonym, 'loader'),
  'llava_video_mc_academic': _llava('mc_qa', 'mc'),
  'llava_video_oe_academic': _llava('oe_qa', 'oe'),
  'perception_test': Adapter(('all_train.json', '*train*.json'), about_video('video'),
                             choice('question', 'options', 'answer_id', OPTIONS), 'memory', key='video',
                             explode=_perception, grouped=True),
  'nextqa_mc': adapter(('train.csv', '**/train.csv'), about_video('video'), choice('question', FIVE, 'answer', OPTIONS),
                       'reader'),
  'intent_qa': adapter('train.csv', about_video('video_id'), choice('question', FIVE, 'answer', OPTIONS), 'loader'),
  'social_iq2': adapter(('qa/qa_train.json', 'qa_train.json'), about_video('vid_name'),
                        choice('q', FOUR, 'answer_idx', OPTIONS), 'loader', kind='.jsonl'),
  'news_video_qa': adapter(('**/new_train.json', 'train.json'), about_video('uni_clipped_id'),
                           question('question', 'answer', SHORT), 'loader'),
  'how2qa': adapter('how2QA_train_release.csv',
                    about_video('vid', lambda row: _span(row, 0), lambda row: _span(row, 1)), _how2qa, 'loader',
                    columns=HOW2QA),
  'sutd_trafficqa': adapter('R2_train.jsonl', about_video('vid_filename'),
                            choice('q_body', columns(*SUTD), lambda row: row[SUTD[row['answer']]], OPTIONS), 'loader'),
  'sportsqa_oe': adapter(('meta-data/train.json', 'train.json'), about_video('video'),
                         question('question', 'answer', SHORT), 'loader'),
  'road_text_vqa': adapter('train.json', about_video('video'), question('question', 'answer', SHORT), 'loader',
                           records='data'),
  'video_localized_narratives': Adapter(('**/qa_text_output*.json',), about_video('video'),
                                        question('question', 'answer', SHORT), 'loader', records='annotations',
                                        explode=_narratives, grouped=True, most=10),
  'clevrer': Adapter(('train.json',), about_video('video'), _both('question', 'options', 'right', 'answer'), 'loader',
                     explode=_clevrer, grouped=True, most=10),
  'star': adapter('STAR_train.json', about_video('video_id', 'start', 'end'),
                  _both('question', lambda row: [c['choice'] for c in row['choices']], 'answer', 'answer'), 'loader',
                  most=5),
  'funqa': adapter('FunQA_train.json', about_video('visual_input'), question('instruction', 'output', SHORT), 'loader',
                   # answers are times or scores
                   keep=lambda row: row['task'] not in ('H1', 'C1', 'M1', 'C4', 'C5')),
  'cinepile_with_sub': adapter(('v2/train-*.parquet', 'data/train-*.parquet'), _cinepile,
                               choice('question', 'choices', 'answer_key_position', f'{OPTIONS}_w_subtitle'), 'loader',
                               keep=lambda row: bool(row['subtitles'])),
}
