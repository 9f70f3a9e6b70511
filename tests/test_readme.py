"""README: the way of one example is code that runs and prints what the page shows; commands exist.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from molmo_jax.cli import COMMANDS
from molmo_jax.datasets import TASKS

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text(encoding='utf-8')
WAY = README.partition('## The way of one example')[2].partition('\n## ')[0]
STEP = re.compile(r'^```python\n(.*?)^```\n+(?:^```text\n(.*?)^```)?', re.M | re.S)


def test_the_way_of_one_example_prints_what_the_page_shows(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  names: dict = {}
  steps = STEP.findall(WAY)
  assert len(steps) == 4 and all(shown for _, shown in steps)
  for code, shown in steps:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
      exec(code, names)
    trimmed = '\n'.join(line.rstrip() for line in printed.getvalue().rstrip().splitlines())
    assert trimmed == shown.rstrip(), trimmed


def test_the_tools_that_pages_name_are_commands():
  pages = [README, *(p.read_text(encoding='utf-8') for p in ROOT.glob('docs/*.md'))]
  named = {name for text in pages for name in re.findall(r'molmo_jax\.tools\.(\w+)', text)}
  named |= {name for text in pages for name in re.findall(r'`?molmo-jax (\w+)', text)}
  assert named <= set(COMMANDS) | {'NAME', 'COMMAND'}


def test_the_number_of_benchmarks_is_that_of_the_tasks():
  assert f'lists {len(TASKS)} benchmarks' in README


def test_the_test_command_stands_on_a_line_of_its_own():
  assert re.search(r'^pip install -r requirements-dev.txt && python -m pytest -n 2$', README, re.M)
