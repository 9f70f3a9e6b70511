"""One line of a manifest: what it may hold, and the `Example` that it becomes (docs/data.md)."""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from molmo_jax.data.facts import RECORD_KEYS, FactError, fact_fields, weight_problem
from molmo_jax.errors import MolmoError
from molmo_jax.preprocess.types import Example, Message, Subtitle

MEDIA_KEYS = ('image', 'images', 'video')
TEXT_KEYS = ('messages', 'conversations', 'question')
KEYS = MEDIA_KEYS + TEXT_KEYS + RECORD_KEYS + (
  'answer', 'subtitles', 'clip', 'weights', 'style', 'styles', 'task', 'metric', 'answers',
  'options', 'points', 'metadata', 'id')
ROLES: tuple[Literal['user', 'assistant'], ...] = ('user', 'assistant')
KINDS = {dict: 'an object', list: 'a list', str: 'a string', bool: 'a boolean', int: 'a number',
         float: 'a number', type(None): 'null'}


class ManifestError(MolmoError):
  """A manifest, or one line of it, that cannot be used: where, and what would be right."""


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
    return _example(record, source, None if folder is None else Path(folder))
  except (ManifestError, FactError) as error:   # the checks below know their key, not the line
    raise ManifestError(f'{source}: {error}') from None


def _example(record: Any, source: str, folder: Path | None) -> Example:
  if not isinstance(record, Mapping):
    raise ManifestError(f'a record is a JSON object {{"key": value, …}}, not {_kind(record)}')
  for key in record:
    if key not in KEYS:
      close = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.0)[0]
      raise ManifestError(f"unknown key '{key}'; did you mean '{close}'? Known keys: "
                          f'{", ".join(KEYS)}')
  media = [key for key in MEDIA_KEYS if key in record]
  if len(media) > 1:
    raise ManifestError("a record has at most one of 'image', 'images' and 'video', not "
                        f'{_names(media)}')
  for key, verb in (('subtitles', 'belong'), ('clip', 'belongs')):
    if key in record and 'video' not in record:
      raise ManifestError(f"'{key}' {verb} to a video; add 'video' or remove it")
  facts = fact_fields(record, folder)
  conversations = () if 'facts' in record else _conversations(record)
  answers = _strings(record.get('answers', []), 'answers')
  if not answers and len(conversations) == 1 and conversations[0][-1].role == 'assistant':
    answers = (conversations[0][-1].content,)   # the reply that is there is the accepted one
  optional: dict[str, Any] = dict(
    {key: _string for key in ('style', 'task', 'metric', 'id')}, options=_strings, points=_points,
    clip=_clip, subtitles=_subtitles, metadata=_object,
    video=lambda value, key: _resolve(_string(value, key), key, folder),
    weights=lambda value, key: _weights(value, key, len(conversations)))
  return Example(images=_images(record, folder), conversations=conversations, answers=answers,
                 styles=_styles(record, len(conversations)), source=source, **facts,
                 **{key: read(record[key], key) for key, read in optional.items() if key in record})


def _conversations(record: Mapping[str, Any]) -> tuple[tuple[Message, ...], ...]:
  present = [key for key in TEXT_KEYS if key in record]
  if len(present) != 1:
    raise ManifestError("a record needs exactly one of 'messages', 'conversations' and 'question', "
                        f'not {_names(present) if present else "none of them"}')
  if 'answer' in record and 'question' not in record:
    raise ManifestError(f"'answer' goes with 'question'; put the reply into '{present[0]}' (or the "
                        "accepted answers of an evaluation into 'answers')")
  if 'question' in record:
    turns = zip(ROLES, ('question', 'answer'))
    return (tuple(Message(role, _string(record[key], key)) for role, key in turns
                  if key in record),)
  if 'messages' in record:
    return (_messages(record['messages'], 'messages'),)
  trees = _list(record['conversations'], 'conversations', 'of conversations')
  if not trees:
    raise ManifestError("'conversations' is empty; it needs at least one list of messages")
  return tuple(_messages(tree, f'conversations[{i}]') for i, tree in enumerate(trees))


def _messages(value: Any, where: str) -> tuple[Message, ...]:
  items = _list(value, where, 'of messages {"role": …, "content": …}')
  if not items:
    raise ManifestError(f"'{where}' is empty; it needs at least one user message")
  messages = []
  for i, item in enumerate(items):
    here, role = f'{where}[{i}]', ROLES[i % 2]
    _check_keys(item, ('role', 'content'), here)
    if item['role'] != role:
      raise ManifestError(f"'{here}' has role {item['role']!r} but must be '{role}': user and "
                          'assistant take turns and the user begins')
    messages.append(Message(role, _string(item['content'], f'{here}.content')))
  return tuple(messages)


