"""How answers are generated: the settings of evaluations, of the command line and of users."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_type_hints

from molmo_jax.configuration import ConfigError, Count, Positive, Range, Size, convert

Number = Annotated[float, Range(-1e30, 1e30)]


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
  """Settings of generation (docs/training.md §6); the defaults are greedy. docs/generation.md has
  their semantics.
  """
  max_new_tokens: Size = 64           # the ending token counts
  min_new_tokens: Count = 0           # no answer ends before it has this many
  # 0: the best token; else the scores are divided by it, and a token is sampled
  temperature: Annotated[float, Range(0, 1e30)] = 0.0
  top_k: Count = 0                    # only the best k tokens are sampled from; 0: all
  # only the fewest best tokens whose probabilities add up to this are sampled from
  top_p: Annotated[float, Range(0, 1, but=0)] = 1.0
  seed: Annotated[int, Range(0, 2 ** 32 - 1)] = 0   # of the sampled tokens
  beams: Size = 1                     # more than 1: beam search
  # beams are ordered by sum of log-probabilities / length^length_penalty
  length_penalty: Number = 0.0
  no_repeat_ngram: Count = 0          # no sequence of n tokens occurs twice; 0: allowed
  # factor on the log-probability of tokens that the answer has already
  repetition_penalty: Positive = 1.0
  # taken from the log-probability for every time the answer has the token
  frequency_penalty: Number = 0.0
  stop: tuple[str, ...] = ()          # an answer ends before the first of these strings
  # of stored keys and values; None: the model's
  cache_dtype: Literal['float32', 'bfloat16'] | None = None

  def __post_init__(self):
    object.__setattr__(self, 'stop',
                       (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
    for name, hint in _hints().items():
      object.__setattr__(self, name, convert(hint, getattr(self, name), name))
    if self.min_new_tokens > self.max_new_tokens:
      raise ValueError(f'min_new_tokens={self.min_new_tokens} must be at most max_new_tokens='
                       f'{self.max_new_tokens}')
    if '' in self.stop:
      raise ValueError(f'stop={self.stop!r} must be strings of at least one character')
    for name, default in (('top_k', 0), ('top_p', 1.0)):
      if self.temperature == 0 and getattr(self, name) != default:
        raise ValueError(f'{name}={getattr(self, name)} restricts sampling, but temperature=0 '
                         f'samples nothing: set a temperature, or leave {name} at {default}')
    for name, default in (('temperature', 0), ('stop', ())):
      if self.beams > 1 and getattr(self, name) != default:
        raise ValueError(f'{name}={getattr(self, name)!r} does not go with beams={self.beams}: a '
                         'beam search is deterministic and ends with end tokens only')


@functools.cache
def _hints() -> dict[str, Any]:
  return get_type_hints(GenerationConfig, include_extras=True)


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
