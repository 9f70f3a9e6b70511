"""All datasets and benchmarks by name, and what the flag `--tasks` means."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from pathlib import Path

from molmo_jax.datasets import (
  image_benchmarks,
  image_qa,
  molmo2,
  multi_image,
  pixmo,
  places,
  pointing,
  prompts,
  tap,
  tracking,
  tracking_rows,
  video_benchmarks,
  video_labels,
  video_qa,
)
from molmo_jax.datasets.dataset import Training
from molmo_jax.datasets.declarations import read_declarations
from molmo_jax.datasets.files import TaskError
from molmo_jax.datasets.task import Task
from molmo_jax.metrics.versions import MOLMO2, is_v1

# The modules that have declarations beside them, in the order of the pages, and others whose
# functions these name.
DECLARED = (image_qa, image_benchmarks, multi_image, pixmo, pointing, molmo2, video_qa,
            video_labels, video_benchmarks, tracking)
MODULES = {module.__name__.rpartition('.')[2]: module
           for module in (*DECLARED, places, prompts, tap, tracking_rows)}
USES = [use for module in DECLARED
        for use in read_declarations(Path(str(module.__file__)).with_suffix('.toml'), MODULES)]
TRAINING: dict[str, Training] = {use.name: use for use in USES if isinstance(use, Training)}
TASKS: dict[str, Task] = {use.name: use for use in USES if isinstance(use, Task)}
GROUPS: dict[str, tuple[str, ...]] = {}
for _task in TASKS.values():
  for _group in _task.groups:
    GROUPS[_group] = (*GROUPS.get(_group, ()), _task.name)
ALIASES = {alias: task.name for task in TASKS.values() for alias in task.aliases}
# 'ego_schema_test', as files and published names have it, is the same as 'ego_schema:test'.
LABELS = {f'{task.name}_{split}': (task.name, split) for task in TASKS.values()
          for split in task.splits[1:]}

# groups that cut across the others, and those of Molmo v1
GROUPS |= {'video': GROUPS['short_video'] + GROUPS['long_video']} | {
  name: tuple(names) for name, names in tomllib.loads(
    Path(__file__).with_name('groups.toml').read_text(encoding='utf-8')).items()}
V1_CROPS, V1_HIGH_RES_CROPS, V1_TOKENS = 12, 36, 12


def resolve_tasks(names: str, version: str = MOLMO2) -> list[Task]:
  """The tasks that a list of names means, each once, in the order of the list.

  Args:
    names: 'chart_qa,mvbench': names of tasks and groups with commas between them, 'all', and
      'chart_qa:test' for a split that is not the usual one.
    version: of the model that is asked; 'v1' gives Molmo v1's prompts, metrics, crops and numbers
      of tokens.

  Raises:
    TaskError: a name or a split that does not exist; the message names the closest.
  """
  tasks: dict[str, Task] = {}
  for name in filter(None, (part.strip() for part in names.split(','))):
    base, _, split = name.partition(':')
    members = tuple(TASKS) if base == 'all' else GROUPS.get(base, (ALIASES.get(base, base),))
    for member in members:
      member, split_of_label = LABELS.get(member, (member, ''))
      if member not in TASKS:
        known = ['all', *TASKS, *ALIASES, *GROUPS]
        close = difflib.get_close_matches(base, known, n=1, cutoff=0.0)[0]
        raise TaskError(f"there is no task '{base}'; did you mean '{close}'? The groups are: "
          f"{', '.join(GROUPS)}; python -m molmo_jax.datasets lists all tasks")
      task = _of_split(TASKS[member], split or split_of_label)
      tasks[task.label] = as_v1(task) if is_v1(version) else task
  if not tasks:
    raise TaskError("no task is named; give --tasks=chart_qa,mvbench or a group: "
                    + ', '.join(GROUPS))
  return list(tasks.values())


def _of_split(task: Task, split: str) -> Task:
  if split and split not in task.splits:
    raise TaskError(f"task '{task.name}' has no split '{split}'; its splits are: "
      f"{', '.join(task.splits)}")
  return dataclasses.replace(task, split=split)


def as_v1(task: Task) -> Task:
  """A task as Molmo v1 was evaluated: 12 tokens for every short answer, 36 crops where details
  count, else 12.
  """
  short = task.max_new_tokens <= 64 and task.metric != 'android_control'
  many = task.name in GROUPS['v1_high_res']
  return dataclasses.replace(
    task, version='v1', max_crops=V1_HIGH_RES_CROPS if many else V1_CROPS,
    max_images=task.max_images if task.images else 1,
    max_new_tokens=V1_TOKENS if short else task.max_new_tokens)
