"""Labels and captions of (parts of) videos as questions and answers: what is done here, and when
does it happen?
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from molmo_jax.data.facts import Fact
from molmo_jax.datasets.dataset import Dataset, Fields, Training, chained, clip_of, table
from molmo_jax.datasets.files import Files, Row
from molmo_jax.datasets.image_qa import AI2
from molmo_jax.datasets.task import Task
from molmo_jax.datasets.video_columns import in_folder

MOMENTS_IN_TIME = ('video', 'label', 'agreement', 'disagreement')
OTHER_VOICES = ('child+', 'adult+')         # who speaks, not what is done
MOST_WINDOWS = 5


def clock(text: str) -> float:
  """'00:01:02.5' in seconds."""
  seconds = 0.0
  for part in text.split(':'):
    seconds = 60 * seconds + float(part)
  return seconds


def _segments(row: Row) -> Iterator[Row]:
  """Steps of a video with their segments in seconds: COIN, YouCook2, ActivityNet."""
  for step in row.get('annotation') or row.get('annotations') or ():
    start, end = step['segment']
    if start < end:
      yield dict(step, video=row['id'], start=start, end=end)


def _steps(file: str, *subsets: str):
  return table(file, records='database', key='id',
               each=lambda row: _segments(row) if row['subset'] in subsets else ())


def _charades(row: Row) -> Iterator[Row]:
  """'VIDEO start end##sentence'."""
  place, text = row['line'].split('##')
  video, start, end = place.split()
  if float(start) < float(end):
    yield dict(video=video, start=start, end=end, label=text)


def _labelled(style: str, asks: str, column: str = 'label'):
  """What is done in a part of a video, asked in one of several wordings."""
  return lambda row: [{'style': style, 'asks': asks, 'answers': [row[column]]}]


def _set(name: str, rows, video: Any, facts, source: str, clip=None, schema: str = 'loader',
         **training: Any) -> Dataset:
  return Dataset(name, rows, Fields(video=video, clip=clip, facts=facts), source, schema=schema,
                 training=(Training(name, **training),))


def _recipe_steps(row: Row) -> Iterator[Row]:
  """Every step twice: its part of the video alone, and the whole video with times."""
  for step in _segments(row) if row['subset'] == 'training' else ():
    yield step
    yield {key: step[key] for key in ('video', 'sentence', 'segment')}


def recipe_step(row: Row) -> list[Fact]:
  """A step of YouCook2: what is done in a part of the video, or in the whole one with times."""
  row = row | {'sentence': row['sentence'].removesuffix('.') + '.'}
  if 'start' in row:
    return _labelled('youcook2_label', 'action', 'sentence')(row)
  return [{'style': 'video_clip_short_caption_start_end', 'texts': [row['sentence']]}]


def _activity_questions(files: Files) -> Iterator[Row]:
  """ActivityNet-QA: questions and answers in two files, joined by their id."""
  answers = {row['question_id']: row['answer'] for row in files.tables('**/train_a.json')}
  for row in files.tables('**/train_q.json'):
    if row['question_id'] in answers:
      question = row['question'] if row['question'].endswith('?') else f'{row["question"].strip()}?'
      yield {'video': row['video_name'], 'question': question,
             'answer': str(answers[row['question_id']])}


def _activity(row: Row) -> list[Fact]:
  if 'question' in row:
    return [{'style': 'video_short_answer', 'question': row['question'],
             'answers': [row['answer']]}]
  return _labelled('activitynet_label', 'activity')(row)


def _moments(row: Row) -> Iterator[Row]:
  """Ego4D: a clip with its questions as Molmo2 was trained on them, or the natural language queries
  of Ego4D's own file: `clips` of a video, in seconds of the clip.
  """
  if 'clip' in row and not row.get('corrupt'):
    yield row | {'video': row['clip']}
  for clip in row.get('clips') or ():
    for annotation in clip['annotations']:
      for query in annotation['language_queries']:
        if query.get('query') and query['clip_start_sec'] < query['clip_end_sec']:
          yield query | {'video': clip['clip_uid']}


def _answered_moment(row: Row) -> list[Fact]:
  if 'message_list' in row:
    return [{'style': part['style'], 'question': part['question'], 'answers': [part['answer']]}
            for part in row['message_list']]
  return [{'style': 'ego4d_nlq_temporal_grounding', 'question': row['query'], 'answers': [
    f'Start: {row["clip_start_sec"]:.2f}, end: {row["clip_end_sec"]:.2f}']}]


def _actors(row: Row) -> Iterator[Fact]:
  """VidLN's own lines, or the table with lists of captions and names."""
  actors = row.get('actor_narratives') or [
    {'actor_name': name, 'caption': caption}
    for name, caption in zip(row.get('actor_names') or (), row.get('captions') or ())]
  for actor in actors:
    yield {'style': 'video_object_caption', 'object': actor['actor_name'].lower(),
           'texts': [actor['caption']]}


