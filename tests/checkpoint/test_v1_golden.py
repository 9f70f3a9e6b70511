"""The runner of Molmo v1's model cases finds its files by content, and faults in every kind of
number.
"""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from tests.checkpoint.v1_hub import GOLDEN
from tests.golden.runners import v1_model

CASE = 'qwen2_siglip_pad'


@pytest.fixture(scope='module')
def case(tmp_path_factory):
  """One case under other names, beside another one."""
  folder = tmp_path_factory.mktemp('golden')
  for name, suffix in ((CASE, '_b7'), ('qwen2_openai', '_a1')):
    for kind in ('config.json', 'data.npz', 'weights.safetensors'):
      shutil.copy(GOLDEN / f'{name}.{kind}', folder / f'{name}{suffix}.{kind}')
  assert v1_model.recognises(folder)
  found = v1_model.find_cases(folder)
  assert len(found) == 2
  return v1_model.load_case(*found[1])


def test_other_folders_are_not_taken():
  assert not any(v1_model.recognises(GOLDEN.parent / name)
                 for name in ('molmo_v1_preprocess', 'molmo2_connector',
                              'molmo2_qwen_hub'))


def problems(case, **changes):
  """What the forward checks say when arrays of the data are replaced."""
  changed = dataclasses.replace(case, arrays=case.arrays | changes)
  return [what for what, problem in v1_model.check_forward(changed) if problem]


def test_a_changed_number_is_found(case):
  assert problems(case) == []
  for name, place, found in (('vit_hidden[-3]', (0, 3, 5), 'vit_hidden[-3]'),
                             ('pooled', (0, 0, 2), 'pooled'),
                             ('hidden_states[1]', (0, 4, 4), 'hidden_states[1]'),
                             ('logits', (1, 9, 9), 'logits'),
                             ('zloss_per_token', (0, 0), 'zloss_per_token')):
    array = case.arrays[name].copy()
    array[place] += 2e-4
    assert problems(case, **{name: array}) == [found]


def test_nan_and_other_shapes_are_faults():
  assert v1_model.compare('x', [np.nan], [np.nan], 1)[1]
  assert v1_model.compare('x', [1.0, 2.0], [1.0], 1) == ('x', 'shape (2,), expected (1,)')


def test_a_gradient_where_there_is_none_is_a_fault():
  gradient = v1_model._gradient_problem
  right = dict(l2=5.0, sum=7.0, first=[3.0, 4.0])
  assert gradient(np.array([3.0, 4.0]), right) is None
  assert 'norm' in gradient(np.array([3.0, 4.1]), right)
  assert gradient(np.zeros(2), None) is None and 'norm' in gradient(np.ones(2), None)


def test_a_case_that_cannot_be_read_is_a_failed_case(tmp_path):
  for kind in ('config.json', 'data.npz'):
    shutil.copy(GOLDEN / f'{CASE}.{kind}', tmp_path / f'{CASE}.{kind}')
  (tmp_path / f'{CASE}.weights.safetensors').write_bytes(b'damaged')
  (name, reason), = v1_model.run(tmp_path)
  assert name == f'{CASE}.config.json' and 'safetensors' in reason
