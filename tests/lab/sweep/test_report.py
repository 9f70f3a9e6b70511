"""The report from the folders of a sweep: numbers, Markdown, HTML, CSV, and tables put into a
document.
"""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ElementTree

import pytest

from molmo_jax.configuration import ConfigError
from molmo_jax.lab.sweep import markdown, page, record, tables
from molmo_jax.lab.sweep.report import write_report
from molmo_jax.lab.sweep.results import MEAN, read_results
from molmo_jax.lab.sweep.statistics import mean_of, paired_t_test
from molmo_jax.pages.render import macro
from tests.lab.sweep.folders import write_run, write_study

POOLING = {'attention': {'tiles': 0.8, 'detail': 0.6}, 'mean': {'tiles': 0.5, 'detail': 0.55}}


@pytest.fixture
def out(tmp_path):
  write_study(tmp_path, 'pooling', POOLING, claim='Attention <beats> averaging.')
  write_study(tmp_path, 'columns', {'columns': {'aspect': 0.9}, 'none': {'aspect': 0.9}},
              spread=0.1)
  return tmp_path


def accuracies(out, arm):
  """Of every seed: the mean of both tasks, from the summaries themselves."""
  tasks = [json.loads((out / 'runs' / f'pooling-{arm}-seed{seed}'
                       / record.SUMMARY).read_text())['tasks']
           for seed in range(5)]
  return [(t['tiles']['accuracy'] + t['detail']['accuracy']) / 2 for t in tasks]


def test_means_and_differences_are_those_of_the_summaries(out):
  study = read_results(out)[0]
  before, after = accuracies(out, 'attention'), accuracies(out, 'mean')
  assert study.arms[0].mean(MEAN) == mean_of(before)
  assert study.difference(study.arms[1]) == paired_t_test(before, after)
  assert study.difference(study.arms[1], 'tiles').mean == pytest.approx(-0.3, abs=0.03)


def test_only_seeds_that_both_arms_have_are_compared(out):
  for arm, seed in (('attention', 1), ('mean', 3)):
    (out / 'runs' / f'pooling-{arm}-seed{seed}' / record.DONE).unlink()
  study = read_results(out)[0]
  assert [len(arm.runs) for arm in study.arms] == [4, 4]
  assert study.difference(study.arms[1]).n == 3
  assert study.missing == 2
  assert 'Runs that are not finished and not counted: pooling 2.' in tables.notes([study])


def test_cost_is_read_from_the_log(out):
  arm = read_results(out)[0].arms[0]
  assert arm.typical('parameters') == 500_000
  assert arm.typical('step_seconds') == 0.05    # the first row has the compilation in it
  assert next(iter(arm.runs.values())).flops == pytest.approx(2e9 * (1.0 + 19 * 0.05) / 20)


def test_examples_are_paired_over_the_seeds(out):
  study = read_results(out)[0]
  assert study.p_over_examples(study.arms[1]) < 0.01
  columns = read_results(out, ['columns'])[0]
  assert columns.p_over_examples(columns.arms[1]) > 0.05


def test_markdown_marks_what_is_separated(out):
  text = markdown.report(read_results(out))
  row = next(line for line in text.splitlines() if line.startswith('| mean | **'))
  assert '**−30.' in row and '‡**' in row and 'p < 0.0001' in row
  assert '‡' not in next(line for line in text.splitlines() if line.startswith('| none | '))
  assert 'Against the baseline, in the mean of tiles, detail, with p < 0.01: mean −' in text
  assert 'No arm differs from the baseline in aspect with p < 0.01.' in text
  assert 'two-sided paired t-test over the seeds' in text and 'n = 5 seeds' in text
  assert '- mean: `--config.model.connector.pooling=mean`' in text


def test_one_seed_has_no_test(tmp_path):
  write_study(tmp_path, 'pooling', POOLING, seeds=1)
  text = markdown.report(read_results(tmp_path))
  assert ('nan' not in text.lower() and '‡ p <' in text
          and 'Too few finished seeds for a test.' in text)
  write_report(read_results(tmp_path), tmp_path)
  arm = json.loads((tmp_path / 'results.json').read_text())['pooling']['arms']['mean']
  assert arm['difference']['mean']['p'] is None


