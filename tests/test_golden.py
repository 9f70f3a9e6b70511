"""Every golden case that belongs to the repository, as a test of its own folder and runner."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.__main__ import main
from tests.golden.runners import RUNNERS

GOLDEN = Path(__file__).parent / 'golden'
PAIRS = [(runner, folder) for folder in sorted(GOLDEN.iterdir()) if folder.is_dir()
         for runner in RUNNERS if runner.recognises(folder)]


@pytest.mark.parametrize('runner, folder', PAIRS,
                         ids=lambda value: Path(getattr(value, '__file__', value)).stem)
def test_golden_cases_pass(runner, folder):
  results = runner.run(folder)
  failures = [f'{name}: {reason}' for name, reason in results if reason is not None]
  assert results
  assert not failures, '\n'.join(failures[:20])


def test_every_runner_has_data():
  assert {runner for runner, _ in PAIRS} == set(RUNNERS)


def test_folder_without_golden_data_is_a_failure(tmp_path, capsys):
  (tmp_path / 'other').mkdir()
  (tmp_path / 'other' / 'numbers.json').write_text('[1, 2]')
  assert main(['--dir', str(tmp_path)]) == 1
  assert 'other: no runner (skipped)' in capsys.readouterr().out


def test_failures_are_listed_and_counted(tmp_path, capsys):
  (tmp_path / 'times').mkdir()
  case = ('{"input": {"frame_sample_mode": "uniform", "max_fps": null, "max_frames": 2, '
    '"duration": %s}, "expected": {"timestamps": [0.0, 1.0]}}')
  (tmp_path / 'times' / 'any_name.json').write_text('[' + case % '2.0' + ',' + case % '3.0' + ','
                                                    + case % '-1' + ']')
  assert main(['--dir', str(tmp_path)]) == 1
  printed = capsys.readouterr().out
  assert 'times: 1/3' in printed
  assert 'a time is off by 0.5 s' in printed
  assert 'ValueError: a video of a duration of -1 s has nothing to sample' in printed


def test_a_folder_is_recognised_itself(tmp_path, capsys):
  assert main(['--dir', str(GOLDEN / 'metrics')]) == 0
  assert capsys.readouterr().out.startswith('metrics: ')
