"""Adapters for tables with a question in one column and an answer in another: only the columns'
names differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from molmo_jax.data.adapters import prompts
from molmo_jax.data.adapters.adapter import (
  Adapter,
  Context,
  Conversation,
  Conversations,
  Row,
  Schema,
)
from molmo_jax.data.adapters.media import Media, image

Get = str | Callable[[Row], Any]


def get(row: Row, column: Get) -> Any:
  """A value by the name of its column, 'a.b' for nested ones, or by a function."""
  if callable(column):
    return column(row)
  value: Any = row
  for name in column.split('.'):
    value = value[name] if isinstance(value, Mapping) else None
  return value


def question(column: Get, answer: Get, style: str,
             weight: Callable[[Row], float] | None = None) -> Conversations:
  """An open question; of several answers the most frequent one is taught."""
  def conversations(row: Row, context: Context) -> Iterator[Conversation]:
    text = get(row, answer)
    if isinstance(text, Sequence) and not isinstance(text, str):
      text = prompts.usual_answer(context, [str(t) for t in text])
    if text is not None and str(text).strip():
      yield prompts.answer(str(get(row, column)), text, style, weight(row) if weight else None)
  return conversations


def choice(column: Get, options: Get, answer: Get, style: str) -> Conversations:
  """A question with options; `answer` gives the right one's number from 0, its letter or its text.
  """
  def conversations(row: Row, context: Context) -> Iterator[Conversation]:
    shown, right = [str(o) for o in get(row, options) or ()], get(row, answer)
    number = _number(shown, right)
    if number is not None and len(shown) > 1:
      yield prompts.choice(str(get(row, column)), shown, number, style)
  return conversations


def _number(options: list[str], right: Any) -> int | None:
  if isinstance(right, str) and right in options:
    return options.index(right)
  if isinstance(right, str) and len(right) == 1 and right.isupper():
    right = ord(right) - ord('A')
  try:
    number = int(right)
  except (TypeError, ValueError):
    return None
  return number if 0 <= number < len(options) else None


def label(wordings: Sequence[str], answer: Get, style: str) -> Conversations:
  """A fixed question, in one of several wordings, about a label or a caption."""
  def conversations(row: Row, context: Context) -> Iterator[Conversation]:
    text = get(row, answer)
    if text is not None and str(text).strip():
      yield prompts.answer(prompts.draw(context, wordings), text, style)
  return conversations


def both(*parts: Conversations) -> Conversations:
  """All conversations of a row."""
  def conversations(row: Row, context: Context) -> Iterator[Conversation]:
    for part in parts:
      yield from part(row, context)
  return conversations


def about_image(column: Get, folder: str = '') -> Callable[[Row], Media]:
  """The image that a column names (below `folder`) or holds."""
  def media(row: Row) -> Media:
    value = get(row, column)
    return Media(image(folder + str(value) if isinstance(value, (str, int)) else value))
  return media


def about_video(column: Get, start: Get | None = None,
                end: Get | None = None) -> Callable[[Row], Media]:
  """The video that a column names, or a part of it in seconds."""
  def media(row: Row) -> Media:
    clip = None if start is None or end is None else (float(get(row, start)), float(get(row, end)))
    return Media(video=str(get(row, column)),
                 clip=clip if clip and 0 <= clip[0] < clip[1] else None)
  return media


def columns(*names: str) -> Callable[[Row], list[Any]]:
  """Options that lie in columns of their own."""
  return lambda row: [row[name] for name in names if row.get(name) not in (None, '')]


def adapter(files: str | tuple[str, ...], media: Callable[[Row], Media],
            conversations: Conversations, schema: Schema,
            **fields: Any) -> Adapter:
  """An adapter that joins the questions about the same media, ten at most."""
  defaults = dict(grouped=True, most=10)
  return Adapter((files,) if isinstance(files, str) else files, media, conversations, schema,
                 **defaults | fields)
