"""What a record says before it has words: facts, which `data.formatting` turns into conversations.

A manifest record may hold 'facts' in the place of its messages: a list of objects, one for each
conversation about the same media. Their keys are explained in docs/data.md.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from molmo_jax.errors import MolmoError

Fact = Mapping[str, Any]

# What an answer is made of: at most one of these.
CONTENTS = ('messages', 'options', 'answers', 'texts', 'points', 'images', 'tracks')
KEYS = ('style', 'styles', 'weight', 'question', 'questions', 'asks', 'label', *CONTENTS, 'right',
        'order', 'unlabelled', 'pick', 'explanation', 'inline', 'no_pointing', 'object', 'fps')
# in an answer: where the next of its 'inline' points go
POINTS_HERE = '<|POINT|>'
# Of a record, beside its media.
RECORD_KEYS = ('facts', 'dialogue', 'backdrop', 'sampling')
SAMPLING_KEYS = ('frame_sample_mode', 'candidate_fps')
ORDERS = ('given', 'any', 'insert')
WEIGHT_KEYS = ('weight', 'root_length', 'root_subsegments')
TRACKING_STYLES = ('video_point_track_per_frame', 'video_point_ground_start_end',
                   'video_single_point_track_per_frame')


class FactError(MolmoError):
  """Facts that no conversation can be made of; the message says which and what would be right."""


def fact_fields(record: Mapping[str, Any], folder: str | os.PathLike | None) -> dict[str, Any]:
  """The fields of `Example` that a manifest record with facts has, checked.

  Raises:
    FactError: as `check_facts`; text beside the facts, or a key that goes with something else.
  """
  fields: dict[str, Any] = {}
  if 'facts' in record:
    fields['facts'] = check_facts(record['facts'])
    beside = [k for k in ('messages', 'conversations', 'question', 'answer', 'style', 'styles',
                          'weights') if k in record]
    if beside:
      raise FactError(f"'{beside[0]}' stands beside 'facts', which say it themselves; remove one")
  for key in ('dialogue', 'backdrop'):
    if key in record and 'facts' not in record:
      raise FactError(f"'{key}' belongs to 'facts'; add these or remove it")
  if 'dialogue' in record:
    value = fields['dialogue'] = record['dialogue']
    if not isinstance(value, int | float) or not 0 <= value <= 1:
      raise FactError(f"'dialogue' is {value!r}; it is a probability from 0 to 1")
  if 'backdrop' in record:
    fields['backdrop'] = str(Path(folder or '') / record['backdrop'])
  if 'sampling' in record:
    value = fields['sampling'] = record['sampling']
    if 'video' not in record or not isinstance(value, Mapping) or value.keys() - set(SAMPLING_KEYS):
      raise FactError(f"'sampling' belongs to a video and may have {', '.join(SAMPLING_KEYS)}")
  return fields


def check_facts(value: Any) -> tuple[Fact, ...]:
  """The facts of a record, checked.

  Raises:
    FactError: not a list of objects, an unknown key, no style, two kinds of content, or content
      of another form than docs/data.md says.
  """
  if not isinstance(value, list) or not value:
    raise FactError("'facts' must be a list with an object for each conversation")
  for number, fact in enumerate(value):
    problem = _problem(fact)
    if problem:
      raise FactError(f"'facts[{number}]' {problem}")
  return tuple(value)


def _problem(fact: Any) -> str | None:
  if not isinstance(fact, Mapping):
    return f'must be an object, not {type(fact).__name__}'
  for key in fact:
    if key not in KEYS:
      close = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.0)[0]
      return f"has an unknown key '{key}'; did you mean '{close}'?"
  if ('style' in fact) == ('styles' in fact):
    return "needs 'style', or 'styles' to draw one of"
  contents = [key for key in CONTENTS if key in fact]
  if len(contents) > 1:
    return f"has {' and '.join(contents)}; an answer is made of one of them"
  texts = [*fact.get('styles', ()), *([fact['style']] if 'style' in fact else ())]
  for key in ('question', 'asks', 'label', 'explanation', 'object'):
    texts += [fact[key]] if key in fact else []
  for key in ('messages', 'options', 'answers', 'texts', 'questions'):
    if key in fact and (not isinstance(fact[key], list) or not fact[key]):
      return f"needs a list of strings as '{key}'"
    texts += fact.get(key, [])
  if not all(isinstance(text, str) for text in texts):
    return 'has a value that must be a string and is none'
  if 'messages' in fact and len(fact['messages']) % 2:
    return "must have as many answers as questions in 'messages'"
  if 'weight' in fact and (problem := weight_problem(fact['weight'])):
    return f"has 'weight' {fact['weight']!r}: {problem}"
  if contents == ['options']:
    return _options_problem(fact)
  return _places_problem(fact) if contents else None


def _options_problem(fact: Fact) -> str | None:
  right = fact.get('right')
  if right is not None and (type(right) is not int or not 0 <= right < len(fact['options'])):
    return f"has 'right' {right!r}; it must be the number of an option, from 0"
  if fact.get('order', 'given') not in ORDERS:
    return f"has 'order' {fact['order']!r}; it must be one of {', '.join(ORDERS)}"
  return None if 'question' in fact or 'asks' in fact else "has options, but no 'question'"


def _places_problem(fact: Fact) -> str | None:
  try:
    for _, points in fact.get('points', ()):
      _numbers(points)
    for part in fact.get('inline', ()):
      _numbers(part['points'])
      if not isinstance(part['label'] + part['alt'], str):
        raise TypeError
    for image in fact.get('images', ()):
      _numbers(image['points'])
      if not isinstance(image['label'] + image['name'], str):
        raise TypeError
    for time, objects in fact.get('tracks', ()):
      _numbers([(time, time), *(point[:2] for point in objects.values())])
  except (TypeError, ValueError, KeyError, AttributeError):
    return ("has places of another form than 'points': [[frame, [[x, y], …]], …], 'images': "
            "[{name, label, points}, …], 'inline': [{label, alt, points}, …] "
            "or 'tracks': [[seconds, {object: [x, y]}], …]")
  if 'inline' in fact and any(text.count(POINTS_HERE) != len(fact['inline'])
                              for text in fact.get('answers', [''])):
    return f"needs 'answers' with {POINTS_HERE} once for each of 'inline'"
  if 'tracks' in fact and not ('label' in fact and 'fps' in fact):
    return "has tracks, but no 'label' or no 'fps'"
  return None


def _numbers(points: Sequence[Sequence[float]]) -> None:
  for x, y in points:
    float(x), float(y)


def weight_problem(weight: Any) -> str | None:
  """Why a value is no loss weight of a conversation: a number, or an object of single terms."""
  if isinstance(weight, Mapping):
    unknown = sorted(weight.keys() - set(WEIGHT_KEYS))
    if unknown:
      return f"an object may have {', '.join(WEIGHT_KEYS)}, not {unknown}"
    number = weight.get('weight', 0)
  else:
    number = weight
  valid = type(number) in (int, float) and 0 <= number < math.inf
  return None if valid else 'a weight is a number that is not negative'
