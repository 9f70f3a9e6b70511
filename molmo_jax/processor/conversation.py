"""Messages in Hugging Face's chat format → media, and messages that a chat template can read
(docs/model.md §8.1).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from molmo_jax.preprocess.types import EncodingError, MediaError, Subtitle

Message = Mapping[str, Any]

# the kind of part that a type, or a key of a part without one, means
_KINDS = {'text': 'text', 'image': 'image', 'image_url': 'image', 'video': 'video',
          'video_url': 'video'}
_NUMBER = (int, float, np.number)


@dataclasses.dataclass(frozen=True)
class Chat:
  """A conversation taken apart: its media in the order of the messages, and messages of plain data.

  Attributes:
    messages: for the template: text parts as they are, media parts without media.
    images: path, `file://` URL, bytes, Pillow image or uint8 array [h,w,3] each.
    video: path, `file://` URL or uint8 array [T,h,w,3].
    fps: frames per second of an array.
    subtitles: lines with times, in seconds; subtitles without times are in `messages`.
  """
  messages: tuple[dict[str, Any], ...] = ()
  images: Sequence[Any] = ()
  video: Any = None
  fps: float | None = None
  subtitles: tuple[Subtitle, ...] | None = None

  @property
  def is_continued(self) -> bool:
    """Whether the last message is an answer that the model continues."""
    return self.messages[-1]['role'].lower() == 'assistant'


@contextlib.contextmanager
def located(where: str) -> Iterator[None]:
  """Puts `where` before the message of an EncodingError that is raised inside."""
  try:
    yield
  except EncodingError as error:
    raise EncodingError(f'{where}: {error}') from error


def read_conversation(messages: Sequence[Message], check_text: Callable[[str], None]) -> Chat:
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
  images, videos, subtitles = [], [], None
  plain: list[dict[str, Any]] = []
  for index, message in enumerate(messages):
    with located(f'message {index}'):
      role, content = _fields(message)
      if role == 'subtitle' and index:
        raise EncodingError('subtitles can only be the first message')
      if role == 'subtitle' and not isinstance(content, str):
        if not all(isinstance(part, Mapping) and part.get('type') == 'text' for part in content):
          subtitles = tuple(_subtitle(*line, check_text) for line in enumerate(content))
          continue                            # they become tokens of the video
        content = ' '.join(str(part.get('text')) for part in content)
      if isinstance(content, str):
        check_text(content)
      else:
        content = [_part(*part, images, videos, check_text) for part in enumerate(content)]
      plain.append({**_strings(message), 'content': content})
  faults = (
    (not any(message['role'].lower() == 'user' for message in plain), 'no user message'),
    (len(videos) > 1, f'{len(videos)} videos; the model takes one'),
    (images and videos, 'images and a video; the model takes one or the other'),
    (subtitles is not None and not videos, 'subtitles with times but no video'))
  for is_wrong, problem in faults:
    if is_wrong:
      raise EncodingError(f'the conversation has {problem}')
  video, fps = videos[0] if videos else (None, None)
  return Chat(tuple(plain), images, video, fps, subtitles)


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


def _fields(message: Any) -> tuple[str, Any]:
  if not isinstance(message, Mapping) or not {'role', 'content'} <= message.keys():
    raise EncodingError(f"it must be a dict with 'role' and 'content', not {_shown(message)}")
  role, content = str(message['role']).lower(), message['content']
  if role not in ('user', 'assistant', 'subtitle'):
    raise EncodingError(f"it has the role {message['role']!r}; it must be 'user' or 'assistant', "
                        "or 'subtitle' at the beginning")
  if not isinstance(content, (str, list, tuple)):
    raise EncodingError(f'its content must be a string or a list of parts, not {_shown(content)}')
  return role, content


def _part(number: int, part: Any, images: list, videos: list,
          check_text: Callable[[str], None]) -> dict:
  """A part of a message for the template; its media are added to `images` or `videos`."""
  with located(f'part {number}'):
    if not isinstance(part, Mapping):
      raise EncodingError(f"it must be a dict with 'type', not {_shown(part)}")
    named = part.get('type') or next((key for key in _KINDS if key in part), None)
    kind = _KINDS.get(str(named))
    if kind is None:
      raise EncodingError(f"it has the type {named!r}; it must be 'text', 'image' or 'video'")
    if kind == 'text':
      if not isinstance(part.get('text'), str):
        raise EncodingError(f"its 'text' is {_shown(part.get('text'))}; it must be a string")
      plain = _strings(part)
      check_text(plain['text'])
      check_text(plain.get('style', ''))
      return {**plain, 'type': 'text'}
    source = next((part[key] for key in (kind, f'{kind}_url', 'url', 'path')
                   if part.get(key) is not None), None)
    if isinstance(source, Mapping):           # {'image_url': {'url': …}}
      source = source.get('url')
    if source is None:
      raise EncodingError(f'it has no {kind}; give it as {kind!r}')
    fps = part.get('fps')
    if kind == 'image':
      images.append(source)
    elif fps is None or (isinstance(fps, _NUMBER) and fps > 0):
      videos.append((source, fps))
    else:
      raise EncodingError(f"its 'fps' is {_shown(fps)}; it must be a positive number")
    return {'type': kind}


def _subtitle(number: int, line: Any, check_text: Callable[[str], None]) -> Subtitle:
  with located(f'line {number} of the subtitles'):
    values = line if isinstance(line, Mapping) else {}
    start, end, text = (values.get(key) for key in ('start', 'end', 'text'))
    if not (isinstance(start, _NUMBER) and isinstance(end, _NUMBER) and 0 <= start <= end
            and isinstance(text, str)):
      raise EncodingError("it must be a dict with 'start' and 'end' in seconds, 0 <= start <= end, "
                          f"and 'text', not {_shown(line)}")
    check_text(text)
    return Subtitle(float(start), float(end), text)


def _strings(values: Mapping[str, Any]) -> dict[str, str]:
  """What of a message or a part is plain data."""
  return {key: value for key, value in values.items() if isinstance(value, str)}


def _shown(value: Any) -> str:
  plain = value is None or isinstance(value, (str, int, float, dict, list, tuple))
  return repr(value)[:60] if plain else type(value).__name__
