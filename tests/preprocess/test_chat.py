"""Conversations as text (docs/training.md §3.2, §4.1)."""

from __future__ import annotations

import numpy as np
import pytest

from molmo_jax.preprocess.chat import add_style_prefix, format_messages


def test_qwen3_has_chatml_turns_and_closes_the_answer_before_a_later_user_turn():
  assert format_messages(['hi', 'hello', 'bye'], 'qwen3') == [
    '<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n',
    'hello',
    '<|im_end|>\n<|im_start|>user\nbye<|im_end|>\n<|im_start|>assistant\n',
  ]


def test_v1_formats_begin_every_message_with_a_blank():
  assert format_messages(['hi', 'hello', 'bye'], 'role') == [' User: hi Assistant:', ' hello',
                                                             ' User: bye Assistant:']
  assert format_messages(['hi', 'hello'], 'none') == [' hi', ' hello']


def test_an_unknown_format_is_an_error_that_lists_the_choices():
  with pytest.raises(ValueError, match='qwen3, role, none'):
    format_messages(['hi'], 'llama')
  with pytest.raises(ValueError, match='demo_or_style_v2'):
    add_style_prefix('hi', 'vqa2', 'tag')


@pytest.mark.parametrize('style, tag', [
  ('vqa2', 'vqa2: '), ('cosyn_chart_exp', 'cosyn_chart_exp: '), ('demo', 'demo: '),
  ('point_qa', 'point_qa: '),
  ('video_single_point_track_per_frame', 'video_single_point_track_per_frame: '),
  ('video_point_ground_start_end', 'video_point_ground_start_end: '),
  ('video_motion_caption', 'video_motion_caption: '),
  ('eval_short_answer', 'vqa2: '), ('video_eval_short_answer', 'video_short_answer: '),
  ('eval_multi_image_qa', 'multi_image_qa: '),
  ('user_qa', ''), ('pointing', ''), ('text_sft', ''), ('long_caption', ''),
  ('video_point_track_per_frame', ''),
  ('science_qa', ''), ('eval_multiple_choice', ''), ('eval_multi_image_mc', ''),
  ('video_eval_multiple_choice_w_subtitle', ''), (None, ''),
])
def test_fine_tuning_tags_all_but_conversational_and_multiple_choice_styles(style, tag):
  assert add_style_prefix('What?', style, 'demo_or_style_v2') == f'{tag}What?'


def test_style_tags_everything_and_none_nothing():
  assert add_style_prefix('What?', 'user_qa', 'style') == 'user_qa: What?'
  assert add_style_prefix('What?', 'vqa2', 'none') == 'What?'
  assert add_style_prefix('', 'long_caption', 'style') == 'long_caption:'


def test_molmo_v1_tags_conversational_styles_in_one_of_ten_draws_and_never_at_inference():
  rng = np.random.default_rng(0)
  for style in ('point_count', 'pointing', 'user_qa', 'long_caption'):
    tagged = [add_style_prefix('What?', style, 'demo_or_style', rng=rng) for _ in range(2000)]
    assert set(tagged) == {'What?', f'{style}: What?'} and 0.08 < tagged.count(
      f'{style}: What?') / 2000 < 0.12
    assert add_style_prefix('What?', style, 'demo_or_style') == 'What?'


@pytest.mark.parametrize('style, tag', [
  ('vqa2', 'vqa2: '), ('science_qa', 'science_qa: '), ('text_sft', 'text_sft: '),
  ('eval_short_answer', 'vqa2: '),
  ('demo', ''), ('android_control', '')])
def test_molmo_v1_tags_every_other_style_multiple_choice_too(style, tag):
  for rng in (None, np.random.default_rng(0)):
    assert add_style_prefix('What?', style, 'demo_or_style', rng=rng) == f'{tag}What?'


def test_molmo_v1_writes_a_blank_before_the_colon_where_it_leaves_the_length_out():
  def tags(mode):
    rng = np.random.default_rng(0)
    return [add_style_prefix('', 'long_caption', mode, answer='x' * 900, rng=rng)
            for _ in range(100)]
  v1, molmo2 = tags('style_and_length'), tags('style_and_length_v2')
  assert 'long_caption :' in v1 and 'long_caption:' not in v1
  assert [tag.replace(' :', ':') for tag in v1] == molmo2
  assert add_style_prefix('', 'long_caption', 'style_and_length') == 'long_caption 65:'
  assert add_style_prefix('cat', 'pointing', 'style_and_length') == 'pointing: cat'


def test_pre_training_announces_a_noisy_length_in_nine_of_ten_draws():
  rng = np.random.default_rng(0)
  tags = [add_style_prefix('', 'long_caption', 'style_and_length_v2', answer='x' * 900, rng=rng)
          for _ in range(2000)]
  lengths = np.array([int(tag.split()[1][:-1]) for tag in tags if ' ' in tag])
  assert 0.08 < 1 - len(lengths) / len(tags) < 0.12
  assert abs(lengths.mean() - 59.5) < 0.3 and 1.4 < lengths.std() < 2.0
  assert add_style_prefix('', 'long_caption', 'style_and_length_v2') == 'long_caption 65:'
  assert add_style_prefix('cat', 'pointing', 'style_and_length_v2', answer='x' * 900,
                          rng=rng) == 'pointing: cat'