def test_all_files_are_written(out):
  paths = write_report(read_results(out), out)
  assert [path.name for path in paths] == ['report.md', 'report.html', 'results.csv',
                                           'results.json']
  rows = list(csv.DictReader((out / 'results.csv').open()))
  assert len(rows) == 5 * 2 * 3 + 5 * 2 * 2     # two tasks and their mean; one task and its mean
  found = json.loads((out / 'results.json').read_text())['pooling']['arms']['mean']
  assert found['accuracy']['mean']['n'] == 5
  assert found['difference']['mean']['p'] < 0.01
  assert found['seconds'] == [100.0] * 5


def test_the_page_needs_nothing_else_and_escapes_texts(out):
  write_report(read_results(out), out)
  text = (out / 'report.html').read_text()
  assert 'Attention &lt;beats&gt; averaging.' in text
  assert 'src=' not in text and 'http' not in text.replace('http://www.w3.org', '')


def accuracy_plots(study):
  return macro('plots.html', 'intervals')(page.accuracy_panels(study))


def test_plots_are_well_formed_and_have_every_arm(out):
  study = read_results(out)[0]
  accuracy, curves = accuracy_plots(study), macro('plots.html', 'curves')(page.curve_panels(study))
  panels = ElementTree.fromstring(accuracy).findall('svg')
  assert [panel.get('aria-label') for panel in panels] == ['tiles, accuracy, %',
                                                           'detail, accuracy, %',
                                                           'mean of 2 tasks, accuracy, %']
  for panel in panels:
    assert {'attention', 'mean'} <= {text.text for text in panel.iter('text')}
    assert sum(circle.get('class') == 'seed' for circle in panel.iter('circle')) == 10
  loss, accuracy = ElementTree.fromstring(curves).findall('svg')
  assert loss.get('aria-label') == 'Training loss, by step'
  assert accuracy.get('aria-label') == 'Token accuracy in training, by step'
  assert len([p for p in loss.iter('path') if p.get('class') == 'line']) == 2


def test_results_of_one_seed_can_be_drawn(tmp_path):
  write_study(tmp_path, 'pooling', POOLING, seeds=1)
  assert 'nan' not in accuracy_plots(read_results(tmp_path)[0])


def test_tables_are_put_between_their_marks(out, tmp_path):
  document = tmp_path / 'doc.md'
  text = 'before\n<!-- sweep pooling: begin -->\nold\n<!-- sweep pooling: end -->\nafter\n'
  document.write_text(text)
  studies = read_results(out)
  assert markdown.insert(document, studies) == ['pooling']
  once = document.read_text()
  assert once.startswith('before\n<!-- sweep pooling: begin -->\n\n| arm |') and once.endswith(
    'end -->\nafter\n')
  assert 'old' not in once
  markdown.insert(document, studies)
  assert document.read_text() == once


def test_a_document_without_marks_is_named(out, tmp_path):
  (tmp_path / 'doc.md').write_text('nothing')
  with pytest.raises(ConfigError, match='doc.md: no place for results; a line "<!-- sweep pooling: '
                     'begin -->"'):
    markdown.insert(tmp_path / 'doc.md', read_results(out))


def test_a_folder_that_is_no_sweep_is_named(tmp_path):
  with pytest.raises(ConfigError, match='is not the folder of a sweep'):
    read_results(tmp_path)


def test_a_sweep_without_a_finished_run_is_named(out):
  for path in out.glob(f'runs/*/{record.DONE}'):
    path.unlink()
  with pytest.raises(ConfigError, match='no run is finished yet'):
    read_results(out)


def test_a_run_without_the_task_is_named(out):
  folder = out / 'runs' / 'pooling-mean-seed0'
  for path in [*folder.rglob('*')][::-1]:
    path.rmdir() if path.is_dir() else path.unlink()
  write_run(folder, {'tiles': 0.5})
  with pytest.raises(ConfigError, match='pooling-mean-seed0/evaluation/summary.json has no task '
                     'detail'):
    read_results(out)
