"""Every source that the code, the tests and the pages name can be opened: sections, pages, anchors,
files, modules.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/*.md')])
ROOMS = ('molmo_jax', 'lab', 'configs', 'tests', 'launch', 'docs')
SUFFIXES = {'.py', '.md', '.sh', '.yaml', '.yml', '.sbatch', '.toml', '.jinja', '.html'}

SECTIONS = re.compile(r'docs/(\w+)\.md ((?:(?:, |–|-| and )?§?\d[\d.]*|(?:, | and )?§\d[\d.]*)+)')
LINK = re.compile(r'\[[^\]]*\]\(([^()\s]+)\)')
FENCE = re.compile(r'^```.*?^```', re.M | re.S)
PATH = re.compile(r'(?<![\w/.-])((?:molmo_jax|lab|configs|tests|launch|docs)/[\w./-]*\w/?)')
MODULE = re.compile(r'(?<![\w./])((?:molmo_jax|tests|lab)(?:\.[A-Za-z_]\w*)+)')
# Words of sources that a reader does not have.
FOREIGN = re.compile(r'\bspec(/|ification |s? §|: §)|\bthe design(?! card)\b|training-and-eval|'
                     r"(?<!over )\bthe seeds(?='| ask| say| own| name)|"
                     r"\b(first|second|two|both) seeds?\b(?=:| ask| write|'| of this)")



def files() -> Iterator[Path]:
  """The text files of the project, this one aside."""
  for room in ROOMS:
    for path in sorted((ROOT / room).rglob('*')):
      if path.suffix in SUFFIXES and '__pycache__' not in path.parts and path != Path(__file__):
        yield path
  yield from (p for p in (*ROOT.glob('*.py'), *ROOT.glob('*.md'), *ROOT.glob('*.toml')))


def read(path: Path) -> str:
  return path.read_text(encoding='utf-8')


def unwrapped(text: str) -> str:
  """The text with its line breaks, and the signs that begin a line of a comment, as single spaces.
  """
  return re.sub(r'\s*\n\s*(?:#+\s+|//\s+)?', ' ', text)


@functools.cache
def numbers(page: Path) -> set[str]:
  """Numbers of the sections of a page: '3', '3.1', and '11.5' for the fifth item of a list below
  section 11.
  """
  found, top = set(), ''
  for line in FENCE.sub('', read(page)).splitlines():
    if heading := re.match(r'#{2,4} (\d+(?:\.\d+)*)\.? ', line):
      top = heading[1]
      found.add(top)
    elif item := re.match(r'(\d+)\. ', line):
      found.add(f'{top}.{item[1]}')
  return found


@functools.cache
def anchors(page: Path) -> set[str]:
  """Anchors of a page's headings, as GitHub makes them."""
  found: set[str] = set()
  for title in re.findall(r'^#+ (.*)$', FENCE.sub('', read(page)), re.M):
    slug = re.sub(r'[^\w\- ]', '',
                  re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', title).lower()).replace(' ', '-')
    number = 1
    while (name := slug if number == 1 else f'{slug}-{number - 1}') in found:
      number += 1
    found.add(name)
  return found


def test_every_section_that_is_cited_exists():
  broken, seen = [], 0
  for path in files():
    for page, cited in SECTIONS.findall(unwrapped(read(path))):
      for number in re.findall(r'\d+(?:\.\d+)*', cited):
        seen += 1
        target = ROOT / 'docs' / f'{page}.md'
        if not target.exists() or number not in numbers(target):
          broken.append(f'{path.relative_to(ROOT)}: docs/{page}.md §{number}')
  assert not broken, broken
  assert seen > 100


@pytest.mark.parametrize('page', ['model', 'training'])
def test_a_page_of_facts_cites_its_own_sections(page):
  path = ROOT / 'docs' / f'{page}.md'
  cited = re.findall(r'(?<!\.md )§(\d+(?:\.\d+)*)', FENCE.sub('', read(path)))
  assert cited and not set(cited) - numbers(path)


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_links_of_a_page_lead_somewhere(page):
  broken = []
  for target in LINK.findall(FENCE.sub('', read(page))):
    if re.match(r'[a-z]+:', target):
      continue
    name, _, anchor = target.partition('#')
    file = (page.parent / name).resolve() if name else page
    if not file.exists() or anchor and (file.suffix != '.md' or anchor not in anchors(file)):
      broken.append(target)
  assert not broken


def test_pages_that_the_code_names_exist():
  named = {(path, page) for path in files()
           for page in re.findall(r'(?<!/)docs/[\w-]+\.md', read(path))}
  assert not [f'{path.relative_to(ROOT)}: {page}' for path, page in named
              if not (ROOT / page).exists()]


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_files_and_modules_that_a_page_names_exist(page):
  text = re.sub(r'\S*github\.com/\S*', '', read(page))
  broken = [name for name in PATH.findall(text)
            if not any((folder / name.rstrip('/')).exists() for folder in (ROOT, ROOT / 'docs'))]
  broken += [name for name in MODULE.findall(text)
             if not name.endswith('.NAME') and not resolves(name)]
  added = re.findall(r'^\+\+\+ b/(\S+)', text, re.M)      # by the diffs of docs/extending.md
  added += [name.removesuffix('.py').replace('/', '.') for name in added]
  broken = [name for name in broken if name not in added]
  assert not broken


def resolves(name: str) -> bool:
  """Whether a dotted name is a module, or something that a module has."""
  parts = name.split('.')
  for count in range(len(parts), 0, -1):
    try:
      if importlib.util.find_spec('.'.join(parts[:count])) is None:
        continue
    except ModuleNotFoundError:
      continue
    if count == len(parts):
      return True
    value = importlib.import_module('.'.join(parts[:count]))
    for part in parts[count:]:
      fields = getattr(value, '__dataclass_fields__', {})
      if not hasattr(value, part) and part not in fields:
        return False
      value = getattr(value, part, None)
    return True
  return False


def test_sources_that_a_reader_does_not_have_are_not_named():
  found = []
  for path in files():
    for match in FOREIGN.finditer(unwrapped(read(path))):
      found.append(f'{path.relative_to(ROOT)}: {match[0]!r}')
  assert not found, found
