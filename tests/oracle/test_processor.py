"""Every array of the processor is that of transformers: ids, token types, windows, grids, pixels to
the last bit.
"""

from __future__ import annotations

import jax
import numpy as np
import pytest

from molmo_jax.model.tower import normalize_crops
from molmo_jax.model.vit import patchify
from molmo_jax.processor.processor import Processor
from tests.oracle import reference
from tests.oracle.conversations import (
  assistant,
  everyday,
  filmed,
  image,
  picture,
  text,
  unusual,
  user,
)

LAST_BIT = 6e-8            # transformers normalises with other operations
NORMALISED = 1.2e-7        # the model, whose compiler fuses these operations
LEVEL = 2 / 255            # one level of a pixel, where bilinear interpolation comes out at a tie
SHARE_OF_LEVELS = 1e-4     # of values that may be one level off


@pytest.fixture(scope='module')
def processors(pair):
  return Processor.from_pretrained(pair.folder), pair.processor


def agree(processors, *conversations, theirs=None, name=''):
  """Asserts that a left-padded batch of conversations is the same on both sides.

  Args:
    theirs: the conversations in the form that transformers gets.
  """
  ours = processors[0](list(conversations))
  theirs = {k: v.numpy() for k, v in reference.prepare(processors[1],
                                                       *(theirs or conversations)).items()}
  real, pad = ours['segments'] >= 0, processors[1].tokenizer.pad_token_id
  assert np.array_equal(real, theirs['attention_mask']), name
  assert np.array_equal(np.where(real, ours['tokens'], pad), theirs['input_ids']), name
  assert np.array_equal(ours['visual'] > 0, theirs['mm_token_type_ids']), name
  for grids in ('image_grids', 'image_num_crops', 'video_grids'):
    assert np.array_equal(ours[grids], theirs.get(grids, ours[grids][:0])), (name, grids)
  kind = 'video' if 'video_grids' in theirs else 'image'
  if f'{kind}_grids' not in theirs:
    assert not ours['crops'].size and not ours['pool_index'].size
    return
  used, patches = crops_of_rows(ours, conversations, kind), (ours['crops'].shape[2] // 14) ** 2
  windows, offset = [], 0
  for row, count in enumerate(used):
    index = ours['pool_index'][row][(ours['pool_index'][row] >= 0).any(-1)]
    windows.append(np.where(index >= 0, index + offset, -1))
    offset += count * patches
  pooling = theirs[f'{kind}_token_pooling']
  assert np.array_equal(np.concatenate(windows)[:, :pooling.shape[1]], pooling), name
  crops = np.concatenate([row[:count] for row, count in zip(ours['crops'], used)])
  compare_pixels(crops, theirs['pixel_values' if kind == 'image' else 'pixel_values_videos'], name)


def crops_of_rows(ours, conversations, kind):
  """How many crops or frames each row of the batch has."""
  each = iter(ours['image_num_crops'] if kind == 'image' else ours['video_grids'][:, 0])
  return [sum(int(next(each)) for _ in reference.parts(c, kind)) for c in conversations]


def compare_pixels(crops, pixels, name):
  ours = patchify(crops.astype(np.float32) / np.float32(255) * 2 - 1, 14)
  assert ours.shape == pixels.shape, name
  distance = np.abs(ours - pixels)
  is_level = np.abs(distance - LEVEL) < 1e-6
  assert distance[~is_level].max(initial=0) <= LAST_BIT, name
  assert is_level.mean() <= SHARE_OF_LEVELS, name


def test_everyday_conversations_alone_and_in_a_batch(pair, processors):
  conversations = everyday(pair.design)
  for name, conversation in conversations.items():
    agree(processors, conversation, name=name)
  agree(processors, conversations['text'], conversations['images'], conversations['turns'])
  agree(processors, conversations['video'], conversations['text'], conversations['video'])


def test_unusual_images(pair, processors, tmp_path):
  images = unusual(pair.design, tmp_path)
  for name, source in images.items():
    agree(processors, [user(image(source), text('Describe it.'))], name=name)
  several = [user(*map(image, images.values()), text('Compare them.'))]
  agree(processors, several, name='all in one conversation')


def test_a_file_with_transparency_is_composited_where_the_loader_of_transformers_drops_it(
  pair, processors, tmp_path):
  pixels = unusual(pair.design, tmp_path)['alpha']
  pixels.save(tmp_path / 'alpha.png')
  agree(processors, [user(image(tmp_path / 'alpha.png'))], theirs=[[user(image(pixels))]])


def test_a_video_whose_frames_both_choose(pair, processors):
  """At two frames per second every frame is taken by either rule, up to the number of frames."""
  rng = np.random.default_rng([pair.design.seed, 59])
  for frames in (2, 5, 16):
    agree(processors, [user(filmed(rng, frames), text('What happens?'))], name=f'{frames} frames')


def test_a_video_whose_frames_are_chosen_by_us(pair, processors):
  """transformers leaves out the last frame, which the models were trained with: it gets the frames
  of our choice.
  """
  rng = np.random.default_rng([pair.design.seed, 61])
  for frames, fps in ((1, 2.0), (31, 8.0), (50, 29.97), (400, 25.0), (7, 24.0)):
    video = {'type': 'video', 'video': np.stack([picture(rng, 30, 40) for _ in range(frames)]),
             'fps': fps}
    conversation = [user(video, text('When does it start?'))]
    chosen = np.rint(processors[0](conversation)['frame_times'] * fps).astype(int).tolist()
    assert chosen[0] == 0 and chosen[-1] == frames - 1 and len(chosen) <= 16
    agree(processors, conversation,
          theirs=[[user(dict(video, frames=chosen), text('When does it start?'))]],
          name=f'{frames} frames at {fps}')


def test_turns_answers_that_are_gone_on_with_and_subtitles(pair, processors):
  rng = np.random.default_rng([pair.design.seed, 67])
  shot = lambda: image(picture(rng, *rng.integers(40, 200, 2)))
  talk = [user(shot(), text('What is it?')), assistant('A kite.'),
          user(shot(), text('And this'), text('one?')),
          assistant('It is a birch, 40 years old.')]
  agree(processors, talk + [user(text('Which one is older?'))])
  agree(processors, talk, name='gone on with')
  agree(processors, talk[:2], talk[:3], talk[:1], name='a batch of beginnings')
  subtitles = {'role': 'subtitle', 'content': 'subtitle\n0.0 - 1.5 It rained.\n1.5 - 2.0 For '
               'days.\n'}
  agree(processors, [subtitles, user(filmed(rng, 4), text('What was said?'))], name='subtitles')


def test_a_plain_string_as_content_unusual_characters_and_an_empty_question(pair, processors):
  for words in ('Ünïcode — 漢字 🙂\u200d\n\n\t x', '  two  blanks ', '123456 7.89', '',
                'a<b>c</b> |im_start|'):
    agree(processors, [{'role': 'user', 'content': words}], name=repr(words))


def test_answers_read_the_same(pair, processors):
  rng = np.random.default_rng([pair.design.seed, 71])
  for _ in range(50):
    ids = rng.integers(0, pair.design.text['vocab_size'], 12)
    assert processors[0].decode(ids) == processors[1].tokenizer.decode(ids.tolist(),
                                                                       skip_special_tokens=True)


def test_the_model_normalises_every_level_as_transformers_does(pair, processors):
  levels = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
  single = np.tile(levels, (pair.design.side // 16 + 1, pair.design.side // 16 + 1,
                            1))[:pair.design.side,
                                 :pair.design.side]
  # as large as a crop: the global view is the image
  inputs = reference.prepare(processors[1], [user(image(single))])
  ours = jax.jit(lambda crops: patchify(normalize_crops(crops, 'siglip'), 14))(single)
  assert len(np.unique(single)) == 256
  assert np.abs(np.asarray(ours) - inputs['pixel_values'][0].numpy()).max() <= NORMALISED


def test_a_processor_that_is_saved_is_read_by_transformers(pair, processors, tmp_path):
  processors[0].save(tmp_path)
  conversation = everyday(pair.design)['images']
  before, after = (reference.prepare(p, conversation)
                   for p in (processors[1], reference.load_processor(tmp_path)))
  assert before.keys() == after.keys() and all(bool((before[k] == after[k]).all()) for k in before)
