"""The folder of one run: what the sweep writes there beside the files of train.py.

    flags.json   the flags that differ from the configuration file, and the command
    log.txt      what train.py printed, attempt after attempt
    lock         held by the process that runs it, and freed by the system when that ends
    done.json    written last: the run is finished and is never run again
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
from pathlib import Path
from typing import IO, Any

from molmo_jax.files import open_alone, read_json, write_json
from molmo_jax.model.config import ModelConfig
from molmo_jax.parameters import count
from molmo_jax.training.state import abstract_params

FLAGS, LOG, LOCK, DONE = 'flags.json', 'log.txt', 'lock', 'done.json'
SUMMARY, PREDICTIONS = 'evaluation/summary.json', 'evaluation/predictions.jsonl'
METRICS = 'metrics.jsonl'
# bytes at the end of a file in which its last lines are
TAIL = 4096


def is_done(folder: Path) -> bool:
  """Whether the run of this folder has been finished."""
  return (folder / DONE).is_file()


def mark_done(folder: Path, model: ModelConfig, seconds: float) -> None:
  """Writes the last file of a run. `seconds`: of its last attempt, by the clock."""
  write_json(folder / DONE, {'seconds': round(seconds, 1), 'parameters': parameters(model)})


def read_done(folder: Path) -> dict[str, Any]:
  """What `mark_done` wrote."""
  return read_json(folder / DONE)


def lock(folder: Path) -> IO[bytes] | None:
  """Locks a folder for the process that will work there; None if another process has the lock."""
  folder.mkdir(parents=True, exist_ok=True)
  try:
    return open_alone(folder / LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return None


def last_step(folder: Path) -> int:
  """The last step that the run reported; 0 before the first."""
  for line in reversed(last_lines(folder / METRICS)):
    try:
      return int(json.loads(line)['step'])
    except (ValueError, KeyError, TypeError):   # it is being written
      continue
  return 0


def last_lines(path: Path, limit: int = 1000) -> list[str]:
  """At most `limit` of the last lines that are not empty; none where there is no file."""
  try:
    with open(path, 'rb') as file:
      file.seek(0, os.SEEK_END)
      file.seek(max(0, file.tell() - TAIL))
      text = file.read().decode('utf-8', 'replace')
  except FileNotFoundError:
    return []
  return [line for line in text.splitlines() if line.strip()][-limit:]


@functools.lru_cache(maxsize=256)
def parameters(model: ModelConfig) -> int:
  """How many the model has; nothing is computed on a device."""
  return count(abstract_params(model))
