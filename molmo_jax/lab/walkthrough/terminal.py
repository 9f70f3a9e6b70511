"""The walkthrough's table in the terminal."""

from __future__ import annotations

from rich.table import Table

from molmo_jax.lab.walkthrough.example import Walkthrough
from molmo_jax.lab.walkthrough.table import design_note, limit_notes, stages
from molmo_jax.terminal import Terminal


def show(w: Walkthrough, console: Terminal) -> None:
  """Prints the table, with a column per file and, for several files, one for all, and the notes."""
  several = len(w.parts) > 1
  files = [part.source.name for part in w.parts]
  table = Table(title=f'{", ".join(files)}  ·  {w.run.name}  ·  '
                f'{"training" if w.training else "inference"}', title_justify='left')
  table.add_column('', justify='right')
  table.add_column('step')
  for heading in [*files, 'all'] if several else ['numbers']:
    table.add_column(heading, justify='right')
  if not several:
    table.add_column('what it is')
  rows = stages(w)
  for index, stage in enumerate(rows, 1):
    notes = [] if several else [stage.note]
    table.add_row(str(index), stage.name, *stage.cells(len(files)), *notes)
  console.print(table)
  below = [f'{index} {stage.name}: {stage.note}'
           for index, stage in enumerate(rows, 1)] if several else []
  for note in [*below, design_note(w), *limit_notes(w)]:
    if note:
      console.print(note)
