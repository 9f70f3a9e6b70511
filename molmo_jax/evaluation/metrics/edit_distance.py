"""Levenshtein distance that stays fast on hostile texts."""

from __future__ import annotations


def edit_distance(a: str, b: str) -> int:
  """Fewest insertions, deletions and replacements of one character that turn `a` into `b`.

  Myers' algorithm (1999): a column of the table of distances is kept as two bit masks of vertical
  steps +1 and −1, so that one character of the longer text costs a few operations on integers of as
  many bits as the shorter one has.
  """
  if len(a) < len(b):
    a, b = b, a
  if not b:
    return len(a)
  places: dict[str, int] = {}                 # character of b → bits at its places
  for place, character in enumerate(b):
    places[character] = places.get(character, 0) | 1 << place
  full, last = (1 << len(b)) - 1, 1 << (len(b) - 1)
  # steps of +1 and of −1 from one row of the column to the next
  up, down, distance = full, 0, len(b)
  for character in a:
    equal = places.get(character, 0)
    diagonal = ((((equal & up) + up) ^ up) | equal | down) & full
    right, left = down | (full & ~(diagonal | up)), up & diagonal
    distance += bool(right & last) - bool(left & last)
    right = (right << 1 | 1) & full
    up, down = (left << 1 & full) | (full & ~(diagonal | right)), right & diagonal
  return distance
