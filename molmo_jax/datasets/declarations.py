"""Reads the declarations of datasets and benchmarks: a TOML file beside a module of functions.

    [text_vqa]                                  # one dataset; its folder below a data root
    source = "…"
    files = ["**/{split}/*.parquet", "hub:{split}"]
    question = "question"                       # keys of `dataset.Use`
    training.text_vqa = {}                      # its uses: keys of `dataset.Training`
    benchmarks.text_vqa = { metric = "vqa_score", groups = ["single_image"] }   # of `task.Task`

A use has the keys of its dataset, and those of its own table in their place; '' is none. '@name' is
the function `name` of the module beside the file, '@other.name' that of another module. A dataset
with `names` stands for one with each of these in the place of '<name>'. An unknown key is an error.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from molmo_jax.configuration import ConfigError, build
from molmo_jax.datasets.dataset import Training, Use
from molmo_jax.datasets.task import Task

KINDS = {'training': Training, 'benchmarks': Task}


def read_declarations(path: Path, modules: Mapping[str, ModuleType]) -> Iterator[Use]:
  """The uses of all datasets of a file, in its order.

  Args:
    modules: whose functions the file may name, by the last part of their names.

  Raises:
    ConfigError: not TOML, an unknown key or function, a value of the wrong type; the message names
      file and table.
  """
  try:
    tables = tomllib.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:                 # TOMLDecodeError, UnicodeDecodeError
    raise ConfigError(f'{path.name}: {error}') from None
  for folder, table in tables.items():
    for name in table.pop('names', ('',)):
      [(folder_of, whole)] = json.loads(json.dumps({folder: table}).replace('<name>', name)).items()
      yield from _uses(folder_of, whole, path, modules)


def _uses(folder: str, table: dict[str, Any], path: Path,
          modules: Mapping[str, ModuleType]) -> Iterator[Use]:
  kinds = [(cls, name, own) for kind, cls in KINDS.items()
           for name, own in table.pop(kind, {}).items()]
  if not kinds:
    raise ConfigError(f'{path.name}: [{folder}] has no use: a table training or benchmarks')
  for cls, name, own in kinds:
    where = f'{path.name} [{folder}] {name}'
    values = {key: _resolved(value, path.stem, modules, where)
              for key, value in (table | own).items()}
    yield build(cls, {'name': name, 'folder': folder} | values, where)


def _resolved(value: Any, beside: str, modules: Mapping[str, ModuleType], where: str) -> Any:
  """`value` with functions in the place of their names."""
  if isinstance(value, dict):
    return {key: _resolved(v, beside, modules, where) for key, v in value.items()}
  if isinstance(value, list):
    return [_resolved(v, beside, modules, where) for v in value]
  if not isinstance(value, str) or not value.startswith('@'):
    return value
  module, _, name = value[1:].rpartition('.')
  function = getattr(modules.get(module or beside), name, None)
  if function is None:
    raise ConfigError(f"{where}: there is no function '{name}' in {module or beside}.py")
  return function
