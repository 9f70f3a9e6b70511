"""The folder of a run of train.py: whose it is, and what may change when it resumes.

    config.json     the configuration
    data.json       records and digest of every file that the order of the examples depends on
    history.jsonl   a line for every start that changed one of these: what, and from what to what
    run.lock        host and process that work here
"""

from __future__ import annotations

import atexit
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from molmo_jax.configuration import ConfigError, flatten
from molmo_jax.data.pipeline import DataConfig
from molmo_jax.errors import shown
from molmo_jax.files import open_regular, read_json, write_atomically, write_json
from molmo_jax.folder_lock import locked
from molmo_jax.parallel import processes

# Keys that cannot change what was computed so far, besides training.steps, which may grow.
FREE = re.compile(
  r'name|mesh\..*|evaluation\..*|data\.(validation|workers|threads|prefetch|scenes_root)|training\.'
  r'(log_every|checkpoint_every|keep_checkpoints|keep_every|(evaluate|validate)_every|'
  r'validation_batches|profile)')
# Keys that name a file of which the contents count, not where it lies.
FILES = re.compile(r'data\.(train|tokenizer|wordings|mixture\..*\.manifest)')

Facts = dict[str, dict[str, Any]]


def check(workdir: Path, config: ConfigDict, data: Facts | None = None) -> dict[str, list[Any]]:
  """What a run with `config` would change in the folder: [before, now] by key. Writes nothing.

  Args:
    data: what `facts` says of the run's files; None: they are not there yet, and not compared.

  Raises:
    ConfigError: the folder has checkpoints of a run that `config` cannot resume. The message names
      the flags or files that differ.
  """
  if last_checkpoint(workdir) is None:
    return {}
  try:
    old = flatten(read_json(workdir / 'config.json'))
  except FileNotFoundError:
    return {}
  except (ValueError, AttributeError) as error:
    logging.warning('%s/config.json is damaged, and written again: %s', workdir, error)
    return {}
  new, before = flatten(_plain(config)), _read_facts(workdir / 'data.json')
  changed = {key: [old.get(key, 'absent'), new.get(key, 'absent')]
             for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)}
  refused = [f'--config.{key}: {shown(there)} there, {shown(now)} now'
             for key, (there, now) in changed.items() if not _may_change(key, there, now)
             and not (FILES.fullmatch(key) and (data is None or key in before))]
  if refused:
    raise ConfigError(f'{workdir} holds a run with another configuration ({"; ".join(refused)}). '
                      'To resume it, start it as before; for another run, give another --workdir')
  for key, there in before.items():
    now = (data or {}).get(key, there)
    if now.get('records') != there.get('records') or (now != there and 'records' not in now):
      raise ConfigError(
        f'{new.get(key)}: {key} had {_words(there)} when the run in {workdir} began and has '
        f'{_words(now)} now, so that its position in the data means nothing. Bring the file back, '
        f'or start another run from it: --config.init_from={workdir}')
    if now != there:
      logging.warning('%s: the contents of %s have changed since the run in %s began; it resumes '
                      'with the new ones', new.get(key), key, workdir)
      changed[f'contents of {key}'] = [there['sha256'], now['sha256']]
  return changed


def check_alike(config: ConfigDict) -> None:
  """Compares the configurations of all processes; a collective.

  Raises:
    ConfigError: this process was started with another one than the first. The message names the
      flags that differ.
  """
  mine = flatten(_plain(config))
  first = processes.from_first(mine)
  differ = [f'--config.{key}: {shown(first.get(key))} there, {shown(mine.get(key))} here'
            for key in sorted(first.keys() | mine.keys()) if first.get(key) != mine.get(key)]
  if differ:
    raise ConfigError('the first process was started with another configuration '
                      f'({"; ".join(differ)})')


def claim(workdir: Path, config: ConfigDict, data: Facts | None = None) -> None:
  """Writes the configuration into the folder of a run, and what it changes into its history.

  Raises:
    ConfigError: as `check`.
  """
  changed = check(workdir, config, data)
  if changed:
    if 'training.steps' in changed and not config.optimizer.get('schedule_steps'):
      logging.warning('the learning rate follows a schedule of %d steps from now on',
                      config.training.steps)
    path = workdir / 'history.jsonl'
    before = path.read_text('utf-8', 'replace') if path.exists() else ''
    entry = {'after_step': last_checkpoint(workdir), 'changed': changed}
    write_atomically(path, f'{before}{json.dumps(entry)}\n')
  write_json(workdir / 'config.json', _plain(config))
  if data is not None:
    write_json(workdir / 'data.json', data)


def hold(workdir: Path) -> None:
  """Locks the folder until the program ends; raises MolmoError if another process has it."""
  lock = locked(workdir)
  lock.__enter__()
  atexit.register(lock.__exit__, None, None, None)


def last_checkpoint(workdir: Path) -> int | None:
  """The step of the newest checkpoint in a run's folder; None if there is none."""
  return max((int(f.name) for f in (workdir / 'checkpoints').glob('*') if f.name.isdecimal()),
             default=None)


def facts(config: DataConfig) -> Facts:
  """Number of records (manifests only) and SHA-256 of the files that decide what is trained on."""
  manifests = {f'data.mixture.{name}.manifest': dataset.manifest
               for name, dataset in config.mixture.items()} or {'data.train': config.train}
  found: Facts = {}
  for key, file in (manifests | {'data.tokenizer': config.tokenizer,
                                 'data.wordings': config.wordings}).items():
    path, digest, records = Path(file), hashlib.sha256(), 0
    if file:
      with open_regular(path / 'tokenizer.json' if path.is_dir() else path) as lines:
        for line in lines:
          digest.update(line)
          records += bool(line.strip())
      found[key] = {'records': records} if key in manifests else {}
      found[key]['sha256'] = digest.hexdigest()
  return found


def _may_change(key: str, there: Any, now: Any) -> bool:
  return bool(FREE.fullmatch(key)) or (
    key == 'training.steps' and isinstance(there, int) and there < now)


def _plain(config: ConfigDict) -> dict[str, Any]:
  """As JSON has it: tuples are lists."""
  return json.loads(json.dumps(config.to_dict(), default=list))


def _read_facts(path: Path) -> Facts:
  """The files of a run as `claim` wrote them; what cannot be read is named, and not compared."""
  try:
    known = read_json(path)
    return {key: dict(known[key]) for key in known if isinstance(known[key]['sha256'], str)}
  except FileNotFoundError:
    return {}
  except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
    logging.warning('%s cannot be used, and the data are not compared with those before: %s', path,
                    error)
    return {}


def _words(fact: Mapping[str, Any]) -> str:
  return f'{fact["records"]} records' if 'records' in fact else f'SHA-256 {fact["sha256"][:12]}…'
