"""The JSONL manifest that users write, read line by line into `Example`. Schema with examples:
docs/data.md.
"""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from molmo_jax.errors import MolmoError
from molmo_jax.preprocess.types import Example, Message, Subtitle

MEDIA_KEYS = ('image', 'images', 'video')
TEXT_KEYS = ('messages', 'conversations', 'question')
KEYS = MEDIA_KEYS + TEXT_KEYS + ('answer', 'subtitles', 'clip', 'weights', 'style', 'styles',
                                 'task', 'metric',
                                 'answers', 'options', 'points', 'metadata', 'id')
ROLES = ('user', 'assistant')


class ManifestError(MolmoError):
  """A manifest, or one line of it, that cannot be used; the message says where and what would be
  right.
  """


class Manifest:
  """Random access to the records of a JSONL file; blank lines are skipped.

  Only the places of the lines are kept in memory. The file is opened at the first access and not
  pickled, and lines are read with `pread`, so one instance may be shared by threads and sent to
  worker processes.
  """

  def __init__(self, path: Path, starts: np.ndarray, lengths: np.ndarray, numbers: np.ndarray):
    """Keeps `starts` and `lengths` int64 [n] in bytes, and `numbers` int64 [n], the lines' numbers
    from 1.
    """
    self.path = path
    self._starts, self._lengths, self._numbers = starts, lengths, numbers
    self._file: BinaryIO | None = None

  def __len__(self) -> int:
    return len(self._starts)

  def __getitem__(self, index: int) -> Example:
    """Parses one record.

    Raises:
      IndexError: there is no such record.
      ManifestError: the line is not a valid record.
    """
    if not -len(self) <= index < len(self):
      raise IndexError(f'{self.path} has {len(self)} records; there is no record {index}')
    source = f'{self.path}:{self._numbers[index]}'
    try:
      record = json.loads(self._read(index))
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
      raise ManifestError(f'{source}: the line is not valid JSON in UTF-8 ({error}); '
                          'write one JSON object per line') from None
    return parse_record(record, source, self.path.parent)

  def _read(self, index: int) -> str:
    file = self._file
    if file is None:
      file = self._file = open(self.path, 'rb')
    data = os.pread(file.fileno(), int(self._lengths[index]), int(self._starts[index]))
    return data.decode('utf-8-sig')

  def __getstate__(self) -> dict[str, Any]:
    return self.__dict__ | {'_file': None}

  def __repr__(self) -> str:
    return f'Manifest({str(self.path)!r}, {len(self)} records)'


def read_manifest(path: str | os.PathLike) -> Manifest:
  """Indexes the lines of a JSONL manifest; no line is parsed before it is accessed.

  Raises:
    ManifestError: the file cannot be read, or it holds no record.
  """
  path = Path(path)
  starts, lengths, numbers = [], [], []
  offset = 0
  try:
    with open(path, 'rb') as file:
      for number, line in enumerate(file, start=1):
        if line.strip():
          starts.append(offset)
          lengths.append(len(line))
          numbers.append(number)
        offset += len(line)
  except OSError as error:
    raise ManifestError(f'{path}: cannot read the manifest ({error.strerror}); '
                        'give the path of a .jsonl file with one record per line') from None
  if not starts:
    raise ManifestError(f'{path}: the manifest is empty; write one JSON object per line '
      '(docs/data.md)')
  return Manifest(path, np.array(starts, np.int64), np.array(lengths, np.int64),
                  np.array(numbers, np.int64))


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
  if not isinstance(record, Mapping):
    _fail(source, f'a record is a JSON object {{"key": value, …}}, not {_kind(record)}')
  for key in record:
    if key not in KEYS:
      close = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.0)[0]
      _fail(source, f"unknown key '{key}'; did you mean '{close}'? Known keys: {', '.join(KEYS)}")
  media = [key for key in MEDIA_KEYS if key in record]
  if len(media) > 1:
    _fail(source, f"a record has at most one of 'image', 'images' and 'video', not {_names(media)}")
  for key in ('subtitles', 'clip'):
    if key in record and 'video' not in record:
      _fail(source,
            f"'{key}' belong{'s' if key == 'clip' else ''} to a video; add 'video' or remove it")
  if 'clip' in record and isinstance(record.get('subtitles'), list):
    _fail(source, "'subtitles' with times cannot be combined with 'clip': times are those of the "
          "whole video")
  conversations = _conversations(record, source)
  fields = {key: _string(record[key], key, source) for key in ('style', 'task', 'metric', 'id')
            if key in record}
  answers = _strings(record.get('answers', []), 'answers', source)
  if not answers and len(conversations) == 1 and conversations[0][-1].role == 'assistant':
    answers = (conversations[0][-1].content,)   # the reply that is there is the accepted one
  return Example(
      images=_images(record, source, folder),
      video=_resolve(_string(record['video'], 'video', source), 'video', source, folder)
      if 'video' in record else None,
      clip=_clip(record['clip'], source) if 'clip' in record else None,
      subtitles=_subtitles(record['subtitles'], source) if 'subtitles' in record else None,
      conversations=conversations,
      weights=_weights(record['weights'], len(conversations), source) if 'weights' in record
      else None,
      styles=_styles(record, len(conversations), source),
      answers=answers,
      options=_strings(record.get('options', []), 'options', source),
      points=_points(record.get('points', []), source),
      metadata=_object(record.get('metadata', {}), 'metadata', source),
      source=source,
      **fields)


