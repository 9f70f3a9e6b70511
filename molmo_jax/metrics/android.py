"""Steps on a phone: AndroidControl (docs/training.md §5.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from molmo_jax.metrics.numeric_answers import to_float

_TYPES = ('click', 'long press', 'type', 'open app', 'scroll', 'wait', 'navigate home',
          'navigate back')
_ON_SCREEN = ('click', 'long press')
_WITH_ARGUMENT = ('type', 'open app', 'scroll')
_NUMBER = re.compile(r'(?<![\d.])-?\d++(?:\.\d++)?')


def android_step(target: str, prediction: str, box: Sequence[float] | None) -> float:
  """1 if a step does what the reference does, else 0.

  The step is the text after `Action:`, or the whole text, in lower case. It must be of the
  reference's type. A click or long press must lie in the box (bounds included); text, app and
  direction must be equal; wait, home and back have nothing more to compare. Where the reference
  opens an app, a click in the box is right too.

  Args:
    target: the reference step.
    prediction: the generated text.
    box: x0, y0, x1, y1 of the element to touch, in the units of the predicted point, if there is
      one.
  """
  expected, given = _step(target), _step(prediction)
  if expected is None or given is None:
    return 0.0
  kind, argument = given
  touches = kind in _ON_SCREEN and box is not None and _is_inside(argument, box)
  if kind != expected[0]:
    return float(expected[0] == 'open app' and kind == 'click' and touches)
  if kind in _ON_SCREEN:
    return float(touches)
  return float(kind not in _WITH_ARGUMENT or argument == expected[1])


def parse_box(text: str) -> tuple[float, ...]:
  """The numbers of a box as the data stores it: '[45.0, 25.0, 60.0, 40.0]'.

  Raises:
    ValueError: anything else.
  """
  numbers = [to_float(part) for part in text.strip().removeprefix('[').removesuffix(']').split(',')]
  if len(numbers) != 4 or None in numbers:
    raise ValueError(f'a box is four numbers in brackets, not {text[:80]!r}')
  return tuple(numbers)


def _step(text: str) -> tuple[str, str] | None:
  """Type and argument of a step, or None for a type that does not exist."""
  text = text.rpartition('Action:')[2].lower().strip()
  kind = next((kind for kind in _TYPES if text == kind or text.startswith(f'{kind} ')), None)
  return None if kind is None else (kind, text[len(kind) + 1:])


def _is_inside(argument: str, box: Sequence[float]) -> bool:
  numbers = [float(number) for number in _NUMBER.findall(argument)]
  return len(numbers) == 2 and box[0] <= numbers[0] <= box[2] and box[1] <= numbers[1] <= box[3]
