"""Steps on a phone: AndroidControl (docs/training.md §5.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

# Beginning of a step → its kind; in this order.
_BEGINNINGS = ('click', 'long press', 'type', 'scroll', 'open app')
_WHOLE = ('wait', 'navigate home', 'navigate back')
_NUMBER = re.compile(r'\d+(?:\.\d+)?')


def android_step(target: str, prediction: str, box: Sequence[float] | None) -> float:
  """1 if a step does what the reference does, else 0. Case and whitespace at the ends do not count.

  The predicted step is what follows the first `Action:`, or the whole text. A step is known by its
  beginning. It must be of the reference's kind. A click or long press must lie in the box (bounds
  included), and both must have a point; text, app, and the word that follows 'scroll' must be
  equal; wait, home and back have nothing more to compare. Where the reference opens an app, a click
  in the box is right too.

  Upstream bug, reproduced: two steps of no known kind agree, such as two empty texts.

  Args:
    target: the reference step.
    prediction: the generated text.
    box: x0, y0, x1, y1 of the element to touch, in the units of the predicted point; None: there is
      none.
  """
  if 'Action:' in prediction:
    prediction = prediction.split('Action:')[1]
  expected, given = _step(target), _step(prediction)
  kind = given[0]
  if kind in ('click', 'long press') and box is not None and given[1]:
    (x, y), (x0, y0, x1, y1) = given[1], box
    inside = x0 <= x <= x1 and y0 <= y <= y1
    if expected[0] == 'open app' and kind == 'click':
      return float(inside)
    return float(expected[0] == kind and bool(expected[1]) and inside)
  return float(expected == given and kind not in ('click', 'long press'))


def parse_box(text: str) -> tuple[float, ...]:
  """The numbers of a box as the data stores it: '[45.0, 25.0, 60.0, 40.0]'.

  Raises:
    ValueError: anything else.
  """
  try:
    x0, y0, x1, y1 = map(float, text.strip().removeprefix('[').removesuffix(']').split(','))
  except ValueError:
    raise ValueError(f'a box is four numbers in brackets, not {text[:80]!r}') from None
  return x0, y0, x1, y1


def _step(text: str) -> tuple[str | None, Any]:
  """Kind of a step (None for an unknown one) and what it is compared by."""
  text = text.strip().lower()
  kind = next((kind for kind in _BEGINNINGS if text.startswith(kind)), None)
  if kind in ('click', 'long press'):
    numbers = _NUMBER.findall(text)[:2]
    return kind, tuple(map(float, numbers)) if len(numbers) == 2 else ()
  if kind == 'scroll':
    return kind, ''.join(text.split()[1:2])
  if kind is not None:
    return kind, text[len(kind) + 1:]
  return (text if text in _WHOLE else None), ''