def _conversations(record: Mapping[str, Any], source: str) -> tuple[tuple[Message, ...], ...]:
  present = [key for key in TEXT_KEYS if key in record]
  if len(present) != 1:
    _fail(source, "a record needs exactly one of 'messages', 'conversations' and 'question', "
                  f'not {_names(present) if present else "none of them"}')
  if 'answer' in record and 'question' not in record:
    _fail(source, f"'answer' goes with 'question'; put the reply into '{present[0]}' "
                  "(or the accepted answers of an evaluation into 'answers')")
  if 'question' in record:
    messages = [Message('user', _string(record['question'], 'question', source))]
    if 'answer' in record:
      messages.append(Message('assistant', _string(record['answer'], 'answer', source)))
    return (tuple(messages),)
  if 'messages' in record:
    return (_messages(record['messages'], 'messages', source),)
  trees = _list(record['conversations'], 'conversations', source, 'of conversations')
  if not trees:
    _fail(source, "'conversations' is empty; it needs at least one list of messages")
  return tuple(_messages(tree, f'conversations[{i}]', source) for i, tree in enumerate(trees))


def _messages(value: Any, where: str, source: str) -> tuple[Message, ...]:
  items = _list(value, where, source, 'of messages {"role": …, "content": …}')
  if not items:
    _fail(source, f"'{where}' is empty; it needs at least one user message")
  messages = []
  for i, item in enumerate(items):
    here = f'{where}[{i}]'
    _keys(item, ('role', 'content'), here, source)
    role = ROLES[i % 2]
    if item['role'] != role:
      _fail(source, f"'{here}' has role {item['role']!r} but must be '{role}': "
                    'user and assistant take turns and the user begins')
    messages.append(Message(role, _string(item['content'], f'{here}.content', source)))
  return tuple(messages)


def _images(record: Mapping[str, Any], source: str,
            folder: str | os.PathLike | None) -> tuple[str, ...]:
  if 'image' in record:
    return (_resolve(_string(record['image'], 'image', source), 'image', source, folder),)
  if 'images' not in record:
    return ()
  paths = _strings(record['images'], 'images', source)
  if not paths:
    _fail(source,
          "'images' is empty; name at least one image, or remove the key for a text-only record")
  return tuple(_resolve(path, f'images[{i}]', source, folder) for i, path in enumerate(paths))


def _resolve(path: str, where: str, source: str, folder: str | os.PathLike | None) -> str:
  if not path:
    _fail(source, f"'{where}' is an empty path; name a file")
  if folder is None:
    return path
  return str(Path(folder) / path)  # an absolute path stays as it is


def _subtitles(value: Any, source: str) -> str | tuple[Subtitle, ...]:
  if isinstance(value, str):
    return value
  if not isinstance(value, list):
    _fail(source, f'\'subtitles\' must be a string or a list of {{"start": seconds, "end": '
          f'seconds, "text": …}}, not {_kind(value)}')
  lines = []
  for i, item in enumerate(value):
    here = f'subtitles[{i}]'
    _keys(item, ('start', 'end', 'text'), here, source)
    start, end = (_number(item[key], f'{here}.{key}', source) for key in ('start', 'end'))
    if not 0 <= start <= end:
      _fail(source,
            f"'{here}' lasts from {start} s to {end} s; times must satisfy 0 <= start <= end")
    lines.append(Subtitle(start, end, _string(item['text'], f'{here}.text', source)))
  return tuple(lines)


