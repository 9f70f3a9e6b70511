"""Lists of requests are read out of a checkout without running it."""

from __future__ import annotations

import pytest

from molmo_jax.data.wordings import read_wordings
from molmo_jax.tools import wordings

FORMATTER = '''
raise RuntimeError('this file must not be run')
PROMPTS = {"pointing": ["Show {label}", "Where is {label}?", "no field"], "unheard_of": ["x"],
           "short_answer": [f"{1}", "{question} Briefly."]}
PROMPTS["point_count"] = ["Count {label}"]
'''


@pytest.fixture
def checkout(tmp_path):
  for name, text in zip(wordings.SOURCES, (FORMATTER, 'NO_POINT_PREFIX = ["No points. "]')):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
  return tmp_path


def test_literal_lists_of_known_kinds_with_our_fields_are_written(checkout, capsys):
  out = checkout / 'released.json'
  assert wordings.main([str(checkout), str(out)]) == 0
  read = read_wordings(str(out))
  assert read['pointing'] == ('Show {label}', 'Where is {label}?')
  assert read['point_count'] == ('Count {label}',)
  assert read['no_pointing'] == ('No points. ',)
  assert read['transcript'] == read_wordings()['transcript']
  printed = capsys.readouterr().out
  assert 'pointing: 2' in printed and 'transcript' in printed.split('not found')[1]


def test_another_folder_is_an_error_that_names_the_file(tmp_path):
  with pytest.raises(SystemExit, match='data_formatter.py.*give a checkout of allenai/molmo2'):
    wordings.main([str(tmp_path), str(tmp_path / 'out.json')])
