"""Runs of several processes over the loopback, and runs that die: nothing may be lost, doubled or
left hanging.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from molmo_jax.checkpoint.native import open_checkpoints, restore_params
from tests.programs import command, finish, together
from tests.tiny_run import tiny_config

CONFIG = tiny_config(12)
for old, new in (('batch_size=2, sequence', 'batch_size=8, sequence'),
                 ('val_per_task=1', 'val_per_task=4'),
                 ('limit=2', 'limit=0'), ('checkpoint_every=25',
                                          'checkpoint_every=4, keep_checkpoints=9'),
                 ('optimizer=dict(', 'optimizer=dict(schedule_steps=12, '),
                 ("on_error='skip'", "on_error='skip', workers=0")):
  assert old in CONFIG
  CONFIG = CONFIG.replace(old, new)
# whose noise depends on the place of a row in its batch
PLAIN = '--config.model.llm.residual_dropout=0.0'
DEVICES = 2   # of each of two processes; one process has as many in all
TRAIN = ('train.py', '--config=tiny.py', '--noevaluate', PLAIN)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('processes')
  (folder / 'tiny.py').write_text(CONFIG)
  return folder


def losses(workdir):
  return {row['step']: row['loss']
          for row in map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())}


def params(workdir, step):
  """The parameters of a checkpoint, whole, on one device."""
  folder = workdir / 'checkpoints' / str(step)
  stored = ocp.checkpointables_metadata(folder).metadata['state']['params']
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), stored)
  with open_checkpoints(folder.parent) as checkpoints:
    return restore_params(checkpoints, step, abstract)[0]


def succeed(processes, expected=0):
  printed = [finish(process) for process in processes]
  assert [status for status, _ in printed] == [expected] * len(processes), '\n'.join(
    text for _, text in printed)
  return [text for _, text in printed]


def wait_for(condition, process, seconds=200):
  until = time.monotonic() + seconds
  while time.monotonic() < until and process.poll() is None and not condition():
    time.sleep(0.02)


@pytest.fixture(scope='module')
def one(folder):
  """One process with four devices: the whole run."""
  succeed([command(folder, *TRAIN, '--workdir=one', devices=2 * DEVICES)])
  return folder / 'one'


@pytest.fixture(scope='module')
def two(folder, one):
  """Two processes of two devices each: the same run."""
  printed = succeed(together(folder, *TRAIN, '--workdir=two', devices=DEVICES))
  return folder / 'two', printed


def test_two_processes_train_like_one(one, two):
  first, second = losses(one), losses(two[0])
  assert first.keys() == second.keys() == set(range(1, 13))
  for step in (1, 2, 3, 4):
    assert second[step] == pytest.approx(first[step], rel=1e-5)
  assert second[12] == pytest.approx(first[12], rel=1e-3)   # rounding grows with every step
  a, b = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(params(run, 4))])
          for run in (one, two[0]))
  assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(a)


def test_only_the_first_process_talks(two):
  assert 'training 12/12' in two[1][0]
  assert 'training' not in two[1][1]


@pytest.fixture(scope='module')
def evaluated(folder, one):
  """The evaluation of that run by one process."""
  succeed([command(folder, 'eval.py', '--workdir=one', '--out=by_one')])
  return folder / 'by_one'


def test_two_processes_evaluate_like_one(folder, evaluated):
  succeed(together(folder, 'eval.py', '--workdir=one', '--out=by_two'))
  for name in ('predictions.jsonl', 'summary.json'):
    assert (folder / 'by_two' / name).read_text() == (evaluated / name).read_text()
  # 4 of each of 9 tasks, each once
  assert len((evaluated / 'predictions.jsonl').read_text().splitlines()) == 36


@pytest.mark.parametrize('lines', [2, 9])
def test_an_evaluation_that_was_killed_goes_on_where_it_was(folder, evaluated, lines):
  out = folder / f'killed_{lines}'
  journal = out / 'predictions.journal.jsonl'
  process = command(folder, 'eval.py', '--workdir=one', f'--out={out.name}')
  wait_for(lambda: journal.exists() and len(journal.read_text().splitlines()) >= lines, process)
  process.send_signal(signal.SIGKILL)
  finish(process)
  assert not (out / 'predictions.jsonl').exists()
  before = len(journal.read_bytes().splitlines())
  printed, = succeed([command(folder, 'eval.py', '--workdir=one', f'--out={out.name}')])
  assert re.search(r'(\d+) of 36 examples were evaluated before',
                   printed).group(1) in (str(before), str(before - 1))
  for name in ('predictions.jsonl', 'summary.json'):
    assert (out / name).read_text() == (evaluated / name).read_text()


def test_an_evaluation_that_is_complete_is_not_made_again(folder, evaluated):
  printed, = succeed([command(folder, 'eval.py', '--workdir=one', '--out=by_one')])
  assert '36 of 36 examples were evaluated before' in printed


def test_a_lost_peer_ends_the_run_with_a_message(folder, one):
  processes = together(folder, *TRAIN, '--workdir=lost', '--config.training.steps=100000')
  log = folder / 'lost' / 'metrics.jsonl'
  wait_for(lambda: log.exists() and log.stat().st_size, processes[0])
  processes[1].send_signal(signal.SIGKILL)
  begun = time.monotonic()
  status, printed = finish(processes[0])
  finish(processes[1])
  assert status not in (0, None)
  assert time.monotonic() - begun < 100
  assert 'process 0 of 2 failed or lost a peer' in printed, printed


def test_an_error_in_one_process_ends_all(folder, one):
  """The second process has another configuration than the first."""
  first, second = together(folder, *TRAIN, '--workdir=differ')
  second.kill()
  second.wait()
  port = next(a for a in second.args if str(a).startswith('--distributed'))
  second = command(folder, *TRAIN, '--workdir=differ', '--config.seed=7', port)
  status, printed = finish(second)
  assert status == 1
  assert 'config.seed: 0 there, 7 here' in printed
  status, printed = finish(first)
  assert status not in (0, None)
  assert 'process 0 of 2 failed or lost a peer' in printed, printed


def test_sigterm_to_one_process_stops_all_at_the_same_step_and_loses_none(folder, two):
  processes = together(folder, *TRAIN, '--workdir=stopped', devices=DEVICES)
  log = folder / 'stopped' / 'metrics.jsonl'
  wait_for(lambda: log.exists() and log.stat().st_size, processes[0])
  processes[1].send_signal(signal.SIGTERM)
  printed = succeed(processes, expected=128 + signal.SIGTERM)
  step = int(re.search(r'stopped by SIGTERM after step (\d+)', printed[0]).group(1))
  assert step < 12
  assert (folder / 'stopped' / 'checkpoints' / str(step)).is_dir()
  again = succeed(together(folder, *TRAIN, '--workdir=stopped', devices=DEVICES))
  assert f'resuming from step {step}' in again[0]
  assert losses(folder / 'stopped') == losses(two[0])


def test_another_number_of_processes_goes_on(folder, two):
  """Two processes stop in the middle, one goes on with the same batches: without packing nothing is
  passed over.
  """
  begun = succeed(together(folder, *TRAIN, '--workdir=fewer', '--config.training.steps=6',
                           devices=DEVICES))
  assert 'training 6/6' in begun[0]
  (folder / 'fewer' / 'config.json').unlink()
  succeed([command(folder, *TRAIN, '--workdir=fewer', devices=2 * DEVICES)])
  found, expected = losses(folder / 'fewer'), losses(two[0])
  for step in (6, 7, 8):
    assert found[step] == pytest.approx(expected[step], rel=1e-4)


KILLS = int(os.environ.get('MOLMO_KILLS', 3))


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(folder):
  """SIGKILL at random moments, of the program or of one of the two processes that read its data."""
  steps = 12 * KILLS
  flags = ('train.py', '--config=tiny.py', '--noevaluate', '--config.data.workers=2',
           f'--config.training.steps={steps}')
  succeed([command(folder, *flags, '--workdir=undisturbed')])
  rng, log = random.Random(0), folder / 'killed' / 'metrics.jsonl'
  done = lambda: len(log.read_bytes().splitlines()) if log.exists() else 0
  for number in range(KILLS):
    more = done() + rng.randint(1, 8)
    process = command(folder, *flags, '--workdir=killed')
    wait_for(lambda more=more: done() >= more, process)
    time.sleep(rng.random() / 20)
    victims = [process.pid, *workers_of(process.pid)] if number % 2 else [process.pid]
    with contextlib.suppress(ProcessLookupError):
      os.kill(victims[-1], signal.SIGKILL)
    status, printed = finish(process)
    assert status not in (0, None), f'killed too late, after {done()} of {steps} steps: {printed}'
  succeed([command(folder, *flags, '--workdir=killed')])
  assert losses(folder / 'killed') == losses(folder / 'undisturbed')
  first, second = (params(folder / name, steps) for name in ('undisturbed', 'killed'))
  assert all(np.array_equal(a, b)
             for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))


def workers_of(pid):
  """Child processes, from /proc."""
  found = []
  for stat in Path('/proc').glob('[0-9]*/stat'):
    with contextlib.suppress(OSError):
      fields = stat.read_text().rsplit(')', 1)[1].split()
      if int(fields[1]) == pid:
        found.append(int(stat.parent.name))
  return sorted(found)
