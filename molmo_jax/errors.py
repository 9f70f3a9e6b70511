"""Errors that a user can put right. Programs catch `MolmoError` and print its message as one line.
"""

from __future__ import annotations

from typing import Any

from molmo_jax.visible import visible

LONGEST = 4000   # characters of a message


class MolmoError(ValueError):
  """A file, a flag or a setting that cannot be used.

  The message is one sentence: which file, line, tensor or flag is wrong, and what would be right.
  The middle of a very long one is left out; texts of the user in it are shown as they are written.
  """

  def __init__(self, message: object = '') -> None:
    super().__init__(shorten(visible(str(message)), LONGEST))


def shorten(text: str, most: int) -> str:
  """`text` with at most `most` characters: the middle of a longer one is left out."""
  kept = (most - 1) // 2
  return text if len(text) <= most else f'{text[:kept]}…{text[-kept:]}'


def shown(value: Any) -> str:
  """A value of a file or a flag as an error shows it."""
  return shorten(repr(value), 200)


class CheckpointError(MolmoError):
  """A file of a checkpoint that is missing, damaged or does not fit the model."""
