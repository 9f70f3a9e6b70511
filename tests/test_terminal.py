"""What is printed: data are shown as they are written, and nothing is left out."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest
from absl import logging
from rich.table import Table

from molmo_jax import command_line  # noqa: F401 (its import sets the log up)
from molmo_jax.errors import LONGEST, MolmoError
from molmo_jax.progress import Display
from molmo_jax.terminal import WIDE, Terminal
from molmo_jax.visible import say, visible

HOSTILE = ('[/red] [bold]b[/bold] [link=http://x]l :smile: \x1b[31mred \x1b]0;title\x07 over\rwritt'
           'en \u202egpj.exe\u202c \u2066x\u2069 half \ud800 \x9b2J')
SHOWN = (r'[/red] [bold]b[/bold] [link=http://x]l :smile: \x1b[31mred \x1b]0;title\x07 over\rwritt'
         r'en \u202egpj.exe\u202c \u2066x\u2069 half \ud800 \x9b2J')


def printed(*objects, **options):
  file = io.StringIO()
  Terminal(file=file).print(*objects, **options)
  return file.getvalue()


def test_hostile_texts_are_shown_as_they_are_written():
  assert visible(HOSTILE) == SHOWN
  assert printed(HOSTILE) == printed(HOSTILE, style='red') == SHOWN + '\n'
  file = io.StringIO()
  Terminal(file=file).rule(HOSTILE)
  say(HOSTILE, file=file)
  assert file.getvalue() == f'── {SHOWN} ──\n{SHOWN}\n'


@pytest.mark.parametrize('text', ['naïve café', '日本語　全角', 'می‌خواهم', '👩‍🔬 é',
                                  'a\tb\nc', 'سلام', ''])
def test_texts_of_any_language_stay(text):
  assert visible(text) == text


def test_a_table_shows_hostile_cells_headings_and_titles():
  table = Table(HOSTILE, title=HOSTILE)
  table.add_row(HOSTILE)
  assert printed(table).count(SHOWN) == 3


def test_an_error_shows_hostile_texts_and_is_bounded():
  assert str(MolmoError(f'{HOSTILE}: no such file')) == f'{SHOWN}: no such file'
  long = str(MolmoError('a' * 10 ** 6 + 'end'))
  assert len(long) < LONGEST + 1 and long.endswith('end')


def test_the_log_shows_hostile_texts(caplog):
  with caplog.at_level('WARNING', logger='absl'):
    logging.warning('%s: left out', HOSTILE)
  assert f'{SHOWN}: left out' in caplog.text


def test_an_output_in_ascii_shows_the_rest_as_escapes():
  program = ('from molmo_jax.terminal import Terminal\nfrom rich.table import Table\n'
             'table = Table("3 \u00d7 4")\ntable.add_row("caf\u00e9 \u65e5")\n'
             'Terminal().print(table)\nprint("\u00d7")\n')
  done = subprocess.run([sys.executable, '-c', program], capture_output=True, check=False,
                        env={**os.environ, 'PYTHONIOENCODING': 'ascii'})
  assert done.returncode == 0, done.stderr
  assert rb'3 \xd7 4' in done.stdout and rb'caf\xe9 \u65e5' in done.stdout


def numbers(width):
  """A comparison of two evaluations with long names, printed."""
  table = Table(show_edge=False, pad_edge=False)
  table.add_column('task', no_wrap=True)
  for name in ('runs/a_long_name/evaluation', 'runs/b', 'difference', '95 % interval', 'p', 'n'):
    table.add_column(name, justify='right')
  table.add_row('visual_question_answering_of_charts', '100.0', '98.7', '+1.3', '+0.2 … +2.6',
                '0.0123', '12345')
  file = io.StringIO()
  Terminal(file=file, **width).print(table)
  return file.getvalue()


@pytest.mark.parametrize('columns', [80, 72])
def test_a_narrow_terminal_shows_whole_numbers_and_folded_names(columns):
  lines = numbers(dict(width=columns)).splitlines()
  assert max(map(len, lines)) <= columns
  text = ' '.join(lines)
  assert all(number in text for number in ('100.0', '98.7', '+1.3', '+0.2 … +2.6', '0.0123',
                                           '12345'))
  first = ''.join(line[:line.index(' ')] for line in lines[lines.index(next(
    line for line in lines if '12345' in line)):])
  assert first == 'visual_question_answering_of_charts'
  assert text.count('…') == 1                   # that of the interval


@pytest.mark.parametrize('columns', ['20', '400'])
def test_logs_and_pipes_do_not_depend_on_the_environment(columns, monkeypatch):
  monkeypatch.setenv('COLUMNS', columns)
  lines = numbers({}).splitlines()
  assert len(lines) == 3 and 'visual_question_answering_of_charts' in lines[2]
  assert printed('word ' * 100) == 'word ' * 100 + '\n'
  assert WIDE > 500


def test_progress_shows_hostile_texts_in_a_terminal():
  """A real terminal: rich draws the bar with escapes of its own, and none of ours."""
  program = ('from molmo_jax.progress import Display\nfrom molmo_jax.terminal import Terminal\n'
             f'text = {ascii(HOSTILE.replace("half", ""))}\n'
             'with Display(Terminal(width=300), text, 2) as display:\n  display.update(1, text)\n')
  host, terminal = pty.openpty()
  process = subprocess.Popen([sys.executable, '-c', program], stdout=terminal, stdin=terminal,
                             env={**os.environ, 'TERM': 'xterm'})
  os.close(terminal)
  found = b''
  while True:
    try:
      found += os.read(host, 65536)
    except OSError:                             # the other end is closed
      break
  assert process.wait() == 0
  text = found.decode()
  assert text.count(SHOWN.replace('half', '').replace(r'\x9b2J', '')[:60]) >= 2
  assert '\x1b]0;title' not in text and '\u202e' not in text


def test_progress_shows_hostile_texts_in_a_log():
  file = io.StringIO()
  with Display(Terminal(file=file), HOSTILE, 1) as display:
    display.update(1, HOSTILE)
  assert file.getvalue().count(SHOWN) == 2
