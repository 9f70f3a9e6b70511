"""train.py and eval.py from the outside: as subprocesses, on a handful of generated scenes."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import time

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp
from PIL import Image

from tests.programs import ROOT, command, finish, one_line_error
from tests.tiny_run import tiny_config

STEPS = 60
CONFIG = tiny_config(STEPS)


def rows(workdir):
  return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def values(workdir):
  """The rows without what depends on the clock."""
  clock = re.compile('seconds_per_step|tokens_per_second|crops_per_second|tflops|time/')
  return [{k: v for k, v in row.items() if not clock.match(k)} for row in rows(workdir)]


def checkpoint(workdir, step):
  """The whole state as it was written."""
  return ocp.load_checkpointables(workdir / 'checkpoints' / str(step), {'state': None})['state']


def position_of_data(workdir, step):
  """Where the data was: the next batch follows from it."""
  return ocp.load_checkpointables(workdir / 'checkpoints' / str(step),
                                  {'meta': None})['meta']['data']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('train')
  (folder / 'tiny.py').write_text(CONFIG)
  return folder


@pytest.fixture(scope='module')
def straight(folder):
  """The whole run, with its evaluation: its folder and what it printed."""
  status, printed = finish(command(folder, 'train.py', '--config=tiny.py', '--workdir=straight'))
  assert status == 0, printed
  return folder / 'straight', printed


@pytest.fixture(scope='module')
def interrupted(folder, straight):
  """A run that got a SIGTERM and was started again: its folder, the step of the signal, and what
  both printed.
  """
  workdir = folder / 'interrupted'
  arguments = ('train.py', '--config=tiny.py', '--workdir=interrupted', '--noevaluate')
  process = command(folder, *arguments)
  until = time.monotonic() + 200
  while time.monotonic() < until and process.poll() is None:
    with contextlib.suppress(FileNotFoundError):
      if (workdir / 'metrics.jsonl').stat().st_size:
        break
    time.sleep(0.02)
  process.send_signal(signal.SIGTERM)
  status, printed = finish(process)
  assert status == 143, printed
  step = rows(workdir)[-1]['step']
  again = finish(command(folder, *arguments))
  assert again[0] == 0, again[1]
  return workdir, step, printed, again[1]


def test_a_run_shows_its_parameters_and_its_first_batch(straight):
  _, printed = straight
  assert 'decoder/blocks/attention/query/kernel' in printed
  assert 'first batch' in printed
  assert re.search(rf'training {STEPS}/{STEPS} .*loss', printed)


def test_a_run_writes_a_row_of_metrics_for_every_step(straight):
  found = rows(straight[0])
  assert [row['step'] for row in found] == list(range(1, STEPS + 1))
  assert {'loss', 'accuracy', 'gradient_norm', 'gradient_norm/all', 'learning_rate/all',
          'tokens_per_second', 'tflops',
          'padding/tokens', 'time/data'} <= set(found[0])
  assert found[-1]['loss'] < found[0]['loss']
  assert (straight[0] / 'curves.html').exists()


def test_a_signal_ends_a_run_orderly(interrupted):
  workdir, step, printed, _ = interrupted
  assert step < STEPS
  assert f'stopped by SIGTERM after step {step}; the same command resumes there' in printed
  assert 'Traceback' not in printed
  assert not (workdir / 'evaluation').exists()


def test_a_run_goes_on_from_the_step_of_the_signal(interrupted):
  _, step, _, printed = interrupted
  assert f'resuming from step {step}' in printed


@pytest.mark.filterwarnings('ignore:Sharding info not provided')
def test_an_interrupted_run_equals_a_straight_one_bit_for_bit(straight, interrupted):
  first, second = checkpoint(straight[0], STEPS), checkpoint(interrupted[0], STEPS)
  assert jax.tree.structure(first) == jax.tree.structure(second)
  different = [jax.tree_util.keystr(path) for (path, a), b in
               zip(jax.tree_util.tree_flatten_with_path(first)[0], jax.tree.leaves(second),
                   strict=True)
               if not np.array_equal(a, b)]
  assert different == []
  assert values(straight[0]) == values(interrupted[0])
  assert position_of_data(straight[0], STEPS)
  assert position_of_data(straight[0], STEPS) == position_of_data(interrupted[0], STEPS)


def test_training_ends_with_an_evaluation(straight):
  folder = straight[0] / 'evaluation'
  summary = json.loads((folder / 'summary.json').read_text())
  assert summary['overall']['n'] == 2
  assert summary['skipped'] == 0
  for row in (summary['overall'], *summary['tasks'].values()):
    assert set(row) == {'accuracy', 'low', 'high', 'chance', 'n'}
    assert 0 <= row['low'] <= row['accuracy'] <= row['high'] <= 1
  assert len((folder / 'predictions.jsonl').read_text().splitlines()) == 2
  assert f'tiny, step {STEPS}' in (folder / 'report.html').read_text()


def test_a_checkpoint_is_evaluated_on_records_of_ones_own(folder, straight):
  Image.new('RGB', (30, 20), 'red').save(folder / 'mine.png')
  (folder / 'mine.jsonl').write_text(
    '{"image": "mine.png", "question": "Which colour?", "answer": "red", "task": "colour", "id": '
    '"a"}\n{"question": "How many?", "answers": ["1", "one"], "task": "text"}\n')
  status, printed = finish(
    command(folder, 'eval.py', '--workdir=straight', '--manifest=mine.jsonl', '--out=mine',
            f'--step={STEPS}'))
  assert status == 0, printed
  predictions = [json.loads(line)
                 for line in (folder / 'mine' / 'predictions.jsonl').read_text().splitlines()]
  assert [(p['task'], p['id'], p['answers']) for p in predictions] == [
    ('colour', 'a', ['red']), ('text', 'mine.jsonl:2', ['1', 'one'])]
  assert json.loads((folder / 'mine' / 'summary.json').read_text())['manifest'] == 'mine.jsonl'
  assert 'data:image' in (folder / 'mine' / 'report.html').read_text()


def test_another_configuration_in_the_same_folder_is_refused(folder, straight):
  printed = one_line_error(folder, 'train.py', '--config=tiny.py', '--workdir=straight',
                           '--config.seed=5')
  assert 'config.seed: 0 there, 5 now' in printed


def test_steps_may_be_added_to_a_run_and_its_evaluation_is_that_of_the_end(folder, straight):
  status, printed = finish(command(folder, 'train.py', '--config=tiny.py', '--workdir=longer',
                                   '--config.training.steps=2'))
  assert status == 0, printed
  status, printed = finish(command(folder, 'train.py', '--config=tiny.py', '--workdir=longer',
                                   '--config.training.steps=4', '--config.training.log_every=2'))
  assert status == 0, printed
  assert 'resuming from step 2' in printed
  assert [row['step'] for row in rows(folder / 'longer')] == [1, 2, 4]
  assert 'step 4' in (folder / 'longer/evaluation/report.html').read_text()
  entry = json.loads((folder / 'longer/history.jsonl').read_text())
  assert entry['changed'] == {'training.log_every': [1, 2], 'training.steps': [2, 4]}
  assert not (folder / 'longer/run.lock').exists()


def test_a_typo_in_a_manifest_does_not_claim_the_folder(folder, straight):
  for name in ('train', 'validation'):
    printed = one_line_error(folder, 'train.py', '--config=tiny.py', '--workdir=typo',
                             f'--config.data.{name}=scenes/vla.jsonl')
    assert 'scenes/vla.jsonl: cannot read the manifest' in printed
    assert not (folder / 'typo').exists()


def test_evaluating_again_keeps_the_curves_and_other_data_have_a_folder_of_their_own(folder,
                                                                                     straight):
  own = straight[0] / 'evaluation'
  before = (own / 'predictions.jsonl').read_text()
  status, printed = finish(command(folder, 'eval.py', '--workdir=straight'))
  assert status == 0 and '2 of 2 examples were evaluated before' in printed, printed
  assert 'aria-label="Loss' in (own / 'report.html').read_text()
  (folder / 'other.jsonl').write_text('{"question": "How many?", "answer": "1", "id": "a"}\n')
  status, printed = finish(command(folder, 'eval.py', '--workdir=straight',
                                   '--manifest=other.jsonl'))
  assert status == 0, printed
  assert (straight[0] / 'evaluation_other/predictions.jsonl').exists()
  printed = one_line_error(folder, 'eval.py', '--workdir=straight', '--manifest=other.jsonl',
                           '--out=straight/evaluation')
  assert 'straight/evaluation has the evaluation of another checkpoint' in printed
  assert (own / 'predictions.jsonl').read_text() == before


def test_a_wrong_flag_is_named_without_a_traceback(folder):
  printed = one_line_error(folder, 'train.py', '--config=tiny.py', '--workdir=wrong',
                           '--config.training.stepz=5')
  assert 'stepz' in printed
  assert 'steps' in printed
  assert not (folder / 'wrong').exists()
  # of the default configuration
  printed = one_line_error(folder, 'train.py', '--config.training.stepz=5')
  assert ('error: --config.training.stepz=5: no such configuration key. Did you mean steps instead '
    'of stepz?' in printed)


def test_a_flag_that_the_configuration_file_leaves_at_its_default_can_be_set(folder):
  """The ablation that train.py's first lines show; the wrong value proves that the flag arrives."""
  printed = one_line_error(folder, 'train.py', f'--config={ROOT}/configs/scenes.py',
                           '--workdir=wrong',
                           '--config.model.connector.pooling=maen')
  assert "model.connector.pooling is 'maen'; it must be one of 'attention_meanq'" in printed


