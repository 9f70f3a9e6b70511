"""Plain words: what CONTRIBUTING.md calls by another name does not come back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# home-made words and sentences → what to write instead
REFUSED = {
  r'(is|are|be|was|then) gone on with': 'is continued',
  r'\bof so many\b': 'of this many, or a number',
  r'\bnot to be had\b': 'not available',
  r'\bcan be had\b': 'is possible',
  r'\bwhere nobody watches\b': 'without streaming',
  r'\bgo(es)? on where\b': 'resumes where',
  r'\bsplit_rows\b': 'shard_rows',
  r'\bfloor=0\.': 'min_lr_ratio',
  r'\bclass Draws\b': 'samples of a mixture',
  r'\bseed_formats\b': 'layout_formats',
  r'\bweight layouts?\b': 'weight names, or checkpoint format',
}


def texts():
  for folder in ('molmo_jax', 'configs', 'docs', 'launch', 'tests'):
    yield from (p for p in (ROOT / folder).rglob('*') if p.suffix in {'.py', '.md', '.sh'})
  yield from (p for p in (*ROOT.glob('*.py'), *ROOT.glob('*.md')) if p.name != 'CONTRIBUTING.md')


def uses(pattern: str) -> list[str]:
  """Files whose text, line breaks aside, has the pattern."""
  return [str(path.relative_to(ROOT)) for path in texts() if path != Path(__file__)
          and re.search(pattern, re.sub(r'\s*\n\s*(#+ )?', ' ', path.read_text(encoding='utf-8')))]


@pytest.mark.parametrize('pattern', REFUSED)
def test_a_home_made_word_does_not_come_back(pattern):
  assert not uses(pattern), f'write {REFUSED[pattern]!r}'


def test_the_search_sees_words_over_a_line_break():
  assert uses(r'One word for one thing, and the field.s word')== []
  assert uses(r'open vision-language models that answer questions') == ['README.md']
