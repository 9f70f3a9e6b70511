"""Templates: escaped, complete, and without anything from outside."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from molmo_jax.pages import render as render_module
from molmo_jax.pages.render import macro, percent, render

TEMPLATES = Path(render_module.__file__).parent / 'templates'


def test_values_are_escaped():
  page = render('base.html', title='<b>"&')
  assert '<title>&lt;b&gt;&#34;&amp;</title>' in page
  legend = macro('plots.html', 'legend')({'<i>': 'red'})
  assert '&lt;i&gt;' in legend and '<i>' not in legend


def test_a_value_that_is_missing_is_an_error():
  with pytest.raises(jinja2.UndefinedError, match='title'):
    render('base.html')


def test_every_page_has_the_one_style_sheet():
  style = (TEMPLATES / 'style.css').read_text(encoding='utf-8')
  assert style.rstrip('\n') in render('base.html', title='')
  for path in TEMPLATES.glob('*.html'):
    assert '<style' not in path.read_text(encoding='utf-8') or path.name == 'base.html'


@pytest.mark.parametrize('path', sorted(TEMPLATES.iterdir()), ids=lambda path: path.name)
def test_templates_ask_for_nothing_from_outside(path):
  text = path.read_text(encoding='utf-8')
  assert not any(word in text for word in ('http', '@import', 'url(', '<link', '|safe }'))


def test_percent_has_one_decimal():
  assert percent(0.12345) == '12.3'
