"""docs/configuration.md is what the dataclasses say, and they say something of every key."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import pytest

from molmo_jax.experiment import Experiment
from molmo_jax.tools import configuration

PAGE = Path(__file__).parents[2] / 'docs/configuration.md'
COMMAND = 'molmo-jax configuration --write docs/configuration.md'


def test_the_page_is_current():
  assert PAGE.read_text(encoding='utf-8') == configuration.page(), f'run: {COMMAND}'


@pytest.mark.parametrize('path, cls', configuration.sections(Experiment), ids=str)
def test_every_key_has_a_meaning(path, cls):
  said = configuration.meanings(cls)
  assert not [f.name for f in dataclasses.fields(cls)
              if not said[f.name] and not configuration.section_of(
                configuration.hints(cls)[f.name])]


@dataclasses.dataclass
class Toy:
  """Toys.

  Attributes:
    first, second: of the
      docstring.
  """
  first: int = 1
  second: float = 2.0
  third: bool = True          # behind
  # above
  # it, <im_col>
  fourth: tuple[int, int] = (
      1, 2)
  fifth: Literal['a', 'b'] | None = None      # of a|b
  name: str = dataclasses.field(default='')   # a name


def test_meanings_come_from_comments_and_docstrings():
  assert configuration.meanings(Toy) == dict(
    first='of the docstring.', second='of the docstring.', third='behind',
    fourth='above it, <im_col>', fifth='of a|b', name='a name')


def test_a_table_has_types_and_defaults():
  assert configuration.table('toys', Toy).splitlines()[4:] == [
    '| key | type | default | meaning |', '| --- | --- | --- | --- |',
    '| `first` | int | `1` | of the docstring. |',
    '| `second` | float | `2.0` | of the docstring. |',
    '| `third` | bool | `True` | behind |',
    '| `fourth` | 2 int | `(1, 2)` | above it, `<im_col>` |',
    "| `fifth` | one of 'a', 'b' or none | none | of a\\|b |", "| `name` | str | `''` | a name |"]


def test_a_section_is_found_in_an_optional_type_and_in_a_mapping():
  paths = [path for path, _ in configuration.sections(Experiment)]
  assert {'', 'model.llm.yarn', 'optimizer.groups.NAME', 'scenes.train'} <= set(paths)


def test_the_command_writes_the_page(tmp_path, capsys):
  configuration.main(['--write', str(tmp_path / 'page.md')])
  configuration.main([])
  assert (tmp_path / 'page.md').read_text(encoding='utf-8') == capsys.readouterr().out
