"""Progress as it is printed: in a terminal, and in a log or a pipe."""

from __future__ import annotations

import io

import pytest

from molmo_jax import progress
from molmo_jax.progress import Display
from molmo_jax.terminal import Terminal

VALUES = 'loss 0.123  accuracy 0.987  123,456 tokens/s  MFU 45 %'


@pytest.fixture
def clock(monkeypatch):
  """The seconds that programs are told: a list whose last item counts."""
  now = [0.0]
  monkeypatch.setattr(progress.time, 'monotonic', lambda: now[-1])
  return now


def printed(terminal=False):
  file = io.StringIO()
  size = {'width': 80} if terminal else {}
  return file, Terminal(file=file, force_terminal=terminal, color_system=None, **size)


def test_the_time_left_does_not_count_what_came_before_the_first_step(clock):
  file, console = printed()
  with Display(console, 'training', 100) as display:
    for clock_now, step in ((600, 1), (620, 11)):   # ten minutes of compiling, then 2 s a step
      clock.append(clock_now)
      display.update(step)
  first, second = file.getvalue().splitlines()
  assert first == 'training 1/100    elapsed 10:00  ETA ?'
  assert second == 'training 11/100    elapsed 10:20  ETA 2:58'


def test_a_resumed_run_has_the_pace_of_this_run(clock):
  file, console = printed()
  with Display(console, 'training', 100, start=50) as display:
    for clock_now, step in ((16, 51), (32, 52)):
      clock.append(clock_now)
      display.update(step)
  assert file.getvalue().splitlines()[-1].endswith('ETA 12:48')


@pytest.mark.parametrize('columns', ['20', '80'])
def test_a_line_of_a_log_is_one_line_whatever_the_columns(columns, monkeypatch):
  monkeypatch.setenv('COLUMNS', columns)
  file, console = printed()
  with Display(console, 'training', 10 ** 6) as display:
    display.update(10 ** 6, VALUES)
  assert len(file.getvalue().splitlines()) == 1 and VALUES in file.getvalue()


def test_a_terminal_of_80_columns_shows_all_values():
  file, console = printed(terminal=True)
  with Display(console, 'training', 10 ** 6) as display:
    display.update(999_999, VALUES)
  assert VALUES in file.getvalue() and '999999/1000000' in file.getvalue()
  assert '…' not in file.getvalue()


@pytest.mark.parametrize('terminal', [False, True])
def test_text_that_looks_like_markup_is_shown(terminal):
  file, console = printed(terminal)
  with Display(console, '[red]a[/]', 2) as display, display.during('[bold]b[/x]'):
    display.update(2, '[/c]')
  assert all(text in file.getvalue() for text in ('[red]a[/]', '[bold]b[/x]', '[/c]'))


def test_a_long_part_says_that_it_has_begun_and_how_long_it_took(clock):
  file, console = printed()
  with Display(console, 'training', 2) as display:
    with display.during('compiling'):
      assert file.getvalue() == 'training: compiling …\n'
      clock.append(40.2)
    with display.during('compiling', shown=False):
      pass
  assert file.getvalue().splitlines()[1:] == ['training: compiling, 40 s']
