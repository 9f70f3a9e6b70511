"""Hostile texts in every page: they are shown as they are written and are never markup."""

from __future__ import annotations

import dataclasses
import html.parser
import json

import numpy as np
import pytest

from configs import scenes
from molmo_jax import experiment
from molmo_jax.evaluation.compare import compare, pair_predictions, print_comparison
from molmo_jax.evaluation.compare_report import write_comparison
from molmo_jax.evaluation.media import Picture
from molmo_jax.evaluation.predictions import Prediction
from molmo_jax.evaluation.report import write_report
from molmo_jax.evaluation.summary import print_published, print_table, summarise
from molmo_jax.lab.sweep import markdown
from molmo_jax.lab.sweep import report as sweep_report
from molmo_jax.lab.sweep.command import show
from molmo_jax.lab.sweep.results import read_results
from molmo_jax.lab.walkthrough import terminal
from molmo_jax.lab.walkthrough.example import walk
from molmo_jax.lab.walkthrough.media import read_sources
from molmo_jax.lab.walkthrough.page import page
from molmo_jax.pages.curves import write_curves
from molmo_jax.scenes.drawing import save_image
from molmo_jax.terminal import Terminal
from tests.lab.sweep.folders import write_study

HOSTILE = ("</script><script>x()</script><img src=x onerror=x()>\"'&amp; [/red] "
           "\x1b[31m \r \u202ex\u202c")
SHOWN = HOSTILE.replace('\x1b', r'\x1b').replace('\r', r'\r').replace('\u202e', r'\u202e').replace(
  '\u202c', r'\u202c')
PARTS = ('[/red]', r'\x1b[31m', r'\r', r'\u202ex\u202c', '<script>x()</script>')


class Page(html.parser.HTMLParser):
  """The text of a page, its attributes, and whether it has elements that only a text could make."""

  def __init__(self, path):
    super().__init__()
    self.text, self.values, self.scripts, self.inside = '', [], 0, ''
    self.feed(path.read_text(encoding='utf-8'))

  def handle_starttag(self, tag, attributes):
    self.inside = tag
    self.scripts += tag == 'script'
    assert not any(name.startswith('on') for name, _ in attributes)
    self.values += [value for _, value in attributes if value]

  def handle_data(self, data):
    self.text += data if self.inside not in ('script', 'style') else ''


def check(path, scripts=0, times=1):
  found = Page(path)
  assert found.scripts == scripts
  assert found.text.count(SHOWN) >= times
  for part in ('\x1b', '\u202e'):
    assert part not in found.text and not any(part in value for value in found.values)
  return found


def printed(capsys, *calls):
  for call in calls:
    call()
  out = capsys.readouterr().out
  assert '\x1b' not in out and '\u202e' not in out and '\r' not in out
  return out


@pytest.fixture
def predictions():
  return [Prediction(f'{HOSTILE} task', f'{HOSTILE} {i}', HOSTILE, HOSTILE, float(i % 2),
                     answers=(HOSTILE,), options=(HOSTILE, 'b'), source=HOSTILE) for i in range(4)]


def media(prediction):
  if prediction.id.endswith('0'):
    raise ValueError(f'{HOSTILE}: no such file')
  return [Picture(np.zeros((8, 8, 3), np.uint8), label=HOSTILE)] * 2


def test_report_and_its_table(tmp_path, predictions, capsys):
  summary = summarise(predictions) | {'first_prompt': HOSTILE}
  write_report(tmp_path / 'a.html', summary, predictions, media, HOSTILE, {HOSTILE: HOSTILE})
  check(tmp_path / 'a.html', scripts=1, times=20)
  text = printed(capsys, lambda: print_table(summary, Terminal()),
                 lambda: print_published({HOSTILE: {HOSTILE: 0.5}}, Terminal()))
  assert text.count(SHOWN) >= 3


def test_comparison_and_its_table(tmp_path, predictions, capsys):

  other = [dataclasses.replace(p, score=1.0) for p in predictions]
  pairs, names = pair_predictions(predictions, other), (HOSTILE, f'{HOSTILE} 2')
  found = compare(pairs)
  write_comparison(tmp_path / 'a.html', found, pairs, names, media)
  check(tmp_path / 'a.html', scripts=1, times=10)
  assert printed(capsys, lambda: print_comparison(found, names, Terminal())).count(SHOWN) >= 3


def test_curves(tmp_path):
  write_curves(tmp_path / 'a.html', [{'step': 1, 'loss': 2.0}], title=HOSTILE)
  check(tmp_path / 'a.html', times=2)


def test_sweep_and_its_lines(tmp_path, capsys):
  write_study(tmp_path, 'study', {'a': {'tiles': 0.5}, 'b': {'tiles': 0.9}}, claim=HOSTILE)
  path = tmp_path / 'studies.json'
  study = json.loads(path.read_text())['study']
  study['arms'] = {HOSTILE: study['arms']['a'], f'{HOSTILE} 2': study['arms']['b']}
  study['arms'][f'{HOSTILE} 2']['flags'] = {'name': f'`{HOSTILE}'}
  path.write_text(json.dumps({HOSTILE: study}))
  studies = read_results(tmp_path)
  sweep_report.write_report(studies, tmp_path)
  found = check(tmp_path / 'report.html', times=10)
  targets = {value for value in found.values if value.startswith('study-')}
  assert {value[1:] for value in found.values if value.startswith('#study-')} == targets != set()
  text = markdown.report(studies)
  assert '\x1b' not in text and '\u202e' not in text
  lines = [line for line in text.splitlines() if 'script' in line and '`' not in line]
  assert lines and not any('<script' in line.replace(r'\<', '') for line in lines)
  assert r'\</script>\<script>x()\</script>' in text and '`` ' not in text
  assert f'``--config.name=`{SHOWN}``' in text
  assert printed(capsys, lambda: show(studies[0], Terminal())).count(SHOWN) == 3


def test_walkthrough_and_its_table(tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  name = HOSTILE.replace('/', '') + '.png'
  for file in (name, f'2{name}'):
    save_image(tmp_path / file, np.zeros((40, 60, 3), np.uint8))
  config = scenes.get_config()
  config.name = HOSTILE
  run = experiment.from_config(config)
  for files in ([name], [name, f'2{name}']):
    w = walk(read_sources(files), run, question=HOSTILE)
    (tmp_path / 'a.html').write_text(page(w), encoding='utf-8')
    check(tmp_path / 'a.html')
    text = printed(capsys, lambda w=w: terminal.show(w, Terminal()))
    assert all(part.replace('/', '') in text for part in PARTS)
