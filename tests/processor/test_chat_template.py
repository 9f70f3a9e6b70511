"""Rendering of chat templates, and the templates of models that came without one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from molmo_jax.errors import CheckpointError
from molmo_jax.preprocess.types import MOLMO_V1, EncodingError, PreprocessConfig
from molmo_jax.processor.chat_template import TEMPLATES, check_template, default_template, render

CHECKPOINT = Path(__file__).parents[1] / 'golden' / 'molmo2_qwen_hub' / 'chat_template.jinja'
IMAGE, VIDEO = {'type': 'image'}, {'type': 'video'}


def text(words, **more):
  return {'type': 'text', 'text': words, **more}


def user(*parts):
  return {'role': 'user', 'content': list(parts)}


def assistant(content):
  return {'role': 'assistant', 'content': content}


@pytest.mark.parametrize('messages, prompt', [
  ([user(text('Hi'))], '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n'),
  ([{'role': 'user', 'content': 'Hi'}], '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n'),
  ([user(text('a'), IMAGE, text('b'))],
   '<|image|><|im_start|>user\na b<|im_end|>\n<|im_start|>assistant\n'),
  ([user(IMAGE, IMAGE, text('a'))],
   'Image 1<|image|>Image 2<|image|><|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n'),
  ([{'role': 'subtitle', 'content': 'subtitle\n'}, user(VIDEO, text('a'))],
   '<|video|>subtitle\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n'),
])
def test_released_prompts_of_a_first_turn(messages, prompt):
  assert render(TEMPLATES['qwen3'], messages) == prompt
  assert render(CHECKPOINT.read_text(), messages) == prompt


def test_images_of_all_turns_come_first_and_are_numbered():
  messages = [user(IMAGE, text('a')), assistant('b'), user(text('c'), IMAGE)]
  assert render(TEMPLATES['qwen3'], messages).startswith('Image 1<|image|>Image '
    '2<|image|><|im_start|>user\na<')


def test_an_earlier_answer_has_the_released_stray_blank_and_one_end():
  messages = [user(text('a')), assistant('b'), user(text('c'))]
  assert render(TEMPLATES['qwen3'], messages) == (
    '<|im_start|>user\na<|im_end|>\n <|im_start|>assistant\nb<|im_end|>\n'
    '<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n')


def test_a_style_is_written_before_the_words_unless_it_chats():
  assert 'user\nvqa2: a<' in render(TEMPLATES['qwen3'], [user(text('a', style='vqa2'))])
  assert 'user\na<' in render(TEMPLATES['qwen3'], [user(text('a', style='pointing'))])


def test_templates_of_molmo_v1_name_the_roles_and_do_not_number_images():
  messages = [user(IMAGE, IMAGE, text('a')), assistant('b'), user(text('c'))]
  assert render(default_template(MOLMO_V1), messages, eos_token='<end>') == (
    '<|image|><|image|> User: a Assistant: b<end> User: c Assistant:')
  assert render(TEMPLATES['none'], [user(IMAGE, text('a'))], eos_token='') == '<|image|> a'


def test_another_layout_numbers_its_images_itself():
  config = dataclasses.replace(PreprocessConfig(), layout_format='seed2')
  assert render(default_template(config),
                [user(IMAGE, IMAGE, text('a'))]).startswith('<|image|><|image|><|im_start|>')


@pytest.mark.parametrize('words', ['ends here', 'with blanks  ', 'with lines\n\n'])
@pytest.mark.parametrize('content', [lambda words: words, lambda words: [text(words)]])
def test_the_last_answer_is_gone_on_with(words, content):
  messages = [user(text('a')), assistant(content(words))]
  for template in (TEMPLATES['qwen3'], CHECKPOINT.read_text()):
    prompt = render(template, messages, add_generation_prompt=False, continue_final_message=True)
    assert prompt.endswith(f'<|im_start|>assistant\n{words}')


def test_a_template_that_strips_the_words_ends_without_blanks():
  prompt = render('{{ messages[0].content | trim }}<end>', [assistant('words  ')],
                  continue_final_message=True)
  assert prompt == 'words'


def test_an_answer_without_text_cannot_be_gone_on_with():
  with pytest.raises(EncodingError, match='without text'):
    render(TEMPLATES['qwen3'], [user(text('a')), assistant([])], continue_final_message=True)
  with pytest.raises(EncodingError, match='does not write the last message'):
    render('nothing', [assistant('b')], continue_final_message=True)


def test_the_environment_is_that_of_transformers():
  template = ("{% for m in messages %}\n  {% if loop.index0 == 1 %}\n  {% break %}\n  {% endif "
    "%}\n{{ m | tojson }}\n{% endfor %}{% generation %}{{ bos_token }}{% endgeneration %}{{ "
    "strftime_now('%Y') | length }}")
  assert render(template, [{'role': 'ä<'}, {}], bos_token='B') == '{"role": "ä<"}\nB4'


@pytest.mark.parametrize('template', TEMPLATES.values())
def test_turns_must_alternate(template):
  with pytest.raises(EncodingError, match='take turns'):
    render(template, [user(text('a')), user(text('b'))], eos_token='')


@pytest.mark.parametrize('template, error', [
  ("{{ raise_exception('no such role') }}", 'no such role'),
  # the sandbox lets nothing be changed
  ('{{ messages.append(1) }}', 'append'),
  ("{{ ''.__class__.__mro__[1].__subclasses__() }}", 'rejects'),   # nor anything be reached
  ('{{ 1 / 0 }}', 'division'),
])
def test_what_a_template_may_not_do_is_an_error_of_the_messages(template, error):
  with pytest.raises(EncodingError, match=error):
    render(template, [user(text('a'))])


def test_a_template_that_is_no_template_is_an_error():
  with pytest.raises(CheckpointError, match='a.jinja cannot be compiled'):
    check_template('{% if %}', 'a.jinja')
