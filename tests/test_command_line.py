"""Flags of a configuration: found in any folder, one line for what is wrong, a short --help."""

from __future__ import annotations

import dataclasses
import re
import typing

import pytest

from configs import scenes
from molmo_jax.command_line import MOST_USED, read_config
from molmo_jax.configuration import ConfigError, flatten
from molmo_jax.experiment import Experiment, from_config
from molmo_jax.tools.configuration import sections
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
  ('configs/scenes.py', ['--config.scenes.train.n=64'], '--config.scenes.train.n=64: no such'),
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


def keys(is_wanted):
  """The keys of configs/scenes.py whose type is wanted, with their type."""
  there = flatten(scenes.get_config().to_dict())
  for path, cls in sections(Experiment):
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
      key = f'{path}.{field.name}'.strip('.')
      if key in there and is_wanted(hints[field.name]):
        yield key


def read(flag):
  return read_config('configs/scenes.py', [flag]).config


@pytest.mark.parametrize('key', keys(lambda hint: type(None) in typing.get_args(hint)))
def test_every_optional_value_takes_none_by_flag(key):
  config = read(f'--config.{key}=None')
  assert flatten(config.to_dict())[key] is None
  from_config(config)


@pytest.mark.parametrize('key', keys(lambda hint: typing.get_origin(hint) is tuple))
def test_every_tuple_is_written_with_commas_with_brackets_or_as_one_value(key):
  for text, value in (('a,b', ('a', 'b')), ('(1,2)', (1, 2)), ('1,2.5', (1, 2.5)), ('3', (3,)),
                      ('None', ())):
    assert flatten(read(f'--config.{key}={text}').to_dict())[key] == value


def test_the_word_none_in_small_letters_is_a_value():
  assert read('--config.model.remat=none').model.remat == 'none'


@pytest.mark.parametrize('contents, message', [
  ('def get_config(:', 'SyntaxError: invalid syntax'),
  ('def get_config():\n  return undefined', "line 2, NameError: name 'undefined' is not defined"),
  ('import no_such_module', "line 1, ModuleNotFoundError: No module named 'no_such_module'"),
  ('from configs import scenes\ndef get_config():\n  return scenes.get_config().modle.llm',
   'line 3, AttributeError')])
def test_a_fault_in_a_configuration_file_is_one_sentence(tmp_path, contents, message):
  file = tmp_path / f'faulty_{abs(hash(contents))}.py'
  file.write_text(contents + '\n')
  with pytest.raises(ConfigError) as caught:
    read_config(str(file), [])
  assert message in str(caught.value) and str(file) in str(caught.value)
  assert '\n' not in str(caught.value)
