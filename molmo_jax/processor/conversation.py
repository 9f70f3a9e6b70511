"""Messages in Hugging Face's chat format → media, and messages that a chat template can read
(docs/model.md §8.1).
"""

from __future__ import annotations

import dataclasses
import os
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from molmo_jax.preprocess.types import EncodingError, MediaError, Subtitle

Message = Mapping[str, Any]

_SOURCES = {'image': ('image', 'image_url', 'url', 'path'),
            'video': ('video', 'video_url', 'url', 'path')}
_KINDS = {'text': 'text', 'image': 'image', 'image_url': 'image', 'video': 'video',
          'video_url': 'video'}


@dataclasses.dataclass(frozen=True)
class Conversation:
  """A conversation taken apart: its media in the order of the messages, and messages of plain data.
  """
  # for the template: text parts as they are, media parts without media
  messages: tuple[dict[str, Any], ...]
  images: tuple[Any, ...] = ()                # path | bytes | PIL.Image | uint8 array
  video: Any = None                           # path | uint8 [T,h,w,3]
  fps: float | None = None                    # frames per second of an array
  # lines with times; subtitles without are in `messages`
  subtitles: tuple[Subtitle, ...] | None = None

  @property
  def is_continued(self) -> bool:
    """Whether the last message is an answer that the model goes on with."""
    return self.messages[-1]['role'].lower() == 'assistant'


def read_conversation(messages: Sequence[Message],
                      check_text: Callable[[str], None]) -> Conversation:
  """Checks a conversation and takes its media out.

  Args:
    messages: dicts with `role` (user, assistant, and at the very beginning subtitle) and `content`:
      a string, or a list of parts `{'type': 'text', 'text': …}`, `{'type': 'image', 'image': …}`
      and `{'type': 'video', 'video': …, 'fps': …}`. The content of subtitles is a text, or a list
      of `{'start': …, 'end': …, 'text': …}` in seconds.
    check_text: raises EncodingError for a text that contains reserved tokens.

  Raises:
    EncodingError: messages of another form, without a user, with reserved tokens in their text, or
      with images and a video; the message names the place.
  """
  if not messages:
    raise EncodingError('the conversation has no messages')
  images, videos, plain = [], [], []
  subtitles = None
  for index, message in enumerate(messages):
    role, content = _fields(message, index)
    if role == 'subtitle':
      if index:
        raise EncodingError(f'message {index} holds subtitles; they can only be the first message')
      subtitles, content = _subtitles(content, check_text)
      if subtitles is not None:               # they become tokens of the video
        continue
    elif not isinstance(content, str):
      content = [_part(part, f'part {k} of message {index}', role, images, videos, check_text)
                 for k, part in enumerate(content)]
    else:
      _checked(content, f'message {index}', check_text)
    plain.append({**{key: value for key, value in message.items() if isinstance(value, str)},
                  'content': content})
  if not any(message['role'].lower() == 'user' for message in plain):
    raise EncodingError('the conversation has no user message')
  if len(videos) > 1:
    raise EncodingError(f'the conversation has {len(videos)} videos; the model takes one')
  if images and videos:
    raise EncodingError(f'the conversation has {len(images)} image(s) and a video; the model takes '
      'one or the other')
  if subtitles is not None and not videos:
    raise EncodingError('the conversation has subtitles with times but no video')
  video, fps = videos[0] if videos else (None, None)
  return Conversation(tuple(plain), tuple(images), video, fps, subtitles)


def local_path(source: str | os.PathLike[str]) -> Path:
  """The path of a file that is given as a path or as a `file://` URL.

  Raises:
    MediaError: a URL of another kind; nothing is fetched from a network.
  """
  text = os.fspath(source)
  if text.startswith('file://'):
    return Path(urllib.request.url2pathname(urllib.parse.urlsplit(text).path))
  scheme = text.partition(':')[0]
  if '://' in text or scheme == 'data':
    raise MediaError(f'{text[:80]}: {scheme} is not supported; save the file and pass its path')
  return Path(text)


