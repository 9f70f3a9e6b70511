"""Writes the manifests of benchmarks from their public files.

docs/evaluation.md lists the tasks and says where to get their files.

Examples:
  # one task, whose dataset is unpacked in a folder
  molmo-jax prepare_task chart_qa --root data/ChartQA --out manifests/chart_qa.jsonl
  # tasks and groups, every dataset in its folder below one root (docs/evaluation.md)
  molmo-jax prepare_task chart_qa,short_video --data_root data --out manifests
  # a split that is not the usual one
  molmo-jax prepare_task chart_qa:test --data_root data --out manifests
"""

from __future__ import annotations

import sys
from pathlib import Path

from molmo_jax.command_line import make_parser
from molmo_jax.datasets import TaskError, resolve_tasks, write_manifest
from molmo_jax.metrics.versions import MOLMO2, MOLMO_V1
from molmo_jax.preprocess.types import MediaError
from molmo_jax.visible import say


def main(arguments: list[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = make_parser('prepare_task', __doc__)
  parser.add_argument('tasks', help='names of tasks and groups with commas between them, or all')
  where = parser.add_mutually_exclusive_group(required=True)
  where.add_argument('--root', type=Path, help='folder of the dataset, for one task')
  where.add_argument('--data_root', type=Path, help='folder that has a folder of every dataset')
  parser.add_argument('--out', type=Path, required=True, help='a .jsonl file for one task, or a '
                      'folder')
  parser.add_argument('--version', choices=(MOLMO2, MOLMO_V1), default=MOLMO2,
                      help='whose prompts and metrics')
  options = parser.parse_args(arguments)
  try:
    tasks = resolve_tasks(options.tasks, options.version)
    to_file = options.out.suffix == '.jsonl'
    if len(tasks) > 1 and (options.root or to_file):
      raise TaskError(f'{len(tasks)} tasks need --data_root and a folder for --out')
  except TaskError as error:
    say(f'error: {error}', file=sys.stderr)
    return 2
  failed = 0
  for task in tasks:
    out = options.out if to_file else options.out / f'{task.label}.jsonl'
    try:
      count = write_manifest(task, options.root or options.data_root / task.folder, out)
      say(f'{out}: {count} questions of {task.label}', file=sys.stderr)
    except (ValueError, OSError, MediaError) as error:   # TaskError and TableError among them
      failed += 1
      say(f'{task.label}: {error}', file=sys.stderr)
  return 1 if failed else 0


if __name__ == '__main__':
  sys.exit(main())
