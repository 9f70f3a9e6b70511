"""SIGTERM, SIGINT and SIGKILL at random moments of a command. The same command again must end as if
nothing had happened: the same bytes, and no file that an undisturbed command does not leave.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import av
import numpy as np
from orbax.checkpoint import v1 as ocp

from tests.campaign.engine import ROOT
from tests.datasets import builders
from tests.tiny_run import tiny_config

STEPS = 40
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
STOPPED = {signal.SIGTERM: {143, -15}, signal.SIGINT: {130, -2}, signal.SIGKILL: {-9}}
# what depends on the clock or on the number of starts
VOLATILE = re.compile(r'tensorboard/|compiled/|\.log$|curves\.html$|report\.html$|\.lock$')
CLOCK = re.compile('per_second|per_step|tflops|mfu|time/|elapsed')
SECONDS = 300


@dataclasses.dataclass(frozen=True)
class Job:
  """A command that is killed.

  Attributes:
    command: program and flags; it runs in a folder of its own.
    made: the folder or file that it writes.
    prepare: commands that come before, undisturbed, once.
  """
  command: tuple[str, ...]
  made: str
  prepare: tuple[tuple[str, ...], ...] = ()


TRAIN = ('train.py', '--config=tiny.py', '--workdir=run', '--noevaluate')
SCENES = ('train.py', '--config=tiny.py', '--workdir=before', '--noevaluate',
          '--config.training.steps=1')
JOBS = {
  'scenes': Job(('molmo_jax.tools.scenes', '--out=made', '--train=120', '--val=4'), 'made'),
  'dataset': Job(('molmo_jax.tools.prepare_dataset', 'chart_qa_weighted', '--root=chart',
                  '--out=made/chart.jsonl'), 'made'),
  'training': Job(TRAIN, 'run', (SCENES,)),
  'workers': Job((*TRAIN, '--config.data.workers=2'), 'run', (SCENES,)),
  'evaluation': Job(('eval.py', '--workdir=run', '--out=made'), 'made', (TRAIN,)),
  'export': Job(('molmo_jax.tools.convert', 'run', 'made', '--layout=hub'), 'made', (TRAIN,)),
  'import': Job(('molmo_jax.tools.convert', str(ROOT / 'tests/golden/molmo2_olmo_hub'), 'made',
                 '--layout=orbax'), 'made')}


def run(count: int, seed: int, seconds: float, out: Path, only: str | None) -> int:
  """Kills `count` commands and prints a table; returns the exit status.

  Args:
    seed: of the moments and signals.
    seconds: after which no more command is begun.
    out: folder for the work and for what is left of a job that went wrong.
    only: one of JOBS; None: all, in turns.
  """
  names, begun, faults = [only] if only else list(JOBS), time.monotonic(), []
  shutil.rmtree(out / 'kills', ignore_errors=True)   # of another state of the code
  rows = {name: [0, 0, 0, 0] for name in names}   # killed, ended before, bad, seconds
  references: dict[str, tuple[dict[str, str], float]] = {}
  for number in range(count):
    name = names[number % len(names)]
    if name not in references:
      references[name] = _reference(name, out)
    started = time.monotonic()
    killed, problems = _kill(name, np.random.default_rng([seed, number]), *references[name], out)
    rows[name][0 if killed else 1] += 1
    rows[name][2] += bool(problems)
    rows[name][3] += time.monotonic() - started
    for problem in problems:
      faults.append(f'bad kills --kills={count} --seed={seed}, number {number}, {name}: {problem}')
      print(faults[-1], flush=True)
    passed = time.monotonic() - begun
    print(f'{number + 1} of {count} kills, {len(faults)} bad, '
          f'{passed * (count - number - 1) / (number + 1) / 60:.1f} minutes left', flush=True)
    if passed > seconds:
      break
  print('| command | killed | ended before | bad | seconds |\n| --- | --: | --: | --: | --: |')
  for name, (killed, ended, bad, spent) in rows.items():
    print(f'| {name} | {killed} | {ended} | {bad} | {spent:.0f} |')
  return int(bool(faults))


def _reference(name: str, out: Path) -> tuple[dict[str, str], float]:
  """What an undisturbed command makes, and the seconds that it takes."""
  folder = _prepared(name, out)
  for _ in range(2):               # the second time its programs are compiled
    shutil.rmtree(folder / JOBS[name].made, ignore_errors=True)
    begun = time.monotonic()
    status, printed = _finish(_start(JOBS[name].command, folder), folder)
    if status:
      raise RuntimeError(f'{name}: {printed}')
  return contents(folder), time.monotonic() - begun


def _kill(name: str, rng: np.random.Generator, reference: dict[str, str], seconds: float,
          out: Path) -> tuple[bool, list[str]]:
  """Whether the command was still running when the signal came, and what is wrong afterwards."""
  folder, job = _prepared(name, out), JOBS[name]
  shutil.rmtree(folder / job.made, ignore_errors=True)
  problems, killed = [], False
  for _ in range(int(rng.integers(1, 3))):
    process = _start(job.command, folder)
    moment = seconds * (0.25 + 0.8 * rng.random())
    number = SIGNALS[int(rng.integers(len(SIGNALS)))]
    with contextlib.suppress(subprocess.TimeoutExpired):
      process.wait(moment)
    running = process.poll() is None
    if running:
      process.send_signal(number)
    status, printed = _finish(process, folder)
    killed |= running
    if running and status not in STOPPED[number] | {0}:
      problems.append(f'{number.name} after {moment:.1f} s gives status {status}: {printed[-300:]}')
    elif running and 'Traceback' in printed and ' in main\n' in printed:   # not while importing
      problems.append(f'{number.name} after {moment:.1f} s prints a traceback: {printed[-300:]}')
    halves = [path for path in (folder / job.made).rglob('[!.]*.json*')
              if not _is_json(path)]
    problems += [f'{number.name} leaves half of {path.name}' for path in halves]
  status, printed = _finish(_start(job.command, folder), folder)
  if status and 'exists already' in printed:   # it had ended before
    status = 0
  if status:
    problems.append(f'started again it ends with status {status}: {printed[-400:]}')
  found = contents(folder)
  problems += [f'{path} is left over' for path in sorted(found.keys() - reference.keys())[:3]]
  problems += [f'{path} is missing' for path in sorted(reference.keys() - found.keys())[:3]]
  problems += [f'{path} differs' for path in sorted(reference.keys() & found.keys())
               if found[path] != reference[path]][:3]
  if problems:
    kept = out / 'bad' / f'kills-{name}-{time.time_ns()}'
    shutil.copytree(folder, kept, ignore=shutil.ignore_patterns('compiled'))
  return killed, problems


def contents(folder: Path) -> dict[str, str]:
  """Every file below `folder` that does not depend on the clock → a digest of what is in it."""
  found = {}
  for path in sorted(p for p in folder.rglob('*') if p.is_file()):
    name = str(path.relative_to(folder))
    step = re.match(r'(.*/checkpoints/[^/]*)/', name)
    if step:                       # Orbax names its files anew each time; the arrays count
      if step[1] not in found:
        found[step[1]] = _arrays(folder / step[1])
    elif not VOLATILE.search(name):
      found[name] = _digest(path)
  return found


def _arrays(folder: Path) -> str:
  if not folder.name.isdigit():
    return 'no checkpoint'
  with warnings.catch_warnings(action='ignore'):
    state = ocp.load_checkpointables(folder, {'state': None})['state']
  digest = hashlib.sha256()
  for leaf in _leaves(state):
    digest.update(np.asarray(leaf).tobytes())
  return digest.hexdigest()


def _leaves(tree: object) -> list:
  if isinstance(tree, dict):
    return [leaf for key in sorted(tree) for leaf in _leaves(tree[key])]
  return [leaf for item in tree for leaf in _leaves(item)] if isinstance(
    tree, (list, tuple)) else [tree]


def _digest(path: Path) -> str:
  data = path.read_bytes()
  if path.suffix == '.mp4':        # x264 writes one of some hundred clips a little differently
    with av.open(str(path)) as container:
      data = repr([(f.width, f.height, f.pts) for f in container.decode(video=0)]).encode()
  if path.name == 'metrics.jsonl':   # each step once; of the values all but times
    rows = [json.loads(line) for line in data.splitlines()]
    data = repr([[(k, v) for k, v in sorted(row.items()) if not CLOCK.search(k)]
                 for row in rows]).encode()
  return hashlib.sha256(data).hexdigest()


def _is_json(path: Path) -> bool:
  text = path.read_text()
  try:
    lines = text.splitlines() if path.suffix == '.jsonl' else [text]
    if path.name in ('metrics.jsonl', 'predictions.partial.jsonl'):
      lines = lines[:-1]           # these grow line by line, which their readers know
    for line in lines:
      json.loads(line)
  except ValueError:
    return False
  return True


def _prepared(name: str, out: Path) -> Path:
  """A folder in which the command can start; what comes before it is made once."""
  source, folder = out / 'kills' / f'{name}-before', out / 'kills' / name
  if not source.exists():
    source.mkdir(parents=True)
    text = tiny_config(STEPS)
    for old, new in (('checkpoint_every=25', 'checkpoint_every=5'), ('limit=2', 'limit=0'),
                     ('val_per_task=1', 'val_per_task=4'),
                     ("on_error='skip'", "on_error='skip', workers=0")):
      text = text.replace(old, new)
    (source / 'tiny.py').write_text(text)
    if name == 'dataset':
      rows = [{'image': builders.picture(), 'query': f'How much is {i}?', 'label': ['14'],
               'human_or_machine': i % 2} for i in range(3000)]
      for split in ('train', 'val'):
        builders.parquet(source / f'chart/data/{split}-00000-of-00001.parquet', *rows)
    for command in JOBS[name].prepare:
      status, printed = _finish(_start(command, source), source)
      if status:
        raise RuntimeError(f'{name}: {printed}')
  shutil.rmtree(folder, ignore_errors=True)
  shutil.copytree(source, folder)
  return folder


def _start(command: tuple[str, ...], folder: Path) -> subprocess.Popen:
  program, *flags = command
  start = [str(ROOT / program)] if program.endswith('.py') else ['-m', program]
  environment = os.environ | dict(
    JAX_PLATFORMS='cpu', PYTHONPATH=str(ROOT), COLUMNS='200',
    JAX_COMPILATION_CACHE_DIR=str(folder.parent / 'compiled'),
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0')
  with open(_log(folder), 'wb') as printed:
    return subprocess.Popen([sys.executable, *start, *flags], cwd=folder, env=environment,
                            stdout=printed, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def _log(folder: Path) -> Path:
  return folder.with_suffix('.log')


def _finish(process: subprocess.Popen, folder: Path) -> tuple[int, str]:
  """Exit status and what was printed; 124 for a command that does not end."""
  try:
    status = process.wait(SECONDS)
  except subprocess.TimeoutExpired:
    process.kill()
    process.wait()
    status = 124
  return status, _log(folder).read_text(errors='replace')