def _fields(message: Any, index: int) -> tuple[str, Any]:
  if not isinstance(message, Mapping) or not isinstance(message.get('role'),
                                                        str) or 'content' not in message:
    raise EncodingError(f"message {index} must be a dict with 'role' and 'content', not "
      f"{_shown(message)}")
  role, content = message['role'].lower(), message['content']
  if role not in ('user', 'assistant', 'subtitle'):
    raise EncodingError(f"message {index} has the role {message['role']!r}; it must be 'user' or "
      "'assistant', or 'subtitle' at the beginning")
  if not isinstance(content, (str, list, tuple)):
    raise EncodingError(f'the content of message {index} must be a string or a list of parts, not '
      f'{_shown(content)}')
  return role, content


def _part(part: Any, where: str, role: str, images: list, videos: list,
          check_text: Callable[[str], None]) -> dict:
  if not isinstance(part, Mapping):
    raise EncodingError(f"{where} must be a dict with 'type', not {_shown(part)}")
  named = part.get('type') or next((key for key in _KINDS if key in part), None)
  kind = _KINDS.get(named)
  if kind is None:
    raise EncodingError(f"{where} has the type {named!r}; it must be 'text', 'image' or 'video'")
  if kind == 'text':
    if not isinstance(part.get('text'), str):
      raise EncodingError(f"{where} is text, but its 'text' is {_shown(part.get('text'))}")
    _checked(part['text'], where, check_text)
    if isinstance(part.get('style'), str):
      _checked(part['style'], where, check_text)
    return {**{key: value for key, value in part.items() if isinstance(value, str)}, 'type': 'text'}
  source = next((part[key] for key in _SOURCES[kind] if part.get(key) is not None), None)
  if isinstance(source, Mapping):             # {'image_url': {'url': …}}
    source = source.get('url')
  if source is None:
    raise EncodingError(f'{where} is {"an image" if kind == "image" else "a video"} without one; '
      f'give it as {kind!r}')
  if kind == 'image':
    images.append(source)
  else:
    fps = part.get('fps')
    if fps is not None and not (isinstance(fps, (int, float, np.number)) and fps > 0):
      raise EncodingError(f"{where} has 'fps' {_shown(fps)}; it must be a positive number")
    videos.append((source, fps))
  return {'type': kind}


def _subtitles(content: Any,
               check_text: Callable[[str], None]) -> tuple[tuple[Subtitle, ...] | None, str]:
  """Lines with times, or the text."""
  if isinstance(content, str):
    _checked(content, 'message 0', check_text)
    return None, content
  if all(isinstance(part, Mapping) and part.get('type') == 'text'
         and isinstance(part.get('text'), str)
         for part in content):
    text = ' '.join(part['text'] for part in content)
    _checked(text, 'message 0', check_text)
    return None, text
  lines = []
  for number, line in enumerate(content):
    times = [line.get(key) for key in ('start', 'end')] if isinstance(line, Mapping) else [None]
    if not (all(isinstance(t, (int, float, np.number)) for t in times) and 0 <= times[0] <= times[1]
            and isinstance(line.get('text'), str)):
      raise EncodingError(f"line {number} of the subtitles must be a dict with 'start' and 'end' "
        f"in seconds, 0 <= start <= end, and 'text', not {_shown(line)}")
    _checked(line['text'], f'line {number} of the subtitles', check_text)
    lines.append(Subtitle(float(times[0]), float(times[1]), line['text']))
  return tuple(lines), ''


def _checked(text: str, where: str, check_text: Callable[[str], None]) -> None:
  try:
    check_text(text)
  except EncodingError as error:
    raise EncodingError(f'{where}: {error}') from error


def _shown(value: Any) -> str:
  plain = value is None or isinstance(value, (str, int, float, dict, list, tuple))
  return repr(value)[:60] if plain else type(value).__name__
