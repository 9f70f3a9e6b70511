"""The tokenizer of the golden data: a character is a token, special strings are single tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping


class StubTokenizer:
  """Text → ids: the code of every character, and `special_token_ids` for the strings listed there.
  """

  def __init__(self, special_token_ids: Mapping[str, int]):
    self.special = dict(special_token_ids)
    longest_first = sorted(self.special, key=len, reverse=True)
    self._pattern = re.compile('|'.join(map(re.escape, longest_first)) + '|.', re.DOTALL)

  def __call__(self, text: str) -> list[int]:
    return [self.special[piece] if piece in self.special else ord(piece)
            for piece in self._pattern.findall(text)]
