"""Public datasets, one table each: where their files are, how a row is read, which facts it holds.

Training and benchmarks are two uses of a dataset. `TRAINING` has what can be trained on by name;
`resolve_tasks` reads the flag `--tasks`, and `task_manifest` finds or makes the manifest of a task.
The tables are TOML files (`datasets.declarations`). docs/datasets.md and docs/evaluation.md list
all of them, with where to get their files.
"""

from __future__ import annotations

from molmo_jax.datasets.benchmark import task_manifest, write_manifest
from molmo_jax.datasets.files import TaskError
from molmo_jax.datasets.registry import GROUPS, TASKS, TRAINING, resolve_tasks
from molmo_jax.datasets.task import Task

__all__ = ['GROUPS', 'TASKS', 'TRAINING', 'Task', 'TaskError', 'resolve_tasks', 'task_manifest',
           'write_manifest']
