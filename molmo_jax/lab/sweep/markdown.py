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

OVERVIEW = 'overview'                           # the piece that has all studies


def report(studies: Sequence[StudyResult]) -> str:
  """The whole report."""
  parts = ['# Ablations', pieces(studies)[OVERVIEW]]
  parts += [f'## {study.name}\n\n{study.claim}\n\n{study_piece(study)}' for study in studies]
  return '\n\n'.join(parts) + '\n'


def pieces(studies: Sequence[StudyResult]) -> dict[str, str]:
  """By name: one piece per study, and `OVERVIEW`."""
  notes = '\n'.join(f'- {note}' for note in tables.notes(studies))
  return {OVERVIEW: f'{table_text(tables.overview(studies))}\n\n{notes}'} | {s.name: study_piece(s)
                                                                             for s in studies}


def study_piece(study: StudyResult) -> str:
  """The tables of one study and a sentence about them."""
  flags = '\n'.join(f'- {arm.name}: `{tables.flags_text(arm.flags)}`' for arm in study.arms
                    if arm.flags)
  parts = [table_text(tables.arms(study)), tables.verdict(study), flags]
  if study.compared:
    parts.insert(1, table_text(tables.differences(study)))
  return '\n\n'.join(parts)


def table_text(table: Table) -> str:
  """The table in Markdown, numbers to the right."""
  lines = [table.head, ['---', *['---:'] * (len(table.head) - 1)]]
  lines += [[_cell(cell) for cell in row] for row in table.rows]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _cell(cell: Cell) -> str:
  text = f'**{cell.text}**' if cell.strong else cell.text
  if not cell.small:
    return text
  return f'{text} {cell.small}' if cell.small.startswith('±') else f'{text} ({cell.small})'


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
      text = pattern.sub(lambda match, whole=whole: whole, text)
      done.append(name)
  if not done:
    raise ConfigError(f'--insert={path}: no place for results; a line "<!-- sweep '
      f'{studies[0].name}: begin -->" and one "<!-- sweep {studies[0].name}: end -->" make one')
  write_atomically(path, text)
  return done
