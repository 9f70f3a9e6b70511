"""eval.py on benchmarks, from the outside."""

from __future__ import annotations

import json

import pytest

from tests.datasets.builders import BUILDERS
from tests.programs import command, finish, one_line_error
from tests.tiny_run import tiny_config


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A trained checkpoint (of one step) and the files of two benchmarks."""
  folder = tmp_path_factory.mktemp('eval')
  (folder / 'tiny.py').write_text(tiny_config(1).replace('limit=2', 'limit=0'))
  status, printed = finish(
    command(folder, 'train.py', '--config=tiny.py', '--workdir=run', '--noevaluate'))
  assert status == 0, printed
  for name in ('chart_qa', 'mvbench'):
    BUILDERS[name](folder / 'data' / name)
  return folder


def test_benchmarks_are_evaluated_from_their_public_files(folder):
  flags = ('--workdir=run', '--tasks=chart_qa,mvbench', '--out=out')
  status, printed = finish(command(folder, 'eval.py', *flags))
  assert status == 0, printed
  summary = json.loads((folder / 'out' / 'summary.json').read_text())
  assert list(summary['tasks']) == ['chart_qa', 'mvbench']
  assert 'relaxed_correctness' in ' '.join(summary['published']['chart_qa'])
  for task in ('chart_qa', 'mvbench'):
    assert (folder / 'manifests' / f'{task}.jsonl').exists()
    found = (folder / 'out' / task / 'predictions.jsonl').read_text().splitlines()
    assert len(found) == summary['tasks'][task]['n'] > 0
    assert (folder / 'out' / task / 'report.html').exists()
  rows = summary['tasks'].values()
  assert summary['overall']['n'] == sum(row['n'] for row in rows)
  assert summary['overall']['accuracy'] == pytest.approx(sum(r['accuracy'] * r['n'] for r in rows)
                                                         / summary['overall']['n'])
  again = finish(command(folder, 'eval.py', *flags))[1]
  assert 'were evaluated before' in again


def test_an_unknown_task_is_named_with_the_closest(folder):
  printed = one_line_error(folder, 'eval.py', '--workdir=run', '--tasks=chartqa')
  assert "no task 'chartqa'; did you mean 'chart_qa'" in printed


def test_missing_files_of_a_benchmark_are_named(folder):
  printed = one_line_error(folder, 'eval.py', '--workdir=run', '--tasks=doc_qa', '--out=nothing')
  assert 'there is no such folder; task doc_qa comes from' in printed


def predictions(folder):
  return (folder / 'predictions.jsonl').read_text()


def test_drawn_answers_depend_on_the_seed_and_not_on_the_batch(folder):
  def drawn(out, *more):
    status, printed = finish(command(folder, 'eval.py', '--workdir=run', f'--out={out}',
                                     '--generation=temperature=3,max_new_tokens=5,'
                                     + ','.join(more)))
    assert status == 0, printed
    return predictions(folder / out)

  first = drawn('drawn', 'seed=1')
  config = json.loads((folder / 'run/config.json').read_text())
  config['evaluation']['batch_size'] = 1
  (folder / 'run/config.json').write_text(json.dumps(config))
  assert drawn('alone', 'seed=1') == first != drawn('other', 'seed=2')


def test_a_generation_setting_that_does_not_exist_is_named(folder):
  printed = finish(command(folder, 'eval.py', '--workdir=run', '--generation=warmth=1'))[1]
  assert '--generation=warmth=1: give NAME=VALUE with one of max_new_tokens' in printed
  printed = finish(command(folder, 'eval.py', '--workdir=run', '--generation=beams=two'))[1]
  assert '--generation=beams=two: the value must be of type int' in printed
  assert "top_p=0.5 restricts sampling" in finish(command(folder, 'eval.py', '--workdir=run',
                                                           '--generation=top_p=0.5'))[1]


def test_records_with_any_fault_are_left_out_and_written_down(folder):
  first = (folder / 'scenes' / 'val.jsonl').read_text().splitlines()[0]
  good = json.loads(first)
  bad = [('[' * 1000 + ']' * 1000), json.dumps(good | {'points': [[10 ** 400, 0]]}),
         json.dumps(good | {'image': 'a\0.png', 'images': None, 'video': None}),
         json.dumps(good | {'metric': 'no such metric'}), first[:-1] + ', "question": "twice"}',
         json.dumps({'question': 'q', 'answers': ['x'], 'metric': 'exact_match',
                     'weights': [1e39]})]
  half = json.dumps({'question': 'q\ud800', 'answers': ['x\udc00'], 'id': '\udfff', 'image': None})
  (folder / 'scenes' / 'odd.jsonl').write_text('\n'.join([*bad, half, first]) + '\n')
  flags = ('--workdir=run', '--manifest=scenes/odd.jsonl', '--out=odd')
  status, printed = finish(command(folder, 'eval.py', *flags))
  assert status == 0, printed
  assert f'{len(bad)} records could not be used' in printed.replace('\n', ' ')
  skipped = (folder / 'odd' / 'skipped_records.jsonl').read_text().splitlines()
  assert [json.loads(line)['line'] for line in skipped] == list(range(1, len(bad) + 1))
  found = [json.loads(line) for line in predictions(folder / 'odd').splitlines()]
  assert [p['id'] for p in found] == ['\ufffd', good.get('id') or found[1]['source']]
  assert found[0]['answers'] == ['x\ufffd']
