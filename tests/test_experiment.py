"""A run's configuration as a whole: checks between its sections."""

from __future__ import annotations

import pytest
from ml_collections import ConfigDict

from configs import image, scenes
from molmo_jax.configuration import ConfigError
from molmo_jax.experiment import complete, from_config, load
from molmo_jax.training.optimizer import GroupConfig


def changed(config, **values):
  config = ConfigDict(config.to_dict())
  for key, value in values.items():
    *sections, name = key.split('__')
    place = config
    for section in sections:
      place = place[section]
    place[name] = value
  return config


def test_the_sections_become_the_dataclasses_of_their_rooms():
  run = from_config(scenes.get_config())
  assert run.name == 'scenes'
  assert run.model.vit.image_size == run.preprocess.image.crop_size
  assert all(isinstance(group, GroupConfig) for group in run.optimizer.groups.values())
  assert run.scenes is not None
  assert from_config(image.get_config()).scenes is None


def test_the_longest_sequence_is_said_once():
  run = from_config(changed(image.get_config(), data__sequence_length=99))
  assert run.preprocess.text.max_sequence_length == 99


@pytest.mark.parametrize('flags, message', [
  ({'preprocess__image__crop_size': 36}, 'preprocess.image.crop_size=36 .* it must be 378'),
  ({'preprocess__image__patch_size': 6}, 'preprocess.image.patch_size=6 .* it must be 14'),
  ({'model__connector__pool_slots': 4}, r'model.connector.pool_slots=4 must be 9'),
  ({'model__connector__pooling': 'none'}, r'set also preprocess.image.pooling=\(1,1\)'),
  ({'model__connector__pooling': 'maen'},
   "model.connector.pooling is 'maen'; it must be one of 'attention_meanq'"),
  ({'model__connector__padding_embed': 'regress'}, 'preprocess.image.resize=stretch pads none'),
  ({'data__batch': 3}, "unknown configuration key 'data.batch'; did you mean 'batch_size'"),
  ({'preprocess__vidoe': {}}, "unknown configuration key 'preprocess.vidoe'; did you mean 'video'"),
])
def test_sections_that_do_not_go_together_are_an_error_that_names_the_flag(flags, message):
  config = image.get_config()
  with pytest.raises(ConfigError, match=message):
    from_config(changed(config, **flags))


def test_every_patch_is_kept_with_1x1_windows():
  config = changed(scenes.get_config(), model__connector__pooling='none',
                   model__connector__pool_slots=1,
                   preprocess__image__pooling=(1, 1), preprocess__video__pooling=(1, 1))
  assert from_config(config).model.connector.pooling == 'none'


def test_a_folder_without_a_configuration_is_named(tmp_path):
  with pytest.raises(ConfigError, match=r'nothing/config\.json: no configuration of a run'):
    load(tmp_path / 'nothing' / 'config.json')


def test_completing_a_configuration_writes_its_defaults_out_and_changes_nothing_else():
  config = changed(image.get_config())
  del config.evaluation['limit']
  del config.preprocess.video['pooling']
  whole = complete(config)
  assert whole.evaluation.limit == 0
  assert tuple(whole.preprocess.video.pooling) == (3, 3)
  assert whole.model.llm.yarn.factor == 8.0
  assert from_config(whole) == from_config(config)
