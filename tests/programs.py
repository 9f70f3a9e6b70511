"""Runs train.py and eval.py as a user does: as subprocesses, in a folder of one's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def command(folder, program, *flags):
  env = os.environ | dict(
    JAX_PLATFORMS='cpu', JAX_NUM_CPU_DEVICES='1', PYTHONPATH=str(ROOT), COLUMNS='200',
    JAX_COMPILATION_CACHE_DIR=str(folder / 'compiled'), JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0',
    XLA_FLAGS='--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true')
  return subprocess.Popen([sys.executable, ROOT / program, *flags], cwd=folder, env=env, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


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
