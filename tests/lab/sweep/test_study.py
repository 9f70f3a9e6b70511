"""From studies to runs: which there are, which are the same, and what a wrong study is told."""

from __future__ import annotations

import runpy

import pytest

from molmo_jax.configuration import ConfigError
from molmo_jax.lab.sweep.study import choose, plan, read_studies
from tests.lab.sweep.tiny import config_file


@pytest.fixture
def file(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(config_file(5))
  return path


@pytest.fixture
def make(file, tmp_path):
  """Plans the studies of the file, changed as asked for."""
  def make(changes=None, given=None, seeds=2, base=None):
    config = runpy.run_path(file)['get_config']()
    config.update_from_flattened_dict((given or {}) | (base or {}))
    text = file.read_text() + ''.join(f'\nSTUDIES{key} = {value!r}'
                                      for key, value in (changes or {}).items())
    file.write_text(text)
    return plan(config, given or {}, read_studies(str(file)), seeds, tmp_path / 'out')
  return make


def test_runs_are_arms_times_seeds_and_equal_ones_are_one(make):
  made = make()
  assert len(made.runs) == 6
  assert made.arms['pooling']['attention'] == made.arms['both']['attention']
  assert len({run for arms in made.arms.values() for runs in arms.values() for run in runs}) == 6


def test_all_arms_of_a_seed_share_the_order_of_the_data(make):
  made = make()
  for arms in made.arms.values():
    for runs in zip(*arms.values(), strict=True):
      assert len({(made.runs[r].experiment.seed, made.runs[r].experiment.data.seed)
                  for r in runs}) == 1
  assert {run.experiment.data.seed for run in made.runs.values()} == {0, 1}


def test_a_seed_after_the_other(make):
  assert [run.seed for run in make(seeds=3).runs.values()] == [0] * 3 + [1] * 3 + [2] * 3


def test_a_folder_is_named_after_its_flags(make):
  names = make().arms['pooling']
  assert names['attention'][1].startswith('base-seed1-')
  assert names['mean'][0].startswith('pooling=mean-seed0-')


def test_more_seeds_keep_the_runs_that_there_are(make):
  assert set(make(seeds=2).runs) < set(make(seeds=4).runs)


def test_a_flag_at_its_default_is_the_same_run(make):
  """So that a key that the program gets later leaves finished runs as they are."""
  before = make()
  after = make({"['pooling']['arms']['mean']['model.connector.pooling_mask']": True})
  assert set(before.runs) == set(after.runs)


def test_another_base_configuration_is_another_run(make):
  assert not set(make().runs) & set(make(base={'training.steps': 6}).runs)


def test_flags_of_the_command_line_win_over_settings_but_not_over_arms(make):
  changes = {"['both']['settings']['training.steps']": 7}
  assert {r.experiment.training.steps for r in make(changes).runs.values()} == {5, 7}
  made = make(changes, given={'training.steps': 3, 'model.connector.pooling': 'stack'})
  assert {r.experiment.training.steps for r in made.runs.values()} == {3}
  pooling = {arm: made.runs[runs[0]].experiment.model.connector.pooling
             for arm, runs in made.arms['pooling'].items()}
  assert pooling == {'attention': 'stack', 'mean': 'mean'}
  assert all(run.flags['training.steps'] == 3 for run in made.runs.values())


def test_data_are_shared_by_all_runs_of_one_setting(make):
  made = make({"['both']['settings']['scenes.train.objects']": 5})
  roots = {study: {made.runs[r].experiment.data.scenes_root for runs in arms.values() for r in runs}
           for study, arms in made.arms.items()}
  assert len(roots['pooling']) == len(roots['both']) == 1
  assert roots['pooling'] != roots['both']
  run = next(iter(made.runs.values())).experiment
  assert run.data.train == f'{run.data.scenes_root}/train.jsonl'


def test_arguments_are_those_of_train_py(make, tmp_path):
  made = make({"['pooling']['arms']['mean']['model.connector.vit_layers']": (0,)})
  arguments = made.runs[made.arms['pooling']['mean'][1]].arguments('mine.py', tmp_path / 'run')
  assert arguments[0] == '--config=mine.py'
  assert {'--config.model.connector.pooling=mean', '--config.model.connector.vit_layers=(0,)',
          '--config.seed=1',
          '--config.data.seed=1', f'--workdir={tmp_path}/run'} <= set(arguments)


@pytest.mark.parametrize('change, message', [
  ({"['pooling']['arms']['mean']": {'model.connector.poolin': 'mean'}},
   "study pooling, arm mean: 'model.connector.poolin': no such key; did you mean "
   "'model.connector.pooling'"),
  ({"['pooling']['arms']['mean']": {'model.connector.pooling': 3}},
   "'model.connector.pooling': 3 is no value for it"),
  ({"['pooling']['arms']['mean']": {'model.connector.pooling': 'maen'}},
   "study pooling, arm mean: model.connector.pooling is 'maen'; it must be one of"),
  ({"['pooling']['arms']['mean']": {}}, "the arms 'attention' and 'mean' are the same run"),
  ({"['pooling']['tasks']": ('smell',)}, 'have no task smell; they have: colour,'),
  ({"['pooling']['settings']": {'scenes.train.objects': 0}},
   'have no task colour, count; they have: reading,'),
  ({"['pooling']['arm']": {}},
   "unknown configuration key 'mine.py: STUDIES.pooling.arm'; did you mean 'arms'"),
  ({"['pooling']['arms']": {'alone': {}}}, 'a study needs a baseline and at least one other arm'),
])
def test_a_wrong_study_is_named(make, change, message):
  with pytest.raises(ConfigError) as error:
    make(change)
  assert message in str(error.value)


def test_a_configuration_without_its_defaults_is_named(make, file):
  file.write_text(file.read_text().replace('complete(_tiny())', '_tiny()'))
  with pytest.raises(ConfigError, match='get_config must return molmo_jax.experiment.complete'):
    make()


def test_a_file_without_studies_is_named(tmp_path):
  (tmp_path / 'none.py').write_text('x = 1\n')
  with pytest.raises(ConfigError, match='none.py: STUDIES is missing'):
    read_studies(str(tmp_path / 'none.py'))


def test_studies_are_chosen_by_name(file):
  studies = read_studies(str(file))
  assert list(choose(studies, 'both,pooling')) == ['both', 'pooling']
  assert list(choose(studies, 'all')) == ['pooling', 'both']
  with pytest.raises(ConfigError, match="there is no 'poolin'; did you mean 'pooling'"):
    choose(studies, 'poolin')
