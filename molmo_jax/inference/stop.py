"""Stop strings: found in the text, so that they may begin and end anywhere in a token
(docs/training.md §6).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]   # ids → text

UNFINISHED = '\ufffd'   # what a decoder gives for a character whose bytes are not all there yet


def find_stop(ids: Sequence[int], decode: Decode, stop: Sequence[str],
              first: int = 1) -> int | None:
  """How many tokens the answer has when the text first holds a stop string; None if it never does.

  Args:
    ids: the answer so far, without an end token.
    first: a stop string counts if the token that completes it is at least the `first` one, counted
      from 1. What has been looked at need not be looked at again.
  """
  if not stop or not any(s in decode(ids) for s in stop):
    return None
  return next((n for n in range(max(first, 1), len(ids) + 1)
               if _find(ids[:n], decode, stop) is not None), None)


def text_before_stop(ids: Sequence[int], decode: Decode, stop: Sequence[str]) -> str:
  """The text of an answer; if its last token completes a stop string, only what comes before that.
  """
  text = decode(ids)
  start = _find(ids, decode, stop) if stop and ids else None
  return text if start is None else text[:start]


def certain_length(text: str, stop: Sequence[str]) -> int:
  """How much of an unfinished answer is certain to stay: what may be the beginning of a stop string
  is not.
  """
  held = max((n for s in stop for n in range(1, len(s)) if text.endswith(s[:n])), default=0)
  return len(text.rstrip(UNFINISHED)) if not held else len(text) - held


def _find(ids: Sequence[int], decode: Decode, stop: Sequence[str]) -> int | None:
  """Where the first stop string begins that the last token completes."""
  text, before = decode(ids), len(decode(ids[:-1]).rstrip(UNFINISHED))
  starts = [text.find(s, max(before - len(s) + 1, 0)) for s in stop]
  return min((start for start in starts if start >= 0), default=None)
