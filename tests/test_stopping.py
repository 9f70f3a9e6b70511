"""Signals to programs of their own: what they answer, when they end, and with which status."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from molmo_jax import stopping

# Like a compiler: many seconds of C code, in which Python cannot run a handler.
BUSY = 'import hashlib; hashlib.pbkdf2_hmac("sha256", b"", b"", 10 ** 9)'
BOTH = pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])


def start(body):
  program = subprocess.Popen(
    [sys.executable, '-c', 'import sys, time\nfrom molmo_jax import stopping\n'
     'from molmo_jax.command_line import one_line_errors\n' + body],
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  assert program.stdout.readline() == 'ready\n', program.communicate()
  time.sleep(0.2)                               # until it is where the test has it
  return program


def end(program):
  printed, errors = program.communicate(timeout=60)
  assert 'Traceback' not in errors
  return program.returncode, printed, errors


def guarded(body):
  """The tool whose `main` has this body."""
  lines = '\n'.join(f'  {line}' for line in ['print("ready", flush=True)', *body.splitlines()])
  return f'@one_line_errors\ndef main(arguments):\n{lines}\nsys.exit(main())'


@BOTH
def test_a_program_that_is_asked_to_stop_ends_with_one_line_and_the_shells_status(number):
  program = start(guarded('try:\n  time.sleep(60)\nfinally:\n  print("cleaned")'))
  program.send_signal(number)
  status, printed, errors = end(program)
  assert (status, printed) == (128 + number, 'cleaned\n')
  assert errors == (f'{number.name}: stopping; again to stop now\nstopped by {number.name}\n')


@BOTH
def test_a_signal_is_answered_at_once_where_python_cannot_and_a_second_ends_the_program(number):
  program = start(guarded(BUSY))
  program.send_signal(number)
  assert program.stderr.readline() == f'{number.name}: stopping; again to stop now\n'
  time.sleep(2 * stopping.APART)
  program.send_signal(number)
  assert end(program)[0] == 128 + number


def test_one_signal_that_comes_twice_is_one():
  program = start(guarded(BUSY))
  program.send_signal(signal.SIGINT)
  assert 'stopping' in program.stderr.readline()
  program.send_signal(signal.SIGINT)
  with pytest.raises(subprocess.TimeoutExpired):
    program.wait(3 * stopping.APART)
  program.kill()
  program.communicate()


def test_what_must_be_finished_is():
  program = start(guarded(
    'with stopping.finishing("after this step"):\n'
    '  while not stopping.received():\n    time.sleep(0.01)\n'
    '  print("finished")\n'
    'return stopping.received().status'))
  program.send_signal(signal.SIGTERM)
  assert end(program) == (143, 'finished\n',
                          'SIGTERM: stopping after this step; again to stop now\n')


def test_a_part_of_it_may_be_left_early():
  program = start(guarded(
    'with stopping.finishing("after this step"):\n'
    '  with stopping.interruptible():\n    time.sleep(60)\n'
    '  print("finished", stopping.received().name)'))
  program.send_signal(signal.SIGTERM)
  assert end(program)[:2] == (0, 'finished SIGTERM\n')


def test_a_second_signal_may_have_another_meaning():
  program = start(guarded(
    'again = []\n'
    'with stopping.finishing("all", lambda: again.append(1)):\n'
    '  while not again:\n    time.sleep(0.01)\n'
    'print("again")'))
  program.send_signal(signal.SIGTERM)
  program.stderr.readline()
  time.sleep(2 * stopping.APART)
  program.send_signal(signal.SIGTERM)
  assert end(program)[:2] == (0, 'again\n')


def test_handlers_are_as_before_afterwards():
  before = [signal.getsignal(number) for number in stopping.NUMBERS]
  with stopping.listening(), stopping.listening():
    assert signal.getsignal(signal.SIGINT) not in before
  assert [signal.getsignal(number) for number in stopping.NUMBERS] == before
