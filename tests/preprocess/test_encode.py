"""One example as arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from molmo_jax.preprocess import images
from molmo_jax.preprocess.encode import _join_visual_inputs, encode, feature_index, visual_index
from molmo_jax.preprocess.tokenizer import Tokenizer, train_tokenizer
from molmo_jax.preprocess.types import (
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

IMAGE = ImageConfig(crop_size=56, overlap_margins=(1, 1), max_crops=2, max_crops_eval=4, max_images=2,
                    max_images_eval=3)
CONFIG = PreprocessConfig(image=IMAGE, video=VideoConfig(max_frames=3, max_frames_eval=5),
                          text=TextConfig(max_sequence_length=400, max_sequence_length_eval=400, message_weight='none'))
PATCHES = 16                                  # of a crop


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  path = tmp_path_factory.mktemp('tokenizer') / 'tokenizer.json'
  train_tokenizer(['what is this? a red square'], 280, path)
  return Tokenizer.from_file(path, base_vocab_size=300)


def picture(width=100, height=60):
  return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8))


def talk(*contents):
  return tuple(Message('assistant' if i % 2 else 'user', content) for i, content in enumerate(contents))


def example(*conversations, **fields):
  return Example(**{'conversations': conversations, 'source': 'train.jsonl:7', **fields})


def with_text(**fields):
  return dataclasses.replace(CONFIG, text=dataclasses.replace(CONFIG.text, **fields))


def test_text_alone_has_arrays_of_media_without_rows(tokenizer):
  e = encode(example(talk('what?', 'red')), CONFIG, tokenizer, training=True)
  assert e.crops.shape == (0, 56, 56, 3) and e.crops.dtype == np.uint8
  assert e.pool_index.shape == (0, 4) and e.layout_index.shape == (0, 4) and e.layout_box.shape == (0, 4)
  assert not e.visual.any() and (e.feature_index == -1).all() and not e.segments.any()
  assert tokenizer.decode(e.tokens, keep_special=True) == (
    '<|im_end|><|im_start|>user\nwhat?<|im_end|>\n<|im_start|>assistant\nred')
  assert e.targets[-1] == tokenizer.eos_id and e.loss_weights[-1] == 1
  assert tokenizer.decode(e.targets[e.loss_weights > 0]) == 'red'


def test_between_turns_there_are_two_end_tokens(tokenizer):
  e = encode(example(talk('what?', 'red', 'this?', 'a')), CONFIG, tokenizer, training=True)
  assert 'red<|im_end|><|im_end|>\n<|im_start|>user' in tokenizer.decode(e.tokens, keep_special=True)


def test_an_image_ties_every_patch_token_to_its_pooling_window(tokenizer):
  e = encode(example(talk('what?', 'red'), images=(picture(),)), CONFIG, tokenizer, training=True)
  special = tokenizer.special
  rows = e.feature_index[e.tokens == special['<im_patch>']]
  np.testing.assert_array_equal(rows, np.arange(len(e.pool_index)))
  assert (e.feature_index[e.tokens != special['<im_patch>']] == -1).all()
  assert e.crops.shape == (3, 56, 56, 3) and e.pool_index.max() == 3 * PATCHES - 1
  assert len(e.layout_index) == len(e.layout_box) == len(e.pool_index)
  assert e.tokens[1] == special['<low_res_im_start>'] and set(e.visual) == {0, 2}
  lengths = {len(getattr(e, f)) for f in ('tokens', 'targets', 'loss_weights', 'positions', 'segments', 'visual')}
  assert lengths == {len(e.feature_index)}


def test_windows_of_the_second_image_point_behind_the_patches_of_the_first(tokenizer):
  first, second = picture(), picture(40, 50)
  both = encode(example(talk('what?', 'red'), images=(first, second)), CONFIG, tokenizer, training=True)
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
  inputs = [VisualInput(crops=np.zeros((1, 56, 56, 3), np.uint8), tokens=np.zeros(1, np.int32),
                        pool_index=np.zeros((1, width), np.int32), layout_index=np.zeros((1, 4), np.int32),
                        layout_box=np.zeros((1, 4), np.float32)) for width in (2, 3)]
  assert _join_visual_inputs(inputs, CONFIG)['pool_index'].tolist() == [[0, 0, -1], [PATCHES] * 3]


def test_the_image_stands_where_the_placeholder_is(tokenizer):
  e = encode(example(talk('what <|image|> is', 'red'), images=(picture(),)), CONFIG, tokenizer, training=True)
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
  record = example(talk('what?', 'red'), talk('this?', 'a'), images=(picture(),), weights=(0.5, None))
  e = encode(record, CONFIG, tokenizer, training=True)
  assert sorted(set(e.segments)) == [0, 1, 10000]
  assert set(e.loss_weights[e.segments == 0]) == {0, 0.5} and set(e.loss_weights[e.segments == 1]) == {0, 1}


def test_branches_are_shuffled_with_their_weights_by_the_generator_only(tokenizer):
  words = [f'w{i}' for i in range(6)]
  record = example(*(talk(w, w) for w in words), weights=tuple(i + 1.0 for i in range(6)))

  def order(config, rng):
    e = encode(record, config, tokenizer, training=True, rng=rng)
    branches = range(6)
    spoken = [tokenizer.decode(e.targets[(e.segments == b) & (e.loss_weights > 0)]) for b in branches]
    weights = [float(e.loss_weights[e.segments == b].max()) for b in branches]
    assert [words[int(w) - 1] for w in weights] == spoken
    return spoken

  assert order(CONFIG, None) == words
  assert order(with_text(shuffle_branches=False), np.random.default_rng(0)) == words
  assert order(CONFIG, np.random.default_rng(0)) == order(CONFIG, np.random.default_rng(0)) != words


def test_the_style_tag_opens_the_first_user_message(tokenizer):
  e = encode(example(talk('what?', 'red', 'this?', 'a'), style='vqa2'), with_text(style_prefix='demo_or_style_v2'),
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
  (example(talk('<|image|> what', 'red'), images=(picture(),) * 2), True, '1 <|image|> for 2 images'),
  (example(talk('what', 'red <|image|>'), images=(picture(),)), True, "'<|image|>'"),
  (example(talk('what <|image|>', 'red'), video=np.zeros((2, 9, 9, 3), np.uint8), fps=1.0), True, 'has a video'),
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
    encode(example(talk('what?', 'red'), images=(picture(),)), with_text(max_sequence_length=10), tokenizer,
           training=True)


def test_media_that_cannot_be_used_is_an_error_that_names_the_record(tokenizer):
  for sources in (('missing.png',), (picture(),) * 3):
    with pytest.raises(MediaError, match='train.jsonl:7: .*(missing.png|at most 2)'):
      encode(example(talk('what?', 'red'), images=sources), CONFIG, tokenizer, training=True)
  encode(example(talk('what?'), images=(picture(),) * 3), CONFIG, tokenizer, training=False)


def test_visual_index_counts_images_and_frames(tokenizer):
  special = tokenizer.special
  names = ['<low_res_im_start>', '<im_patch>', '<im_end>', '<im_start>', '<im_col>', None, '<frame_start>',
           '<frame_end>', '<|image|>']
  tokens = np.array([5 if name is None else special[name] for name in names])
  assert visual_index(tokens, special).tolist() == [2, 2, 2, 2, 2, 0, 3, 3, 0]
  assert feature_index(tokens, special).tolist() == [-1, 0, -1, -1, -1, -1, -1, -1, -1]


def test_visual_index_of_v1_counts_image_starts(tokenizer):
  names = ('<im_start>', '<im_end>', '<im_patch>', '<im_col>', '<|image|>')
  special = {name: n for n, name in enumerate(names)}
  assert visual_index(np.array([9, 0, 2, 1, 0, 2, 1, 9]), special).tolist() == [0, 2, 2, 2, 3, 3, 3, 0]
