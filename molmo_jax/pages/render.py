"""Renders the templates. Every page is a single file that loads nothing else."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from molmo_jax.visible import visible


@functools.cache
def _environment() -> jinja2.Environment:
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / 'templates'), autoescape=True,
    undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown)
  environment.filters['percent'] = percent
  environment.filters['number'] = '{:,}'.format
  return environment


def _shown(value: Any) -> Any:
  """What an expression of a template puts into the page: texts of the user as they are written."""
  return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def percent(fraction: float) -> str:
  """0.5 → '50.0'."""
  return f'{100 * fraction:.1f}'


def render(template: str, **values: Any) -> str:
  """The text of a template of `pages/templates/`; every value is escaped that is not `Markup`."""
  return _environment().get_template(template).render(values)


def macro(template: str, name: str) -> Callable[..., Markup]:
  """A macro of a template, as a function that returns HTML."""
  return getattr(_environment().get_template(template).module, name)
