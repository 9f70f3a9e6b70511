"""What the programs print. Paths, ids, answers and messages are data: they are shown as they are
written, whatever is printed, and nothing is left out for want of columns.
"""

from __future__ import annotations

from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from molmo_jax.visible import visible

WIDE = 1000                                     # columns of a file or a pipe


class Terminal(Console):
  """rich's console without markup, emoji codes and guessed highlights; `style=` still works.

  What is not a terminal has `WIDE` columns, whatever the environment says: every table row is one
  line there. In a terminal texts are folded, and numbers stay whole.
  """

  def __init__(self, **options: Any):
    super().__init__(markup=False, emoji=False, highlight=False, **options)
    if 'width' not in options and not self.is_terminal:
      self.width = WIDE
    if hasattr(self.file, 'reconfigure'):   # what its encoding lacks is no reason to end
      self.file.reconfigure(errors='backslashreplace')

  def render_str(self, text: str, **options: Any) -> Text:
    """The one place where rich makes a text of a string: printed, or a cell or title of a table."""
    return super().render_str(visible(text), **options)

  def print(self, *objects: Any, **options: Any) -> None:
    """As rich's; no column of a table is cut off."""
    for table in (shown for shown in objects if isinstance(shown, Table)):
      for column in table.columns:
        column.no_wrap, column.overflow = False, 'fold'
        if column.justify == 'right':
          column.min_width = max(cell_len(str(cell)) for cell in (*column.cells, ''))
      # too narrow: columns closer together, and then over the edge
      if self.measure(table, options=self.options.update(width=WIDE)).minimum > self.width:
        table.box, table.collapse_padding, options['crop'] = None, True, False
    super().print(*objects, **options)

  def on_broken_pipe(self) -> None:
    """As any other error: rich would end the program without a word."""
    raise BrokenPipeError

  def rule(self, title: Any = '', **options: Any) -> None:
    """A heading on a line of its own, as wide as it is."""
    self.print(f'── {title} ──', style='bold')


def make_table(*columns: str, texts: int = 1, title: str = '') -> Table:
  """A table whose first `texts` columns are texts; the others are numbers, which stand right."""
  table = Table(title=title or None, title_justify='left', show_edge=False, pad_edge=False)
  for index, name in enumerate(columns):
    table.add_column(name, justify='left' if index < texts else 'right')
  return table
