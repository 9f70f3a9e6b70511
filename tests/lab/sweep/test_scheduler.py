"""Runs as processes, with a program in the place of train.py that is over at once."""

from __future__ import annotations

import io
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time

import pytest

from molmo_jax.configuration import ConfigError
from molmo_jax.lab.sweep import record, resources, scheduler
from molmo_jax.lab.sweep.resources import Share, shares
from molmo_jax.lab.sweep.study import RUNS, plan, read_studies
from molmo_jax.terminal import Terminal
from tests.lab.sweep.tiny import config_file

PROGRAM = """
import json, os, pathlib, signal, sys, time
flags = dict(a.split('=', 1) for a in sys.argv[1:])
workdir = pathlib.Path(flags['--workdir'])
how = json.loads((workdir.parents[1] / 'how.json').read_text()).get(workdir.name, 'fine')
print('cores', sorted(os.sched_getaffinity(0)), 'blas', os.environ['OPENBLAS_NUM_THREADS'])
with open(workdir / 'attempts', 'a') as file:
  file.write('x')
if how == 'slow':
  signal.signal(signal.SIGTERM, lambda *a: sys.exit(
    'stopped: ' + open(workdir / 'attempts').read()))
  (workdir / 'metrics.jsonl').write_text('{"step": 3}')
  time.sleep(60)
if how == 'deaf':
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  (workdir / 'metrics.jsonl').write_text('{"step": 3}')
  time.sleep(60)
if how == 'fails':
  sys.exit('no luck')
if how != 'no evaluation':
  (workdir / 'evaluation').mkdir(exist_ok=True)
  (workdir / 'evaluation' / 'summary.json').write_text('{}')
"""


@pytest.fixture
def sweep(tmp_path, monkeypatch):
  """A function that runs the four runs of a study, each as `how` says, and what it printed."""
  (tmp_path / 'program.py').write_text(PROGRAM)
  (tmp_path / 'mine.py').write_text(config_file(5))
  out = tmp_path / 'out'
  out.mkdir()
  monkeypatch.setattr(scheduler, 'PROGRAM', tmp_path / 'program.py')
  monkeypatch.setattr(record, 'parameters', lambda model: 7)
  config = runpy.run_path(tmp_path / 'mine.py')['get_config']()
  studies = {'pooling': read_studies(str(tmp_path / 'mine.py'))['pooling']}
  runs = list(plan(config, {}, studies, 2, out).runs.values())

  class Sweep:
    folders = [out / RUNS / run.name for run in runs]

    def __call__(self, how=None, places=None, interrupt=()):
      places = places or [Share(), Share()]
      (out / 'how.json').write_text(
        json.dumps({runs[i].name: word for i, word in (how or {}).items()}))
      printed = io.StringIO()
      self.scheduler = scheduler.Scheduler(runs, out, 'mine.py', places,
                                           Terminal(file=printed, width=200))
      for at, number in interrupt:
        threading.Thread(target=self.interrupt, args=(at, number), daemon=True).start()
      return self.scheduler.work(), printed.getvalue()

    def interrupt(self, at, number):
      """A signal to this process when the run `at` has begun."""
      until = time.monotonic() + 30
      while not (self.folders[at] / 'metrics.jsonl').exists() and time.monotonic() < until:
        time.sleep(0.05)
      os.kill(os.getpid(), number)

    def attempts(self):
      return [len((f / 'attempts').read_text()) if (f / 'attempts').exists() else 0
              for f in self.folders]

    def done(self):
      return [record.is_done(folder) for folder in self.folders]

  monkeypatch.setenv('OPENBLAS_NUM_THREADS', 'as before')
  return Sweep()


def test_all_runs_are_done_once(sweep):
  outcome, printed = sweep()
  assert (outcome.failed, outcome.stopped) == ((), None)
  assert sweep.done() == [True] * 4
  assert 'sweep, steps of all runs 20/20  4/4 runs done' in printed
  sweep()
  assert sweep.attempts() == [1] * 4
  assert record.read_done(sweep.folders[0])['parameters'] == 7


