"""Labels and captions of (parts of) videos as questions and answers: what is done here, and when
does it happen?
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from molmo_jax.data.adapters import prompts
from molmo_jax.data.adapters.adapter import Adapter, Context, Conversation, Conversations, Row
from molmo_jax.data.adapters.fields import about_video, adapter, label

ACTION = ('What action takes place in the video?', 'Which activity does this video show?',
          'What is being done in this clip?')
REPETITIONS = ('How many times is the action repeated?', 'Count the repetitions in this clip.')
WHEN = ('When does this happen: {query}?', 'Give the start and the end of: {query}.')
OBJECT = ('Describe what {name} does in this video.', 'What happens to {name}? Describe it.')
MOMENTS_IN_TIME = ('video', 'label', 'agreement', 'disagreement')
OTHER_VOICES = ('child+', 'adult+')         # who speaks, not what is done


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
      text = step['label'] if 'label' in step else f'{step["sentence"]}.'
      yield dict(video=row['id'], subset=row['subset'], start=start, end=end, text=text)


def _labelled(file: str, style: str, schema: str) -> Adapter:
  return adapter(file, about_video('video', 'start', 'end'), label(ACTION, 'text', style), schema,
                 records='database',
                 key='id', explode=_segments, keep=lambda row: row['subset'] == 'training')


def _charades(row: Row) -> Iterator[Row]:
  """'VIDEO start end##sentence'."""
  place, text = row['line'].split('##')
  video, start, end = place.split()
  if float(start) < float(end):
    yield dict(video=video, start=start, end=end, text=text)


def _when(query: str, windows: Callable[[Row], Sequence[tuple[float, float]]],
          style: str) -> Conversations:
  """When something happens: 'start - end' in seconds, one window a line."""
  def conversations(row: Row, context: Context) -> Iterator[Conversation]:
    asked = prompts.draw(context, WHEN, query=str(row[query]).strip().rstrip('.?'))
    yield prompts.answer(asked, '\n'.join(f'{start:.2f} - {end:.2f}'
                                          for start, end in windows(row)), style)
  return conversations


def _language_queries(row: Row) -> Iterator[Row]:
  """Ego4D's natural language queries: `clips` of a video, in seconds of the clip."""
  for clip in row['clips']:
    for annotation in clip['annotations']:
      for query in annotation['language_queries']:
        if query.get('query') and query['clip_start_sec'] < query['clip_end_sec']:
          yield query | {'video': clip['clip_uid']}


def _actors(row: Row, context: Context) -> Iterator[Conversation]:
  for actor in row['actor_narratives']:
    question = prompts.draw(context, OBJECT, name=actor['actor_name'].lower())
    yield prompts.answer(question, actor['caption'], 'video_object_caption')


def _motion(row: Row, context: Context) -> Iterator[Conversation]:
  yield prompts.caption(context, row['motion_caption'], 'video_motion_caption')


VIDEO_LABELS = {
  'countix_oe': Adapter(('countix_train.csv',),
                        about_video('video_id', 'repetition_start', 'repetition_end'),
                        label(REPETITIONS, 'count', 'video_short_answer'), 'memory'),
  'kinetics710': Adapter(('**/train.csv', '*train*.csv'), about_video('youtube_id'),
                         label(ACTION, 'label', 'kinetics_label'), 'memory'),
  'moments_in_time': Adapter(('trainingSet.csv',), about_video('video'),
                             label(ACTION, lambda row: row['label'].replace('+', ' '),
                                   'moments_in_time_label'),
                             'memory', columns=MOMENTS_IN_TIME,
                             keep=lambda row: not row['label'].startswith(OTHER_VOICES)),
  'charades_sta': adapter('charades_sta_train.txt', about_video('video', 'start', 'end'),
                          label(ACTION, 'text', 'charades_sta'), 'loader', explode=_charades),
  'coin': _labelled('COIN.json', 'coin_label', 'loader'),
  'youcook2': _labelled('youcookii_annotations_trainval.json', 'youcook2_label', 'loader'),
  'activitynet': _labelled('activity_net.v1-3.min.json', 'activitynet_label', 'loader'),
  'epic_kitchens': adapter('**/EPIC_100_train.csv',
                           about_video('video_id', lambda row: clock(row['start_timestamp']),
                                       lambda row: clock(row['stop_timestamp'])),
                           label(ACTION, 'narration', 'epic_kitchens_label'), 'loader'),
  'ego4d_all': adapter('**/nlq_train.json', about_video('video'),
                       _when('query', lambda row: [(row['clip_start_sec'], row['clip_end_sec'])],
                             'ego4d_nlq_temporal_grounding'), 'loader', records='videos',
                       explode=_language_queries),
  'qv_highlights': adapter('highlight_train_release.jsonl', about_video('vid'),
                           _when('query', lambda row: row['relevant_windows'],
                                 'video_temporal_grounding'),
                           'memory'),
  'motionbench_train': Adapter(('**/train.jsonl',), about_video('video_path'), _motion, 'loader'),
  'video_localized_narratives_caption': Adapter(('**/*_train.jsonl',), about_video('video_id'),
                                                _actors, 'loader',
                                                keep=lambda row: bool(row['actor_narratives'])),
}