def test_a_missing_manifest_is_named(folder, straight):
  printed = one_line_error(folder, 'eval.py', '--workdir=straight', '--manifest=nothing.jsonl')
  assert 'error: nothing.jsonl: cannot read the manifest (No such file or directory)' in printed


def test_a_run_that_does_not_exist_is_named(folder):
  printed = one_line_error(folder, 'eval.py', '--workdir=nowhere')
  assert 'nowhere/config.json: no configuration of a run' in printed


def test_a_broken_image_is_named(folder, straight):
  (folder / 'broken.png').write_bytes(b'no image')
  (folder / 'broken.jsonl').write_text('{"image": "broken.png", "question": "Which?", "answer": '
    '"red"}\n')
  text = re.sub(r'    scenes=.*\n', '', CONFIG).replace("'skip'", "'raise'").replace('scenes/train',
                                                                                     'broken')
  (folder / 'mine.py').write_text(text)
  printed = one_line_error(folder, 'train.py', '--config=mine.py', '--workdir=broken')
  assert re.search(r'^error: broken.jsonl:1.*broken\.png', printed, re.MULTILINE)


@pytest.mark.parametrize('workers', [0, 2])
def test_bad_records_are_skipped_and_written_down_or_end_the_run_with_one_line(
    folder, straight, workers):
  good = (folder / 'scenes/train.jsonl').read_text().splitlines()
  bad = ['[' * 1000 + ']' * 1000, '{"question": "q", "answer": "a", "weights": [1e39]}',
         '{"question": "q", "answer": "a", "weights": [1%s]}' % ('0' * 400),
         '{"video": "a.mp4\\u0000.evil", "question": "q", "answer": "a"}',
         '{"image": "cat[/b]\\ud800.png", "question": "q", "answer": "a"}']
  half = '{"question": "a\\ud800", "answer": "b", "image": null, "images": [], "weights": null}'
  manifest = folder / f'scenes/odd{workers}.jsonl'
  manifest.write_text('\n'.join([*bad, half, *good]) + '\n')
  (folder / f'odd{workers}.py').write_text(CONFIG.replace("'skip',", f"'skip', workers={workers},"))
  flags = (f'--config=odd{workers}.py', f'--config.data.train={manifest}',
           '--config.training.steps=12', '--noevaluate')
  status, printed = finish(command(folder, 'train.py', *flags, f'--workdir=odd{workers}'))
  assert status == 0, printed
  skipped = [json.loads(line) for line in
             (folder / f'odd{workers}/skipped_records.jsonl').read_text().splitlines()]
  assert sorted(entry['line'] for entry in skipped) == list(range(1, len(bad) + 1))
  printed = one_line_error(folder, 'train.py', *flags, f'--workdir=ends{workers}',
                           '--config.data.on_error=raise')
  assert re.search(rf'odd{workers}\.jsonl:[1-5]: ', printed)
