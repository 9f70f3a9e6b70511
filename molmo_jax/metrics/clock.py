"""Reading clocks: PixMo-Clocks and the clock benchmark (docs/training.md §5.3)."""

from __future__ import annotations

import math

from molmo_jax.metrics.numeric_answers import to_int

_HALF_DAY = 12 * 60                             # minutes
_OF_HANDS = ('all_correct', 'all_close', 'hour_correct', 'minute_correct', 'second_correct',
             'minute_close', 'second_close')


def clock_scores(prediction: str, hour: int, minute: int, second: int, *,
                 dial: bool = True) -> dict[str, float]:
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
    dial: the benchmark's rule: faces have 12 hours (12 is 0, larger hours lose 12), a minute 60 is
      0, minutes are close across the full hour, AM and PM say nothing, and a difference of 1 minute
      or second is close. False, the rule of PixMo-Clocks in training: PM adds 12 hours, and a
      difference of 3 is close.

  Returns:
    'overall_exact', 'overall_close', 'correctly_declines_to_answer', 'all_correct', 'all_close',
    'hour_correct', 'minute_correct', 'second_correct', 'minute_close', 'second_close'.
  """
  names = ('overall_exact', 'overall_close', 'correctly_declines_to_answer')
  if max(hour, minute, second) < 0:
    return dict.fromkeys(names, float(':' not in prediction)) | dict.fromkeys(_OF_HANDS, math.nan)
  scores = dict.fromkeys(names + _OF_HANDS, math.nan)
  given_hour, given_minute, given_second = _read(prediction, dial)
  margin = 1 if dial else 3
  if dial:
    hour, minute = 0 if hour == 12 else hour, 0 if minute == 60 else minute
  apart = None if given_minute is None else abs(given_minute - minute)
  exact = {'hour_correct': given_hour == hour or (hour == 0 and given_hour == 12),
           'minute_correct': given_minute == minute}
  close = {'minute_close': apart is not None and (apart <= margin or dial and apart == 59)}
  if second >= 0:
    exact['second_correct'] = given_second == second
    close['second_close'] = given_second is not None and abs(given_second - second) <= margin
  all_close = exact['hour_correct'] and all(close.values())
  if dial and second < 0 and given_hour is not None and given_minute is not None:
    difference = abs(60 * (given_hour - hour) + given_minute - minute)
    all_close = all_close or difference == _HALF_DAY - 1   # one minute apart across 12 o'clock
  correct = float(all(exact.values()))
  scores |= {name: float(value) for name, value in (exact | close).items()}
  return scores | {'all_correct': correct, 'all_close': float(all_close), 'overall_exact': correct,
                   'overall_close': float(all_close)}


def _read(text: str, dial: bool) -> tuple[int | None, int | None, int | None]:
  before, *after = text.split(':')
  words = [before.split()[-1:], *(part.split()[:1] for part in (*after, '', '')[:2])]
  hour, minute, second = (to_int(''.join(word)) for word in words)
  if dial:
    if hour is not None and hour >= 12:
      hour -= 12
    minute = 0 if minute == 60 else minute
  elif hour is not None and 'PM' in text:
    hour += 12
  return hour, minute, second
