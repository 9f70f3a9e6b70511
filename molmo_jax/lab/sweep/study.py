"""Studies as data, and the runs that follow from them.

A run is decided by its configuration: that of the file, with the flags of the command line, of the
study, of the arm, and the seed. Arms of several studies that come out the same are one run.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import itertools
import json
import re
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from molmo_jax import experiment
from molmo_jax.configuration import ConfigError, build, flatten, with_defaults
from molmo_jax.scenes.config import ScenesConfig
from molmo_jax.scenes.kinds import KIND_OF_TASK

RUNS, DATA = 'runs', 'data'                     # folders below --out
LONGEST_NAME = 80                               # characters of a folder's name before seed and hash
# say where, not what
PLACES = ('name', 'data.train', 'data.validation', 'data.tokenizer', 'data.scenes_root')
# sections that a folder's name leaves out
UNNAMED = ('scenes', 'data', 'evaluation', 'training', 'seed', 'name')


@dataclasses.dataclass(frozen=True)
class Study:
  """One question to the model, an entry of `STUDIES` in a configuration file.

  Flags are written `{'model.llm.layers': 2}`.
  """
  claim: str                                    # what the study asks, in one sentence
  # whose accuracy answers it; their mean is the main outcome
  tasks: tuple[str, ...]
  arms: dict[str, dict]                         # name → its flags; the first is the baseline
  # flags of all arms: data, size of rows, steps
  settings: dict = dataclasses.field(default_factory=dict)
  step_seconds: float = 0.05                    # of one training step on one core, for estimates

  def __post_init__(self):
    if len(self.arms) < 2:
      raise ValueError('arms: a study needs a baseline and at least one other arm, not '
                       f'{list(self.arms)}')
    if not self.tasks:
      raise ValueError('tasks: the study names no task whose accuracy answers its question')


@dataclasses.dataclass(frozen=True)
class Run:
  """One training with its evaluation."""
  name: str                                     # of its folder
  seed: int
  flags: dict[str, Any]                         # what differs from the configuration file
  experiment: experiment.Experiment

  def arguments(self, config_file: str, workdir: Path) -> list[str]:
    """The flags of train.py."""
    return [f'--config={config_file}', *flag_texts(self.flags), f'--workdir={workdir}']


def flag_texts(flags: Mapping[str, Any]) -> list[str]:
  """Configuration values as they are typed on a command line."""
  return [f'--config.{key}={value}' for key, value in flags.items()]


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a sweep has to do."""
  studies: dict[str, Study]
  # by name, in the order in which they start: seed after seed
  runs: dict[str, Run]
  arms: dict[str, dict[str, tuple[str, ...]]]   # study → arm → names of its runs, seed after seed


def read_studies(path: str) -> dict[str, Study]:
  """`STUDIES` of a configuration file.

  Raises:
    ConfigError: there are none, or one has a key that `Study` lacks; the message names it.
  """
  try:
    found = runpy.run_path(path).get('STUDIES')
  except OSError as error:
    raise ConfigError(f'{path}: {error.strerror}') from None
  if not isinstance(found, Mapping) or not found:
    raise ConfigError(f'{path}: STUDIES is missing, a dict from names to studies; '
      'docs/ablations.md shows one')
  return {name: build(Study, study, f'{Path(path).name}: STUDIES.{name}')
          for name, study in found.items()}


def choose(studies: Mapping[str, Study], names: str | None) -> dict[str, Study]:
  """The studies of a list such as 'pooling,layers'; 'all' are all.

  Raises:
    ConfigError: no list, or a name that does not exist; the message names the closest.
  """
  there = f'there are: {", ".join(studies)}, all'
  if names is None:
    raise ConfigError(f'--study is missing; {there}')
  chosen = list(studies) if names == 'all' else names.split(',')
  for name in chosen:
    if name not in studies:
      close = difflib.get_close_matches(name, studies, n=1, cutoff=0.0)[0]
      raise ConfigError(f"--study: there is no '{name}'; did you mean '{close}'? {there}")
  return {name: studies[name] for name in chosen}


