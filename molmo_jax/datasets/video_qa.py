"""Academic questions about videos: what the declarations in `video_qa.toml` need code for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from absl import logging

from molmo_jax.data.facts import Fact
from molmo_jax.datasets.dataset import get
from molmo_jax.datasets.files import Files, MissingTable, Row, read_json

FIVE = ('a0', 'a1', 'a2', 'a3', 'a4')
SUTD = ('option0', 'option1', 'option2', 'option3')
NARRATOR = re.compile(r'^#\S\s*')           # '#C C picks up a cup' of Ego4D's narrations


def tgif_answer(row: Row) -> str:
  """The answer of an open question, or the right option."""
  return row[f'a{int(row["answer"]) + 1}'] if 'a1' in row else row['answer']


def clevrer(row: Row) -> Iterator[Fact]:
  """Open questions, and those with options of which exactly one is right."""
  for q in row['questions']:
    if 'answer' in q:
      yield {'style': 'video_short_answer', 'question': q['question'], 'answers': [q['answer']]}
      continue
    right = [i for i, c in enumerate(q['choices']) if c['answer'] == 'correct']
    if len(right) == 1:
      yield {'style': 'video_multiple_choice', 'question': q['question'], 'right': right[0],
             'options': [c['choice'] for c in q['choices']]}


def turns(row: Row) -> Iterator[Fact]:
  """LLaVA-Video-178K: turns of 'human' and 'gpt'."""
  texts = [turn['value'] for turn in row['conversations']]
  for question, answer in zip(texts[::2], texts[1::2]):
    yield {'question': question.removeprefix('<image>\n'), 'answers': [answer.strip()]}


def _action_of(text: str) -> str:
  text = NARRATOR.sub('', text)
  return text[:1].upper() + text[1:]


def antonym(row: Row) -> Iterator[Fact]:
  """What is done against its opposite: Something-Something V2 and Ego4D."""
  if 'rel_vid_path' in row:
    right, wrong = row['label'], row['label_action_antonym_clip_text']
  else:
    right, wrong = _action_of(row['clip_text']), _action_of(row['action_antonym_clip_text'])
  yield {'asks': 'matching_action', 'options': [right, wrong, 'Not sure'],
         'right': 0, 'order': 'any'}


def ends_after_it_begins(row: Row) -> bool:
  """Whether the part of the video is not empty."""
  return float(row['clip_start']) < float(row['clip_end'])


def span(row: Row) -> tuple[float, float]:
  """Start and end of '[12.5:30.25]', seconds."""
  start, end = row['span'].strip('[] ').split(':')
  return float(start), float(end)


def has_span(row: Row) -> bool:
  """Whether the part of the video is not empty."""
  return span(row)[0] < span(row)[1]


def intent_answer(row: Row) -> str:
  """The right option."""
  return row[f'a{row["answer"]}']


def right_of_sutd(row: Row) -> int:
  """The number of the right option among those that are not empty."""
  return get(row, SUTD).index(row[SUTD[int(row['answer'])]])


def any_answer(row: Row) -> str:
  """One of several answers is drawn."""
  return 'any'


def subtitled_style(row: Row) -> str:
  """With or without subtitles."""
  return f'video_multiple_choice{"_w_subtitle" if row.get("subtitles") else ""}'


def examples(row: Row) -> list[Row]:
  """The questions of a row, or in its `examples`."""
  return row.get('examples') or [row]


def cinepile_subtitles(files: Files, row: Row) -> str:
  """The subtitles as one text."""
  return (row['subtitles'] or '').replace('<subtitle> ', '').strip()


def star(row: Row) -> Iterator[Row]:
  """Texts of the options, and which one is right."""
  options = [c['choice'] for c in row['choices']]
  right = options.index(row['answer']) if row['answer'] in options else None
  yield row | {'options': options, 'right': right}


def funqa_choice(row: Row) -> Iterator[Row]:
  """The last two lines of an instruction: 'The Question is: …', 'The Options are: [Options 1: …]'.
  """
  *_, question, listed = row['instruction'].split('\n')
  options = ast.literal_eval(listed.replace('The Options are: ', '').strip())
  if str(row['gt']).isdigit() and 0 < int(row['gt']) <= len(options):
    yield {'visual_input': row['visual_input'], 'right': int(row['gt']) - 1,
           'question': question.replace('The Question is:', '').strip(),
           'options': [o.replace(f'Options {i}: ', '').strip()
                       for i, o in enumerate(options, start=1)]}


def tv_questions(files: Files) -> Iterator[Row]:
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


def tv_part(row: Row) -> tuple[float, float]:
  """Start and end of '12.5-30.25', seconds."""
  start, end = row['ts'].split('-')
  return float(start), float(end)


def repetitions(files: Files) -> Iterator[Row]:
  """Countix as it was prepared: every class of actions has questions of its own."""
  questions = read_json(files.root / 'class_to_question.json')
  for row in files.tables('**/countix_train_mapped.csv'):
    yield row | {'questions': questions[row['class']]}


def repeated(row: Row) -> list[Fact]:
  """How often something is done, in one of several wordings."""
  return [{'questions': row['questions'], 'answers': [str(row['count'])]}]


def five_options(row: Row) -> list[str]:
  """The options, the empty ones too."""
  return [row[name] for name in FIVE]
