"""Benchmarks: what they are, how they are asked, and how their public files become manifests.

`resolve_tasks` reads the flag `--tasks`; `task_manifest` finds or makes the manifest of a task.
docs/evaluation.md lists them all, with where to get their files.
"""

from __future__ import annotations

from molmo_jax.evaluation.tasks.prepare import task_manifest, write_manifest
from molmo_jax.evaluation.tasks.reader import TaskError
from molmo_jax.evaluation.tasks.registry import GROUPS, TASKS, resolve_tasks
from molmo_jax.evaluation.tasks.task import Task

__all__ = ['GROUPS', 'TASKS', 'Task', 'TaskError', 'resolve_tasks', 'task_manifest',
           'write_manifest']
