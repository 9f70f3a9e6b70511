"""Academic questions about images: Molmo2's copies on the Hub, and the files of the datasets
themselves.
"""

from __future__ import annotations

from collections.abc import Iterator

from molmo_jax.data.adapters import prompts
from molmo_jax.data.adapters.adapter import Adapter, Context, Conversation, Row
from molmo_jax.data.adapters.fields import about_image, adapter, choice, question
from molmo_jax.data.adapters.media import Media, image

# questions of ChartQA; weighted so that both parts count alike (docs/training.md §2.5)
HUMAN, AUGMENTED = 7398, 20901


def _train(config: str = 'train') -> tuple[str, ...]:
  return (f'{config}/train-*.parquet', 'data/train-*.parquet', f'{config}/*.parquet',
          '**/train-*.parquet')


def _messages(style: str, most: int | None = None, flat: bool = False) -> Adapter:
  """Molmo2's copies: `image` is a path, `message_list` the questions about it."""
  def explode(row: Row) -> Iterator[Row]:
    for message in row['message_list'] if flat else ():
      yield row | {'message_list': [message]}
    if not flat:
      yield row
  def conversations(row: Row, context: Context) -> Iterator[Conversation]:
    for message in row['message_list'][:most]:
      answers = message.get('answers') or [message.get('answer')]
      answers = [answers] if isinstance(answers, str) else [a for a in answers if a is not None]
      yield prompts.answer(message['question'],
                           prompts.usual_answer(context, [str(a) for a in answers]), style)
  return Adapter(_train(), about_image('image'), conversations, 'loader', explode=explode)


def _okvqa(row: Row) -> Iterator[Row]:
  for qa in row['qas']:
    yield dict(image=row['image'], question=qa['question'],
               answers=[a['raw_answer'] for a in qa['answers']])


def _unnested(row: Row) -> Iterator[Row]:
  for message in row['message_list']:
    yield dict(image=row['image'], **message)


def _chart_weight(row: Row) -> float:
  part = AUGMENTED if row['human_or_machine'] == 0 else HUMAN
  return 2 * part / (HUMAN + AUGMENTED)


def _science_question(row: Row) -> str:
  return f'{row["hint"]}\n{row["question"]}' if row['hint'] else row['question']


def _conversation(style: str):
  """LLaVA's form: 'conversations' of {'from': 'human' | 'gpt', 'value'}; a mark for each image is
  removed.
  """
  def conversations(row: Row, context: Context) -> Iterator[Conversation]:
    texts = [turn.get('value', turn.get('content', '')).replace('<image>', '').strip()
             for turn in row.get('conversations') or row['conversation']]
    yield Conversation(tuple(texts[:len(texts) // 2 * 2]), style)
  return conversations


def _images(row: Row) -> Media:
  found = [x.get('path') if isinstance(x, dict) and not x.get('bytes') else x
           for x in row['images']]
  return Media(sum((image(x) for x in found), ()))


def _mantis(folder: str) -> Adapter:
  return Adapter((f'{folder}/train-*.parquet',), _images, _conversation('mantis_instruct_da'),
                 'memory',
                 keep=lambda row: 1 < len(row['images'] or ()) <= 5)


def _figure(row: Row) -> str:
  return f'png/{row["image_index"]}.png'


_YES = {0: 'No', 1: 'Yes'}

IMAGE_QA = {
  'coco_2014_vqa_multi': _messages('vqa2'),
  'text_vqa': _messages('text_vqa', flat=True),
  'tally_qa': _messages('tally_qa'),
  'okvqa': Adapter(_train(), about_image('image'), question('question', 'answers', 'okvqa'),
                   'loader', explode=_okvqa),
  'a_okvqa_mc': Adapter(_train(), about_image('image'),
                        choice('question', 'choices', 'answer_idx', 'a_okvqa_mc'),
                        'loader', explode=_unnested),
  'a_okvqa_da': Adapter(_train(), about_image('image'),
                        question('question', 'direct_answers', 'a_okvqa_da'), 'loader',
                        explode=_unnested),
  'chart_qa_weighted': Adapter(_train(), about_image('image'),
                               question('query', 'label', 'chart_qa', _chart_weight),
                               'loader'),
  'doc_qa': adapter('train_v1.0*.json', about_image('image'),
                    question('question', 'answers', 'doc_qa'), 'loader',
                    records='data'),
  'info_qa': adapter('infographicsVQA_train*.json', about_image('image_local_name', 'images/'),
                     question('question', 'answers', 'info_qa'), 'loader', records='data'),
  'st_qa': adapter('train_task_3.json', about_image('file_path'),
                   question('question', 'answers', 'st_qa'), 'loader',
                   records='data'),
  'ai2_diagram_v2_mix_transparent': Adapter(
    _train(), about_image('image'),
    choice('question', 'answer_texts', 'correct_answer', 'ai2_diagram'), 'loader',
    keep=lambda row: not row['abc_label'] or row['has_transparent_box']),
  'science_qa_img': Adapter(_train(), about_image('image'),
                            choice(_science_question, 'choices', 'answer', 'science_qa'), 'loader',
                            keep=lambda row: row['image'] is not None),
  'tabwmp_da': Adapter(('problems_train.json',), about_image(lambda row: f'tables/{row["id"]}.png'),
                       question('question', 'answer', 'tabwmp_da'), 'memory', key='id'),
  'dv_qa': adapter('train_qa.json', about_image('image', 'images/'),
                   question('question', 'answer', 'dv_qa'), 'memory'),
  'figure_qa': adapter('train1/qa_pairs.json', about_image(_figure, 'train1/'),
                       question('question_string', lambda row: _YES[row['answer']], 'figure_qa'),
                       'memory',
                       records='qa_pairs'),
  'plot_qa': adapter(('train/qa_pairs_V2.json', '**/qa_pairs_V2.json'),
                     about_image(lambda row: f'{row["image_index"]}.png', 'train/png/'),
                     question('question_string', 'answer', 'plot_qa'), 'memory',
                     records='qa_pairs'),
  'mantis_llava_665k_multi': _mantis('llava_665k_multi'),
  'mantis_nlvr2': _mantis('nlvr2'),
  'mantis_spot_the_diff': _mantis('spot-the-diff'),
  'pixmo_multi_image_qa': adapter(
    ('data/train-*.parquet', '**/train-*.parquet'), lambda row: Media(tuple(row['image_urls'])),
    question('question', 'answer', 'correction_qa'), 'memory',
    keep=lambda row: 1 < len(row['image_urls']) <= 5),
}
