"""The command `molmo-jax`: its list, and that every entry is a program that exists."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from molmo_jax import __version__, cli, programs

ROOT = Path(__file__).parents[1]


def test_the_list_of_commands_appears_without_importing_jax():
  code = 'import sys; from molmo_jax import cli; cli.main([]); print("jax" in sys.modules)'
  printed = subprocess.run([sys.executable, '-c', code], cwd=ROOT, text=True, capture_output=True,
                           check=True).stdout
  assert printed.splitlines()[-1] == 'False'
  for name, line in cli.COMMANDS.items():
    assert f'  {name} ' in printed and line in printed


def test_every_command_is_a_program():
  for name in cli.PROGRAMS:
    assert (programs.HOME / f'{name}.py').is_file()
  for name in cli.TOOLS:
    assert importlib.util.find_spec(f'molmo_jax.tools.{name}'), name


def test_every_tool_is_a_command():
  tools = {path.stem for path in (ROOT / 'molmo_jax/tools').glob('*.py')
           if "__name__ == '__main__'" in path.read_text()}
  assert tools == set(cli.TOOLS)


def test_an_unknown_command_is_one_line_that_names_the_closest(capsys):
  assert cli.main(['walktrough', 'a.jpg']) == 2
  printed = capsys.readouterr().err
  assert "did you mean 'walkthrough'" in printed and printed.count('\n') == 1


def test_the_version_is_that_of_the_package(capsys):
  assert cli.main(['--version']) == 0
  assert capsys.readouterr().out == f'molmo_jax {__version__}\n'


@pytest.mark.parametrize('text', ['configs/image.py:size=8b', 'configs/scenes.py'])
def test_the_projects_configurations_are_found_from_any_folder(text, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert programs.find_config(text) == f'{ROOT}/{text}'


def test_a_configuration_of_the_folder_comes_first(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'configs').mkdir()
  (tmp_path / 'configs/image.py').touch()
  assert programs.find_config('configs/image.py:size=8b') == 'configs/image.py:size=8b'
  assert programs.find_config('mine.py') == 'mine.py'
