"""The manifest of a benchmark, written from its public files."""

from __future__ import annotations

import collections
import json
import os
from collections.abc import Iterator
from pathlib import Path

from molmo_jax.data.manifest import parse_record
from molmo_jax.evaluation.tasks.reader import Reader, TaskError
from molmo_jax.evaluation.tasks.rows import Record
from molmo_jax.evaluation.tasks.task import Task
from molmo_jax.files import write_atomically
from molmo_jax.metrics import score
from molmo_jax.metrics.benchmarks import BENCHMARKS
from molmo_jax.metrics.versions import MOLMO2


def records(task: Task, root: Path, media: Path) -> Iterator[Record]:
  """The records of a task, whole as in docs/data.md.

  A question whose answer is kept by a test server becomes 'predictions_only'.

  Args:
    root: folder of the dataset.
    media: folder for pictures that lie inside of tables.

  Raises:
    TaskError: the dataset is not there or of another form.
  """
  reader = Reader(root, task.asked_split, media, task.version)
  seen: collections.Counter[str] = collections.Counter()
  for record in task.records(reader):
    whole = {'task': task.label, 'style': task.style, 'metric': task.metric} | record
    seen[record['id']] += 1
    if seen[record['id']] > 1:                # a dataset may call several questions alike
      whole['id'] = f'{record["id"]}#{seen[record["id"]]}'
    if task.version != MOLMO2:
      whole['metadata'] = whole.get('metadata', {}) | {'version': task.version}
    if _needs_answers(whole['metric']) and not any(whole.get('answers', ())):
      whole = {key: value for key, value in whole.items()
               if key != 'answers'} | {'metric': 'predictions_only'}
    try:
      score('', parse_record(whole, f'{root}: question {whole["id"]}'), whole['metric'])
    except ValueError as error:               # ManifestError too
      raise TaskError(str(error)) from None
    yield whole


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
    raise TaskError(f'{root}: there is no such folder; task {task.name} comes from {task.source}')
  lines = []
  for record in records(task, root.resolve(),
                        out.resolve().with_suffix('').with_name(f'{out.stem}_media')):
    lines.append(json.dumps(_relative(record, out.resolve().parent), ensure_ascii=False,
                            allow_nan=False) + '\n')
  if not lines:
    raise TaskError(f'{root}: no question of task {task.name}, split {task.asked_split}, was found')
  write_atomically(out, ''.join(lines))
  return len(lines)


def _relative(record: Record, folder: Path) -> Record:
  moved = {key: os.path.relpath(record[key], folder) for key in ('image', 'video') if key in record}
  if 'images' in record:
    moved['images'] = [os.path.relpath(path, folder) for path in record['images']]
  return record | moved


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
