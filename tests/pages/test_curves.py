from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from molmo_jax.pages import curves, plots
from molmo_jax.pages.render import macro


def svg_of(metrics, **options):
  return macro('plots.html', 'curves')(curves.curve_panels(metrics, **options))


def rows(n=50, **columns):
  return [{'step': s, **{name: f(s) for name, f in columns.items()}} for s in range(1, n + 1)]


def panels(html):
  """The SVG elements of the fragment, by title; the parse fails if the fragment is not well formed.
  """
  root = ElementTree.fromstring(html)
  return {svg.find("text[@class='title']").text: svg for svg in root.iter('svg')}


def coordinates(svg, name):
  path = svg.find(f"path[@class='{name}']").get('d')
  return [tuple(map(float, p)) for p in re.findall(r'[ML](-?[\d.]+) (-?[\d.]+)', path)]


def test_there_is_a_panel_for_every_known_column_that_the_rows_have():
  html = svg_of(rows(loss=lambda s: 1 / s, accuracy=lambda s: s / 50, other=lambda s: s))
  assert list(panels(html)) == ['Loss', 'Token accuracy']


def test_a_falling_loss_falls_in_the_picture():
  svg = panels(svg_of(rows(loss=lambda s: 5 - s / 20)))['Loss']
  for name in ('dots', 'line'):
    points = coordinates(svg, name)
    assert len(points) == 50
    xs, ys = zip(*points, strict=True)
    assert list(xs) == sorted(xs) and list(ys) == sorted(ys)      # y of an SVG grows downwards
    assert plots.LEFT <= xs[0] and xs[-1] <= plots.WIDTH - plots.RIGHT
    assert plots.TOP <= min(ys) and max(ys) <= plots.HEIGHT - plots.BOTTOM


def test_an_exponential_loss_is_a_straight_line_on_the_log_scale():
  svg = panels(svg_of(rows(loss=lambda s: math.exp(-s / 10)),
                                 log_loss=True))['Loss, log scale']
  ys = [y for _, y in coordinates(svg, 'dots')]
  steps = [b - a for a, b in zip(ys, ys[1:], strict=False)]
  # coordinates are written with one decimal
  assert max(steps) - min(steps) < 0.25


def test_values_that_cannot_be_drawn_are_gaps():
  broken = [{'step': 1, 'loss': 1.0}, {'step': 2, 'loss': float('nan')}, {'step': 3, 'loss': None},
            {'step': 4},
            {'step': 5, 'loss': float('inf')}, {'step': 6, 'loss': 2.0}]
  html = svg_of(broken)
  assert len(coordinates(panels(html)['Loss'], 'dots')) == 2
  assert 'nan' not in html and 'inf' not in html


def test_the_later_of_two_rows_of_a_step_counts():
  resumed = [{'step': 1, 'loss': 1.0}, {'step': 2, 'loss': 9.0}, {'step': 2, 'loss': 3.0}]
  svg = panels(svg_of(resumed, smoothing=0.0))['Loss']
  assert svg.find("text[@class='last']").text == '3 at step 2'


def test_a_single_row_and_a_constant_column_can_be_drawn():
  for value in (0.0, 2.0):
    assert 'Loss' in panels(svg_of([{'step': 7, 'loss': value}]))
    assert 'Loss' in panels(svg_of(rows(loss=lambda s, value=value: value)))
  assert 'Loss, log scale' in panels(svg_of([{'step': 7, 'loss': 2.0}], log_loss=True))


def test_rows_without_anything_to_draw_are_an_error():
  with pytest.raises(ValueError, match='nothing to draw'):
    svg_of([{'step': 1, 'weight': 2.0}])
  with pytest.raises(ValueError, match='smoothing'):
    svg_of(rows(loss=float), smoothing=1.0)


