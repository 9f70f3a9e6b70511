"""Reading clocks: PixMo-Clocks and the clock benchmark (docs/training.md §5.3)."""

from __future__ import annotations

import dataclasses
import math
import re

from molmo_jax.metrics.numeric_answers import to_int

_TIME = re.compile(r'(?<!\d)(\d++):(?:(\d++)(?::(\d++))?)?')


@dataclasses.dataclass(frozen=True)
class ClockVariant:
  """How answers are read and compared."""
  close: int                                  # minutes, or seconds, that still count as close
  reads_pm: bool                              # whether AM and PM say which half of the day it is


TRAINING = ClockVariant(close=3, reads_pm=True)
BENCHMARK = ClockVariant(close=1, reads_pm=False)


def clock_scores(prediction: str, hour: int, minute: int, second: int,
                 variant: ClockVariant = BENCHMARK) -> dict[str, float]:
  """The sub-scores of one reading, each 0, 1 or NaN where it does not apply.

  The prediction is the first `h:m` or `h:m:s` of the text. The training variant adds 12 hours for
  PM; the benchmark has faces of 12 hours only and takes the hour modulo 12. Hour, minute and second
  are compared one by one; 'close' is a difference of at most 3 (benchmark: 1).

  Args:
    hour: 0…23, or −1 for a picture whose clock cannot be read: then the answer is right iff the
      text has no ':'.
    minute: 0…59, or −1.
    second: 0…59, or −1 for a clock without seconds.

  Returns:
    'overall_exact', 'overall_close', 'correctly_declines_to_answer', 'all_correct', 'all_close',
    'hour_correct', 'minute_correct', 'second_correct', 'minute_close', 'second_close'.
  """
  if hour < 0:
    declines = float(':' not in prediction)
    names = ('all_correct', 'all_close', 'hour_correct', 'minute_correct', 'second_correct',
             'minute_close',
             'second_close')
    return dict.fromkeys(('overall_exact', 'overall_close', 'correctly_declines_to_answer'),
                         declines) | dict.fromkeys(
                             names, math.nan)
  given_hour, given_minute, given_second = _read(prediction, variant)
  scores = {'hour_correct': float(given_hour == hour)} | _compare('minute', given_minute, minute,
                                                                  variant)
  scores |= _compare('second', given_second, second, variant)
  exact, close = (min(v for k, v in scores.items() if (k == 'hour_correct' or k.endswith(kind))
                      and not math.isnan(v))
                  for kind in ('correct', 'close'))
  return scores | {'all_correct': exact, 'all_close': close, 'overall_exact': exact,
                   'overall_close': close,
                   'correctly_declines_to_answer': math.nan}


def _read(text: str, variant: ClockVariant) -> tuple[int | None, int | None, int | None]:
  found = _TIME.search(text)
  if found is None:
    return None, None, None
  hour, minute, second = (None if part is None else to_int(part) for part in found.groups())
  if hour is not None:
    if not variant.reads_pm:
      hour %= 12
    else:
      hour = (0 if hour == 12 else hour) + (12 if 'PM' in text.upper() else 0)
  return hour, minute, second


def _compare(name: str, given: int | None, expected: int,
             variant: ClockVariant) -> dict[str, float]:
  if expected < 0:
    return {f'{name}_correct': math.nan, f'{name}_close': math.nan}
  return {f'{name}_correct': float(given == expected),
          f'{name}_close': float(given is not None and abs(given - expected) <= variant.close)}
