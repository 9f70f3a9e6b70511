"""Labels and captions of (parts of) videos as questions and answers: what the declarations in
`video_labels.toml` need code for.
"""

from __future__ import annotations

from collections.abc import Iterator

from molmo_jax.data.facts import Fact
from molmo_jax.datasets.files import Files, Row
from molmo_jax.preprocess.tracks import parse_timestamp

OTHER_VOICES = ('child+', 'adult+')         # who speaks, not what is done


def segments(row: Row) -> Iterator[Row]:
  """Steps of a video with their segments in seconds: COIN, YouCook2, ActivityNet."""
  subset = row['subset']
  for step in row.get('annotation') or row.get('annotations') or ():
    start, end = step['segment']
    if start < end:
      yield dict(step, video=row['id'], start=start, end=end, subset=subset)


def moments_in_time(row: Row) -> Iterator[Row]:
  """Labels 'playing+music' of what is done; voices are left out."""
  if not row['label'].startswith(OTHER_VOICES):
    yield row | {'label': row['label'].replace('+', ' ')}


def timestamps(row: Row) -> tuple[float, float]:
  """The part of a video of EPIC-KITCHENS."""
  return parse_timestamp(row['start_timestamp']), parse_timestamp(row['stop_timestamp'])


def charades(row: Row) -> Iterator[Row]:
  """'VIDEO start end##sentence'."""
  place, text = row['line'].split('##')
  video, start, end = place.split()
  if float(start) < float(end):
    yield dict(video=video, start=start, end=end, label=text)


def recipe_steps(row: Row) -> Iterator[Row]:
  """Every step twice: its part of the video alone, and the whole video with times."""
  for step in segments(row):
    yield step
    yield {key: step[key] for key in ('video', 'sentence', 'segment', 'subset')}


def recipe_step(row: Row) -> list[Fact]:
  """A step of YouCook2: what is done in a part of the video, or in the whole one with times."""
  row = row | {'sentence': row['sentence'].removesuffix('.') + '.'}
  if 'start' in row:
    return [{'style': 'youcook2_label', 'asks': 'action', 'answers': [row['sentence']]}]
  return [{'style': 'video_clip_short_caption_start_end', 'texts': [row['sentence']]}]


def activity_questions(files: Files) -> Iterator[Row]:
  """ActivityNet-QA: questions and answers in two files, joined by their id."""
  answers = {row['question_id']: row['answer'] for row in files.tables('**/train_a.json')}
  for row in files.tables('**/train_q.json'):
    if row['question_id'] in answers:
      question = row['question'] if row['question'].endswith('?') else f'{row["question"].strip()}?'
      yield {'video': row['video_name'], 'question': question,
             'answer': str(answers[row['question_id']])}


def activity(row: Row) -> list[Fact]:
  """A question of ActivityNet-QA, or the label of a part of a video."""
  if 'question' in row:
    return [{'style': 'video_short_answer', 'question': row['question'],
             'answers': [row['answer']]}]
  return [{'style': 'activitynet_label', 'asks': 'activity', 'answers': [row['label']]}]


def moments(row: Row) -> Iterator[Row]:
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


def answered_moment(row: Row) -> list[Fact]:
  """Questions about a moment, and when it is."""
  if 'message_list' in row:
    return [{'style': part['style'], 'question': part['question'], 'answers': [part['answer']]}
            for part in row['message_list']]
  return [{'style': 'ego4d_nlq_temporal_grounding', 'question': row['query'], 'answers': [
    f'Start: {row["clip_start_sec"]:.2f}, end: {row["clip_end_sec"]:.2f}']}]


def actors(row: Row) -> Iterator[Fact]:
  """VidLN's own lines, or the table with lists of captions and names."""
  actors = row.get('actor_narratives') or [
    {'actor_name': name, 'caption': caption}
    for name, caption in zip(row.get('actor_names') or (), row.get('captions') or ())]
  for actor in actors:
    yield {'style': 'video_object_caption', 'object': actor['actor_name'].lower(),
           'texts': [actor['caption']]}


def highlights_question(row: Row) -> str:
  """Where the moments of a query are."""
  return (f'Here is a query: {row["query"].rstrip(".")}. Where are all the segments for the query? '
          'Report the segments in seconds.')


def highlights(row: Row) -> str:
  """The moments in seconds."""
  windows = ', '.join(f'[{start}-{end}]' for start, end in row['relevant_windows'])
  return f'Segments: {windows}'
