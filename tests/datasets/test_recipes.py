"""The released mixtures as data."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from molmo_jax.data.mixture import DatasetConfig, read_mixture, sampling_rates
from molmo_jax.datasets import TRAINING
from molmo_jax.datasets.recipes import STAGES, recipe

LENGTH = 40_000


def drawn(stage):
  """Datasets of a stage and their shares, if each had `LENGTH` records."""
  sections = recipe(stage, 'data')
  configs = {name: DatasetConfig(**fields) for name, fields in sections['mixture'].items()}
  return configs, sampling_rates(configs, dict.fromkeys(configs, LENGTH), sections['groups'])


def share(configs, rates, group):
  return sum(rate for name, rate in rates.items() if configs[name].group == group)


def test_pretraining_draws_captions_points_and_text():
  configs, rates = drawn('pretrain')
  assert [round(share(configs, rates, g), 9) for g in ('caption', 'pointing', 'nlp')] == [0.6, 0.3,
                                                                                          0.1]
  assert rates['pixmo_count'] == pytest.approx(0.3 / 4)


@pytest.mark.parametrize('group, rate',
                         [('demo', 0.15), ('video_academic', 0.20), ('image_academic', 0.25),
                          ('tracking', 0.15), ('video_pointing', 0.15), ('image_pointing', 0.10),
                          ('nlp', 0.0995), ('hardcodes', 0.0005)])
def test_fine_tuning_divides_the_draws_by_group(group, rate):
  configs, rates = drawn('sft')
  assert share(configs, rates, group) == pytest.approx(rate / 1.1)


def test_within_a_group_sizes_and_factors_count():
  configs, rates = drawn('sft')
  in_group = lambda name: rates[name] / share(configs, rates, configs[name].group)
  assert in_group('molmo2_video_points_0_5') == pytest.approx(0.4)
  assert in_group('academic_points') == pytest.approx(0.2)
  assert rates['pixmo_cap'] / rates['pixmo_ask_model_anything'] == pytest.approx(
    (100_000 / LENGTH) ** 0.5)
  assert rates['molmo2_captions_min_3'] / rates['molmo2_human_qa'] == pytest.approx(1.5)
  assert rates['mevis_track'] / rates['burst_track'] == pytest.approx(0.40 / 0.05)
  assert rates['vicas_ground'] / rates['mevis_ground'] == pytest.approx((30_000 / LENGTH) ** 0.5)


def test_pointing_and_tracking_weigh_less_and_see_more():
  configs, _ = drawn('sft')
  weights = {group: {c.message_weight for c in configs.values() if c.group == group}
             for group in ('tracking', 'video_pointing', 'image_pointing', 'nlp')}
  assert weights == dict(tracking={0.2}, video_pointing={0.2}, image_pointing={0.2}, nlp={None})
  assert configs['molmo2_captions_min_3'].message_weight == 0.1
  assert {name for name, c in configs.items() if c.p_high_res} == {
    'pixmo_multi_points', 'pixmo_points', 'pixmo_count', 'pixmo_points_high_freq', 'cosyn_point'}
  assert not any(c.p_high_res for c in drawn('pretrain')[0].values())


@pytest.mark.parametrize('stage', STAGES)
def test_every_dataset_has_one_name_a_source_and_a_licence(stage):
  entries = [e for group in STAGES[stage].values() for e in group.entries]
  assert max(Counter(e.name for e in entries).values()) == 1
  known = [TRAINING[e.name] for e in entries if e.name in TRAINING]
  assert all(dataset.source and dataset.licence for dataset in known)
  assert {e.name for e in entries} <= TRAINING.keys()


def test_long_context_training_draws_as_fine_tuning_does():
  assert recipe('long_context', 'x') == recipe('sft', 'x')


def test_only_the_datasets_that_are_there_can_be_taken(tmp_path):
  for name in ('pixmo_points', 'tulu4_max_2304'):
    (tmp_path / f'{name}.jsonl').write_text(json.dumps({'question': 'a', 'answer': 'b'}) + '\n')
  sections = recipe('pretrain', tmp_path, present_only=True)
  assert sections['groups'] == {'pointing': 0.30, 'nlp': 0.10}
  datasets = read_mixture({n: DatasetConfig(**f) for n, f in sections['mixture'].items()},
                          sections['groups'])
  assert {d.name: round(d.rate, 9) for d in datasets} == {'pixmo_points': 0.75,
                                                          'tulu4_max_2304': 0.25}


def test_a_stage_that_does_not_exist_or_is_empty_is_an_error(tmp_path):
  with pytest.raises(ValueError, match='pretrain, sft, v1_captioner'):
    recipe('sfft', tmp_path)
  with pytest.raises(ValueError, match='prepare_dataset'):
    recipe('sft', tmp_path, present_only=True)


def test_the_mixture_of_molmo_v1():
  configs, rates = drawn('v1_multitask')
  assert [round(share(configs, rates, g), 9) for g in ('demo', 'aux', 'pointing')] == [0.15, 0.50,
                                                                                       0.35]
  assert {name for name, c in configs.items() if c.size} == {'pixmo_cap', 'dv_qa', 'figure_qa',
                                                             'plot_qa'}
  assert set(drawn('v1_captioner')[0]) == {'pixmo_cap_with_transcripts'}