def test_smoothing_keeps_constants_and_straight_lines_and_damps_noise():
  assert plots.smooth([3.0] * 20, 0.9) == pytest.approx([3.0] * 20)
  line = plots.smooth([float(i) for i in range(201)], 0.9)
  assert line[100] == pytest.approx(100.0)                        # no lag
  noisy = plots.smooth([(-1.0) ** i for i in range(200)], 0.9)
  assert max(map(abs, noisy[20:-20])) < 0.06
  assert plots.smooth([1.0, 5.0, 2.0], 0.0) == [1.0, 5.0, 2.0]


def test_the_headline_is_the_last_value_and_the_smooth_line_ends_on_the_data():
  values = [11.0, 6.0, 4.0, 3.0, 2.5, 2.0, 9.0]
  metrics = [{'step': s, 'loss': v} for s, v in enumerate(values, 1)]
  panel, = curves.curve_panels(metrics, smoothing=0.9)
  assert panel.note == '9 at step 7'
  assert panel.lines[0].points[0] == (1, 11.0) and panel.lines[0].points[-1] == (7, 9.0)
  smoothed = [value for _, value in panel.lines[0].points]
  assert smoothed[1] == pytest.approx((6 + 0.9 * (11 + 4)) / (1 + 2 * 0.9))
  line = [5.0 - s for s in range(40)]
  assert plots.smooth(line, 0.9) == pytest.approx(line)


def test_a_long_run_is_thinned_and_keeps_its_ends_and_spikes():
  points = [(float(s), 1.0) for s in range(100_000)]
  points[54_321] = (54_321.0, 77.0)
  thinned = plots.thin(points)
  assert len(thinned) <= plots.MAX_POINTS
  assert thinned[0] == points[0] and thinned[-1] == points[-1] and points[54_321] in thinned
  assert thinned == sorted(thinned)
  assert len(svg_of(rows(20_000, loss=lambda s: 1 / s))) < 60_000


@pytest.mark.parametrize('low, high, expected', [
  (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
  (10.0, 3000.0, [1000.0, 2000.0, 3000.0]),
  (-1.0, 1.0, [-1.0, -0.5, 0.0, 0.5, 1.0]),
])
def test_ticks_are_round_and_inside_the_range(low, high, expected):
  assert plots.linear_ticks(low, high) == pytest.approx(expected)


def test_log_ticks_are_one_two_five():
  assert plots.log_ticks(0.4, 12.0) == pytest.approx([0.5, 1, 2, 5, 10])


def test_metrics_are_read_and_an_unfinished_last_line_is_left_out(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 1, "loss": 2.0}\n\n{"step": 2, "loss": NaN}\n{"step": 3, "lo')
  read = curves.read_metrics(path)
  assert [row['step'] for row in read] == [1, 2]


@pytest.mark.parametrize('line', ['{"step": 3, "lo', '{"loss": 1.0}', '[1, 2]', '{"step": "3"}',
                                  '\x00\x1b[2J', '[' * 5000])
def test_a_damaged_line_of_metrics_is_named_and_the_others_are_used(tmp_path, line, caplog):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 1, "loss": 2.0}\n' + line + '\n{"step": 4, "loss": 1.0}\n')
  with caplog.at_level('WARNING', logger='absl'):
    assert [row['step'] for row in curves.read_metrics(path)] == [1, 4]
  assert f'{path}:2: ' in caplog.text and caplog.text.count('metrics.jsonl') == 1
  assert '\x1b' not in caplog.text


def test_a_run_without_metrics_has_no_rows(tmp_path):
  assert curves.read_metrics(tmp_path / 'metrics.jsonl') == []


def test_the_page_is_self_contained_and_escapes_its_title(tmp_path):
  curves.write_curves(tmp_path / 'curves.html', rows(loss=lambda s: 1 / s), title='a <b> & c')
  page = (tmp_path / 'curves.html').read_text(encoding='utf-8')
  assert page.startswith('<!doctype html>') and '<svg' in page
  assert 'a &lt;b&gt; &amp; c' in page and '<b>' not in page
  assert 'http' not in page and 'src=' not in page