def _highlights_question(row: Row) -> str:
  return (f'Here is a query: {row["query"].rstrip(".")}. Where are all the segments for the query? '
          'Report the segments in seconds.')


def _highlights(row: Row) -> str:
  windows = ', '.join(f'[{start}-{end}]' for start, end in row['relevant_windows'])
  return f'Segments: {windows}'


def _few_windows(row: Row) -> bool:
  return len(row['relevant_windows']) <= MOST_WINDOWS


HIGHLIGHTS = Fields(_highlights_question, video=in_folder('videos', 'vid', '.mp4'),
                    style='video_short_answer', id=lambda r: f'{r["qid"]}_{r["vid"]}')
PART = clip_of('start', 'end')

DATASETS = (
  _set('kinetics710', table(('**/train.csv', '*train*.csv')), 'youtube_id',
       _labelled('kinetics_label', 'person_action'), 'github.com/cvdfoundation/kinetics-dataset',
       grouped=False, schema='memory'),
  _set('moments_in_time', table(
    'trainingSet.csv', columns=MOMENTS_IN_TIME,
    each=lambda row: [row | {'label': row['label'].replace('+', ' ')}]
    if not row['label'].startswith(OTHER_VOICES) else []), 'video',
       _labelled('moments_in_time_label', 'action'), 'moments.csail.mit.edu', grouped=False,
       schema='memory'),
  _set('charades_sta', table('charades_sta_train.txt', each=_charades), 'video',
       _labelled('charades_sta', 'person_action'), 'github.com/jiyanggao/TALL', PART),
  _set('coin', _steps('COIN.json', 'training'), 'video', _labelled('coin_label', 'action'),
       'coin-dataset.github.io', PART),
  _set('youcook2', table('youcookii_annotations_trainval.json', records='database', key='id',
                         each=_recipe_steps), 'video', recipe_step, 'youcook2.eecs.umich.edu',
       PART, note='steps as parts of the video, and with times'),
  _set('activitynet', chained(_steps('**/activity_net.v1-3.min.json', 'training', 'validation'),
                              _activity_questions), 'video', _activity,
       'activity-net.org; questions: github.com/MILVLG/activitynet-qa', PART),
  _set('epic_kitchens', table('**/EPIC_100_train.csv'), 'video_id',
       _labelled('epic_kitchens_label', 'action', 'narration'), 'epic-kitchens.github.io',
       clip_of(lambda r: clock(r['start_timestamp']), lambda r: clock(r['stop_timestamp']))),
  _set('ego4d_all', table(('**/ego4d_cached_train_metadata.*', '**/nlq_train.json'),
                          records='videos', each=_moments), 'video', _answered_moment,
       'ego4d-data.org; storage.googleapis.com/molmo-datasets/ego4d_cached_train_metadata.parquet',
       note='all tasks from the table of clips; of nlq_train.json the language queries'),
  Dataset('qv_highlights', table({'train': '**/highlight_train_release.jsonl',
                                  'validation': '**/highlight_val_release.jsonl'},
                                 keep=_few_windows), HIGHLIGHTS,
          'github.com/jayleicn/moment_detr (data/), videos: nlp.cs.unc.edu/data/jielei/qvh',
          'CC BY-NC-SA 4.0', 'loader',
          training=(Training('qv_highlights', fields=Fields(
            **vars(HIGHLIGHTS) | {'video': 'vid', 'answers': _highlights}),
                             note='questions with at most 5 moments'),),
          benchmarks=(Task('qv_highlights', 'qv_highlights', 'video', ('validation',),
                           max_new_tokens=40, groups=('more_video',), fields=Fields(
                             **vars(HIGHLIGHTS) | {'metadata': {'windows': 'relevant_windows'}}),
                           note='questions with more than 5 moments are left out'),)),
  _set('motionbench_train', table('**/train.jsonl'), 'video_path', lambda r: [
    {'style': 'video_motion_caption', 'texts': [r['motion_caption']]}],
       'motion-bench.github.io', grouped=False),
  _set('video_localized_narratives_caption', table('**/*_train.jsonl'),
       lambda f, r: f.video(str(r.get('video_id') or r.get('video'))), _actors,
       f'google.github.io/video-localized-narratives (CC BY 4.0), or {AI2}/'
       'Molmo2-VideoLocalizedNarrativesCaptionHf', grouped=False),
)
