"""One example as arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from molmo_jax.preprocess import images
from molmo_jax.preprocess.encode import encode, feature_index, join_visual_inputs, visual_index
from molmo_jax.preprocess.layout import SPECIAL_TOKENS, V1_SPECIAL_TOKENS, extra_tokens
from molmo_jax.preprocess.tokenizer import Tokenizer, train_tokenizer
from molmo_jax.preprocess.types import (
  MOLMO_V1,
  EncodingError,
  Example,
  ImageConfig,
  MediaError,
  Message,
  PreprocessConfig,
  TextConfig,
  VideoConfig,
  VisualInput,
)

IMAGE = ImageConfig(crop_size=56, overlap_margins=(1, 1), max_crops=2, max_crops_eval=4,
                    max_images=2,
                    max_images_eval=3)
CONFIG = PreprocessConfig(image=IMAGE, video=VideoConfig(max_frames=3, max_frames_eval=5),
                          text=TextConfig(max_sequence_length=400, max_sequence_length_eval=400,
                                          message_weight='none'))
PATCHES = 16                                  # of a crop


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  path = tmp_path_factory.mktemp('tokenizer') / 'tokenizer.json'
  train_tokenizer(['what is this? a red square'], 280, path)
  return Tokenizer.from_file(path, base_vocab_size=300)


def picture(width=100, height=60):
  return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3),
                                                               np.uint8))


def talk(*contents):
  return tuple(Message('assistant' if i % 2 else 'user', content)
               for i, content in enumerate(contents))


def example(*conversations, **fields):
  return Example(**{'conversations': conversations, 'source': 'train.jsonl:7', **fields})


def with_text(**fields):
  return dataclasses.replace(CONFIG, text=dataclasses.replace(CONFIG.text, **fields))


def test_text_alone_has_arrays_of_media_without_rows(tokenizer):
  e = encode(example(talk('what?', 'red')), CONFIG, tokenizer, training=True)
  assert e.crops.shape == (0, 56, 56, 3) and e.crops.dtype == np.uint8
  assert e.pool_index.shape == (0, 4) and e.layout_index.shape == (0, 4) and e.layout_box.shape == (
    0, 4)
  assert not e.visual.any() and (e.feature_index == -1).all() and not e.segments.any()
  assert tokenizer.decode(e.tokens, keep_special=True) == (
    '<|im_end|><|im_start|>user\nwhat?<|im_end|>\n<|im_start|>assistant\nred')
  assert e.targets[-1] == tokenizer.eos_id and e.loss_weights[-1] == 1
  assert tokenizer.decode(e.targets[e.loss_weights > 0]) == 'red'


def test_between_turns_there_are_two_end_tokens(tokenizer):
  e = encode(example(talk('what?', 'red', 'this?', 'a')), CONFIG, tokenizer, training=True)
  assert 'red<|im_end|><|im_end|>\n<|im_start|>user' in tokenizer.decode(e.tokens,
                                                                         keep_special=True)


def test_an_image_ties_every_patch_token_to_its_pooling_window(tokenizer):
  e = encode(example(talk('what?', 'red'), images=(picture(),)), CONFIG, tokenizer, training=True)
  special = tokenizer.special
  rows = e.feature_index[e.tokens == special['<im_patch>']]
  np.testing.assert_array_equal(rows, np.arange(len(e.pool_index)))
  assert (e.feature_index[e.tokens != special['<im_patch>']] == -1).all()
  assert e.crops.shape == (3, 56, 56, 3) and e.pool_index.max() == 3 * PATCHES - 1
  assert len(e.layout_index) == len(e.layout_box) == len(e.pool_index)
  assert e.tokens[1] == special['<low_res_im_start>'] and set(e.visual) == {0, 2}
  lengths = {len(getattr(e, f))
             for f in ('tokens', 'targets', 'loss_weights', 'positions', 'segments', 'visual')}
  assert lengths == {len(e.feature_index)}


def test_windows_of_the_second_image_point_behind_the_patches_of_the_first(tokenizer):
  first, second = picture(), picture(40, 50)
  both = encode(example(talk('what?', 'red'), images=(first, second)), CONFIG, tokenizer,
                training=True)
  one, two = (encode(example(talk('what?', 'red'), images=(i,)), CONFIG, tokenizer, training=True)
              for i in (first, second))
  n = len(one.pool_index)
  np.testing.assert_array_equal(both.pool_index[:n], one.pool_index)
  shifted = np.where(two.pool_index < 0, -1, two.pool_index + len(one.crops) * PATCHES)
  np.testing.assert_array_equal(both.pool_index[n:], shifted)
  np.testing.assert_array_equal(both.crops, np.concatenate([one.crops, two.crops]))
  np.testing.assert_array_equal(both.layout_box[n:], two.layout_box)
  assert set(both.visual) == {0, 2, 3}
  text = tokenizer.decode(both.tokens)
  assert 'Image 1' in text and 'Image 2' in text


def test_narrow_windows_are_filled_up_with_empty_slots():
  inputs = [VisualInput(crops=np.zeros((1, 56, 56, 3), np.uint8), grids=(),
                        tokens=np.zeros(1, np.int32), pool_index=np.zeros((1, width), np.int32),
                        layout_index=np.zeros((1, 4), np.int32),
                        layout_box=np.zeros((1, 4), np.float32)) for width in (2, 3)]
  assert join_visual_inputs(inputs, CONFIG)['pool_index'].tolist() == [[0, 0, -1], [PATCHES] * 3]


def test_the_image_stands_where_the_placeholder_is(tokenizer):
  e = encode(example(talk('what <|image|> is', 'red'), images=(picture(),)), CONFIG, tokenizer,
             training=True)
  first = int(np.flatnonzero(e.visual)[0])
  assert tokenizer.decode(e.tokens[:first]).endswith('user\nwhat ')
  assert tokenizer.special['<|image|>'] not in e.tokens


def test_inference_has_its_own_numbers_and_drops_the_answer(tokenizer):
  image = picture(200, 60)
  train = encode(example(talk('what?', 'red'), images=(image,)), CONFIG, tokenizer, training=True)
  prompt = encode(example(talk('what?', 'red'), images=(image,)), CONFIG, tokenizer, training=False)
  same = encode(example(talk('what?'), images=(image,)), CONFIG, tokenizer, training=False)
  assert len(prompt.crops) > len(train.crops)
  assert tokenizer.decode(prompt.tokens, keep_special=True).endswith('<|im_start|>assistant\n')
  np.testing.assert_array_equal(prompt.tokens, same.tokens)
  assert prompt.targets[-1] == 0 and not prompt.loss_weights.any()


def test_a_video_has_a_timestamp_and_a_running_number_per_frame(tokenizer):
  frames = np.random.default_rng(0).integers(0, 256, (8, 30, 40, 3), np.uint8)
  e = encode(example(talk('what?', 'red'), video=frames, fps=1.0), CONFIG, tokenizer, training=True)
  assert len(e.crops) == 3 and e.pool_index.shape[1] == 9
  assert sorted(set(e.visual)) == [0, 2, 3, 4]
  assert tokenizer.decode(e.tokens).startswith('0.0 ')
  longer = encode(example(talk('what?'), video=frames, fps=1.0), CONFIG, tokenizer, training=False)
  assert len(longer.crops) == 5


def test_frames_resized_while_reading_equal_frames_resized_later(tokenizer):
  frames = np.random.default_rng(1).integers(0, 256, (2, 30, 40, 3), np.uint8)
  e = encode(example(talk('what?', 'red'), video=frames, fps=1.0), CONFIG, tokenizer, training=True)
  np.testing.assert_array_equal(e.crops, images.crop_frames(frames, IMAGE, (3, 3)).crops)


def test_a_message_tree_shares_its_image_and_each_branch_has_its_weight(tokenizer):
  record = example(talk('what?', 'red'), talk('this?', 'a'), images=(picture(),),
                   weights=(0.5, None))
  e = encode(record, CONFIG, tokenizer, training=True)
  assert sorted(set(e.segments)) == [0, 1, 10000]
  assert set(e.loss_weights[e.segments == 0]) == {0, 0.5} and set(
    e.loss_weights[e.segments == 1]) == {0, 1}


def test_branches_are_shuffled_with_their_weights_by_the_generator_only(tokenizer):
  words = [f'w{i}' for i in range(6)]
  record = example(*(talk(w, w) for w in words), weights=tuple(i + 1.0 for i in range(6)))

  def order(config, rng):
    e = encode(record, config, tokenizer, training=True, rng=rng)
    branches = range(6)
    spoken = [tokenizer.decode(e.targets[(e.segments == b) & (e.loss_weights > 0)])
              for b in branches]
    weights = [float(e.loss_weights[e.segments == b].max()) for b in branches]
    assert [words[int(w) - 1] for w in weights] == spoken
    return spoken

  assert order(CONFIG, None) == words
  assert order(with_text(shuffle_branches=False), np.random.default_rng(0)) == words
  assert order(CONFIG, np.random.default_rng(0)) == order(CONFIG, np.random.default_rng(0)) != words


def test_every_branch_can_have_its_own_style(tokenizer):
  record = example(talk('what?', 'red'), talk('this?', 'a'), styles=('vqa2', 'okvqa'))
  e = encode(record, with_text(style_prefix='style'), tokenizer, training=True,
             rng=np.random.default_rng(3))
  spoken = [tokenizer.decode(e.tokens[e.segments == branch]) for branch in (0, 1)]
  assert {('vqa2:' in s, 'what?' in s) for s in spoken} == {(True, True), (False, False)}
  assert {('okvqa:' in s, 'this?' in s) for s in spoken} == {(True, True), (False, False)}
  with pytest.raises(EncodingError, match='1 styles for 2 conversations'):
    encode(dataclasses.replace(record, styles=('vqa2',)), CONFIG, tokenizer, training=True)


def test_the_style_tag_opens_the_first_user_message(tokenizer):
  e = encode(example(talk('what?', 'red', 'this?', 'a'), style='vqa2'),
             with_text(style_prefix='demo_or_style_v2'),
             tokenizer, training=True)
  text = tokenizer.decode(e.tokens)
  assert 'user\nvqa2: what?' in text and text.count('vqa2') == 1


@pytest.mark.parametrize('record, training, message', [
  (example(), True, 'no conversation'),
  (example(talk()), True, 'no messages'),
  (example(talk('what?')), True, 'no answer to learn'),
  (example(talk('what?', '')), True, 'an answer, is empty'),
  (example(talk('', 'red')), True, 'user message 0 is empty'),
  (example(talk('what?', 'red', '', 'a')), True, 'user message 2 is empty'),
  (example((Message('assistant', 'red'),)), True, "must be from 'user'"),
  (example((Message('user', 'a'), Message('user', 'b'))), True, "must be from 'assistant'"),
  (example(talk('what?', 'red'), images=(picture(),), video='x.mp4'), True, 'one or the other'),
  (example(talk('what <|image|>', 'red')), True, '1 <|image|> for 0 images'),
  (example(talk('<|image|> what', 'red'), images=(picture(),) * 2), True,
   '1 <|image|> for 2 images'),
  (example(talk('what', 'red <|image|>'), images=(picture(),)), True, "'<|image|>'"),
  (example(talk('what', 'red', 'does <|image|> mean a picture?', 'yes'), images=(picture(),)), True,
   'message 2 of conversation 0 has <|image|>, but the first has none'),
  (example(talk('what <|image|>', 'red'), video=np.zeros((2, 9, 9, 3), np.uint8), fps=1.0), True,
   'has a video'),
  (example(talk('<im_patch> what', 'red')), True, "'<im_patch>'"),
  (example(talk('what', '<|im_end|>')), True, "'<|im_end|>'"),
  (example(talk('what', 'red'), weights=(1.0, 1.0)), True, '2 weights for 1 conversations'),
  (example(talk('what', 'red'), weights=(0.0,)), True, 'no loss token'),
  (example(talk('what', 'red'), talk('what', 'red')), False, 'the record has 2'),
  (example(talk('x' * 500, 'red')), True, 'no loss token'),
  (example(talk('x' * 500)), False, 'max_sequence_length is 400'),
])
def test_errors_name_the_record_and_what_is_wrong(tokenizer, record, training, message):
  with pytest.raises(EncodingError) as error:
    encode(record, CONFIG, tokenizer, training=training)
  assert str(error.value).startswith('train.jsonl:7: ') and message in str(error.value)


def test_visual_tokens_beyond_the_limit_are_an_error(tokenizer):
  with pytest.raises(EncodingError, match='train.jsonl:7: the visual tokens end at token'):
    encode(example(talk('what?', 'red'), images=(picture(),)), with_text(max_sequence_length=10),
           tokenizer,
           training=True)


def test_media_that_cannot_be_used_is_an_error_that_names_the_record(tokenizer):
  with pytest.raises(MediaError, match='train.jsonl:7: .*missing.png'):
    encode(example(talk('what?', 'red'), images=('missing.png',)), CONFIG, tokenizer, training=True)


def test_of_more_images_than_the_limit_the_first_are_kept(tokenizer):
  red, three = example(talk('what?', 'red')), (picture(),) * 3
  images = lambda training, n: len(encode(dataclasses.replace(red, images=three[:n]), CONFIG,
                                          tokenizer, training=training).crops)
  assert images(True, 3) == images(True, 2) < images(False, 3)


def test_high_resolution_reaches_a_single_image_and_never_several(tokenizer):
  def crops(count, max_crops):
    image = dataclasses.replace(IMAGE, max_crops=max_crops, max_multi_image_crops=2)
    return len(encode(example(talk('what?', 'red'), images=(picture(300, 60),) * count),
                      dataclasses.replace(CONFIG, image=image), tokenizer, training=True).crops)
  assert crops(1, 2) < crops(1, 6)
  assert crops(2, 2) == crops(2, 6) == 2 * crops(1, 2)


def test_images_are_read_as_the_released_training_does_in_training_alone(tokenizer):
  clear = Image.fromarray(np.dstack([np.asarray(picture()), np.zeros((60, 100), np.uint8)]))
  config = dataclasses.replace(CONFIG, image=dataclasses.replace(IMAGE, reading='convert'))
  def crops(training, image, config=config):
    return encode(example(talk('what?', 'red'), images=(image,)), config, tokenizer,
                  training=training).crops
  np.testing.assert_array_equal(crops(True, clear), crops(True, picture()))
  assert (crops(False, clear) == 255).all() and (crops(True, clear, CONFIG) == 255).all()


def test_visual_index_counts_images_and_frames(tokenizer):
  special = tokenizer.special
  names = ['<low_res_im_start>', '<im_patch>', '<im_end>', '<im_start>', '<im_col>', None,
           '<frame_start>',
           '<frame_end>', '<|image|>']
  tokens = np.array([5 if name is None else special[name] for name in names])
  assert visual_index(tokens, special, np.array([0])).tolist() == [2, 2, 2, 2, 2, 0, 2, 2, 0]
  assert feature_index(tokens, special).tolist() == [-1, 0, -1, -1, -1, -1, -1, -1, -1]


@pytest.mark.parametrize(
  'flags', [dict(mode='resize'), dict(use_low_res_start=False), dict(use_col_tokens=False)])
def test_each_image_has_a_number_whatever_its_markers_are(tokenizer, flags):
  config = dataclasses.replace(CONFIG, image=dataclasses.replace(CONFIG.image, **flags))
  e = encode(example(talk('which?', 'red'), images=(picture(), picture())), config, tokenizer,
             training=True)
  patches = e.visual[e.feature_index >= 0]
  assert patches.tolist() == sorted(patches) and set(patches) == {2,
                                                                  3} == set(e.visual[e.visual > 0])


def test_frames_that_adjoin_without_any_marker_have_numbers_of_their_own(tokenizer):
  names = ('<im_start>', '<im_patch>', '<im_patch>', '<im_patch>', '<im_patch>', '<im_end>')
  tokens = np.array([tokenizer.special[name] for name in names])
  assert visual_index(tokens, tokenizer.special, np.array([0, 2])).tolist() == [2, 2, 2, 3, 3, 3]


def test_all_views_of_an_image_of_v1_are_one_image():
  names = ('<im_start>', '<im_end>', '<im_patch>', '<im_col>', '<|image|>')
  special = {name: n for n, name in enumerate(names)}
  tokens = np.array([9, 0, 2, 1, 0, 2, 1, 9])
  assert visual_index(tokens, special, np.array([0])).tolist() == [0, 2, 2, 2, 2, 2, 2, 0]


V1 = dataclasses.replace(
  MOLMO_V1, image=dataclasses.replace(MOLMO_V1.image, crop_size=56, overlap_margins=(1, 1),
                                      max_crops=2, max_crops_eval=4))


@pytest.fixture(scope='module')
def v1_tokenizer(tmp_path_factory):
  path = tmp_path_factory.mktemp('tokenizer') / 'tokenizer.json'
  train_tokenizer(['what is this? a red square'], 280, path)
  return Tokenizer.from_file(path, base_vocab_size=300, special_tokens=V1_SPECIAL_TOKENS)


def test_the_five_extra_tokens_of_v1_follow_a_base_vocabulary_smaller_than_the_embedding(
    v1_tokenizer):
  assert v1_tokenizer.special == {'<im_start>': 300, '<im_end>': 301, '<im_patch>': 302,
                                  '<im_col>': 303,
                                  '<|image|>': 304}
  e = encode(example(talk('what?', 'red'), images=(picture(),)), V1, v1_tokenizer, training=True)
  assert set(e.tokens[e.visual > 0]) == {300, 301, 302, 303}


def test_a_conversation_of_v1_names_the_roles_after_the_image(v1_tokenizer):
  record = example(talk('what?', 'red', 'this?', 'a'), images=(picture(),), style='vqa2')
  e = encode(record, V1, v1_tokenizer, training=True)
  assert e.tokens[0] == v1_tokenizer.bos_id and (e.visual[1:1 + (e.visual > 0).sum()] > 0).all()
  assert v1_tokenizer.decode(e.tokens[e.visual == 0], keep_special=True) == (
    '<|im_end|> User: vqa2: what? Assistant: red<|im_end|> User: this? Assistant: a')
  assert v1_tokenizer.decode(e.targets[e.loss_weights > 0],
                             keep_special=True) == ' red<|im_end|> a<|im_end|>'
  prompt = encode(example(talk('what?')), V1, v1_tokenizer, training=False)
  assert v1_tokenizer.decode(prompt.tokens) == ' User: what? Assistant:'


def test_a_tree_of_v1_keeps_eos_between_its_branches(v1_tokenizer):
  e = encode(example(talk('what?', 'red'), talk('this?', 'a'), images=(picture(),)), V1,
             v1_tokenizer, training=True)
  assert sorted(set(e.segments)) == [1, 2, 10000]
  assert (e.tokens == v1_tokenizer.eos_id).sum() == 2            # BOS, and between the branches
  np.testing.assert_allclose(e.loss_weights[e.loss_weights > 0], 0.5 ** 0.5, rtol=1e-6)


def test_letterboxed_crops_come_with_the_mask_of_their_patches(v1_tokenizer):
  images_of_v1 = (picture(100, 60), picture(40, 90))
  e = encode(example(talk('what?', 'red'), images=images_of_v1), V1, v1_tokenizer, training=True)
  assert e.crops.dtype == np.float32 and 0 <= e.crops.min() and e.crops.max() <= 1
  assert e.patch_mask.shape == (len(e.crops), PATCHES) and e.patch_mask.dtype == np.float32
  alone = [encode(example(talk('what?', 'red'), images=(i,)), V1, v1_tokenizer, training=True)
           for i in images_of_v1]
  np.testing.assert_array_equal(e.patch_mask, np.concatenate([a.patch_mask for a in alone]))
  assert all((a.patch_mask[-1] == -1).all() for a in alone)
  text = encode(example(talk('what?', 'red')), V1, v1_tokenizer, training=True)
  assert text.patch_mask.shape == (0, PATCHES) and text.crops.dtype == np.float32


def test_there_is_no_mask_where_nothing_is_padded(tokenizer):
  assert encode(example(talk('what?', 'red'), images=(picture(),)), CONFIG, tokenizer,
                training=True).patch_mask is None


@pytest.mark.parametrize('layout_format, starts', [
  ('released', ['Image 1', 'Image 2']),
  ('seed1', ['Image 1<img_start_lowres>', 'Image 2<img_start_lowres>']),
  ('seed2', ['<image>1</image><image_start>', '<image>2</image><image_start>'])])
def test_the_layout_format_changes_the_strings_and_nothing_else(tokenizer, layout_format, starts):
  record = example(talk('what?', 'red'), images=(picture(), picture(40, 40)))
  released, e = (encode(record, dataclasses.replace(CONFIG, layout_format=name), tokenizer,
                        training=True)
                 for name in ('released', layout_format))
  text = tokenizer.decode(e.tokens)
  assert all(start in text for start in starts) and ('<row_end>' in text) == (layout_format
                                                                              == 'seed1')
  for name in ('crops', 'pool_index', 'layout_index', 'layout_box'):
    np.testing.assert_array_equal(getattr(e, name), getattr(released, name))
  patches = [x.visual[x.feature_index >= 0] for x in (released, e)]
  np.testing.assert_array_equal(*patches)          # the same image numbers


def test_frames_are_counted_where_their_markers_are_text(tokenizer):
  frames = np.random.default_rng(0).integers(0, 256, (8, 30, 40, 3), np.uint8)
  e = encode(example(talk('what?', 'red'), video=frames, fps=1.0),
             dataclasses.replace(CONFIG, layout_format='seed2'),
             tokenizer, training=True)
  assert sorted(set(e.visual)) == [0, 2, 3, 4]
  assert '<timestamp>0.0s</timestamp><image_start>' in tokenizer.decode(e.tokens).replace(
    '<image_end>', '')


@pytest.mark.parametrize('layout_format', ['seed1', 'seed2'])
def test_markers_that_are_tokens_belong_to_the_image_they_open(layout_format, tmp_path):
  path = tmp_path / 'tokenizer.json'
  train_tokenizer(['what is this? a red square'], 280, path)
  tokenizer = Tokenizer.from_file(path, base_vocab_size=300,
                                  special_tokens=extra_tokens(layout_format))
  e = encode(example(talk('what?', 'red'), images=(picture(), picture(40, 40))),
             dataclasses.replace(CONFIG, layout_format=layout_format), tokenizer, training=True)
  opener = tokenizer.special['<img_start_lowres>' if layout_format == 'seed1' else '<image_start>']
  per_image = 1 if layout_format == 'seed1' else 2
  assert e.visual[e.tokens == opener].tolist() == [2] * per_image + [3] * per_image
  assert len(tokenizer.special) > len(SPECIAL_TOKENS)
