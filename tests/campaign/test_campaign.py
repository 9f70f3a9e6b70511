"""The campaign finds faults that are planted, and makes the same inputs from the same seed."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from molmo_jax.errors import MolmoError
from tests.campaign import campaign, mutate
from tests.campaign.engine import AREAS, ROOT, Case, Guard, Outcome, examine, generator

PLANTED = '''
import importlib, pathlib, subprocess, sys, time
from tests.campaign import engine
from tests.campaign.engine import Case
from molmo_jax.errors import MolmoError

def connect(port):
  import socket
  socket.create_connection(('127.0.0.1', port)).close()

class Inputs:
  def __init__(self, base, port):
    self.port = port

  def case(self, rng, folder):
    def misnamed():
      raise MolmoError('something is wrong')
    class Long(MolmoError):
      def __str__(self):
        return 'a.png: ' + 'x' * 9000
    def long():
      raise Long
    def exhausted():
      try:
        bytearray(20 << 30)
      except MemoryError as error:
        raise MolmoError('a.png: cannot be decoded') from error
    calls = [lambda: 1, lambda: {}['x'], lambda: time.sleep(99),
             lambda: len(b'x' * (300 << 20)),
             lambda: connect(self.port), lambda: subprocess.run(['true']), lambda: sys.exit(3),
             lambda: __import__('os')._exit(3), misnamed, long, exhausted,
             lambda: pathlib.Path('/tmp/molmo_planted').write_text('x'),
             lambda: __import__('pickle').loads(b'cbuiltins\\nlen\\n.'), lambda: 2]
    number = int((folder.parent / 'number').read_text())
    def check(value):
      assert value == 1, f'{value} is not 1'
    return Case(f'planted {number}', calls[number], check, 'a.png')

engine.SECONDS, engine.MEMORY = 2.0, 200 << 20
sys.modules['tests.campaign.images'] = sys.modules[__name__]
'''
REASONS = ('', 'KeyError', 'hangs', 'more than 200 MB', 'socket', 'subprocess.Popen', 'SystemExit',
           'ended the process (status 3)', "does not name 'a.png'", '9007 characters',
           'memory ran out', 'open', 'pickle.find_class', '2 is not 1')


@pytest.fixture
def planted(tmp_path, monkeypatch):
  """A worker whose area has the faults of PLANTED in the place of images."""
  (tmp_path / 'planted.py').write_text(PLANTED)
  start = textwrap.dedent('''
    import pathlib, sys
    sys.path.insert(0, sys.argv[3])
    import planted
    from tests.campaign import engine
    engine.serve(sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3]))''')
  popen = subprocess.Popen
  monkeypatch.setattr(campaign.subprocess, 'Popen', lambda command, **options: popen(
    [sys.executable, '-c', start, *command[3:]], **options))
  monkeypatch.setattr(campaign, 'SECONDS', 2.0)
  worker = campaign.Worker('images', 0, tmp_path)
  yield lambda number: ((tmp_path / 'number').write_text(str(number)), worker.ask(number))[1]
  worker.close()


def test_every_planted_fault_is_found(planted):
  for number, reason in enumerate(REASONS):
    outcome = planted(number)
    assert outcome.number == number
    assert outcome.kind == ('bad' if reason else 'right'), outcome
    assert reason in outcome.reason, outcome
    if reason == 'hangs':          # the innermost frame that is in this repository
      assert 'engine.py' in outcome.reason


@pytest.fixture(scope='module')
def guard(tmp_path_factory):
  return Guard(tmp_path_factory.mktemp('guard'))


def refuse():
  raise MolmoError('a.png: no picture')


@pytest.mark.parametrize('call, wanted, kind', [
  (refuse, 'either', 'clean error'), (refuse, 'error', 'clean error'), (refuse, 'value', 'bad'),
  (int, 'value', 'right'), (int, 'error', 'bad')])
def test_what_is_wanted_decides(guard, call, wanted, kind):
  case = Case('x', call, lambda value: None, 'a.png', wanted)
  assert examine(0, case, guard).kind == kind


def test_native_code_that_connects_is_seen(guard):
  """Connected before the watching begins: without an audit event, as FFmpeg does it."""
  client = socket.create_connection(('127.0.0.1', guard.port))
  outcome = examine(0, Case('x', int, lambda value: None, ''), guard)
  client.close()
  assert outcome.kind == 'bad' and 'socket' in outcome.reason


def test_damage_follows_from_the_seed():
  first, second, other = ([mutate.damage_bytes(bytes(500), generator('images', seed, n))[0]
                           for n in range(50)] for seed in (1, 1, 2))
  assert first == second != other
  trees = [[mutate.to_text(mutate.damage_json({'a': [1, {'b': 'c'}]}, generator('runs', 3, n))[0])
            for n in range(50)] for _ in range(2)]
  assert trees[0] == trees[1] and len(set(trees[0])) > 20


def test_the_same_seed_makes_the_same_images(tmp_path):
  def digests(seed):
    inputs = importlib.import_module('tests.campaign.images').Inputs(tmp_path, 1)
    found = []
    for number in range(40):
      folder = tmp_path / str(seed) / str(number)
      folder.mkdir(parents=True, exist_ok=True)
      inputs._kinds.pop(inputs._unopenable, None), inputs._kinds.pop(inputs._huge, None)
      case = inputs.case(generator('images', seed, number), folder)
      found.append((case.what, [(p.name, hashlib.sha256(p.read_bytes()).hexdigest())
                                for p in sorted(folder.iterdir())]))
    return found
  assert digests(5) == digests(5) != digests(6)


def test_faults_that_differ_in_values_count_as_one(tmp_path):
  tally = campaign.Tally('images')
  for number, text in enumerate(("KeyError: 'a' at x.py:3", "KeyError: 'b' at x.py:3")):
    tally.add(Outcome(number, 'x', 'bad', text))
  tally.add(Outcome(3, 'x', 'right', seconds=2.0, peak=5_000_000))
  assert tally.faults.most_common() == [('KeyError: x.py:3', 2)]
  assert '| images | 3 | 1 | 0 | 2 | 0 | 2.0 s | 5 MB |' in campaign.table([tally])


def test_a_bad_input_is_kept_with_the_command_that_makes_it_again(tmp_path):
  (tmp_path / 'images' / 'input').mkdir(parents=True)
  (tmp_path / 'images' / 'input' / 'a.png').write_bytes(b'x')
  os.mkfifo(tmp_path / 'images' / 'input' / 'fifo')
  campaign.keep(tmp_path / 'images', tmp_path / 'bad' / '1', Outcome(7, 'what', 'bad', 'why'), 3)
  assert sorted(p.name for p in (tmp_path / 'bad' / '1').iterdir()) == ['HOW.txt', 'a.png']
  assert '--area=images --seed=3 --number=7' in (tmp_path / 'bad' / '1' / 'HOW.txt').read_text()


def test_nasty_values_are_json_that_python_reads_or_refuses():
  for value in mutate.NASTY:
    text = mutate.to_text({'a': value})
    try:
      json.loads(text)
    except (RecursionError, ValueError):
      assert value in (mutate.DEEP, mutate.DEEP_OBJECT, mutate.DIGITS)


def test_every_area_has_its_file():
  assert all((ROOT / 'tests' / 'campaign' / f'{area}.py').is_file() for area in AREAS)
  assert np.random.default_rng([1, 2, 3]).random() == np.random.default_rng([1, 2, 3]).random()
