"""launch/run.sh: arguments, signals and exit statuses, with a program in train.py's place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.launches import LAUNCH, STOPPED, calls, programs, run

TRAIN = """case $1 in
*train.py) mkdir -p {workdir}/checkpoints/{reached}
  echo '{{"training": {{"steps": 40}}}}' > {workdir}/config.json
  {then} ;;
*) exec {python} "$@" ;;
esac"""


def run_sh(folder, reached, then='exit 0', *more):
  body = TRAIN.format(workdir=folder / 'run', reached=reached, then=then, python=sys.executable)
  return run(LAUNCH / 'run.sh', f'--workdir={folder / "run"}', *more,
             **programs(folder, python=body))


@pytest.mark.parametrize('reached, then, status', [
  (40, 'exit 0', 0), (20, 'exit 143', STOPPED), (20, 'exit 130', STOPPED), (20, 'exit 1', 1),
  (40, 'exit 1', 1)])
def test_the_exit_status_tells_a_finished_run_from_a_stopped_one(tmp_path, reached, then, status):
  assert run_sh(tmp_path, reached, then).returncode == status


def test_train_gets_all_arguments(tmp_path):
  run_sh(tmp_path, 40, 'exit 0', '--config=a b.py', '--distributed=auto')
  assert calls(tmp_path, 'python')[0][1:] == [f'--workdir={tmp_path / "run"}', '--config=a b.py',
                                              '--distributed=auto']


def test_the_working_folder_must_be_given(tmp_path):
  printed = run(LAUNCH / 'run.sh', '--config=configs/scenes.py')
  assert printed.returncode == 2
  assert 'needs --workdir=DIR' in printed.stdout


def test_a_signal_reaches_train_and_its_checkpoint_is_waited_for(tmp_path):
  then = (f'trap "sleep 0.5; touch {tmp_path}/saved; exit 143" TERM; touch {tmp_path}/up; while :; '
    'do sleep 0.05; done')
  body = TRAIN.format(workdir=tmp_path / 'run', reached=20, then=then, python=sys.executable)
  process = subprocess.Popen([LAUNCH / 'run.sh', f'--workdir={tmp_path / "run"}'],
                             env=os.environ | programs(tmp_path, python=body))
  until = time.monotonic() + 20
  while not (tmp_path / 'up').exists() and time.monotonic() < until:
    time.sleep(0.02)
  process.send_signal(signal.SIGTERM)
  assert process.wait(20) == STOPPED
  assert (tmp_path / 'saved').exists()
