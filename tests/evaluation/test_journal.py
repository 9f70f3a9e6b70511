"""Predictions on disk as they come, and going on from them."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from molmo_jax.data.formatting import Formatter, WordedManifest
from molmo_jax.data.manifest import read_manifest
from molmo_jax.evaluation.journal import FINAL, JOURNAL, identity, open_journal
from molmo_jax.evaluation.predictions import Prediction, read_predictions
from molmo_jax.evaluation.runner import EvaluationConfig
from molmo_jax.evaluation.session import decisive
from molmo_jax.preprocess.types import PreprocessConfig


def record(i):
  return Prediction(task='t', id=str(i), question='ö?', prediction='a', score=1.0, answers=('a',))


def test_what_was_added_is_there_again(tmp_path):
  journal = open_journal(tmp_path, 'x')
  journal.add({2: record(2), 0: 'broken image'})
  assert open_journal(tmp_path, 'x').done == {2: record(2), 0: 'broken image'}


@pytest.mark.parametrize('cut', [2, 5, 60])
def test_a_line_that_was_cut_off_is_dropped_and_the_rest_kept(tmp_path, cut):
  journal = open_journal(tmp_path, 'x')
  journal.add({0: record(0), 1: record(1)})
  path = tmp_path / JOURNAL
  path.write_bytes(path.read_bytes()[:-cut])
  journal = open_journal(tmp_path, 'x')
  assert journal.done == {0: record(0)}
  journal.add({1: record(1)})
  assert open_journal(tmp_path, 'x').done == {0: record(0), 1: record(1)}


@pytest.mark.parametrize('damage', [b'\0' * 30, b'\xff\xfe{', b'{}', b'[]', b'7', b'[' * 99_999,
                                    b'{"index": 7, "result": "x", "digest": "0"}'])
def test_what_is_whole_is_used_and_what_is_not_is_named_once(tmp_path, damage, caplog):
  open_journal(tmp_path, 'x').add({0: record(0), 1: record(1), 2: 'broken'})
  first, second, third = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
  changed = second.replace(b'"id": "1"', b'"id": "7"')
  (tmp_path / JOURNAL).write_bytes(first + damage + b'\n' + changed + third)
  assert open_journal(tmp_path, 'x').done == {0: record(0), 2: 'broken'}
  assert [r.message.split(' are ')[0] for r in caplog.records] == ['2 lines']
  assert f'{JOURNAL}:2: ' in caplog.text
  caplog.clear()
  assert len(open_journal(tmp_path, 'x').done) == 2 and not caplog.records


def test_another_identity_begins_anew(tmp_path):
  open_journal(tmp_path, 'x').add({0: record(0)})
  assert open_journal(tmp_path, 'y').done == {}


def test_the_end_writes_the_predictions_in_order(tmp_path):
  journal = open_journal(tmp_path, 'x')
  journal.add({3: record(3), 1: 'no', 0: record(0)})
  assert journal.finish() == ([record(0), record(3)], ['no'])
  assert read_predictions(tmp_path / FINAL) == [record(0), record(3)]


def test_what_is_complete_is_not_asked_again_unless_told(tmp_path):
  journal = open_journal(tmp_path, 'x')
  journal.add({0: record(0), 1: 'no'})
  journal.finish()
  assert open_journal(tmp_path, 'x').done == {0: record(0), 1: 'no'}
  assert open_journal(tmp_path, 'y').done == {}
  assert open_journal(tmp_path, 'x', overwrite=True).done == {}


def test_a_result_that_comes_twice_counts_once(tmp_path):
  journal = open_journal(tmp_path, 'x')
  journal.add({0: record(0)})
  journal.add({0: record(0), 1: record(1)})
  assert journal.finish()[0] == [record(0), record(1)]


def test_other_processes_write_nothing(tmp_path):
  journal = open_journal(tmp_path / 'out', 'x', writes=False)
  journal.add({0: record(0)})
  assert journal.finish()[0] == [record(0)]
  assert not (tmp_path / 'out').exists()


def test_identity_knows_manifest_settings_and_weights(tmp_path):
  path = tmp_path / 'm.jsonl'
  path.write_text('{"a": 1}\n')
  params = {'w': jnp.arange(6.0).reshape(2, 3)}
  first = identity(read_manifest(path), {'k': 8}, params)
  assert first == identity(read_manifest(path), {'k': 8}, params)
  assert first != identity(read_manifest(path), {'k': 24}, params)
  assert first != identity(read_manifest(path), {'k': 8}, {'w': params['w'] + 1})
  path.write_text('{"a": 2}\n')
  assert first != identity(read_manifest(path), {'k': 8}, params)


def test_identity_knows_the_stage_the_wordings_and_the_style_tags(tmp_path):
  """A changed list of wordings asks again, wherever it lies; the same list elsewhere does not."""
  path = tmp_path / 'm.jsonl'
  path.write_text('{"facts": [{"style": "pointing", "label": "cats"}]}\n')
  params = {'w': jnp.ones(2)}

  def key(prompts='molmo2', wordings=None, **text):
    file = tmp_path / f'{len(list(tmp_path.iterdir()))}.json'
    file.write_text(json.dumps({'pointing': wordings or ['Point to {label}']}))
    preprocess = dataclasses.replace(PreprocessConfig(), text=dataclasses.replace(
      PreprocessConfig().text, **text))
    model = SimpleNamespace(processor=SimpleNamespace(config=preprocess), config={})
    manifest = WordedManifest(read_manifest(path), Formatter(prompts, str(file)))
    return identity(manifest, decisive(model, manifest, EvaluationConfig()), params)

  assert key() == key()
  others = [key('molmo_v1'), key(wordings=['Where are {label}?']),
            key(style_prefix='demo_or_style_v2')]
  assert len({key(), *others}) == 4
