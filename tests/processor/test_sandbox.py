"""Templates of others run apart, within limits of time, memory, output and nesting."""

from __future__ import annotations

import os

import pytest

from molmo_jax.preprocess.types import EncodingError
from molmo_jax.processor import sandbox
from molmo_jax.processor.chat_template import TEMPLATES, check_template, render
from molmo_jax.processor.sandbox import TemplateError, render_apart

TEN = '{% for i in range(99999) %}'


@pytest.fixture
def second(monkeypatch):
  """One second for a template, in a process of its own."""
  monkeypatch.setattr(sandbox, 'SECONDS', 1)
  monkeypatch.setattr(sandbox, '_started', {})
  yield render_apart
  for child in sandbox._started.values():
    child.kill()
    child.communicate()


@pytest.mark.parametrize('template, limit', [
  (TEN * 3 + '{% endfor %}' * 3, 'more than 1 s'),
  ('{% for i in range(10 ** 9) %}x{% endfor %}', 'Range too big'),
  ("{{ 'a' * 10 ** 9 }}", 'more than 512 MB'),
  ("{{ 'a' | center(10 ** 9) }}", 'more than 512 MB'),
  ("{{ '%1000000000d' % 1 }}", 'more than 512 MB'),
  ("{{ '{:1000000000}'.format(1) }}", 'more than 512 MB'),
  ("{{ ('a' * 99999).replace('a', 'b' * 99999) | length }}", 'more than 512 MB'),
  ("{{ [1] | tojson(indent=10 ** 9) }}", 'more than 512 MB'),
  ("{{ 'a' * 20000000 }}", '20000000 characters'),
  ('{{ 10 ** (10 ** 9) }}', 'more than'),
  ('{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}', 'recursion'),
  ('{{' + '(' * 5000 + '1' + ')' * 5000 + '}}', 'recursion'),
  ('{% if 1 %}' * 3000 + '{% endif %}' * 3000, 'recursion'),
  ("{% set n = namespace(x='aa') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
   'more than 512 MB')])
def test_a_template_that_takes_too_much_is_an_error_and_the_next_one_is_rendered(
    second, template, limit):
  with pytest.raises(TemplateError, match=limit):
    second(template, {})
  assert second('{{ x }}', {'x': 'again\ud800'}) == 'again\ud800'


def test_a_process_that_died_is_started_anew_and_another_one_stays_alive(second):
  assert second('a', {}) == 'a'
  child, = sandbox._started.values()
  assert second('b', {}) == 'b' and [*sandbox._started.values()] == [child]
  child.kill()
  child.wait()
  with pytest.raises(TemplateError):
    second('c', {})
  assert second('d', {}) == 'd'


def test_a_fork_has_a_process_of_its_own(second, monkeypatch):
  assert second('a', {}) == 'a'
  with monkeypatch.context() as patched:
    patched.setattr(os, 'getpid', lambda: 0)
    assert second('b', {}) == 'b'
  assert len({child.pid for child in sandbox._started.values()}) == 2


def test_our_own_templates_need_no_process(monkeypatch):
  monkeypatch.setattr('molmo_jax.processor.chat_template.render_apart', None)
  for template in TEMPLATES.values():
    check_template(template, 'own')
    assert render(template, [{'role': 'user', 'content': 'a'}], eos_token='') != ''


def test_an_error_names_the_template_and_is_bounded():
  long = "{{ raise_exception('x' * 10 ** 6) }}"
  with pytest.raises(EncodingError, match='^t.jinja rejects the messages: xxx') as caught:
    render(long, [{'role': 'user', 'content': 'a'}], name='t.jinja')
  assert len(str(caught.value)) < 5000


def test_dates_and_languages_are_those_of_this_process():
  assert render_apart("{{ strftime_now('%Y') | length }}ä", {}) == '4ä'
