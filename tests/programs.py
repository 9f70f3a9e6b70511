"""Runs train.py and eval.py as a user does: as subprocesses, in a folder of one's own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def command(folder, program, *flags, devices=1):
  env = os.environ | dict(
    JAX_PLATFORMS='cpu', JAX_NUM_CPU_DEVICES=str(devices), PYTHONPATH=str(ROOT), COLUMNS='200',
    JAX_COMPILATION_CACHE_DIR=str(folder / 'compiled'),
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0')
  return subprocess.Popen([sys.executable, ROOT / program, *flags], cwd=folder, env=env, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def together(folder, program, *flags, count=2, devices=1):
  """`count` processes that find each other over the loopback."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  return [command(folder, program, *flags, f'--distributed=localhost:{port},{index},{count}',
                  devices=devices)
          for index in range(count)]


def finish(process):
  """Exit status and everything printed."""
  try:
    printed = process.communicate(timeout=280)[0]
  finally:
    process.kill()
  return process.returncode, printed


def one_line_error(folder, program, *flags):
  """What is printed by a program that must fail, without a traceback."""
  status, printed = finish(command(folder, program, *flags))
  assert status not in (0, None), printed
  assert 'Traceback' not in printed, printed
  return printed
