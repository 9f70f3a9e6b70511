"""What programs print: plain text and tables that show everything, at 80 columns and in a log."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

# a line feed and a tab stay; every other control character is shown as in a string of Python
_SHOWN = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160))
          if chr(code) not in '\n\t'}


class PlainConsole(Console):
  """Prints text as it is: no markup, no emoji, no colours of its own; control characters are shown,
  not obeyed, because text may come from a file of somebody else.

  A text is not wrapped, and in a file or a pipe a table is as wide as it needs, whatever COLUMNS
  says: what is searched for in a log is on one line.
  """

  def __init__(self, **options: Any):
    super().__init__(markup=False, emoji=False, highlight=False, soft_wrap=True, **options)
    if not self.is_terminal and 'width' not in options:
      self.width = 1000

  def render_str(self, text: str, **options: Any) -> Text:
    """The text that stands for a string."""
    return super().render_str(visible(text), **options)


def visible(text: str) -> str:
  """`text` with its control characters shown: `\\x1b` for an escape."""
  return text.translate(_SHOWN)


def make_table(*columns: str, title: str = '', texts: int = 1) -> Table:
  """A table whose first `texts` columns fold where there is no room. The others hold numbers, which
  stand at the right and are never cut.
  """
  table = Table(title=title or None, title_justify='left', box=box.SIMPLE_HEAD, show_edge=False,
                pad_edge=False, collapse_padding=True)
  for index, name in enumerate(columns):
    table.add_column(name, justify='left' if index < texts else 'right', overflow='fold',
                     no_wrap=index >= texts)
  return table
