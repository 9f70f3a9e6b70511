"""The sweep from the outside: real runs of train.py, undisturbed, and interrupted in two ways."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from molmo_jax.lab.sweep import record
from tests.lab.sweep.tiny import config_file
from tests.programs import ROOT, finish

STEPS = 30
CLOCK = re.compile('seconds_per_step|tokens_per_second|crops_per_second|tflops|time/')


def start(folder, *flags):
  """Compiled programs of the first sweep serve the others."""
  env = {key: value for key, value in os.environ.items() if key != 'JAX_COMPILATION_CACHE_DIR'}
  env |= dict(JAX_PLATFORMS='cpu', JAX_NUM_CPU_DEVICES='1', PYTHONPATH=str(ROOT), COLUMNS='200',
              XLA_FLAGS='--xla_backend_optimization_level=0 '
              '--xla_llvm_disable_expensive_passes=true')
  if (folder / 'straight' / 'report.md').exists():
    env['JAX_COMPILATION_CACHE_DIR'] = str(folder / 'straight' / 'cache')
  return subprocess.Popen([sys.executable, '-m', 'molmo_jax.tools.sweep', '--config=mine.py',
                           '--seeds=2', *flags],
                          cwd=folder, env=env, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)


def sweep(folder, *flags):
  status, printed = finish(start(folder, *flags))
  assert status == 0, printed
  return printed


def until(process, out, condition):
  """Waits until the folders of the runs fulfil the condition."""
  end = time.monotonic() + 200
  while time.monotonic() < end and process.poll() is None:
    if condition([path for path in (out / 'runs').glob('*') if path.is_dir()]):
      return
    time.sleep(0.05)
  raise AssertionError(finish(process)[1])


def in_flight(folders):
  """Runs that have reported a step, and are not done."""
  return [f for f in folders if record.last_step(f) and not record.is_done(f)]


def results(out):
  """Every accuracy, and every row of every log without what depends on the clock."""
  with (out / 'results.csv').open() as file:
    accuracies = [(row['folder'], row['task'], row['accuracy']) for row in csv.DictReader(file)]
  curves = {path.parent.name: [{k: v for k, v in json.loads(line).items() if not CLOCK.match(k)}
                               for line in path.read_text().splitlines()]
            for path in out.glob('runs/*/metrics.jsonl')}
  return accuracies, curves


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('sweep')
  (folder / 'mine.py').write_text(config_file(STEPS))
  return folder


@pytest.fixture(scope='module')
def straight(folder):
  """A sweep of four runs that nobody disturbed: its folder and what it printed."""
  return folder / 'straight', sweep(folder, '--study=pooling', '--out=straight')


def test_a_sweep_ends_with_its_report(straight):
  out, printed = straight
  assert 'sweep, steps of all runs 120/120  4/4 runs done' in printed
  assert 'attention: ' in printed and 'mean: ' in printed and 'difference' in printed
  assert '| attention (baseline) |' in (out / 'report.md').read_text()
  assert (out / 'report.html').read_text().startswith('<!doctype html>')
  arms = json.loads((out / 'results.json').read_text())['pooling']['arms']
  assert arms['mean']['parameters'] < arms['attention']['parameters']
  assert 0 < arms['mean']['flops_per_step'] < arms['attention']['flops_per_step']
  assert arms['mean']['accuracy']['mean']['n'] == 2


def test_a_run_is_what_its_flags_say(straight):
  for folder in (straight[0] / 'runs').iterdir():
    config = json.loads((folder / 'config.json').read_text())
    assert config['model']['connector']['pooling'] == ('mean' if 'pooling=mean' in folder.name
                                                       else 'attention_meanq')
    assert f'seed{config["seed"]}' in folder.name and config['data']['seed'] == config['seed']


def test_data_and_compiled_programs_are_shared(straight):
  out, _ = straight
  assert len(list((out / 'data').glob('scenes-*/train.jsonl'))) == 1
  assert any((out / 'cache').iterdir())


def test_finished_runs_are_not_run_again_and_equal_ones_are_shared(folder, straight):
  out, _ = straight
  before = {path: path.stat().st_mtime_ns for path in out.glob('runs/*/*')}
  listed = sweep(folder, '--study=all', '--out=straight', '--list')
  assert '2 runs, 2 done' in listed and '0 runs, 0 done, 2 shared with a study above' in listed
  sweep(folder, '--study=pooling', '--out=straight')
  assert {path: path.stat().st_mtime_ns for path in out.glob('runs/*/*')} == before


def test_the_report_is_made_again_from_the_folders(folder, straight):
  out, _ = straight
  files = [out / name for name in ('report.md', 'report.html', 'results.csv', 'results.json')]
  before = [path.read_text() for path in files]
  for path in files:
    path.unlink()
  (folder / 'doc.md').write_text('<!-- sweep pooling: begin --><!-- sweep pooling: end -->')
  printed = sweep(folder, '--report_only', '--out=straight', '--insert=doc.md')
  assert [path.read_text() for path in files] == before
  assert 'put into doc.md: pooling' in printed and '| attention (baseline) |' in (
    folder / 'doc.md').read_text()


def test_an_interrupted_sweep_goes_on_to_the_same_results(folder, straight):
  """First a signal, then the sweep is killed while its runs go on; finished runs are not touched
  again.
  """
  out, flags = folder / 'interrupted', ('--study=pooling', '--out=interrupted', '--processes=2')
  process = start(folder, *flags)
  until(process, out, in_flight)
  process.send_signal(signal.SIGTERM)
  status, printed = finish(process)
  assert (status == 143 and 'stopped; the same command resumes it' in printed and 'Traceback'
          not in printed)
  process = start(folder, *flags)
  until(process, out, lambda folders: any(map(record.is_done, folders)) and in_flight(folders))
  process.kill()
  process.wait()
  finished = {f: (f / record.DONE).stat().st_mtime_ns for f in (out / 'runs').iterdir()
              if record.is_done(f)}
  assert 0 < len(finished) < 4
  sweep(folder, *flags)
  assert {f: (f / record.DONE).stat().st_mtime_ns for f in finished} == finished
  assert results(out) == results(straight[0])


def test_a_failed_run_ends_with_its_log_and_status_1(folder, straight):
  flags = ('--study=pooling', '--out=failing', '--seeds=1', '--config.data.sequence_length=8',
           '--config.data.on_error=raise')
  status, printed = finish(start(folder, *flags))
  assert status == 1 and 'Traceback' not in printed
  assert ('its log, ' in printed and 'failing/runs/base-seed0-' in printed and 'no loss token is '
          'left' in printed)
  assert '2 of 2 runs failed' in printed


def test_commands_can_be_looked_at_first(folder):
  printed = sweep(folder, '--study=pooling', '--out=nowhere', '--dry_run')
  assert printed.count('train.py') == 4 and '--config.model.connector.pooling=mean' in printed
  assert not (folder / 'nowhere').exists()


@pytest.mark.parametrize('flags, message', [
  ((), 'error: --study is missing; there are: pooling, both, all'),
  (('--study=pooling', '--config.training.stepz=3'), 'stepz')])
def test_a_wrong_command_is_told_so_in_a_line(folder, flags, message):
  status, printed = finish(start(folder, *flags))
  assert status == 1 and message in printed and 'Traceback' not in printed