def _styles(record: Mapping[str, Any], count: int, source: str) -> tuple[str, ...]:
  styles = _strings(record.get('styles', []), 'styles', source)
  if 'styles' in record and ('style' in record or len(styles) != count):
    _fail(source, f"'styles' has {len(styles)} values for {count} conversations; give one per "
          "conversation, and no 'style'")
  return styles


def _clip(value: Any, source: str) -> tuple[float, float]:
  items = _list(value, 'clip', source, 'of two numbers, start and end in seconds')
  clip = tuple(_number(v, 'clip', source) for v in items)
  if len(clip) != 2 or not 0 <= clip[0] < clip[1]:
    _fail(source,
          f"'clip' is {_shown(value)}; it must be [start, end] in seconds with 0 <= start < end")
  return clip


def _weights(value: Any, count: int, source: str) -> tuple[float | None, ...]:
  items = _list(value, 'weights', source, 'of numbers, one per conversation')
  if len(items) != count:
    _fail(source, f"'weights' has {len(items)} values for {count} "
          f"conversation{'s' if count != 1 else ''}; give one per conversation")
  weights = tuple(None if w is None else _number(w, f'weights[{i}]', source)
                  for i, w in enumerate(items))
  if any(w is not None and w < 0 for w in weights):
    _fail(source, f"'weights' must not be negative: {items}")
  return weights


def _points(value: Any, source: str) -> tuple[tuple[float, float], ...]:
  points = []
  for i, item in enumerate(_list(value, 'points', source, 'of [x, y] pairs')):
    if not isinstance(item, list) or len(item) != 2:
      _fail(source, f"'points[{i}]' must be a pair [x, y], not {_shown(item)}")
    point = tuple(_number(v, f'points[{i}]', source) for v in item)
    if not all(0 <= v <= 1 for v in point):
      _fail(source, f"'points[{i}]' is {item}; x and y are fractions between 0 and 1: "
                    'divide pixels by the width and the height')
    points.append(point)
  return tuple(points)


def _keys(value: Any, keys: tuple[str, ...], where: str, source: str) -> None:
  if not isinstance(value, Mapping):
    _fail(source, f"'{where}' must be an object with {_names(keys)}, not {_kind(value)}")
  if set(value) != set(keys):
    _fail(source,
          f"'{where}' must have exactly the keys {_names(keys)}; it has {_names(value) or 'none'}")


def _object(value: Any, where: str, source: str) -> Mapping[str, Any]:
  if not isinstance(value, Mapping):
    _fail(source, f"'{where}' must be an object, not {_kind(value)}")
  return value


def _string(value: Any, where: str, source: str) -> str:
  if not isinstance(value, str):
    _fail(source, f"'{where}' must be a string, not {_kind(value)}")
  return value


def _strings(value: Any, where: str, source: str) -> tuple[str, ...]:
  return tuple(_string(item, f'{where}[{i}]', source)
               for i, item in enumerate(_list(value, where, source, 'of strings')))


def _list(value: Any, where: str, source: str, what: str) -> list:
  if not isinstance(value, list):
    _fail(source, f"'{where}' must be a list {what}, not {_kind(value)}")
  return value


def _number(value: Any, where: str, source: str) -> float:
  if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
    _fail(source, f"'{where}' must be a finite number, not {_shown(value)}")
  return float(value)


def _kind(value: Any) -> str:
  kinds = {dict: 'an object', list: 'a list', str: 'a string', bool: 'a boolean', int: 'a number',
           float: 'a number',
           type(None): 'null'}
  return f'{kinds.get(type(value), type(value).__name__)} ({_shown(value)})'


def _shown(value: Any) -> str:
  return json.dumps(value, ensure_ascii=False, default=repr)[:60]


def _names(keys: Any) -> str:
  return ' and '.join(f"'{key}'" for key in keys)


def _fail(source: str, message: str) -> NoReturn:
  raise ManifestError(f'{source}: {message}')
