"""The report as Markdown, whole and in pieces that are put into a document between marks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from molmo_jax.configuration import ConfigError
from molmo_jax.files import write_atomically
from molmo_jax.lab.sweep import tables
from molmo_jax.lab.sweep.results import StudyResult
from molmo_jax.lab.sweep.tables import Cell, Table
from molmo_jax.visible import visible

OVERVIEW = 'overview'                           # the piece that has all studies


def report(studies: Sequence[StudyResult]) -> str:
  """The whole report."""
  parts = ['# Ablations', pieces(studies)[OVERVIEW]]
  parts += [f'## {plain(study.name)}\n\n{plain(study.claim)}\n\n{study_piece(study)}'
            for study in studies]
  return '\n\n'.join(parts) + '\n'


def pieces(studies: Sequence[StudyResult]) -> dict[str, str]:
  """By name: one piece per study, and `OVERVIEW`."""
  notes = '\n'.join(f'- {plain(note)}' for note in tables.notes(studies))
  return {OVERVIEW: f'{table_text(tables.overview(studies))}\n\n{notes}'} | {s.name: study_piece(s)
                                                                             for s in studies}


def study_piece(study: StudyResult) -> str:
  """The tables of one study and a sentence about them."""
  flags = '\n'.join(f'- {plain(arm.name)}: {code(tables.flags_text(arm.flags))}'
                    for arm in study.arms if arm.flags)
  parts = [table_text(tables.arms(study)), plain(tables.verdict(study)), flags]
  if study.compared:
    parts.insert(1, table_text(tables.differences(study)))
  return '\n\n'.join(parts)


def table_text(table: Table) -> str:
  """The table in Markdown, numbers to the right."""
  lines = [[*map(plain, table.head)], ['---', *['---:'] * (len(table.head) - 1)]]
  lines += [[_cell(cell) for cell in row] for row in table.rows]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _cell(cell: Cell) -> str:
  text, small = (plain(part) for part in (cell.text, cell.small))
  text = f'**{text}**' if cell.strong else text
  return text if not small else f'{text} {small}' if small.startswith('±') else f'{text} ({small})'


def plain(text: str) -> str:
  """A text that Markdown shows as it is written."""
  return re.sub(r'[\\`*|\[\]]|<(?=[A-Za-z/!?])', r'\\\g<0>', visible(' '.join(text.split())))


def code(text: str) -> str:
  """A text as code, in a fence that it does not have."""
  fence = '`' * (1 + max(map(len, re.findall('`+', text)), default=0))
  return f'{fence}{visible(text)}{fence}'


def insert(path: Path, studies: Sequence[StudyResult]) -> list[str]:
  """Puts each piece into a document between its two marks; returns the names of those inserted.

      <!-- sweep pooling: begin -->
      <!-- sweep pooling: end -->

  Raises:
    ConfigError: the document cannot be read, or has no mark for any of the pieces.
  """
  try:
    text = path.read_text(encoding='utf-8')
  except OSError as error:
    raise ConfigError(f'--insert={path}: {error.strerror}') from None
  done = []
  for name, piece in pieces(studies).items():
    begin, end = (f'<!-- sweep {name}: {word} -->' for word in ('begin', 'end'))
    pattern = re.compile(f'{re.escape(begin)}.*?{re.escape(end)}', re.DOTALL)
    if pattern.search(text):
      whole = f'{begin}\n\n{piece}\n\n{end}'
      text = pattern.sub(whole.replace('\\', r'\\'), text)
      done.append(name)
  if not done:
    raise ConfigError(f'--insert={path}: no place for results; a line "<!-- sweep '
      f'{studies[0].name}: begin -->" and one "<!-- sweep {studies[0].name}: end -->" make one')
  write_atomically(path, text)
  return done
