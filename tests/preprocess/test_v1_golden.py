"""The runner of Molmo v1's golden data finds faults, and finds its folder by content."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.golden.runners import v1_preprocess

FOLDER = Path(__file__).parents[1] / 'golden' / 'molmo_v1_preprocess'
KEPT = dict(cases=['c02', 'c16'],
            interleave_cases=['tree_root', 'two_placeholders', 'text_only_tree'])


def write(folder: Path, change=None, cases_change=None) -> Path:
  """A small copy of the golden data under other names, with one array or the cases changed."""
  cases = json.loads((FOLDER / 'cases.json').read_text())
  with np.load(FOLDER / 'cases.npz') as data:
    arrays = dict(data)
  for key, names in KEPT.items():
    cases[key] = [case for case in cases[key] if case.get('key', case.get('name')) in names]
  cases['resize_geometry'] = cases['resize_geometry'][:1]
  if change:
    name, index, value = change
    arrays[name][index] = value
  if cases_change:
    cases_change(cases)
  (folder / 'v1_cases_x.json').write_text(json.dumps(cases))
  np.savez(folder / 'v1_arrays_x.npz', **arrays)
  shutil.copy(FOLDER / 'README.md', folder)
  return folder


def failures(folder: Path) -> list[str]:
  return [f'{name}: {reason}' for name, reason in v1_preprocess.run(folder) if reason is not None]


def test_a_folder_is_recognised_by_its_content(tmp_path):
  assert not v1_preprocess.recognises(tmp_path)
  assert not v1_preprocess.recognises(FOLDER.parent / 'molmo2_preprocess')
  assert v1_preprocess.recognises(write(tmp_path)) and failures(tmp_path) == []
  assert len(v1_preprocess.run(tmp_path)) == 6


@pytest.mark.parametrize('change, words', [
  (('c02.image_masks', (1, 0), 1.0), 'c02: image_masks[1, 0] is -1'),
  (('c02.image_input_idx', (0, 5), 7), 'c02: image_input_idx[0, 5]'),
  (('c02.tokens', 0, 161), 'c02: tokens[0] is 160'),
  (('c02.sample_values', 3, 9.0), 'c02: pixels off by'),
  (('c02.crop_max', 1, 9.0), 'c02: crop_max[1]'),
  (('i.tree_root.subsegment_ids', 80, 1), 'text tree_root: subsegment_ids[80] is 2, expected 1'),
  (('i.tree_root.loss_masks', -1, 1.0), 'text tree_root: loss_masks[83]'),
  (('i.two_placeholders.image_input_idx', (2, 0), 11),
   'text two_placeholders: image_input_idx[2, 0]'),
  (('i.text_only_tree.subsegments', -1, 1), 'text text_only_tree: subsegments[9] is 2'),
  (('i.tree_root.images', (0, 0, 0), 9.0), 'text tree_root: images off by')])
def test_a_wrong_number_is_one_failure_that_names_it(tmp_path, change, words):
  (failure,) = failures(write(tmp_path, change))
  assert words in failure


def test_a_case_that_raises_is_a_failure(tmp_path):
  def unknown(cases):
    cases['cases'][0]['image_kind'] = 'Z'
  assert failures(write(tmp_path, cases_change=unknown)) == ["c02: ValueError: unknown kind of "
    "synthetic image: 'Z'"]
