"""The reader of declared datasets: what a table may say, and what it says of one that is wrong."""

import types

import pytest

from molmo_jax.configuration import ConfigError
from molmo_jax.datasets.dataset import Use, get
from molmo_jax.datasets.declarations import read_declarations
from molmo_jax.datasets.files import Files, TaskError

FUNCTIONS = types.ModuleType('mine')
FUNCTIONS.short = lambda row: row['text'][:3]


def read(tmp_path, text):
  path = tmp_path / 'mine.toml'
  path.write_text(text)
  return list(read_declarations(path, {'mine': FUNCTIONS, 'other': FUNCTIONS}))


def test_a_use_has_the_keys_of_its_dataset_and_its_own_in_their_place(tmp_path):
  uses = read(tmp_path, """
    [pets]
    source = "example.org"
    question = "q"
    options = ["a", "b"]
    training.pets = {}
    training.short_pets = { question = "@short", options = "" }
    benchmarks.pets_test = { metric = "letter", groups = ["more_image"] }""")
  assert [(use.name, use.folder, use.source) for use in uses] == [
    (name, 'pets', 'example.org') for name in ('pets', 'short_pets', 'pets_test')]
  pets, short, test = uses
  assert (pets.question, pets.options) == ('q', ('a', 'b')) == (test.question, test.options)
  assert short.question is FUNCTIONS.short and not short.options
  assert test.metric == 'letter' and test.groups == ('more_image',) and test.splits == ('test',)


def test_a_dataset_with_names_stands_for_several(tmp_path):
  uses = read(tmp_path, """
    ["pets_<name>"]
    names = ["cats", "dogs"]
    files = { train = ["<name>/*.csv"] }
    training."pets_<name>" = { style = "@other.short" }""")
  assert [(u.folder, u.name, u.files) for u in uses] == [
    (f'pets_{name}', f'pets_{name}', {'train': (f'{name}/*.csv',)}) for name in ('cats', 'dogs')]


@pytest.mark.parametrize('line, message', [
  ('quesion = "q"', r"mine.toml \[pets\] pets.quesion'; did you mean 'question'"),
  ('question = "@long"', r"mine.toml \[pets\] pets: there is no function 'long' in mine.py"),
  ('question = "@away.short"', r"there is no function 'short' in away.py"),
  ('question = 3', r"mine.toml \[pets\] pets.question is 3; it must be of type str or function"),
  ('checked = "perhaps"', r"mine.toml \[pets\] pets.checked is 'perhaps'; it must be one of 'car"),
  ('counting = "yes"', r"pets.counting is 'yes'; it must be of type bool"),
  ('table = { sep = ";" }', r"pets.table.sep'; did you mean 'separator'"),
  ('group_by = ["a", 3]', r"pets.group_by\[1\] is 3; it must be of type str or function"),
  ('question = "q', r'mine.toml: .*line 2'),
])
def test_an_error_names_file_and_table(tmp_path, line, message):
  with pytest.raises(ConfigError, match=message):
    read(tmp_path, f'[pets]\n{line}\ntraining.pets = {{}}\n')


def test_a_dataset_without_a_use_is_an_error(tmp_path):
  with pytest.raises(ConfigError, match=r'mine.toml: \[pets\] has no use'):
    read(tmp_path, '[pets]\nquestion = "q"\n')


ROW = {'a': 'x', 'b': '', 'n': 7, 'of': {'deep': 1}, 'many': [{'deep': 1}, {'deep': 2}],
       '_file': 't.csv'}


@pytest.mark.parametrize('value, found', [
  ('a', 'x'), ('a?', 'x'), ('z?', None), ('', None), (None, None), ('of.deep', 1),
  ('many.deep', [1, 2]), ('{a}/{n:03d}.jpg', 'x/007.jpg'), ('why {a}?', 'why x?'),
  ('of.deep|a', 1), ('z|b|a', 'x'), ('z|{a}.png', 'x.png'),
  ('z|y?', None), (('a', 'b', 'n', 'z'), ['x', 7]), (lambda row: row['n'] + 1, 8),
])
def test_what_a_value_stands_for(value, found):
  assert get(ROW, value) == found


def test_rows_stay_by_the_values_of_their_columns(tmp_path):
  (tmp_path / 'a.jsonl').write_text(''.join(
    f'{{"n": {n}, "kind": "{kind}", "of": {of}}}\n' for n, kind, of in (
      (1, 'a', '[1]'), (2, 'b', '[1, 2]'), (3, 'c', '[1, 2, 3]'), ('null', 'b', 'null'))))
  def kept(**rules):
    return [row['n'] for row in Use(files='a.jsonl', **rules).read(Files(tmp_path, 'x', tmp_path))]
  assert kept(between={'n': (2, 3)}) == [2, 3] and kept(between={'of': (1, 2)}) == [1, 2]
  assert kept(only={'kind': ('a', 'c')}) == [1, 3] and kept(drop={'kind': ('b',)}) == [1, 3]
  assert kept(keep='n', drop={'n': (1,)}) == [2, 3]


@pytest.mark.parametrize('value', ['z', 'z|y', '{z}.png', 'of.z', 'many.z', 'a.z'])
def test_a_column_that_does_not_exist_is_named(value):
  name = value.rpartition('|')[2].strip('{}').removesuffix('}.png')
  with pytest.raises(TaskError, match=f"t.csv: there is no column '{name}'; the columns are: a, b"):
    get(ROW, value)
