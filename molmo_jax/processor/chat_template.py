"""A checkpoint's chat template: messages in Hugging Face's format → the prompt as text
(docs/model.md §8.1).

The template is a jinja2 program that came with the checkpoint, so it runs in a sandbox, set up as
`transformers` 5.23 sets it up. A checkpoint without one gets the released behaviour, written out in
`TEMPLATES['qwen3']`: all images first (numbered if there are several), the video, the subtitles,
and then ChatML turns, with one `<|im_end|>` between turns (training had two) and the stray blank of
the released template before every earlier answer.
"""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
import jinja2.sandbox

from molmo_jax.errors import CheckpointError
from molmo_jax.preprocess.chat import DEMO_STYLES, MULTIPLE_CHOICE_STYLES
from molmo_jax.preprocess.types import EncodingError, PreprocessConfig

_END = 'END_OF_THE_MESSAGE_TO_CONTINUE'
_UNTAGGED = sorted({*DEMO_STYLES, *MULTIPLE_CHOICE_STYLES})

_FOLDER = Path(__file__).parent / 'chat_templates'


def _template(message_format: str) -> str:
  """Media and subtitles, which all templates open with, and the turns of a format."""
  parts = [(_FOLDER / f'{part}.jinja').read_text() for part in ('opening', message_format)]
  return ''.join(parts).replace('UNTAGGED', repr(_UNTAGGED))


TEMPLATES = {name: _template(name) for name in ('qwen3', 'role', 'none')}   # by message_format


def default_template(config: PreprocessConfig) -> str:
  """The template of a model that came without one."""
  template = TEMPLATES[config.text.message_format]
  numbered = config.image.number_images and config.layout_format == 'released'
  return template if numbered else template.replace(' if media.images > 1', ' if false')


class _Generation(jinja2.ext.Extension):
  """`{% generation %}…{% endgeneration %}`, which marks answers for training: what is inside is
  written as it is.
  """
  tags = {'generation'}

  def parse(self, parser):
    next(parser.stream)
    return parser.parse_statements(('name:endgeneration',), drop_needle=True)


@functools.lru_cache(maxsize=16)
def compile_template(template: str) -> jinja2.Template:
  """The template as a program in a sandbox that cannot change what it is given.

  Raises:
    CheckpointError: it is not a jinja2 template.
  """
  environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols])
  environment.filters['tojson'] = _to_json
  environment.globals['raise_exception'] = _raise
  environment.globals['strftime_now'] = lambda form: datetime.datetime.now().strftime(form)
  try:
    return environment.from_string(template)
  except jinja2.TemplateError as error:
    raise CheckpointError(f'the chat template cannot be compiled: {error}') from error


def render(template: str, messages: Sequence[Mapping[str, Any]], *,
           add_generation_prompt: bool = True, continue_final_message: bool = False,
           **variables: Any) -> str:
  """The prompt that a template makes of a conversation.

  Args:
    template: a jinja2 template.
    messages: dicts with `role` and `content`, a string or a list of parts; plain data only, media
      left out.
    add_generation_prompt: open an answer at the end.
    continue_final_message: end with the last message's last text, which the model then continues.
    variables: what else the template may read, such as `bos_token`.

  Raises:
    EncodingError: the template rejects the messages, or does not write the message that is to be
      continued.
    CheckpointError: it is not a jinja2 template.
  """
  program = compile_template(template)
  if continue_final_message:
    messages = [*messages[:-1], _marked(messages[-1])]
  try:
    text = program.render(messages=messages, tools=None, documents=None,
                          add_generation_prompt=add_generation_prompt, **variables)
  except Exception as error:   # a template is a program of others, which may fail in any way
    raise EncodingError(f'the chat template rejects the messages: {error}') from error
  if not continue_final_message:
    return text
  end = text.rfind(_END)
  if end < 0:
    raise EncodingError('the chat template does not write the last message, the answer to continue')
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


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None,
             separators: tuple[str, str] | None = None, sort_keys: bool = False) -> str:
  return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                    sort_keys=sort_keys)


def _raise(message: str) -> None:
  raise jinja2.TemplateError(message)
