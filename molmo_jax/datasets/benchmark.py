"""The manifest of a benchmark, written from its public files."""

from __future__ import annotations

import collections
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from molmo_jax.data.conversations import is_drawn
from molmo_jax.data.record import parse_record
from molmo_jax.datasets.dataset import get, media_of, style_of
from molmo_jax.datasets.files import Files, Row, TaskError, at
from molmo_jax.datasets.prompts import choose_unlabelled
from molmo_jax.datasets.task import Task
from molmo_jax.datasets.training import relative
from molmo_jax.files import write_atomically
from molmo_jax.metrics import score
from molmo_jax.metrics.benchmarks import BENCHMARKS
from molmo_jax.metrics.choices import LETTERS
from molmo_jax.metrics.counting import is_counting_question
from molmo_jax.metrics.versions import MOLMO2
from molmo_jax.preprocess.reading import image_size

Record = dict[str, Any]                         # as in docs/data.md


def records(task: Task, root: Path, media: Path) -> Iterator[Record]:
  """The records of a task, whole as in docs/data.md.

  A question whose answer is kept by a test server becomes 'predictions_only'. A prompt that has
  more than one wording is kept as facts, and drawn when it is asked.

  Args:
    root: folder of the dataset.
    media: folder for pictures that lie inside of tables.

  Raises:
    TaskError: the dataset is not there or of another form.
  """
  files = Files(root, task.asked_split, media)
  seen: collections.Counter[str] = collections.Counter()
  for record in (task.records or (lambda f: _from_rows(task, f)))(files):
    whole = {'task': task.label, 'style': task.asked_style, 'metric': task.metric} | record
    seen[record['id']] += 1
    if seen[record['id']] > 1:                # a dataset may call several questions alike
      whole['id'] = f'{record["id"]}#{seen[record["id"]]}'
    if task.version != MOLMO2:
      whole['metadata'] = whole.get('metadata', {}) | {'version': task.version}
    if _needs_answers(whole['metric']) and not any(whole.get('answers', ())):
      whole = {key: value for key, value in whole.items() if key != 'answers'} | {
        'metric': 'predictions_only'}
    whole = _as_facts(whole)
    try:
      score('', parse_record(whole, f'{root}: question {whole["id"]}'), whole['metric'])
    except ValueError as error:               # ManifestError too
      raise TaskError(str(error)) from None
    yield whole


def _from_rows(task: Task, files: Files) -> Iterator[Record]:
  for number, row in enumerate(task.questions(files)):
    with at(row):
      record = record_of(row, task, files, number)
    yield record


def record_of(row: Row, task: Task, files: Files, number: int) -> Record:
  """The record of one row, the `number`-th question of the task.

  Raises:
    TaskError: a column that does not exist; the message names the file and the columns that do.
  """
  options = get(row, task.options)
  options = None if options is None else list(map(str, options))
  name = f'{number:06d}'
  unlabelled = options is not None and get(row, task.unlabelled)
  given = get(row, task.id)
  record: Record = {'id': str(name if given is None else given)} | media_of(row, task, files, name)
  row = row | {'_size': lambda: image_size(record['image'])}
  if task.question:
    question = str(get(row, task.question))
    ask = choose_unlabelled if unlabelled else task.prompt
    record['question'] = ask(question, options, task.version) if options else question
    if task.counting and is_counting_question(question):
      record['no_pointing'] = True
  for key, of in task.more.items():
    if key in ('label', 'object', 'fps') and (value := get(row, of)) is not None:
      record[key] = value
  if options:
    record['options'] = options
  answers = _answers(*(get(row, v) for v in (task.index, task.letter, task.answers)))
  if answers is not None:
    unlettered = options if unlabelled else None
    record['answers'] = [unlettered[LETTERS.index(answers[0])]] if unlettered else answers
  if style := style_of(row, task):
    record['style'] = style
  metadata = {part: get(row, value) for part, value in task.metadata.items()}
  groups = [str(group) for group in (get(row, value) for value in task.group_by)
            if group is not None]
  if metadata or groups:
    record['metadata'] = metadata | ({'groups': groups} if groups else {})
  return record


def _answers(index: Any, letter: Any, answers: Any) -> list[str] | None:
  if index is not None:
    return [LETTERS[int(index)]]
  if letter is not None:
    return [str(letter).strip()]
  if answers is None:
    return None
  return [str(a) for a in answers] if isinstance(answers, list | tuple) else [str(answers)]


def _as_facts(record: Record) -> Record:
  """A record whose prompt is drawn when it is asked holds what the prompt is about."""
  fact: Record = {key: record.pop(key) for key in ('label', 'object', 'fps', 'no_pointing')
                  if key in record}
  fact |= {key: record[key] for key in ('style', 'question') if key in record}
  if not is_drawn(fact):
    return record
  return {k: v for k, v in record.items() if k not in ('style', 'question')} | {'facts': [fact]}


def _needs_answers(metric: str) -> bool:
  return BENCHMARKS[metric].answers if metric in BENCHMARKS else metric != 'points'


def write_manifest(task: Task, root: str | os.PathLike, out: str | os.PathLike) -> int:
  """Writes the manifest of a task, whole or not at all, and returns the number of its records.

  Pictures that lie inside of tables are written beside it, into a folder `<out without
  suffix>_media`. Media are named relative to the manifest.

  Raises:
    TaskError: the dataset is not there or of another form, or it has no question.
  """
  root, out = Path(root), Path(out)
  if not root.is_dir():
    raise TaskError(f'{root}: there is no such folder; task {task.name} comes from '
                    f'{task.source}')
  media = out.resolve().with_suffix('').with_name(f'{out.stem}_media')
  lines = [json.dumps(relative(record, out.resolve().parent), ensure_ascii=False, allow_nan=False)
           + '\n' for record in records(task, root.resolve(), media)]
  if not lines:
    raise TaskError(f'{root}: no question of task {task.name}, split {task.asked_split}, was found')
  write_atomically(out, ''.join(lines))
  return len(lines)


def task_manifest(task: Task, data_root: str | os.PathLike, manifests: str | os.PathLike) -> Path:
  """Path of the task's manifest `<label>.jsonl` in `manifests`, which is written from the dataset
  if it is not there.

  Args:
    data_root: has the dataset in the folder `task.folder`.

  Raises:
    TaskError: as in `write_manifest`.
  """
  suffix = '' if task.version == MOLMO2 else f'_{task.version}'
  path = Path(manifests) / f'{task.label}{suffix}.jsonl'
  if not path.exists():
    write_manifest(task, Path(data_root) / task.folder, path)
  return path
