"""Benchmarks about a video: what the declarations in `video_benchmarks.toml` need code for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from molmo_jax.datasets.files import Files, Row, TaskError, read_json
from molmo_jax.datasets.prompts import LETTER_ONLY, choose, lettered
from molmo_jax.preprocess.tracks import parse_timestamp

TEMP_COMPASS_PROMPTS = {'multi-choice': 'Please directly give the best option:',
                        'yes_no': 'Please answer yes or no:'}
LABELLED = re.compile(r'(?=...)(?:\(([^)]{0,2})\)|([^\W_])(?:\)[ .]|\.))')


def stem(row: Row) -> str:
  """Name of the file that the row comes from, without its suffix."""
  return PurePosixPath(row['_file']).stem


def index_of_answer(row: Row) -> int:
  """Index of the answer among the candidates; a TaskError if it is none of them."""
  if row['answer'] not in row['candidates']:
    raise TaskError(f"{row['_file']}: the answer {row['answer']!r} is none of the candidates "
      f"{row['candidates']}")
  return row['candidates'].index(row['answer'])


def motionbench_video(files: Files, row: Row) -> str:
  """The video of a MotionBench row, in one of two folders."""
  own = files.video(f'self-collected/{row["video_path"]}')
  return own if Path(own).exists() else files.video(f'public-dataset/{row["video_path"]}')


def temp_compass_questions(row: Row) -> Iterator[Row]:
  """The questions of a TempCompass row, with their options where the task has some."""
  task = PurePosixPath(row['_file']).parent.name
  lines = row['question'].split('\n')
  row = row | {'task': task, 'whole_question': row['question'], 'options': None}
  if task == 'caption_matching':
    if row['answer'] not in lines[1:]:
      return                                  # no line is the answer: nothing to choose
    options = [line.split(':', 1)[1].strip() for line in lines[1:]]
    yield row | {'question': choose(lines[0], options), 'options': options,
                 'answer': lettered(options)[lines[1:].index(row['answer'])]}
  elif task in TEMP_COMPASS_PROMPTS:
    options = [line for line in lines[1:] if re.match(r'[A-D]\. ', line)]
    yield row | {'question': f'{row["question"]}\n{TEMP_COMPASS_PROMPTS[task]}',
                 'options': options if task == 'multi-choice' else ['yes', 'no']}


def lvbench_question(row: Row) -> str:
  """The question of LVBench; its options '(A) …', 'A) …' and 'A. …' become 'A. …', and one without
  a label gets its number.
  """
  question, *options = [line.strip() for line in row['question'].split('\n') if line.strip()]
  lines = []
  for number, option in enumerate(options, start=1):
    labelled = LABELLED.match(option)
    label = number if labelled is None else labelled[1] or labelled[2] or ''
    lines.append(f'{label}. {option[labelled.end() if labelled else 0:].strip()}')
  return '\n'.join([question, '\n'.join(lines), LETTER_ONLY])


def video_mme_subtitles(files: Files, row: Row) -> list[dict] | None:
  """Subtitles of a Video-MME video, times in seconds; None where it has none."""
  lines = read_json(files.root / 'subtitles.json').get(row['videoID'])
  return None if lines is None else [{k: line[k] for k in ('start', 'end', 'text')}
                                     for line in lines.values()]


def long_subtitles(files: Files, row: Row) -> list[dict]:
  """Subtitles of LongVideoBench count from the start of a longer video; those outside of this one
  are dropped.
  """
  begin = row['starting_timestamp_for_subtitles']
  lines = []
  for line in read_json(files.root / 'subtitles' / row['subtitle_path']):
    if 'timestamp' in line:
      start, end = line['timestamp']
      end, text = end if isinstance(end, float) else row['duration'], line['text']
    else:
      start, end, text = parse_timestamp(line['start']), parse_timestamp(line['end']), line['line']
    if end >= begin and start <= begin + row['duration'] and end >= start:
      lines.append({'start': max(start - begin, 0.0), 'end': end - begin, 'text': text})
  return lines


def mlvu_video(files: Files, row: Row) -> str:
  """The video of an MLVU row; its folder depends on the split."""
  return files.video(f'video/{row["video"]}' if files.split == 'test'
                     else f'video/{stem(row)}/{row["video"]}')


def mlvu_subset(row: Row) -> str | None:
  """Which of the tasks of MLVU the row belongs to, from the name of its file."""
  return re.sub(r'^\d+_', '', stem(row)) if 'json/' in row['_file'] else None


def temporal_question(row: Row) -> Iterator[Row]:
  """The row with its part of TemporalBench, from the name of its file."""
  yield row | {'kind': stem(row).removeprefix('temporalbench_')}


def temporal_choice(row: Row) -> Iterator[Row]:
  """The options of TemporalBench, lines 'A. …' between the question and its instruction."""
  parts = [line.strip() for line in row['question'].split('\n') if line.strip()]
  options = [match.group(2).strip() for line in parts[1:-1]
             if (match := re.match(r'([A-Z])\.(.*)', line))]
  yield from temporal_question(row | {'question': parts[0], 'options': options})


def vinoground_sides(row: Row) -> Iterator[Row]:
  """'idx' is '12_pos' or '12_neg': number of the pair, and which side of it."""
  pair, _, side = str(row['idx']).rpartition('_')
  kind = stem(row).removeprefix('vinoground_')
  yield row | {'kind': kind, 'pair': pair, 'side': side, 'options': ['A', 'B']}


def hallucer(rows: list[Row], split: str) -> list[Row]:
  """A basic question and one that leads astray; a group counts where both are answered right."""
  return [row | question | {
    'category': stem(row), 'question_group': f'{number}-{row["basic"]["video"]}',
    'options': ['yes', 'no']}
    for number, row in enumerate(rows) for question in (row['basic'], row['hallucination'])]


def ocr_style(row: Row) -> str:
  """With or without options."""
  choice = row['eval_method'] == 'multiple_choice'
  return 'video_eval_multiple_choice' if choice else 'video_eval_short_answer'


def motion_answer(row: Row) -> str | None:
  """The answer of MotionBench; 'NA': there is none."""
  return None if row['answer'] == 'NA' else row['answer']


def has_motion_answer(rows: list[Row], split: str) -> list[Row]:
  """The questions that have an answer; of the test split all."""
  return [row for row in rows if split == 'test' or row['answer'] != 'NA']


def compass_style(row: Row) -> str:
  """Yes or no, or options."""
  return 'video_eval_short_answer' if row['task'] == 'yes_no' else 'video_eval_multiple_choice'


def known_answer(row: Row) -> str | None:
  """The index of the answer, where it is published."""
  return None if row.get('answer') == '' else row.get('answer')


def question_types(row: Row) -> str:
  """All types of a question of LVBench as one group."""
  return ', '.join(row['question_type'])
