"""Reading clocks: PixMo-Clocks and the clock benchmark (docs/training.md §5.3)."""

from __future__ import annotations

import dataclasses
import math

from molmo_jax.metrics.numeric_answers import to_int


@dataclasses.dataclass(frozen=True)
class ClockVariant:
  """How answers are read and compared.

  Attributes:
    close: difference in minutes, or in seconds, that still counts as close.
    dial: whether faces have 12 hours: 12 is 0, larger hours lose 12, a minute 60 is 0, minutes are
      close across the full hour, and AM and PM say nothing. Else PM adds 12 hours.
  """
  close: int
  dial: bool


TRAINING = ClockVariant(close=3, dial=False)
BENCHMARK = ClockVariant(close=1, dial=True)

_HALF_DAY = 12 * 60                             # minutes


def clock_scores(prediction: str, hour: int, minute: int, second: int,
                 variant: ClockVariant = BENCHMARK) -> dict[str, float]:
  """The sub-scores of one reading, each 0, 1 or NaN where it does not apply.

  The prediction is split at colons: the hour is the last word of the first part, minute and second
  are the first words of the next ones. A reading of 12 is right for hour 0.

  Upstream bugs, reproduced: in training 12 PM is hour 24, and AM takes nothing from 12.

  Args:
    prediction: the generated text.
    hour: 0…23, or −1.
    minute: 0…59, or −1; with hour and second −1 too the clock cannot be read: then the answer is
      right if and only if the text has no ':'.
    second: 0…59, or −1 for a clock without seconds.
    variant: `TRAINING` (PixMo-Clocks) or `BENCHMARK`.

  Returns:
    'overall_exact', 'overall_close', 'correctly_declines_to_answer', 'all_correct', 'all_close',
    'hour_correct', 'minute_correct', 'second_correct', 'minute_close', 'second_close'.
  """
  names = ('hour_correct', 'minute_correct', 'second_correct', 'minute_close', 'second_close')
  scores = dict.fromkeys(('all_correct', 'all_close', *names), math.nan)
  if max(hour, minute, second) < 0:
    declines = float(':' not in prediction)
    return scores | {'overall_exact': declines, 'overall_close': declines,
                     'correctly_declines_to_answer': declines}
  given_hour, given_minute, given_second = _read(prediction, variant)
  if variant.dial:
    hour, minute = 0 if hour == 12 else hour, 0 if minute == 60 else minute
  apart = None if given_minute is None else abs(given_minute - minute)
  exact = {'hour_correct': given_hour == hour or (hour == 0 and given_hour == 12),
           'minute_correct': given_minute == minute}
  close = {'minute_close': apart is not None and (
      apart <= variant.close or variant.dial and apart == 59)}
  if second >= 0:
    exact['second_correct'] = given_second == second
    close['second_close'] = given_second is not None and abs(given_second - second) <= variant.close
  all_close = exact['hour_correct'] and all(close.values())
  if variant.dial and second < 0 and given_hour is not None and given_minute is not None:
    difference = abs(60 * (given_hour - hour) + given_minute - minute)
    all_close = all_close or difference == _HALF_DAY - 1   # one minute apart across 12 o'clock
  correct = float(all(exact.values()))
  scores |= {name: float(value) for name, value in (exact | close).items()}
  return scores | {'all_correct': correct, 'all_close': float(all_close), 'overall_exact': correct,
                   'overall_close': float(all_close), 'correctly_declines_to_answer': math.nan}


def _read(text: str, variant: ClockVariant) -> tuple[int | None, int | None, int | None]:
  before, *after = text.split(':')
  hour = _integer(before.split()[-1:])
  minute, second = (_integer(part.split()[:1]) for part in (*after, '', '')[:2])
  if variant.dial:
    if hour is not None and hour >= 12:
      hour -= 12
    minute = 0 if minute == 60 else minute
  elif hour is not None and 'PM' in text:
    hour += 12
  return hour, minute, second


def _integer(words: list[str]) -> int | None:
  return to_int(words[0]) if words else None
