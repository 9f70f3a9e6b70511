"""docs/extending.md: every diff is applied to a copy of the project, and its command run there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / 'docs/extending.md').read_text(encoding='utf-8')
COPIED = ('molmo_jax', 'configs', 'tests', 'train.py', 'eval.py', 'pyproject.toml')
LEFT_OUT = shutil.ignore_patterns('__pycache__', 'golden', 'oracle')
NAMES = ('A pooling', 'A mask mode', 'A vision tower', 'A dataset', 'A benchmark',
         'An optimiser group')

SECTIONS = {title: text for title, text in re.findall(r'^## (.+?)\n(.*?)(?=^## |\Z)', PAGE,
                                                      re.M | re.S)
            if '```diff' in text}


def blocks(text: str, language: str) -> list[str]:
  return re.findall(rf'^```{language}\n(.*?)^```', text, re.M | re.S)


def test_the_page_shows_every_kind_of_extension():
  assert tuple(SECTIONS) == NAMES


@pytest.mark.parametrize('name', SECTIONS)
def test_the_diff_applies_and_its_test_passes(name, tmp_path):
  for part in COPIED:
    copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
    copy(ROOT / part, tmp_path / part, **({'ignore': LEFT_OUT} if copy is shutil.copytree else {}))
  [diff], [command] = blocks(SECTIONS[name], 'diff'), blocks(SECTIONS[name], 'sh')
  outside = dict(os.environ, GIT_CEILING_DIRECTORIES=str(tmp_path.parent))
  applied = subprocess.run(['git', 'apply', '--verbose', '-'], input=diff, cwd=tmp_path,
                           env=outside, text=True, capture_output=True, check=False)
  assert applied.returncode == 0, applied.stderr
  program, *arguments = shlex.split(command)
  assert program == 'python'
  run = subprocess.run([sys.executable, *arguments, '-p', 'no:cacheprovider'], cwd=tmp_path,
                       env=dict(os.environ, JAX_PLATFORMS='cpu', PYTHONPATH=''), text=True,
                       capture_output=True, check=False, timeout=600)
  assert run.returncode == 0 and ' passed' in run.stdout, run.stdout + run.stderr
  assert 'skipped' not in run.stdout and 'failed' not in run.stdout
