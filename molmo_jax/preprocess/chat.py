"""Conversations as text (docs/training.md §3.2, §4.1; docs/model.md §8).

A conversation becomes one string per message. User strings carry every role marker, so an answer is
tokenised alone and generation starts right after the last user string. The end-of-sequence token of
an answer is added later, as an id.
"""

from __future__ import annotations

import functools
import itertools
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from molmo_jax.preprocess.types import choice

_STYLES = tomllib.loads(Path(__file__).with_name('styles.toml').read_text(encoding='utf-8'))
DEMO_STYLES, MULTIPLE_CHOICE_STYLES = _STYLES['demo'], _STYLES['multiple_choice']

# the length that is asked for where there is no reference answer
INFERENCE_LENGTH = 65


def add_style_prefix(prompt: str, style: str | None, mode: str, *, answer: str | None = None,
                     rng: np.random.Generator | None = None) -> str:
  """`prompt` with the tag that announces its style, e.g. 'vqa2: What is this?'.

  Args:
    prompt: the user's words.
    style: the style of the conversation; None gives no tag.
    mode: 'none'; 'style' a tag always; 'demo_or_style_v2' (fine-tuning) none for conversational and
      multiple-choice styles; 'style_and_length_v2' (pre-training) a tag with the length of the
      answer in units of 15 characters, noisy (σ 25 characters) and in one of ten draws left out.
      Molmo v1: 'demo_or_style' tags conversational styles in one of ten draws and multiple-choice
      ones always; 'style_and_length' leaves a blank where the length is left out.
    answer: the reference answer whose length is announced; None (inference) announces 65.
    rng: source of the noise; without it the length is exact and always given.

  Raises:
    ValueError: an unknown mode.
  """
  announce = choice(mode, STYLE_PREFIXES, 'style prefix')
  if style is None:
    return prompt
  name = (style.removeprefix('eval_') if style.startswith('eval_multi_image_')
          else _STYLES['evaluation'].get(style, style))
  return ' '.join(part for part in (announce(name, answer, rng), prompt) if part)


def _tag(name: str, answer: str | None, rng: np.random.Generator | None) -> str:
  return f'{name}:'


def _tag_unless_demo(name: str, answer: str | None, rng: np.random.Generator | None) -> str:
  return '' if name in DEMO_STYLES or name in MULTIPLE_CHOICE_STYLES else f'{name}:'


def _tag_unless_v1_demo(name: str, answer: str | None, rng: np.random.Generator | None) -> str:
  untagged = name in _STYLES['v1_untagged'] or (
    name in _STYLES['v1_demo'] and (rng is None or rng.random() >= 0.1))
  return '' if untagged else f'{name}:'


def _tag_and_length(name: str, answer: str | None, rng: np.random.Generator | None,
                    before_colon: str = '') -> str:
  if name in _STYLES['pointing']:
    return f'{name}:'
  if answer is None:
    return f'{name} {INFERENCE_LENGTH}:'
  if rng is None:
    return f'{name} {len(answer) // 15}:'
  length = (len(answer) + int(rng.normal(0, 25))) // 15
  return f'{name}{before_colon}:' if rng.random() < 0.1 else f'{name} {length}:'


STYLE_PREFIXES: dict[str, Callable[[str, str | None, np.random.Generator | None], str]] = {
  'none': lambda name, answer, rng: '',
  'style': _tag,
  'demo_or_style': _tag_unless_v1_demo,
  'demo_or_style_v2': _tag_unless_demo,
  'style_and_length': functools.partial(_tag_and_length, before_colon=' '),
  'style_and_length_v2': _tag_and_length,
}


def format_messages(contents: Sequence[str], message_format: str) -> list[str]:
  """One string per message; messages alternate, user first.

  Args:
    contents: the words of the messages.
    message_format: 'qwen3' (Molmo2): ChatML markers, no system turn; a later user turn is preceded
      by `<|im_end|>` and a new line, so that with the end-of-sequence token of the answer there are
      two `<|im_end|>` between turns, as in training. 'role' (Molmo v1): ' User: … Assistant:' and '
      answer'. 'none' (Molmo v1 captioner): a leading blank.

  Returns:
    The strings. With an odd number of contents the last one is the prompt that generation
    continues.

  Raises:
    ValueError: an unknown format.
  """
  later, user, assistant = choice(message_format, MESSAGE_FORMATS, 'message format')
  turns = itertools.chain([user], itertools.cycle([assistant, later + user]))
  return [turn.format(content) for turn, content in zip(turns, contents, strict=False)]


# what precedes a later user turn, a user turn, an answer
MESSAGE_FORMATS = {
  'qwen3': ('<|im_end|>\n', '<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n', '{}'),
  'role': ('', ' User: {} Assistant:', ' {}'),
  'none': ('', ' {}', ' {}'),
}
