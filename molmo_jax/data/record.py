"""One line of a manifest: what it may hold, and the `Example` that it becomes (docs/data.md)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from molmo_jax.data.facts import fact, weight
from molmo_jax.data.forms import (
  Form,
  ManifestError,
  amount,
  list_of,
  number,
  number_from,
  object_of,
  pair_of,
  path,
  present,
  string,
  strings,
  whole,
  wrong,
)
from molmo_jax.preprocess.types import Example, Message, Subtitle

MEDIA_KEYS = ('image', 'images', 'video')
TEXT_KEYS = ('messages', 'conversations', 'question', 'facts')
# what only goes with another key
BELONGS = {'subtitles': 'video', 'clip': 'video', 'sampling': 'video', 'answer': 'question',
           'dialogue': 'facts', 'backdrop': 'facts'}
ROLES: tuple[Literal['user', 'assistant'], ...] = ('user', 'assistant')

_TURNS = list_of(whole('{"role": …, "content": …}', role=string, content=string),
                 'a list of messages {"role": …, "content": …}')
_LINES = list_of(whole('{"start": seconds, "end": seconds, "text": …}', start=number, end=number,
                       text=string),
                 'a string or a list of {"start": seconds, "end": seconds, "text": …}')
_COORDINATE = number_from(
  0, 1, 'a fraction from 0 to 1: divide pixels by the width and the height')
_CLIP = pair_of(number, number, '[start, end] in seconds with 0 <= start < end')


def _conversation(value: Any, where: str) -> tuple[Message, ...]:
  turns = _TURNS(value, where) or wrong(where, value, 'a list with at least one user message')
  for i, turn in enumerate(turns):
    if turn['role'] != ROLES[i % 2]:
      wrong(f'{where}[{i}].role', turn['role'],
            f'"{ROLES[i % 2]}": user and assistant take turns, and the user begins')
  return tuple(Message(**turn) for turn in turns)


def _subtitles(value: Any, where: str) -> str | tuple[Subtitle, ...]:
  if isinstance(value, str):
    return value
  lines = _LINES(value, where)
  for i, line in enumerate(lines):
    if not 0 <= line['start'] <= line['end']:
      wrong(f'{where}[{i}]', line, 'in order: 0 <= start <= end')
  return tuple(Subtitle(float(line['start']), float(line['end']), line['text']) for line in lines)


def _clip(value: Any, where: str) -> tuple[float, float]:
  start, end = _CLIP(value, where)
  return (float(start), float(end)) if 0 <= start < end else wrong(
    where, value, '[start, end] in seconds with 0 <= start < end')


def _weight_or_none(value: Any, where: str) -> float | Mapping[str, Any] | None:
  return None if value is None else weight(value, where)


def _object(value: Any, where: str) -> Mapping[str, Any]:
  return value if isinstance(value, Mapping) else wrong(where, value, 'an object')


def _sampling(value: Any, where: str) -> dict[str, Any]:
  object_of(dict(frame_sample_mode=string, candidate_fps=list_of(amount, 'a list of rates')), where,
            value)
  return present(value)


KEYS: dict[str, Form] = {
  'image': path, 'images': list_of(path, 'a list of strings'), 'video': path, 'clip': _clip,
  'subtitles': _subtitles, 'sampling': _sampling, 'messages': _conversation,
  'conversations': list_of(_conversation, 'a list of conversations'), 'question': string,
  'answer': string, 'facts': list_of(fact, 'a list of objects'), 'backdrop': path,
  'dialogue': number_from(0, 1, 'a probability'), 'style': string, 'styles': strings,
  'weights': list_of(_weight_or_none, 'a list of numbers'), 'task': string, 'metric': string,
  'answers': strings, 'options': strings, 'metadata': _object, 'id': string,
  'points': list_of(pair_of(_COORDINATE, _COORDINATE, 'a pair [x, y]'), 'a list of [x, y] pairs')}


def parse_record(record: Any, source: str, folder: str | os.PathLike | None = None) -> Example:
  """Checks one decoded JSON object and turns it into an `Example`; media are not opened.

  Args:
    record: what `json.loads` gave for the line.
    source: 'file.jsonl:12', put into messages and into `Example.source`.
    folder: relative media paths start here; None leaves them as they are.

  Raises:
    ManifestError: an unknown key, a value of the wrong type, two kinds of media, or no
      conversation.
  """
  try:
    found = object_of(KEYS, '', record, absent=(None, [], ()))
    conversations = _conversations(found)
    _check_together(found, conversations)
  except (ManifestError, RecursionError) as error:   # the checks know their key, not the line
    raise ManifestError(f'{source}: {error}') from None
  if not found.get('answers') and len(conversations) == 1 and len(conversations[0]) % 2 == 0:
    found['answers'] = (conversations[0][-1].content,)   # the reply that is there is the right one
  if 'image' in found:
    found['images'] = (found['image'],)
  if folder:                                    # an absolute path stays as it is
    found |= {key: str(Path(folder, found[key])) for key in ('video', 'backdrop') if key in found}
    found['images'] = tuple(str(Path(folder, name)) for name in found.get('images', ()))
  fields = {key: value for key, value in found.items()
            if key not in ('image', 'question', 'answer', 'messages', 'conversations')}
  return Example(conversations=conversations, source=source, **fields)


def _conversations(found: Mapping[str, Any]) -> tuple[tuple[Message, ...], ...]:
  given = [key for key in TEXT_KEYS if key in found]
  if len(given) != 1:
    raise ManifestError(f'a record needs exactly one of {", ".join(TEXT_KEYS)}, not '
                        f'{" and ".join(given) or "none of them"}')
  if 'question' in found:
    return (tuple(Message(role, found[key]) for role, key in zip(ROLES, ('question', 'answer'))
                  if key in found),)
  return (found['messages'],) if 'messages' in found else found.get('conversations', ())


def _check_together(found: Mapping[str, Any], conversations: tuple) -> None:
  """Raises ManifestError for keys that do not go together."""
  media = [key for key in MEDIA_KEYS if key in found]
  if len(media) > 1:
    raise ManifestError(f'a record has at most one of {", ".join(MEDIA_KEYS)}, not '
                        f'{" and ".join(media)}')
  for key, other in BELONGS.items():
    if key in found and other not in found:
      raise ManifestError(f"'{key}' belongs to '{other}'; add that or remove '{key}'")
  for key in ('style', 'styles', 'weights'):
    if key in found and 'facts' in found:
      raise ManifestError(f"'{key}' stands beside 'facts', which say it themselves; remove it")
    if key != 'style' and key in found and len(found[key]) != len(conversations):
      raise ManifestError(f"'{key}' has length {len(found[key])}; it needs a value for every "
                          f'conversation, {len(conversations)} in all')
  if {'style', 'styles'} <= found.keys():
    raise ManifestError("'style' and 'styles' are both there; keep one of them")
