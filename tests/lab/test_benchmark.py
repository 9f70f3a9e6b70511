"""The benchmark: turns alternate, disturbed runs are left out, and the command says what it needs.
"""

from __future__ import annotations

import re
import sys

import pytest

from molmo_jax.lab.benchmark import command, environment, peer, timing
from molmo_jax.lab.benchmark.timing import Timing, alternate


def test_turns_alternate_and_begin_with_a_run_that_does_not_count():
  order = []

  def program(name):
    def run():
      order.append(name)
      return float(len(order))
    return run

  first, second = alternate([program('A'), program('B')], blocks=2, runs=2)
  assert ''.join(order) == 'AB' + 'AAABBB' * 2
  assert first.seconds == (4, 5, 10, 11) and second.seconds == (7, 8, 13, 14)


def test_disturbed_runs_are_left_out_where_enough_others_remain():
  quiet = Timing((1.0, 2.0, 3.0, 90.0), (0.0, 0.05, 0.1, 0.5))
  assert quiet.median == 2.0
  assert (quiet.describe(6,
                         'tokens/s') == '3.0 tokens/s (from 2.0 to 6.0, 3 runs, 1 of 4 runs '
          'disturbed by other processes)')
  busy = Timing((1.0, 2.0, 3.0), (0.5, 0.0, 0.0))
  assert busy.median == 2.0 and 'counted all the same' in busy.describe(1, 'x')


def test_the_share_of_others_is_what_the_machine_did_without_this_process(monkeypatch):
  busy = iter([100.0, 103.0])
  monkeypatch.setattr(timing, '_busy_seconds', lambda: next(busy))
  monkeypatch.setattr(timing.time, 'perf_counter', iter([0.0, 2.0]).__next__)
  monkeypatch.setattr(timing.time, 'process_time', iter([10.0, 11.0]).__next__)
  monkeypatch.setattr(timing.os, 'cpu_count', lambda: 4)
  assert timing.watch(lambda: 7.0) == (7.0, 0.25)


@pytest.mark.parametrize('arguments', [[], ['fly'], ['generate', 'train']])
def test_the_command_needs_one_kind_of_work(arguments, capsys):
  with pytest.raises(SystemExit):
    command.main(arguments)
  assert 'molmo-jax benchmark: error:' in capsys.readouterr().err


def test_without_the_peer_ours_is_printed_alone(capsys, monkeypatch):
  monkeypatch.setattr(command, 'use_cores', lambda count: count)
  command.main(['preprocess', '--size=60,40', '--blocks=1', '--runs=1'])
  out = capsys.readouterr().out
  assert re.search(r'preprocess: .* 1 core\(s\) for each side, float32, jax .* GLIBC_TUNABLES=',
                   out)
  assert len(re.findall(r'  ours: [\d.]+ images/s', out)) == 2
  assert 'ratio' not in out


def test_a_missing_peer_is_one_line(monkeypatch):
  monkeypatch.setitem(sys.modules, 'torch', None)
  with pytest.raises(peer.PeerError, match='pip install -r requirements-oracle.txt'):
    peer.import_peer(1)


def test_huge_pages_are_set_once_and_arguments_are_kept(monkeypatch):
  started = []
  monkeypatch.setattr(environment.os, 'execv', lambda program, arguments: started.append(arguments))
  monkeypatch.setattr(environment.sys, 'argv', ['x', 'generate', '--peer'])
  monkeypatch.setattr(environment.sys, 'platform', 'linux')
  monkeypatch.setenv('GLIBC_TUNABLES', 'glibc.malloc.check=1')
  environment.restart_with_huge_pages()
  assert started[0][1:] == ['-m', 'molmo_jax.tools.benchmark', 'generate', '--peer']
  assert environment.os.environ['GLIBC_TUNABLES'] == 'glibc.malloc.check=1:glibc.malloc.hugetlb=1'
  environment.restart_with_huge_pages()
  assert len(started) == 1
