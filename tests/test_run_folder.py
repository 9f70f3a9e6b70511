"""Whose the folder of a run is, and what may change when it resumes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from configs import image
from molmo_jax import folder_lock
from molmo_jax.configuration import ConfigError
from molmo_jax.errors import MolmoError
from molmo_jax.experiment import from_config, load
from molmo_jax.folder_lock import locked
from molmo_jax.run_folder import check, claim, facts
from tests.test_experiment import changed


@pytest.fixture
def folder(tmp_path):
  """Of a run that has a checkpoint of step 20."""
  claim(tmp_path / 'run', image.get_config())
  (tmp_path / 'run' / 'checkpoints' / '20').mkdir(parents=True)
  return tmp_path / 'run'


def history(folder):
  return [json.loads(line) for line in (folder / 'history.jsonl').read_text().splitlines()]


def test_a_claimed_folder_gives_back_an_equal_configuration(tmp_path):
  config = image.get_config('size=o7b')
  claim(tmp_path / 'run', config)
  assert from_config(load(tmp_path / 'run' / 'config.json')) == from_config(config)
  assert json.loads((tmp_path / 'run' / 'config.json').read_text())['data']['batch_size'] == 128


def test_a_folder_may_be_claimed_again_with_the_same_configuration(folder):
  first = (folder / 'config.json').read_text()
  claim(folder, image.get_config())
  assert (folder / 'config.json').read_text() == first
  assert not (folder / 'history.jsonl').exists()


def test_a_folder_of_another_configuration_is_refused_and_the_flags_are_named(folder):
  older = changed(image.get_config())
  del older.evaluation['limit']
  claim(folder, older)
  before = (folder / 'config.json').read_text()
  other = changed(image.get_config(), model__llm__width=64, training__steps=5, evaluation__limit=2)
  with pytest.raises(ConfigError) as error:
    claim(folder, other)
  message = str(error.value)
  assert '--config.model.llm.width: 4096 there, 64 now' in message
  assert '--config.training.steps: 31000 there, 5 now' in message
  assert 'model.llm.layers' not in message and 'evaluation.limit' not in message
  assert '--workdir' in message and 'delete' not in message
  assert (folder / 'config.json').read_text() == before


def test_a_folder_without_a_checkpoint_belongs_to_nobody(tmp_path):
  claim(tmp_path, image.get_config())
  claim(tmp_path, changed(image.get_config(), seed=7))
  assert load(tmp_path / 'config.json').seed == 7


def test_what_cannot_change_what_was_computed_may_change_and_is_recorded(folder, caplog):
  claim(folder, changed(image.get_config(), training__steps=40_000, training__log_every=3,
                        data__workers=2, training__checkpoint_every=77))
  assert history(folder) == [{'after_step': 20, 'changed': {
    'data.workers': [4, 2], 'training.checkpoint_every': [4000, 77],
    'training.log_every': [20, 3], 'training.steps': [31000, 40000]}}]
  assert load(folder / 'config.json').training.steps == 40_000
  assert 'schedule of 40000 steps' in caplog.text
  claim(folder, changed(image.get_config(), training__steps=40_001))
  assert len(history(folder)) == 2


@pytest.mark.parametrize('damage', [b'', b'{"a', b'\0' * 50, b'\xff\xfe', b'[]', b'7', b'null'])
def test_a_damaged_configuration_is_named_and_written_again(folder, damage, caplog):
  (folder / 'config.json').write_bytes(damage)
  with pytest.raises(ConfigError, match='run/config.json'):
    load(folder / 'config.json')
  claim(folder, image.get_config())
  assert from_config(load(folder / 'config.json')) == from_config(image.get_config())
  assert len(caplog.records) == 1 and 'config.json is damaged' in caplog.text


@pytest.fixture
def files(tmp_path):
  """The configuration of data with two records, and a run's folder that has begun with them."""
  (tmp_path / 'm.jsonl').write_text('{"a": 1}\n\n{"a": 2}\n')
  (tmp_path / 't.json').write_text('{}')
  config = changed(image.get_config(), data__train=str(tmp_path / 'm.jsonl'),
                   data__tokenizer=str(tmp_path / 't.json'))
  claim(tmp_path / 'run', config, facts(from_config(config).data))
  (tmp_path / 'run' / 'checkpoints' / '20').mkdir(parents=True)
  return config


def again(folder, config, **values):
  config = changed(config, **values)
  claim(folder / 'run', config, facts(from_config(config).data))


