"""The columns of benchmarks about a video: where a question, its video, its options and its answer
are.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from molmo_jax.evaluation.tasks.prompts import (
  LETTER_DIRECTLY,
  LETTER_ONLY,
  choose,
  lettered,
  video_mme,
  with_instruction,
)
from molmo_jax.evaluation.tasks.reader import Reader, Row, TaskError
from molmo_jax.evaluation.tasks.rows import Fields, Record, optional, rows

MC, MC_SUBTITLES = 'video_eval_multiple_choice', 'video_eval_multiple_choice_w_subtitle'

# Folder of the videos of every part of MVBench, by the name of its JSON file.
MVBENCH = {
  'action_sequence': 'star/Charades_v1_480', 'action_prediction': 'star/Charades_v1_480',
  'action_antonym': 'ssv2_video', 'fine_grained_action': 'Moments_in_Time_Raw/videos',
  'unexpected_action': 'FunQA_test/test', 'object_existence': 'clevrer/video_validation',
  'object_interaction': 'star/Charades_v1_480', 'object_shuffle': 'perception/videos',
  'moving_direction': 'clevrer/video_validation', 'action_localization': 'sta/sta_video',
  'scene_transition': 'scene_qa/video', 'action_count': 'perception/videos',
  'moving_count': 'clevrer/video_validation', 'moving_attribute': 'clevrer/video_validation',
  'state_change': 'perception/videos', 'fine_grained_pose': 'nturgbd',
  'character_order': 'perception/videos',
  'egocentric_navigation': 'vlnqa', 'episodic_reasoning': 'tvqa/frames_fps3_hq',
  'counterfactual_inference': 'clevrer/video_validation',
}
TEMP_COMPASS_PROMPTS = {'multi-choice': 'Please directly give the best option:',
                        'yes_no': 'Please answer yes or no:'}


def stem(row: Row) -> str:
  return PurePosixPath(row['_file']).stem


def in_folder(folder: str, name: str | Callable[[Row], str],
              suffix: str = '') -> Callable[[Reader, Row], str]:
  """Path of the video that a column names, in `folder`."""
  return lambda reader, row: reader.video(folder,
                                          f'{name(row) if callable(name) else row[name]}{suffix}')


def mvbench_video(reader: Reader, row: Row) -> str:
  part = stem(row)
  if part not in MVBENCH:
    raise TaskError(f'{row["_file"]}: MVBench has no part {part}; its parts are: '
      f'{", ".join(MVBENCH)}')
  name = f'{row["video"]}/video.mp4' if part == 'episodic_reasoning' else row['video']
  return reader.video(f'video/{MVBENCH[part]}', name)


def clip_of(start: str, end: str) -> Callable[[Row], tuple[float, float] | None]:
  def clip(row: Row) -> tuple[float, float] | None:
    return None if row.get(start) is None or row.get(end) is None else (float(row[start]),
                                                                        float(row[end]))
  return clip


def index_of_answer(row: Row) -> int:
  if row['answer'] not in row['candidates']:
    raise TaskError(f"{row['_file']}: the answer {row['answer']!r} is none of the candidates "
      f"{row['candidates']}")
  return row['candidates'].index(row['answer'])


def nested(name: str) -> Callable[[Row], Iterator[Row]]:
  """Questions that lie in a list `name` inside of the row of their video."""
  return lambda row: (row | question for question in row[name])


def motionbench_video(reader: Reader, row: Row) -> str:
  own = reader.video('self-collected', row['video_path'])
  return own if Path(own).exists() else reader.video('public-dataset', row['video_path'])


def motionbench(reader: Reader) -> Iterator[Record]:
  """Questions without an answer (NA) are those of the test server."""
  fields = Fields(question='question', video=motionbench_video,
                  id=lambda r: f'{r["uid"]}_{r["key"]}',
                  answers=lambda r: None if r['answer'] == 'NA' else r['answer'],
                  groups=(optional('question_type'),))
  return rows('**/video_info.meta.jsonl', fields, each=nested('qa'),
              keep=None if reader.split == 'test' else lambda r: r['answer'] != 'NA')(reader)


def temp_compass_questions(row: Row) -> Iterator[Row]:
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


def lvbench_lines(text: str) -> tuple[str, list[str]]:
  """The question of LVBench and its options '(A) …', which become 'A. …'."""
  question, *options = [line.strip() for line in text.replace('\r\n', '\n').split('\n')
                        if line.strip()] or ['']
  return question, [re.sub(r'^\(?([A-Za-z0-9])[).]+\s*', r'\1. ', option) for option in options]


def lvbench_question(row: Row) -> str:
  question, options = lvbench_lines(row['question'])
  return '\n'.join([question, *options, LETTER_ONLY])


def video_mme_subtitles(reader: Reader, row: Row) -> list[dict] | None:
  lines = _json(reader, 'subtitles.json').get(row['videoID'])
  return None if lines is None else [{k: line[k] for k in ('start', 'end', 'text')}
                                     for line in lines.values()]


def _json(reader: Reader, name: str) -> Any:
  return _read_json(reader.root / name)


# the same file for every row, or another one for each
@functools.lru_cache(maxsize=1)
def _read_json(path: Path) -> Any:
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError) as error:
    raise TaskError(f'{path}: {error}; docs/evaluation.md says where to get the dataset') from None


def _seconds(text: str) -> float:
  hours, minutes, seconds = text.split(':')
  return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def long_subtitles(reader: Reader, row: Row) -> list[dict]:
  """Subtitles of LongVideoBench count from the start of a longer video; those outside of this one
  are dropped.
  """
  begin = row['starting_timestamp_for_subtitles']
  lines = []
  for line in _json(reader, f'subtitles/{row["subtitle_path"]}'):
    if 'timestamp' in line:
      start, end = line['timestamp']
      end, text = end if isinstance(end, float) else row['duration'], line['text']
    else:
      start, end, text = _seconds(line['start']), _seconds(line['end']), line['line']
    if end >= begin and start <= begin + row['duration'] and end >= start:
      lines.append({'start': max(start - begin, 0.0), 'end': end - begin, 'text': text})
  return lines


def long_video_rows(style: str, subtitles: Callable | None) -> Callable[[Reader], Iterator[Record]]:
  files = {'validation': 'lvb_val.json', 'test': 'lvb_test_wo_gt.json'}
  return rows(files, Fields(
      question='question', video=in_folder('videos', 'video_path'), options='candidates',
      index=optional('correct_choice'), prompt=with_instruction(LETTER_DIRECTLY),
      subtitles=subtitles,
      style=lambda r: style, id='id',
      groups=(lambda r: f'duration_{r["duration_group"]}', 'question_category')))


def video_mme_rows(style: str, subtitles: Callable | None) -> Callable[[Reader], Iterator[Record]]:
  return rows('**/test-*.parquet', Fields(
      question='question', video=in_folder('data', 'videoID', '.mp4'), options='options',
      letter='answer',
      prompt=video_mme, style=lambda r: style, subtitles=subtitles, id='question_id',
      metadata={name: name for name in ('duration', 'sub_category', 'task_type')}))


def mlvu_files(numbers: str) -> dict[str, str]:
  """Files of the parts of MLVU whose names begin with one of the digits."""
  return {'validation': f'**/json/[{numbers}]_*.json', 'test': '**/test_mcq_gt.json'}


def mlvu_video(reader: Reader, row: Row) -> str:
  return reader.video('video' if reader.split == 'test' else f'video/{stem(row)}', row['video'])


def mlvu_subset(row: Row) -> str | None:
  return re.sub(r'^\d+_', '', stem(row)) if 'json/' in row['_file'] else None


def with_kind(row: Row) -> Row:
  return row | {'kind': stem(row).removeprefix('temporalbench_')}


def temporal_choice(row: Row) -> Iterator[Row]:
  """The options of TemporalBench, lines 'A. …' between the question and its instruction."""
  parts = [line.strip() for line in row['question'].split('\n') if line.strip()]
  options = [match.group(2).strip() for line in parts[1:-1]
             if (match := re.match(r'([A-Z])\.(.*)', line))]
  yield with_kind(row) | {'question': parts[0], 'options': options}


def vinoground_sides(row: Row) -> Iterator[Row]:
  """'idx' is '12_pos' or '12_neg': number of the pair, and which side of it."""
  pair, _, side = str(row['idx']).rpartition('_')
  yield row | {'kind': stem(row).removeprefix('vinoground_'), 'pair': pair, 'side': side}


def hallucer(row: Row) -> Iterator[Row]:
  category = stem(row)
  for question in (row['basic'], row['hallucination']):
    yield row | question | {'category': category,
                            'question_group': f'{row["_number"]}-{row["basic"]["video"]}'}


def numbered(found: list[Row]) -> list[Row]:
  return [row | {'_number': number} for number, row in enumerate(found)]


def video_hallucer(reader: Reader) -> Iterator[Record]:
  fields = Fields(question=lambda r: f'{r["question"]}\nPlease answer yes or no:',
                  video=lambda reader, r: reader.video(f'{r["category"]}/videos', r['video']),
                  answers='answer',
                  options=lambda r: ['yes', 'no'],
                  metadata={n: n for n in ('question_group', 'category')})
  return rows('*/*.json', fields,
              arrange=lambda found: [q for row in numbered(found) for q in hallucer(row)])(reader)


def is_choice(row: Row) -> bool:
  return row['eval_method'] == 'multiple_choice'


def video_ocr_rows(choices_only: bool) -> Callable[[Reader], Iterator[Record]]:
  return rows('dataset.json', Fields(
      question='question', video=lambda reader, r: reader.video('Video', f'{r["video_index"]}.mp4'),
      options=lambda r: r['option'] or None, answers='answer',
      prompt=lambda q, options,
      version: with_instruction(LETTER_DIRECTLY)(q, options, version) if options else q,
      style=lambda r: MC if is_choice(r) else 'video_eval_short_answer',
      id=lambda r: f'{r["video_index"]}_{r["index"]}',
      metadata={'eval_method': 'eval_method', 'task': 'task'},
      groups=('task_type',)), keep=is_choice if choices_only else None)


def ego_schema_index(row: Row) -> int | None:
  return None if row.get('answer') in (None, '') else int(row['answer'])


def highlights_question(row: Row) -> str:
  return (f'Here is a query: {row["query"].rstrip(".")}. Where are all the segments for the query? '
    'Report the segments in seconds.')