def _images(record: Mapping[str, Any], folder: Path | None) -> tuple[str, ...]:
  if 'image' in record:
    return (_resolve(_string(record['image'], 'image'), 'image', folder),)
  if 'images' not in record:
    return ()
  paths = _strings(record['images'], 'images')
  if not paths:
    raise ManifestError("'images' is empty; name at least one image, or remove the key for a "
                        'text-only record')
  return tuple(_resolve(path, f'images[{i}]', folder) for i, path in enumerate(paths))


def _resolve(path: str, where: str, folder: Path | None) -> str:
  if not path:
    raise ManifestError(f"'{where}' is an empty path; name a file")
  return str(folder / path) if folder else path   # an absolute path stays as it is


def _subtitles(value: Any, where: str) -> str | tuple[Subtitle, ...]:
  if isinstance(value, str):
    return value
  if not isinstance(value, list):
    raise ManifestError(f'\'{where}\' must be a string or a list of {{"start": seconds, "end": '
                        f'seconds, "text": …}}, not {_kind(value)}')
  lines = []
  for i, item in enumerate(value):
    here = f'{where}[{i}]'
    _check_keys(item, ('start', 'end', 'text'), here)
    start, end = (_number(item[key], f'{here}.{key}') for key in ('start', 'end'))
    if not 0 <= start <= end:
      raise ManifestError(f"'{here}' lasts from {start} s to {end} s; times must satisfy "
                          '0 <= start <= end')
    lines.append(Subtitle(start, end, _string(item['text'], f'{here}.text')))
  return tuple(lines)


def _styles(record: Mapping[str, Any], count: int) -> tuple[str, ...]:
  styles = _strings(record.get('styles', []), 'styles')
  if 'styles' in record and ('style' in record or len(styles) != count):
    raise ManifestError(f"'styles' has {len(styles)} values for {count} conversations; give one "
                        "per conversation, and no 'style'")
  return styles


def _clip(value: Any, where: str) -> tuple[float, float]:
  items = _list(value, where, 'of two numbers, start and end in seconds')
  clip = tuple(_number(v, where) for v in items)
  if len(clip) != 2 or not 0 <= clip[0] < clip[1]:
    raise ManifestError(f"'{where}' is {_shown(value)}; it must be [start, end] in seconds with "
                        '0 <= start < end')
  return clip


def _weights(value: Any, where: str, count: int) -> tuple[float | Mapping[str, Any] | None, ...]:
  items = _list(value, where, 'of numbers, one per conversation')
  if len(items) != count:
    raise ManifestError(f"'{where}' has {len(items)} values for {count} "
                        f"conversation{'s' if count != 1 else ''}; give one per conversation")
  for i, weight in enumerate(items):
    if weight is not None and (problem := weight_problem(weight)):
      raise ManifestError(f"'{where}[{i}]' is {_shown(weight)}: {problem}")
  return tuple(float(w) if isinstance(w, int) else w for w in items)


def _points(value: Any, where: str) -> tuple[tuple[float, float], ...]:
  points = []
  for i, item in enumerate(_list(value, where, 'of [x, y] pairs')):
    here = f'{where}[{i}]'
    if not isinstance(item, list) or len(item) != 2:
      raise ManifestError(f"'{here}' must be a pair [x, y], not {_shown(item)}")
    x, y = (_number(v, here) for v in item)
    if not (0 <= x <= 1 and 0 <= y <= 1):
      raise ManifestError(f"'{here}' is {item}; x and y are fractions between 0 and 1: divide "
                          'pixels by the width and the height')
    points.append((x, y))
  return tuple(points)


def _check_keys(value: Any, keys: tuple[str, ...], where: str) -> None:
  if not isinstance(value, Mapping):
    raise ManifestError(f"'{where}' must be an object with {_names(keys)}, not {_kind(value)}")
  if set(value) != set(keys):
    raise ManifestError(f"'{where}' must have exactly the keys {_names(keys)}; it has "
                        f'{_names(value) or "none"}')


def _object(value: Any, where: str) -> Mapping[str, Any]:
  if not isinstance(value, Mapping):
    raise ManifestError(f"'{where}' must be an object, not {_kind(value)}")
  return value


def _string(value: Any, where: str) -> str:
  if not isinstance(value, str):
    raise ManifestError(f"'{where}' must be a string, not {_kind(value)}")
  return value


def _strings(value: Any, where: str) -> tuple[str, ...]:
  items = _list(value, where, 'of strings')
  return tuple(_string(item, f'{where}[{i}]') for i, item in enumerate(items))


def _list(value: Any, where: str, what: str) -> list:
  if not isinstance(value, list):
    raise ManifestError(f"'{where}' must be a list {what}, not {_kind(value)}")
  return value


def _number(value: Any, where: str) -> float:
  if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
    raise ManifestError(f"'{where}' must be a finite number, not {_shown(value)}")
  return float(value)


def _kind(value: Any) -> str:
  return f'{KINDS.get(type(value), type(value).__name__)} ({_shown(value)})'


def _shown(value: Any) -> str:
  return json.dumps(value, ensure_ascii=False, default=repr)[:60]


def _names(keys: Any) -> str:
  return ' and '.join(f"'{key}'" for key in keys)
