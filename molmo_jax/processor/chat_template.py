"""A checkpoint's chat template: messages in Hugging Face's format → the prompt as text
(docs/model.md §8.1).

The template is a jinja2 program that came with the checkpoint, so it runs in a sandbox, and, unless
it is one of ours, in a process of its own with limits (`processor.sandbox`). A checkpoint without
one gets the released behaviour, written out in `TEMPLATES['qwen3']`: all images first (numbered if
there are several), the video, the subtitles, and then ChatML turns, with one `<|im_end|>` between
turns (training had two) and the stray blank of the released template before every earlier answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from molmo_jax.errors import CheckpointError
from molmo_jax.preprocess.chat import DEMO_STYLES, MULTIPLE_CHOICE_STYLES
from molmo_jax.preprocess.types import EncodingError, PreprocessConfig
from molmo_jax.processor.sandbox import TemplateError, render_apart, render_here

_NUMBERED = ' if media.images > 1'            # the images
_END = 'END_OF_THE_MESSAGE_TO_CONTINUE'
_UNTAGGED = sorted({*DEMO_STYLES, *MULTIPLE_CHOICE_STYLES})

_FOLDER = Path(__file__).parent / 'chat_templates'


def _template(message_format: str) -> str:
  """Media and subtitles, which all templates open with, and the turns of a format."""
  parts = [(_FOLDER / f'{part}.jinja').read_text() for part in ('opening', message_format)]
  return ''.join(parts).replace('UNTAGGED', repr(_UNTAGGED))


TEMPLATES = {name: _template(name) for name in ('qwen3', 'role', 'none')}   # by message_format
_OWN = {own for text in TEMPLATES.values() for own in (text, text.replace(_NUMBERED, ' if false'))}


def default_template(config: PreprocessConfig) -> str:
  """The template of a model that came without one."""
  template = TEMPLATES[config.text.message_format]
  numbered = config.image.number_images and config.layout_format == 'released'
  return template if numbered else template.replace(_NUMBERED, ' if false')


def check_template(template: str, name: str) -> None:
  """Raises CheckpointError, which begins with `name`, if it is not a jinja2 template."""
  try:
    _run(template, None)
  except TemplateError as error:
    raise CheckpointError(f'{name} cannot be compiled: {error}') from error


def _run(template: str, variables: Mapping[str, Any] | None) -> str:
  """What a template writes: ours in this process, those of others apart, within limits."""
  return (render_here if template in _OWN else render_apart)(template, variables)


def render(template: str, messages: Sequence[Mapping[str, Any]], *,
           add_generation_prompt: bool = True, continue_final_message: bool = False,
           name: str = 'the chat template', **variables: Any) -> str:
  """The prompt that a template makes of a conversation.

  Args:
    template: a jinja2 template.
    messages: dicts with `role` and `content`, a string or a list of parts; plain data only, media
      left out.
    add_generation_prompt: open an answer at the end.
    continue_final_message: end with the last message's last text, which the model then continues.
    name: of the template, for errors.
    variables: what else the template may read, such as `bos_token`: plain data.

  Raises:
    EncodingError: the template rejects the messages, exceeds a limit (`processor.sandbox`), or does
      not write the message that is to be continued.
  """
  if continue_final_message:
    messages = [*messages[:-1], _marked(messages[-1])]
  try:
    text = _run(template, dict(variables, messages=list(messages), tools=None, documents=None,
                               add_generation_prompt=add_generation_prompt))
  except TemplateError as error:
    raise EncodingError(f'{name} rejects the messages: {error}') from error
  if not continue_final_message:
    return text
  end = text.rfind(_END)
  if end < 0:
    raise EncodingError(f'{name} does not write the last message, the answer to continue')
  # A template that strips the text also strips the blanks before the mark, as transformers does.
  return text[:end] if text[end:].startswith(_END + ' ') else text[:end].rstrip()


def _marked(message: Mapping[str, Any]) -> dict[str, Any]:
  """`message` with a mark (and a blank, to see whether the template strips it) after its last text.
  """
  content = message['content']
  if isinstance(content, str):
    return {**message, 'content': f'{content}{_END} '}
  parts = [dict(part) for part in content]
  last = next((part for part in reversed(parts) if part.get('type') == 'text'), None)
  if last is None:
    raise EncodingError('the last message is an answer without text; there is nothing to continue')
  last['text'] = f'{last["text"]}{_END} '
  return {**message, 'content': parts}
