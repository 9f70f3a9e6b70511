"""Conversations as text (docs/training.md §3.2, §4.1; docs/model.md §8).

A conversation becomes one string per message. User strings carry every role marker, so an answer is
tokenised alone and generation starts right after the last user string. The end-of-sequence token of
an answer is added later, as an id.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from molmo_jax.preprocess.types import choice

# Styles that chat like a person: their prompts are never announced by a tag in fine-tuning.
DEMO_STYLES = frozenset({
  'point_count', 'pointing', 'cosyn_point', 'user_qa', 'long_caption', 'short_caption', 'text_sft',
  'correction_qa',
  'video_long_caption', 'video_short_caption', 'video_transcript',
  'video_clip_caption_start_end', 'video_clip_caption_start_end_in_seconds',
  'video_clip_transcript_start_end', 'video_clip_transcript_start_end_in_seconds',
  'video_frame_caption_timestamp', 'video_frame_caption_timestamp_in_seconds',
  'video_point', 'video_point_count', 'video_count', 'video_count_point',
  'video_point_track_per_frame', 'video_point_track_start_end',
  'video_single_point_track_start_end',
  'multi_image_pointing', 'multi_image_counting', 'multi_image_point_then_count',
  'multi_image_count_then_point',
})

# Molmo v1's own lists: conversational styles, and those whose prompts bring their own instruction.
V1_DEMO_STYLES = frozenset({'point_count', 'pointing', 'user_qa', 'long_caption'})
V1_UNTAGGED_STYLES = frozenset({'android_control', 'demo'})

MULTIPLE_CHOICE_STYLES = frozenset({
  'a_okvqa_mc', 'ai2_diagram_no_letter', 'ai2_diagram', 'science_qa',
  'multi_image_mc', 'multi_image_mc_exp', 'mantis_instruct_mc',
  'video_multiple_choice', 'video_multiple_choice_count_without_pointing',
  'video_multiple_choice_multiple_correct', 'video_multiple_choice_w_subtitle',
})

# Answers of these are coordinates: their length says nothing, so no length is asked for.
POINTING_STYLES = frozenset({'pointing', 'point_count', 'cosyn_point'})

# Evaluation asks in the words of the training set that is nearest.
EVALUATION_STYLES = {
  'eval_short_answer': 'vqa2',
  'eval_multiple_choice': 'a_okvqa_mc',
  'video_eval_short_answer': 'video_short_answer',
  'video_eval_multiple_choice': 'video_multiple_choice',
  'video_eval_multiple_choice_w_subtitle': 'video_multiple_choice_w_subtitle',
}

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
  tag = '' if style is None else announce(style, answer, rng)
  return ' '.join(part for part in (tag, prompt) if part)


def _named(style: str) -> str:
  if style.startswith('eval_multi_image_'):
    return style.removeprefix('eval_')
  return EVALUATION_STYLES.get(style, style)


def _tag(style: str, answer: str | None, rng: np.random.Generator | None) -> str:
  return f'{_named(style)}:'


def _tag_unless_demo(style: str, answer: str | None, rng: np.random.Generator | None) -> str:
  name = _named(style)
  return '' if name in DEMO_STYLES or name in MULTIPLE_CHOICE_STYLES else f'{name}:'


def _tag_unless_v1_demo(style: str, answer: str | None, rng: np.random.Generator | None) -> str:
  name = _named(style)
  if name in V1_UNTAGGED_STYLES or (name in V1_DEMO_STYLES
                                    and (rng is None or rng.random() >= 0.1)):
    return ''
  return f'{name}:'


def _tag_and_length(style: str, answer: str | None, rng: np.random.Generator | None,
                    before_colon: str = '') -> str:
  name = _named(style)
  if name in POINTING_STYLES:
    return f'{name}:'
  if answer is None:
    return f'{name} {INFERENCE_LENGTH}:'
  if rng is None:
    return f'{name} {len(answer) // 15}:'
  length = (len(answer) + int(rng.normal(0, 25))) // 15
  return f'{name}{before_colon}:' if rng.random() < 0.1 else f'{name} {length}:'


STYLE_PREFIXES: dict[str, Callable[[str, str | None, np.random.Generator | None], str]] = {
  'none': lambda style, answer, rng: '',
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
  write = choice(message_format, MESSAGE_FORMATS, 'message format')
  return [write(content, index) for index, content in enumerate(contents)]


def _chatml(content: str, index: int) -> str:
  if index % 2:
    return content
  end_of_answer = '<|im_end|>\n' if index else ''
  return f'{end_of_answer}<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n'


def _named_roles(content: str, index: int) -> str:
  return f' {content}' if index % 2 else f' User: {content} Assistant:'


def _leading_blank(content: str, index: int) -> str:
  return f' {content}'


MESSAGE_FORMATS: dict[str, Callable[[str, int], str]] = {
  'qwen3': _chatml,
  'role': _named_roles,
  'none': _leading_blank,
}
