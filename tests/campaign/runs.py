"""The files of a run's folder, damaged; each is read as when the same command is started again."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

from molmo_jax import experiment
from molmo_jax.checkpoint import native
from molmo_jax.evaluation.compare import read_evaluation
from molmo_jax.evaluation.journal import FINAL, JOURNAL, open_journal
from molmo_jax.evaluation.predictions import Prediction
from molmo_jax.evaluation.summary import read_summary
from molmo_jax.pages.curves import read_metrics, write_curves
from molmo_jax.scenes.prepare import prepare
from molmo_jax.terminal import Terminal
from molmo_jax.training.telemetry import MetricsLog
from tests.campaign.checkpoints import equal, restored, state
from tests.campaign.engine import ROOT, Case
from tests.campaign.mutate import (
  NASTY,
  Rng,
  damage_bytes,
  damage_json,
  damage_text,
  pick,
  to_text,
)
from tests.tiny_run import tiny_config

STEPS = 6
KEY = 'the same evaluation'
DONE = {i: 'cannot be read' if i % 4 == 3 else Prediction(
  task='colors', id=str(i), question='ö?', prediction='red', score=1.0, answers=('red',),
  points=((0.5, 0.25),)) for i in range(9)}


class Inputs:
  """The area of runs."""

  def __init__(self, base: Path, port: int):
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    self._base, self._run = base, base / 'run'
    if not (self._run / 'evaluation' / 'summary.json').exists():
      _train(base)
    os.chdir(base)                 # the configuration names its files from here
    self._metrics = (self._run / 'metrics.jsonl').read_text().splitlines(keepends=True)
    self._kinds: dict[Callable[[Rng, Path], Case], float] = {
      self._metrics_log: 25, self._config: 20, self._journal: 30, self._evaluation: 10,
      self._scenes: 8, self._tokenizer: 2, self._leftovers: 5}

  def case(self, rng: Rng, folder: Path) -> Case:
    weights = list(self._kinds.values())
    kind = rng.choice(len(weights), p=[w / sum(weights) for w in weights])
    return list(self._kinds)[kind](rng, folder)

  def _metrics_log(self, rng: Rng, folder: Path) -> Case:
    data, how = _lines(''.join(self._metrics).encode(), rng)
    (folder / 'metrics.jsonl').write_bytes(data)
    start = int(rng.integers(STEPS + 1))
    whole = {json.loads(line)['step'] for line in self._metrics
             if line.encode() in data.splitlines(keepends=True)}

    def resume() -> list[dict[str, Any]]:
      log = MetricsLog(folder, start)
      log.write(start + 1, {'loss': 1.0})
      log.close()
      rows = read_metrics(folder / 'metrics.jsonl')
      write_curves(folder / 'curves.html', rows)
      return rows

    def check(rows: list[dict[str, Any]]) -> None:
      steps = [row['step'] for row in rows]
      assert steps[-1] == start + 1, steps
      lost = {step for step in whole if step <= start} - set(steps)
      assert not lost, f'steps {sorted(lost)} are lost'
    return Case(f'metrics.jsonl: {how}, resumed at {start}', resume, check, 'metrics.jsonl',
                'value')

  def _config(self, rng: Rng, folder: Path) -> Case:
    text = (self._run / 'config.json').read_text()
    if rng.random() < 0.7:
      contents, how = damage_json(json.loads(text), rng)
      data = to_text(contents).encode()
    else:
      data, how = damage_text(text, rng)
    return self._claimed(folder, data, f'config.json: {how}')

  def _claimed(self, folder: Path, data: bytes, what: str) -> Case:
    folder = folder / 'run7'
    folder.mkdir()
    (folder / 'config.json').write_bytes(data)

    def start() -> Any:
      return experiment.from_config(experiment.load(folder / 'config.json'))

    def check(run: Any) -> None:
      assert isinstance(run, experiment.Experiment), type(run)
    return Case(what, start, check, 'run7/config.json')

  def _journal(self, rng: Rng, folder: Path) -> Case:
    """Half of an evaluation, or a complete one; what is whole is used, and nothing else."""
    folder = folder / 'evaluation'
    journal = open_journal(folder, KEY)
    journal.add(DONE)
    complete = rng.random() < 0.5
    if complete:
      journal.finish()
    name = pick(rng, (FINAL, JOURNAL)) if complete else JOURNAL
    before = (folder / name).read_bytes()
    data, how = _lines(before, rng)
    (folder / name).write_bytes(data)
    lines = data.splitlines(keepends=True)
    whole = {json.loads(line)['index'] for line in before.splitlines(keepends=True)
             if line in lines} if name == JOURNAL else set(DONE)

    def check(done: Any) -> None:
      assert set(done) <= set(DONE), f'results of {sorted(set(done) - set(DONE))[:9]}'
      assert not whole - set(done), f'the results of {sorted(whole - set(done))} are lost'
      strange = [i for i, found in done.items() if type(found) is not type(DONE[i])]
      assert not strange, f'the results of {strange} are no results'
    return Case(f'{name}: {how}', lambda: open_journal(folder, KEY).done, check, name, 'value')

  def _evaluation(self, rng: Rng, folder: Path) -> Case:
    """What a comparison and a sweep read."""
    folder = folder / 'run7' / 'evaluation'
    shutil.copytree(self._run / 'evaluation', folder)
    name = pick(rng, ('summary.json', 'predictions.jsonl'))
    data, how = _lines((folder / name).read_bytes(), rng)
    (folder / name).write_bytes(data)
    read = {'summary.json': lambda: read_summary(folder / name),
            'predictions.jsonl': lambda: read_evaluation(folder)}[name]

    def check(found: Any) -> None:
      if isinstance(found, list):
        assert all(0 <= p.score <= 1 for p in found)
      else:
        assert all(0 <= row['accuracy'] <= 1 for row in found['tasks'].values()), found['tasks']
    return Case(f'{name}: {how}', read, check, name)

  def _scenes(self, rng: Rng, folder: Path) -> Case:
    """The description of the generated scenes."""
    data, how = _lines((self._base / 'scenes' / 'dataset.json').read_bytes(), rng)
    return self._prepared(folder, 'dataset.json', data, how)

  def _tokenizer(self, rng: Rng, folder: Path) -> Case:
    data, how = damage_text((self._base / 'scenes' / 'tokenizer.json').read_text(), rng)
    return self._prepared(folder, 'tokenizer.json', data, how)

  def _prepared(self, folder: Path, name: str, data: bytes, how: str) -> Case:
    scenes = folder / 'scenes7'
    shutil.copytree(self._base / 'scenes', scenes, copy_function=os.link)
    (scenes / name).unlink()
    (scenes / name).write_bytes(data)
    run = experiment.from_config(experiment.load(self._run / 'config.json'))
    config = dataclasses.replace(run.data, scenes_root=str(scenes), **{
      key: f'{scenes}/{file}' for key, file in (
        ('train', 'train.jsonl'), ('validation', 'val.jsonl'), ('tokenizer', 'tokenizer.json'))})

    def start() -> Any:
      return prepare(config, run.scenes, run.model.llm.first_extra_id, Terminal(file=io.StringIO()))

    def check(tokenizer: Any) -> None:
      assert tokenizer.encode(' red'), 'no tokens'
    return Case(f'{name}: {how}', start, check, 'scenes7')

  def _leftovers(self, rng: Rng, folder: Path) -> Case:
    """Folders and files that a crash, a copy or a person left among the checkpoints."""
    folder = folder / 'checkpoints'
    source = self._base / 'saved'
    if not source.exists():
      with native.open_checkpoints(source) as checkpoints:
        native.save(checkpoints, 5, state(5), {})
    shutil.copytree(source, folder)
    name = pick(rng, ('9', '7.orbax-checkpoint-tmp-1700000000', 'x', 'damaged_8', '.hidden', '-1',
                      '05', '6.partial', 'step_7', '99999999999999999999',
                      '٧', 'a b', '7 (copy)', 'lock'))
    if rng.random() < 0.5:
      (folder / name).mkdir()
      (folder / name / 'garbage').write_bytes(rng.bytes(30))
    else:
      (folder / name).write_bytes(rng.bytes(30))

    def check(found: Any) -> None:
      assert equal(found, state(5)), 'another state'
    return Case(f'left over: {name}', lambda: restored(folder), check, 'checkpoints', 'value')


def _lines(data: bytes, rng: Rng) -> tuple[bytes, str]:
  """Damage to a file of JSON lines, or of one JSON value: to bytes, lines or values."""
  lines, kind = data.splitlines(keepends=True), rng.random()
  if kind < 0.35:
    return damage_bytes(data, rng)
  if kind < 0.5:
    return damage_text(data.decode(), rng)
  at = int(rng.integers(len(lines)))
  if kind < 0.8:
    whole = data if len(lines) > 1 and lines[0].strip() in (b'{', b'[') else lines[at]
    with contextlib.suppress(ValueError):
      contents, how = damage_json(json.loads(whole), rng)
      return data.replace(whole, to_text(contents).encode() + b'\n'), f'line {at + 1}: {how}'
  if kind < 0.9:
    new = to_text(pick(rng, NASTY)).encode() + b'\n'
    return b''.join([*lines[:at], new, *lines[at:]]), f'line {at + 1} is {new[:20]!r}'
  order = rng.permutation(len(lines))[:int(rng.integers(len(lines) + 1))]
  return b''.join(lines[i] for i in order), f'lines in the order {order.tolist()[:9]}'


def _train(base: Path) -> None:
  """A run of a few steps, its evaluation, its scenes."""
  (base / 'tiny.py').write_text(tiny_config(STEPS))
  command = [sys.executable, ROOT / 'train.py', '--config=tiny.py', '--workdir=run']
  done = subprocess.run(command, cwd=base, capture_output=True, text=True,
                        env=os.environ | {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)})
  if done.returncode:
    raise RuntimeError(done.stdout + done.stderr)
