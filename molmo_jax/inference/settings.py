"""How answers are generated: the settings of evaluations, of the command line and of users."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

from molmo_jax.configuration import ConfigError


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
  """Settings of generation (docs/training.md §6); the defaults are greedy. docs/generation.md has
  their semantics.
  """
  max_new_tokens: int = 64            # the ending token counts
  min_new_tokens: int = 0             # no answer ends before it has this many
  # 0: the best token; else the scores are divided by it, and a token is sampled
  temperature: float = 0.0
  top_k: int = 0                      # only the best k tokens are sampled from; 0: all
  # only the fewest best tokens whose probabilities add up to this are sampled from
  top_p: float = 1.0
  seed: int = 0                       # of the sampled tokens
  beams: int = 1                      # more than 1: beam search
  # beams are ordered by sum of log-probabilities / length^length_penalty
  length_penalty: float = 0.0
  no_repeat_ngram: int = 0            # no sequence of n tokens occurs twice; 0: allowed
  # factor on the log-probability of tokens that the answer has already
  repetition_penalty: float = 1.0
  # taken from the log-probability for every time the answer has the token
  frequency_penalty: float = 0.0
  stop: tuple[str, ...] = ()          # an answer ends before the first of these strings
  # of stored keys and values; None: the model's
  cache_dtype: Literal['float32', 'bfloat16'] | None = None

  def __post_init__(self):
    object.__setattr__(self, 'stop',
                       (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
    for name, wrong, right in self._faults():
      if wrong:
        raise ValueError(f'{name}={getattr(self, name)!r} must be {right}')
    for name, default in (('top_k', 0), ('top_p', 1.0)):
      if self.temperature == 0 and getattr(self, name) != default:
        raise ValueError(f'{name}={getattr(self, name)} restricts sampling, but temperature=0 '
                         f'samples nothing: set a temperature, or leave {name} at {default}')
    for name, default in (('temperature', 0), ('stop', ())):
      if self.beams > 1 and getattr(self, name) != default:
        raise ValueError(f'{name}={getattr(self, name)!r} does not go with beams={self.beams}: a '
          'beam search is deterministic and ends with end tokens only')

  def _faults(self) -> list[tuple[str, bool, str]]:
    """Every setting, whether its value is impossible, and what would be right; NaN is always
    impossible.
    """
    finite = math.isfinite
    return [
      ('max_new_tokens', self.max_new_tokens < 1, 'at least 1'),
      ('min_new_tokens', not 0 <= self.min_new_tokens <= self.max_new_tokens,
       f'from 0 to max_new_tokens={self.max_new_tokens}'),
      ('temperature', not (finite(self.temperature) and self.temperature >= 0),
       'a number from 0 (greedy) on'),
      ('top_k', self.top_k < 0, 'at least 0 (0: all tokens)'),
      ('top_p', not 0 < self.top_p <= 1, 'above 0 and at most 1'),
      ('seed', not 0 <= self.seed < 2 ** 32, 'from 0 to 2³² − 1'),
      ('beams', self.beams < 1, 'at least 1'),
      ('length_penalty', not finite(self.length_penalty), 'a number'),
      ('no_repeat_ngram', self.no_repeat_ngram < 0, 'at least 0 (0: repetitions are allowed)'),
      ('repetition_penalty', not (finite(self.repetition_penalty) and self.repetition_penalty > 0),
       'above 0'),
      ('frequency_penalty', not finite(self.frequency_penalty), 'a number'),
      ('stop', not all(isinstance(s, str) and s for s in self.stop),
       'strings of at least one character'),
      ('cache_dtype', self.cache_dtype not in (None, 'float32', 'bfloat16'),
       "'float32', 'bfloat16' or None"),
    ]


def parse_settings(assignments: Sequence[str]) -> dict[str, int | float | str]:
  """`['temperature=0.7', 'beams=2']` as a dictionary of fields of `GenerationConfig`.

  Raises:
    ConfigError: a name that is no field, or a value that is not of its type.
  """
  kinds: dict[str, Any] = {field.name: type(field.default)
                           for field in dataclasses.fields(GenerationConfig)}
  found: dict[str, Any] = {}
  for name, equals, value in (assignment.partition('=') for assignment in assignments):
    if not equals or name not in kinds:
      raise ConfigError(f'--generation={name}{equals}{value}: give NAME=VALUE with one of '
                        f'{", ".join(kinds)}')
    try:
      found[name] = kinds[name](value) if kinds[name] in (int, float) else value
    except ValueError:
      raise ConfigError(f'--generation={name}={value}: the value must be of type '
                        f'{kinds[name].__name__}') from None
  return found
