"""Flags of a configuration: found in any folder, one line for what is wrong, a short --help."""

from __future__ import annotations

import re

import pytest

from configs import scenes
from molmo_jax.command_line import MOST_USED, read_config
from molmo_jax.configuration import ConfigError
from tests.programs import ROOT, command, finish, one_line_error


def test_values_change_the_configuration_and_are_known_as_changes():
  given = read_config('configs/scenes.py', ['--config.training.steps=7', '--config.model.blind'])
  assert (given.config.training.steps, given.config.model.blind) == (7, True)
  assert given.overrides == {'training.steps': 7, 'model.blind': True}


def test_the_projects_configurations_are_read_in_any_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  given = read_config('configs/image.py:size=4b', [])
  assert given.config.name == 'image_4b_pretrain'
  assert given.file == f'{ROOT}/configs/image.py:size=4b'


@pytest.mark.parametrize('file, rest, message', [
  (None, [], '--config=FILE[:options] is needed'),
  ('configs/scenes.py', ['--config.mesh.contxt=2'], '--config.mesh.contxt=2: no such'),
  ('configs/scenes.py', ['more'], "unknown arguments: ['more']"),
  ('configs/scenes.py', ['--steps=3'], "Unknown command line flag 'steps'"),
  ('configs/missing.py', [], 'no such file'),
  ('configs/image.py:stage=warm', [], 'stage=warm is unknown; configs/image.py has:')])
def test_a_wrong_command_line_is_one_sentence(file, rest, message):
  with pytest.raises(ConfigError) as caught:
    read_config(file, rest)
  assert message in str(caught.value) and '\n' not in str(caught.value)
  assert 'Traceback' not in str(caught.value)


def test_the_values_that_help_shows_exist():
  for key in MOST_USED:
    section = scenes.get_config()
    for part in key.split('.'):
      section = section[part]


@pytest.mark.parametrize('program', ['train.py', 'eval.py'])
def test_help_is_short_and_names_the_page_with_everything(program, tmp_path):
  status, printed = finish(command(tmp_path, program, '--help'))
  assert status == 0
  assert len(printed.splitlines()) < 100
  assert f'python {program}' in printed and '--workdir' in printed
  assert 'docs/configuration.md' in printed


def test_help_shows_the_values_of_the_configuration_that_is_given(tmp_path):
  status, printed = finish(command(
    tmp_path, 'train.py', '--config=configs/image.py:size=4b', '--config.seed=41', '--help'))
  assert status == 0
  assert re.search(r'--config\.data\.sequence_length=2536\b', printed)
  assert '--config.seed=41' in printed


def test_a_configuration_that_does_not_exist_is_one_line(tmp_path):
  assert 'no such file' in one_line_error(tmp_path, 'train.py', '--config=mine.py')
