"""Layout tokens of images and videos, written out with a tokenizer of characters."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from molmo_jax.preprocess.layout import (
  SPECIAL_TOKENS,
  V1_SPECIAL_TOKENS,
  extra_tokens,
  image_tokens,
  layout_format,
  prepare_image,
  prepare_images,
  prepare_video,
  subtitle_tokens,
  video_tokens,
)
from molmo_jax.preprocess.types import MOLMO_V1, ImageConfig, MediaError, Subtitle, VideoConfig

SPECIAL = {token: 1000 + k for k, token in enumerate(SPECIAL_TOKENS)}
SHORT = {'<im_start>': '[', '<im_end>': ']', '<im_patch>': '*', '<im_col>': '|',
         '<low_res_im_start>': '{',
         '<frame_start>': '<', '<frame_end>': '>'}
TINY = ImageConfig(crop_size=32, patch_size=8, overlap_margins=(1, 1))
LINES = (Subtitle(0.0, 0.9, 'hello'), Subtitle(3.04, 4.0, 'bye'), Subtitle(9.0, 12.0, 'late'))


def tokenize(text: str) -> list[int]:
  return [ord(letter) for letter in text]


def write(tokens: np.ndarray) -> str:
  """Tokens as text, one letter for each special token."""
  names = {SPECIAL[name]: letter for name, letter in SHORT.items()}
  return ''.join(names.get(int(token)) or chr(token) for token in tokens)


def test_special_tokens_have_the_order_of_the_released_vocabulary():
  assert SPECIAL_TOKENS.index('<im_start>') == 0 and SPECIAL_TOKENS.index('<low_res_im_start>') == 4
  assert SPECIAL_TOKENS.index('<frame_start>') == 7 and SPECIAL_TOKENS.index('<|vit_loc|>') == 13
  assert len(set(SPECIAL_TOKENS)) == 14


@pytest.mark.parametrize('changes, expected', [
    ({}, '{****][***|***|]'),
    ({'use_col_tokens': False}, '{****][******]'),
    ({'use_global_col_tokens': True}, '{**|**|][***|***|]'),
    ({'use_low_res_start': False}, '[****][***|***|]')])
def test_an_image_is_a_global_view_and_rows_of_crops(changes, expected):
  config = dataclasses.replace(TINY, **changes)
  assert write(image_tokens([(2, 2), (2, 3)], config, SPECIAL, tokenize)) == expected


def test_a_single_crop_is_one_view():
  assert write(image_tokens([(2, 2)], TINY, SPECIAL, tokenize)) == '[**|**|]'


@pytest.mark.parametrize('width, height, config, limit, total', [
    (1920, 1080, ImageConfig(), 8, 1189), (1920, 1080, ImageConfig(), 24, 2804),
    (640, 480, ImageConfig(), 8, 752),
    (100, 3000, ImageConfig(), 24, 1835),
    (100, 3000, ImageConfig(clamp_small_sides=False), 24, 410),
    (500, 111, ImageConfig(), 8, 536), (500, 111, ImageConfig(clamp_small_sides=False), 8, 410)])
def test_token_counts_of_the_specification(width, height, config, limit, total):
  got = prepare_image(np.zeros((height, width, 3), np.uint8), config, limit, SPECIAL, tokenize)
  assert got.tokens.shape == (total,) and got.tokens.dtype == np.int32
  assert (got.tokens == SPECIAL['<im_patch>']).sum() == len(got.pool_index)


@pytest.mark.parametrize('width, height, limit, patches, total', [
    (1920, 1080, 12, 1152, 1196), (1920, 1080, 36, 2592, 2644), (640, 480, 12, 704, 740),
    (378, 378, 12, 544, 580),
    (336, 336, 12, 288, 316), (100, 3000, 12, 288, 316), (3000, 100, 36, 288, 316),
    (900, 600, 36, 1152, 1196),
    (1280, 720, 12, 1152, 1196), (1280, 720, 36, 1600, 1644)])
def test_token_counts_of_molmo_v1(width, height, limit, patches, total):
  special = {token: 1000 + k for k, token in enumerate(V1_SPECIAL_TOKENS)}
  got = prepare_image(np.zeros((height, width, 3), np.uint8), MOLMO_V1.image, limit, special,
                      tokenize)
  assert got.tokens.shape == (total,)
  assert (got.tokens == special['<im_patch>']).sum() == len(got.pool_index) == patches
  # rows of the global view end with a column token
  assert got.tokens[:14].tolist() == [1000, *[1002] * 12, 1003]
  assert got.tokens[157:160].tolist() == [1001, 1000, 1002]


def test_images_of_molmo_v1_are_not_numbered():
  image = np.zeros((32, 32, 3), np.uint8)
  first, second = prepare_images([image, image], dataclasses.replace(TINY, number_images=False), 4,
                                 SPECIAL, tokenize)
  assert write(first.tokens) == write(second.tokens) == '{****][**|**|]'


def test_images_are_numbered_only_where_there_are_several():
  image = np.zeros((32, 32, 3), np.uint8)
  (alone,) = prepare_images([image], TINY, 4, SPECIAL, tokenize)
  first, second = prepare_images([image, image], TINY, 4, SPECIAL, tokenize)
  assert write(first.tokens) == 'Image 1' + write(alone.tokens)
  assert write(second.tokens) == 'Image 2' + write(alone.tokens)
  np.testing.assert_array_equal(second.pool_index, alone.pool_index)   # counted within the image


def test_too_many_images_are_an_error_that_names_the_limit():
  images = [np.zeros((8, 8, 3), np.uint8)] * 6
  with pytest.raises(MediaError, match='6 images .* at most 5'):
    prepare_images(images, TINY, 4, SPECIAL, tokenize)
  assert len(prepare_images(images, TINY, 4, SPECIAL, tokenize, max_images=6)) == 6


@pytest.mark.parametrize('changes, expected', [
    ({}, '0.0 <**> 0.2 <**> 12.5 <**>'),   # 0.25 is written as 0.2
    ({'time_mode': 'per-frame'}, 'time 0.00 <**> time 0.25 <**> time 12.50 <**>'),
    ({'time_mode': 'numbered-frames'}, '1: <**> 2: <**> 3: <**>'),
    ({'time_mode': 'none'}, '<**><**><**>'),
    ({'use_frame_special_tokens': False}, '0.0 [**] 0.2 [**] 12.5 [**]'),
    ({'per_frame_special_token': False}, '<0.0 ** 0.2 ** 12.5 **>')])
def test_frames_are_labelled_and_marked(changes, expected):
  tokens = video_tokens((1, 2), [0.0, 0.25, 12.5], None, VideoConfig(**changes), SPECIAL, tokenize)
  assert write(tokens) == expected and tokens.dtype == np.int32


@pytest.mark.parametrize('mode, expected', [
    ('frame_1', 'subtitle\n0.0 - 0.9 hello\n'),
    ('frame_2', 'subtitle\n0.0 - 0.9 hello\n3.0 - 4.0 bye\n'),
    ('all', 'subtitle\n0.0 - 0.9 hello\n3.0 - 4.0 bye\n9.0 - 12.0 late\n'),
    ('truncate_12', 'subtitle\n0.0'), ('ignore', '')])
def test_subtitles_follow_their_mode(mode, expected):
  assert write(np.asarray(subtitle_tokens(LINES, [0.0, 1.5], mode, tokenize))) == expected


def test_a_subtitle_text_without_times_is_taken_as_it_is():
  assert write(np.asarray(subtitle_tokens('all of it', [0.0], 'frame_1',
                                          tokenize))) == 'subtitle\nall of it'


def test_nothing_is_written_where_no_subtitle_is_kept():
  assert subtitle_tokens(LINES[2:], [0.0], 'frame_1', tokenize) == []
  assert subtitle_tokens('', [0.0], 'all', tokenize) == subtitle_tokens(None, [0.0], 'all',
                                                                        tokenize) == []


@pytest.mark.parametrize('mode', ['frame', 'frame_x', 'some', 'all_1', 'truncate_'])
def test_unknown_subtitle_modes_are_refused(mode):
  with pytest.raises(ValueError, match='subtitle_mode'):
    subtitle_tokens(LINES, [0.0], mode, tokenize)


def test_a_video_has_one_feature_for_every_patch_token_and_ends_with_its_subtitles():
  frames = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
  got = prepare_video(frames, [0.0, 0.5, 0.9], LINES, TINY, VideoConfig(), SPECIAL, tokenize)
  assert got.crops.shape == (3, 32, 32, 3) and got.pool_index.shape == (12, 9)
  assert write(got.tokens) == '0.0 <****> 0.5 <****> 0.9 <****>subtitle\n0.0 - 0.9 hello\n'
  assert got.layout_index[:, 2].tolist() == [0] * 4 + [1] * 4 + [2] * 4 and (got.layout_index[:, 3]
                                                                             == 2).all()
  assert got.layout_box[:4].tolist() == [[0, 0, .5, .5], [.5, 0, 1, .5], [0, .5, .5, 1],
                                         [.5, .5, 1, 1]]


def test_frames_and_times_must_agree():
  with pytest.raises(ValueError, match='2 frames but 1 times'):
    prepare_video(np.zeros((2, 4, 4, 3), np.uint8), [0.0], None, TINY, VideoConfig(), SPECIAL,
                  tokenize)


@pytest.mark.parametrize('name, expected', [
    ('released', '{*][**|]'),
    ('seed1', '<img_start_lowres>*][**<row_end>]'),
    ('seed2', '<image_start>*<image_end><image_start>**|<image_end>')])
def test_the_seeds_write_an_image_with_their_own_markers(name, expected):
  assert write(image_tokens([(1, 1), (1, 2)], TINY, SPECIAL, tokenize,
                            layout=layout_format(name))) == expected


@pytest.mark.parametrize('name, prefix', [
    ('released', 'Image {}{{'), ('seed1', 'Image {}<img_start_lowres>'),
    ('seed2', '<image>{}</image><image_start>')])
def test_the_seeds_number_several_images_only(name, prefix):
  image = np.zeros((32, 32, 3), np.uint8)
  layout = layout_format(name)
  for number, got in enumerate(
    prepare_images([image] * 3, TINY, 4, SPECIAL, tokenize, layout=layout), start=1):
    assert write(got.tokens).startswith(prefix.format(number))
  (alone,) = prepare_images([image], TINY, 4, SPECIAL, tokenize, layout=layout)
  assert '1' not in write(alone.tokens)


@pytest.mark.parametrize('name, expected', [
    ('released', '0.0 <**> 0.5 <**>subtitle\n0.0 - 0.9 hello\n'),
    ('seed1', '0.0 <**> 0.5 <**>subtitle\n0.0 - 0.9 hello\n'),
    ('seed2', '<image_start>**<image_end><timestamp>0.0s</timestamp><image_start>**<image_end>'
              '<timestamp>0.5s</timestamp>subtitle\n<timestamp>0.0s - 0.9s</timestamp>hello\n')])
def test_the_seeds_write_a_video_with_its_times_and_subtitles(name, expected):
  tokens = video_tokens((1, 2), [0.0, 0.5], LINES, VideoConfig(), SPECIAL, tokenize,
                        layout_format(name))
  assert write(tokens) == expected


def test_no_times_are_written_where_none_are_asked_for_in_any_format():
  video = VideoConfig(time_mode='none', per_frame_special_token=False)
  assert write(video_tokens((1, 2), [0.0, 0.5], None, video, SPECIAL, tokenize,
                            layout_format('seed2'))) == (
                                '<image_start>****<image_end>')


def test_a_seeds_marker_is_one_token_where_the_tokenizer_has_it():
  special = {token: 1000 + k for k, token in enumerate(extra_tokens('seed1'))}
  assert list(special)[:14] == list(SPECIAL_TOKENS) and list(special)[14:] == ['<img_start_lowres>',
                                                                               '<row_end>']
  tokens = image_tokens([(1, 1), (1, 1)], TINY, special, tokenize, layout=layout_format('seed1'))
  assert tokens.tolist() == [special[name] for name in (
      '<img_start_lowres>', '<im_patch>', '<im_end>', '<im_start>', '<im_patch>', '<row_end>',
      '<im_end>')]


def test_text_of_subtitles_never_becomes_a_marker():
  special = SPECIAL | {'<timestamp>': 7, '</timestamp>': 8}
  line = Subtitle(0.0, 1.0, '<timestamp>{start}')
  ids = subtitle_tokens([line], [0.0], 'all', tokenize, special, layout_format('seed2'))
  assert ids == [*tokenize('subtitle\n'), 7, *tokenize('0.0s - 1.0s'), 8,
                 *tokenize('<timestamp>{start}\n')]


def test_neighbouring_texts_are_tokenised_together():
  seen = []
  image_tokens([(1, 1)], TINY, SPECIAL, lambda text: seen.append(text) or [0], 2,
               layout_format('seed2'))
  assert seen == ['<image>2</image><image_start>', '<image_end>']


def test_an_unknown_layout_format_is_an_error_that_lists_the_choices():
  with pytest.raises(ValueError, match="'seed3'.*released, seed1, seed2"):
    layout_format('seed3')


def test_a_tokenizer_without_a_layout_token_is_an_error_that_names_it():
  with pytest.raises(ValueError, match='<im_col>'):
    image_tokens([(1, 1), (1, 1)], TINY, {k: v for k, v in SPECIAL.items() if k != '<im_col>'},
                 tokenize)
