"""Text that is data, as it may stand in a message: nothing in it moves the cursor, colours the
screen, ends the line or turns the order of letters around.
"""

from __future__ import annotations

import io
import logging
import re
import sys
from typing import Any

# control characters but line feed and tab, separators of lines, overrides of the writing direction
# (not its marks, which texts in Arabic or Hebrew have), halves of surrogate pairs
_INTERPRETED = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff'
                          '\ufeff]')


def visible(text: str) -> str:
  r"""`text` with every character that a terminal would interpret written as \x1b, \r, \u202e, …"""
  return _INTERPRETED.sub(lambda found: found[0].encode('unicode_escape').decode('ascii'), text)


def well_formed(text: str) -> str:
  """`text` with U+FFFD for every half of a surrogate pair, which no file in UTF-8 can hold."""
  return text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')


def show_in_log(record: logging.LogRecord) -> bool:
  """A filter for a logger: its messages are shown as they are written."""
  record.msg, record.args = visible(record.getMessage()), ()
  return True


def say(text: str = '', **options: Any) -> None:
  """`print` for a text with data in it."""
  print(visible(text), **options)


def plain_streams() -> None:
  """Characters that the encoding of a terminal or a log lacks are written as \\xd7 from now on."""
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors='backslashreplace')