def test_the_same_data_may_lie_elsewhere(tmp_path, files):
  (tmp_path / 'm.jsonl').rename(tmp_path / 'n.jsonl')
  again(tmp_path, files, data__train=str(tmp_path / 'n.jsonl'))
  assert list(history(tmp_path / 'run')[0]['changed']) == ['data.train']
  (tmp_path / 'o.jsonl').write_text('{"a": 1}\n')
  with pytest.raises(ConfigError, match='data.train had 2 records when .* and has 1 records now'):
    again(tmp_path, files, data__train=str(tmp_path / 'o.jsonl'))


def test_another_number_of_records_is_refused(tmp_path, files):
  with open(tmp_path / 'm.jsonl', 'a') as file:
    file.write('{"a": 3}\n')
  with pytest.raises(ConfigError, match='data.train had 2 records when .* and has 3 records now'):
    again(tmp_path, files)


def test_a_record_that_was_mended_is_said_and_recorded(tmp_path, files, caplog):
  (tmp_path / 'm.jsonl').write_text('{"a": 1}\n\n{"a": 3}\n')
  again(tmp_path, files)
  assert 'the contents of data.train have changed' in caplog.text
  assert list(history(tmp_path / 'run')[0]['changed']) == ['contents of data.train']


def test_another_tokenizer_is_refused(tmp_path, files):
  (tmp_path / 't.json').write_text('{"a": 1}')
  with pytest.raises(ConfigError, match='t.json: data.tokenizer had SHA-256'):
    again(tmp_path, files)


@pytest.mark.parametrize('damage', [b'', b'\0', b'[]', b'{"data.train": 7}', b'null'])
def test_a_damaged_list_of_files_is_named_and_written_again(tmp_path, files, damage, caplog):
  (tmp_path / 'run' / 'data.json').write_bytes(damage)
  again(tmp_path, files)
  assert (damage == b'[]') != ('data.json cannot be used' in caplog.text)
  caplog.clear()
  again(tmp_path, files)
  assert not caplog.records


def test_checking_writes_nothing(tmp_path):
  assert check(tmp_path / 'none', image.get_config()) == {}
  assert not (tmp_path / 'none').exists()


HOLD = """
import sys, time
from molmo_jax.folder_lock import locked
with locked(sys.argv[1]):
  print('held', flush=True)
  time.sleep(60)
"""


def test_one_process_works_in_a_folder_and_a_dead_one_does_not_count(tmp_path):
  other = subprocess.Popen([sys.executable, '-c', HOLD, str(tmp_path)], stdout=subprocess.PIPE)
  assert other.stdout.readline() == b'held\n'
  with pytest.raises(MolmoError, match=f'in use by process {other.pid} on {socket.gethostname()}'):
    with locked(tmp_path):
      pass
  other.kill()
  other.wait()
  assert (tmp_path / 'run.lock').exists()
  with locked(tmp_path):
    assert (tmp_path / 'run.lock').read_text().startswith(f'process {os.getpid()} ')
  assert not (tmp_path / 'run.lock').exists()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
  """The lock of a process on another host."""
  monkeypatch.setattr(folder_lock, 'BEAT', 0.05)
  monkeypatch.setattr(folder_lock, 'PATIENCE', 0.5)
  lock = tmp_path / 'run.lock'
  lock.write_text('process 12 on elsewhere')
  return lock


def test_the_folder_of_a_host_that_is_gone_is_taken_over(elsewhere):
  with locked(elsewhere.parent):
    assert elsewhere.read_text() == f'process {os.getpid()} on {socket.gethostname()}'


def test_the_folder_of_a_host_that_is_at_work_is_not(elsewhere):
  began = elsewhere.stat().st_mtime
  threading.Timer(0.2, lambda: os.utime(elsewhere, (began + 9, began + 9))).start()
  with pytest.raises(MolmoError, match='in use by process 12 on elsewhere; wait for it'):
    with locked(elsewhere.parent):
      pass
  assert elsewhere.read_text() == 'process 12 on elsewhere'


def test_a_lock_is_touched_as_long_as_it_is_held(tmp_path, monkeypatch):
  monkeypatch.setattr(folder_lock, 'BEAT', 0.02)
  with locked(tmp_path):
    os.utime(tmp_path / 'run.lock', (0, 0))
    until = time.monotonic() + 20
    while not (tmp_path / 'run.lock').stat().st_mtime and time.monotonic() < until:
      time.sleep(0.01)
    assert (tmp_path / 'run.lock').stat().st_mtime