def test_a_folder_has_its_flags_and_its_log(sweep):
  sweep()
  written = json.loads((sweep.folders[2] / 'flags.json').read_text())
  assert written['flags']['model.connector.pooling' if 'pooling' in sweep.folders[2].name
                          else 'seed'] in ('mean', 1)
  assert written['command'][-1] == f'--workdir={sweep.folders[2]}'
  assert 'cores' in (sweep.folders[2] / 'log.txt').read_text()


@pytest.mark.parametrize('how, said',
                         [('fails', 'no luck'), ('no evaluation', 'ended with status 0')])
def test_a_failed_run_is_shown_and_the_others_go_on(sweep, how, said):
  outcome, printed = sweep({1: how})
  assert outcome.failed == (sweep.folders[1].name,)
  assert sweep.done() == [True, False, True, True]
  assert said in printed and f'{sweep.folders[1]}/log.txt' in printed and '1 failed' in printed
  outcome, _ = sweep()
  assert outcome.failed == ()
  assert sweep.attempts() == [1, 2, 1, 1]


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_runs_in_flight_end_orderly(sweep, number):
  outcome, printed = sweep({1: 'slow'}, places=[Share()], interrupt=[(1, number)])
  assert outcome.stopped and outcome.failed == ()
  assert sweep.done() == [True, False, False, False]
  assert 'stopped: x' in (sweep.folders[1] / 'log.txt').read_text()
  assert 'failed' not in printed
  sweep()
  assert sweep.attempts() == [1, 2, 1, 1]


def test_a_second_signal_ends_a_run_that_does_not_listen(sweep):
  begun = time.monotonic()
  outcome, _ = sweep({0: 'deaf'}, places=[Share()],
                     interrupt=[(0, signal.SIGTERM), (0, signal.SIGINT)])
  assert outcome.stopped and time.monotonic() - begun < 30


def test_a_signal_is_as_before_after_the_sweep(sweep):
  before = signal.getsignal(signal.SIGTERM)
  sweep()
  assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_that_another_sweep_has_is_waited_for(sweep):
  """As it is with a run that goes on after its sweep was killed: it holds the lock as long as it
  lives.
  """
  lock = record.lock(sweep.folders[0])
  holder = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(2)'],
                            pass_fds=[lock.fileno()])
  lock.close()
  begun = time.monotonic()
  outcome, _ = sweep()
  assert holder.wait() == 0 and time.monotonic() - begun > 1.5
  assert outcome.failed == () and sweep.attempts() == [1] * 4


@pytest.mark.skipif(not hasattr(os, 'sched_getaffinity') or len(os.sched_getaffinity(0)) < 2,
                    reason='needs two cores')
def test_every_process_has_its_own_cores(sweep):
  sweep(places=shares(2, 'cpu'))
  logs = [(folder / 'log.txt').read_text() for folder in sweep.folders]
  first = [[core] for core in sorted(os.sched_getaffinity(0))] if len(
    os.sched_getaffinity(0)) == 2 else None
  assert all('as before' not in log for log in logs)
  if first:
    assert {f'cores {core} blas 1' for core in first} == {log.splitlines()[1] for log in logs}


def test_shares_divide_the_cores(monkeypatch):
  monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: {0, 1, 2, 3, 4})
  assert [sorted(share.cores) for share in shares(2, 'cpu')] == [[0, 1], [2, 3, 4]]
  assert [sorted(share.cores) for share in shares(7, 'cpu')] == [[0], [1], [2], [3], [4], [0], [1]]
  monkeypatch.setattr(resources, '_free_memory', lambda: 3.2 * resources.MEMORY_PER_RUN)
  assert len(shares(None, 'cpu')) == 3
  monkeypatch.setattr(resources, '_free_memory', lambda: 0.0)
  assert len(shares(None, 'cpu')) == 1


def test_accelerators_are_used_one_run_after_the_other():
  assert shares(None, 'gpu') == [Share()] and shares(None, 'tpu') == [Share()]
  assert [s.environment['XLA_PYTHON_CLIENT_MEM_FRACTION'] for s in shares(2, 'gpu')] == ['0.450',
                                                                                         '0.450']
  with pytest.raises(ConfigError, match='--processes=2: a TPU belongs to one process'):
    shares(2, 'tpu')
