"""Errors that a user can put right. Programs catch `MolmoError` and print its message as one line.
"""

from __future__ import annotations


class MolmoError(ValueError):
  """A file, a flag or a setting that cannot be used.

  The message is one sentence: which file, line, tensor or flag is wrong, and what would be right.
  """


class CheckpointError(MolmoError):
  """A file of a checkpoint that is missing, damaged or does not fit the model."""