def plan(base: ConfigDict, given: Mapping[str, Any], studies: Mapping[str, Study], seeds: int,
         out: Path) -> Plan:
  """All runs of `studies` with seeds 0 … `seeds` − 1, every configuration checked.

  Args:
    base: the configuration of the file with the flags of the command line.
    given: those flags; they win over a study's settings, not over an arm's flags.
    out: folder of the sweep.

  Raises:
    ConfigError: a flag that does not exist or does not fit, a task that the data lack, two arms
      that are the same.
  """
  runs: dict[str, Run] = {}
  names: dict[str, dict[str, list[str]]] = {study: {arm: [] for arm in studies[study].arms}
                                            for study in studies}
  for seed, (name, study) in itertools.product(range(seeds), studies.items()):
    shared = {key: value for key, value in study.settings.items() if key not in given}
    for arm, flags in study.arms.items():
      try:
        run = _run(base, {**given, **shared, **flags, 'seed': seed, 'data.seed': seed}, set(given),
                   out)
        _check_tasks(study, run.experiment.scenes)
      except ConfigError as error:
        raise ConfigError(f'study {name}, arm {arm}: {error}') from None
      same = [other for other, made in names[name].items() if run.name in made]
      if same:
        raise ConfigError(f"study {name}: the arms '{same[0]}' and '{arm}' are the same run; their "
                          'flags must differ')
      runs.setdefault(run.name, run)
      names[name][arm].append(run.name)
  return Plan(dict(studies), runs,
              {s: {a: tuple(made) for a, made in arms.items()} for s, arms in names.items()})


def _check_tasks(study: Study, scenes: ScenesConfig | None) -> None:
  there = [task for task, kind in KIND_OF_TASK.items() if scenes and getattr(scenes.train, kind)]
  absent = [task for task in study.tasks if task not in there]
  if scenes and absent:
    raise ConfigError(f'the scenes that are asked for have no task {", ".join(absent)}; they have: '
                      f'{", ".join(there) or "none"} (scenes.train counts the training records of '
                      'every kind)')


def _run(base: ConfigDict, flags: dict[str, Any], given: set[str], out: Path) -> Run:
  config, before, seed = _with_flags(base, flags), flatten(base), flags['seed']
  slug = _slug({k: v for k, v in flags.items() if k in given or before.get(k) != v})
  generated = config.get('scenes') is not None and bool(config.data.scenes_root)
  name = f'{slug}-seed{seed}-{_digest(_decisive(config, generated))}'
  places: dict[str, Any] = {'name': f'{slug}, seed {seed}'}
  if generated:
    vocabulary = experiment.from_config(config).model.llm.first_extra_id   # of the tokenizer
    folder = out / DATA / f'scenes-{_digest([config.scenes.to_dict(), vocabulary])}'
    places |= {'data.scenes_root': str(folder), 'data.train': str(folder / 'train.jsonl'),
               'data.validation': str(folder / 'val.jsonl'),
               'data.tokenizer': str(folder / 'tokenizer.json')}
  config.update_from_flattened_dict(places)
  return Run(name, seed, flags | places, experiment.from_config(config))


def _with_flags(config: ConfigDict, flags: Mapping[str, Any]) -> ConfigDict:
  changed, known = config.copy_and_resolve_references(), flatten(config)
  for key, value in flags.items():
    if key not in known:
      raise ConfigError(f"'{key}': {_unknown(key, known)}")
    try:
      changed.update_from_flattened_dict({key: value})
    except (TypeError, ValueError):
      raise ConfigError(f"'{key}': {value!r} is no value for it") from None
  return changed


def _unknown(key: str, known: Mapping[str, Any]) -> str:
  if key in flatten(with_defaults(experiment.Experiment, {})):
    return 'get_config must return molmo_jax.experiment.complete(…), so that every key can be set'
  return f"no such key; did you mean '{difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]}'?"


def _decisive(config: ConfigDict, generated: bool) -> dict[str, Any]:
  """The configuration that a run depends on, flat, without defaults of the program.

  So a key that is added later, with a default that changes nothing, leaves finished runs valid.
  """
  defaults = flatten(with_defaults(experiment.Experiment, {}))
  if generated:
    defaults |= {f'scenes.{key}': value
                 for key, value in flatten(with_defaults(ScenesConfig, {})).items()}
  left_out = PLACES if generated else ('name',)
  return {key: value for key, value in flatten(config).items()
          if key not in left_out and not (key in defaults and defaults[key] == value)}


def _digest(value: Any) -> str:
  return hashlib.sha256(json.dumps(value, sort_keys=True, default=list).encode()).hexdigest()[:8]


def _slug(flags: Mapping[str, Any]) -> str:
  """The start of a folder's name: what the run is about, in characters of every file system."""
  parts = []
  for key, value in sorted(flags.items()):
    section, last = key.partition('.')[0], key.rpartition('.')[2]
    # a flag may set for inference what another sets for training
    if section in UNNAMED or (key.endswith('_eval') and flags.get(key[:-5]) == value):
      continue
    if isinstance(value, bool):
      value = 'on' if value else 'off'
    elif isinstance(value, Sequence) and not isinstance(value, str):
      value = 'x'.join(map(str, value))
    parts.append(f'{last}={value}')
  return re.sub(r'[^A-Za-z0-9=_.,-]+', '_', ','.join(parts))[:LONGEST_NAME] or 'base'
