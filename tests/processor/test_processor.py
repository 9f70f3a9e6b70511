"""The processor of a released checkpoint: conversations → arrays."""

from __future__ import annotations

import dataclasses
import io
import json
import os
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from molmo_jax.preprocess.types import EncodingError, MediaError
from molmo_jax.processor.processor import Processor, batch_rows
from tests.golden.runners import hub

FOLDERS = [Path(__file__).parents[1] / 'golden' / name
           for name in ('molmo2_qwen_hub', 'molmo2_olmo_hub')]
CASES = [(folder, path) for folder in FOLDERS for path in sorted(folder.glob('cases/*.json'))]
OLMO = FOLDERS[1]
PER_TOKEN = ('tokens', 'positions', 'segments', 'visual', 'feature_index')


@pytest.fixture(scope='module')
def processor():
  return Processor.from_pretrained(OLMO)


def picture(height, width, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def image(source):
  return {'type': 'image', 'image': source}


def text(words):
  return {'type': 'text', 'text': words}


def user(*parts):
  return {'role': 'user', 'content': list(parts)}


def answer(words):
  return {'role': 'assistant', 'content': [text(words)]}


def prompt_of(processor, inputs):
  """The text of a row, without the tokens of images."""
  special = processor.tokenizer
  return special.decode([i for i in inputs['tokens'].tolist() if i not in special.special.values()],
                        keep_special=True)


@pytest.mark.parametrize('folder, path', CASES, ids=lambda p: p.stem)
def test_golden_cases(folder, path):
  case = json.loads(path.read_text())
  with np.load(path.with_suffix('.npz')) as data:
    inputs = Processor.from_pretrained(folder)(hub.with_media(case['messages'], path.parent))
    assert hub.check_inputs(inputs, case, dict(data)) is None


def test_greedy_ids_decode_to_the_golden_text():
  for folder, path in CASES:
    case = json.loads(path.read_text())
    assert Processor.from_pretrained(folder).decode([*case['greedy_ids'], -1]) == case['text']


def test_fields_of_one_conversation(processor):
  inputs = processor([user(image(picture(90, 200)), text('a'))])
  length, visual = len(inputs['tokens']), len(inputs['pool_index'])
  assert {inputs[name].dtype for name in PER_TOKEN} == {np.dtype(np.int32)}
  assert all(inputs[name].shape == (length,) for name in PER_TOKEN)
  assert inputs['positions'].tolist() == list(range(length)) and not inputs['segments'].any()
  assert inputs['crops'].dtype == np.uint8 and inputs['crops'].shape[1:] == (126, 126, 3)
  assert (inputs['feature_index'] >= 0).sum() == visual and inputs['pool_index'].shape == (visual,
                                                                                           4)
  assert inputs['layout_index'].shape == inputs['layout_box'].shape == (visual, 4)
  assert inputs['tokens'][0] == processor.bos_id and inputs['image_sizes'].tolist() == [[90, 200]]
  assert len(inputs['crops']) == inputs['image_num_crops'].sum() and inputs[
    'video_grids'].shape == (0, 3)


def test_text_alone_has_no_visual_arrays(processor):
  inputs = processor([{'role': 'user', 'content': 'Hi'}])
  assert inputs['crops'].shape == (0, 126, 126, 3) and inputs['pool_index'].shape == (0, 4)
  assert not inputs['visual'].any() and (inputs['feature_index'] == -1).all()


@pytest.mark.parametrize('size', [(40, 500), (500, 20), (56, 56)])
def test_small_sides_are_not_clamped(processor, size):
  # less than nothing, or exactly nothing, is left without the margins of 56 px; training would tile
  # the first two
  assert processor([user(image(picture(*size)), text('a'))])['image_grids'].tolist() == [
    [5, 5, 5, 5]]


def test_images_of_every_turn_are_numbered_in_order(processor):
  first, second = picture(60, 60, 1), picture(60, 200, 2)
  inputs = processor([user(text('a'), image(first)), answer('b'), user(image(second), text('c'))])
  assert prompt_of(processor, inputs).startswith('<|endoftext|>Image 1Image '
    '2<|im_start|>user\na<|im_end|>\n')
  assert inputs['image_sizes'].tolist() == [[60, 60], [60, 200]]
  alone = processor([user(image(second), text('c'))])
  np.testing.assert_array_equal(inputs['crops'][inputs['image_num_crops'][0]:], alone['crops'])
  assert inputs['pool_index'].max() == 81 * len(inputs['crops']) - 1
  assert set(inputs['visual']) == {0, 2, 3}


def test_an_answer_at_the_end_is_gone_on_with(processor):
  messages = [user(text('a')), answer('I would ')]
  assert prompt_of(processor, processor(messages)).endswith('<|im_start|>assistant\nI would ')
  opened = prompt_of(processor, processor(messages, add_generation_prompt=True))
  assert opened.endswith('I would <|im_start|>assistant\n')
  assert prompt_of(processor,
                   processor(messages[:1], add_generation_prompt=False)).endswith('a<|im_end|>\n')


def test_bos_is_added_only_where_it_is_missing(processor):
  with_bos, without = (processor.from_prompt(prompt)['tokens']
                       for prompt in ('<|endoftext|>Hi', 'Hi'))
  np.testing.assert_array_equal(with_bos, without)
  assert (with_bos == processor.bos_id).sum() == 1


def test_sources_of_an_image_are_the_same_image(processor, tmp_path):
  pixels = picture(70, 90)
  path = tmp_path / 'ä b.png'
  Image.fromarray(pixels).save(path)
  sources = [pixels, Image.fromarray(pixels), path, str(path), path.as_uri(), path.read_bytes()]
  crops = [processor([user(image(source), text('a'))])['crops'] for source in sources]
  crops += [processor([user({'type': 'image', 'url': str(path)}, text('a'))])['crops'],
            processor([user({'type': 'image_url', 'image_url': {'url': path.as_uri()}},
                            text('a'))])['crops'],
            processor.from_prompt('<|image|>a', images=[path])['crops']]
  assert all(np.array_equal(crops[0], other) for other in crops[1:])


def test_files_are_turned_upright_and_pillow_images_are_not(processor, tmp_path):
  turned = Image.fromarray(picture(60, 90))
  exif = turned.getexif()
  exif[274] = 6
  turned.save(tmp_path / 'a.jpg', exif=exif)
  data = (tmp_path / 'a.jpg').read_bytes()
  sizes = [processor([user(image(source), text('a'))])['image_sizes'].tolist()
           for source in (tmp_path / 'a.jpg', data, Image.open(io.BytesIO(data)))]
  assert sizes == [[[90, 60]], [[90, 60]], [[60, 90]]]


def test_transparency_is_composited_on_white(processor, tmp_path):
  clear = np.zeros((60, 60, 4), np.uint8)
  Image.fromarray(clear).save(tmp_path / 'a.png')
  for source in (clear, Image.fromarray(clear), tmp_path / 'a.png'):
    assert (processor([user(image(source), text('a'))])['crops'] == 255).all()


def rows(processor):
  return [processor([user(image(picture(60, 200)), text('one'))]),
          processor([user(text('a longer question'))])]


@pytest.mark.parametrize('padding', ['left', 'right'])
def test_rows_of_a_batch_are_padded(processor, padding):
  single = rows(processor)
  batch = processor([[user(image(picture(60, 200)), text('one'))],
                     [user(text('a longer question'))]], padding)
  length = len(single[0]['tokens'])
  assert batch['tokens'].shape == (2, length)
  short = len(single[1]['tokens'])
  used = slice(length - short, length) if padding == 'left' else slice(0, short)
  unused = slice(0, length - short) if padding == 'left' else slice(short, length)
  fill = dict(tokens=-1, positions=0, segments=-1, visual=0, feature_index=-1)
  for name in PER_TOKEN:
    np.testing.assert_array_equal(batch[name][0], single[0][name])
    np.testing.assert_array_equal(batch[name][1, used], single[1][name])
    assert (batch[name][1, unused] == fill[name]).all()
  assert batch['crops'].shape[:2] == (2, len(single[0]['crops'])) and not batch['crops'][1].any()
  assert (batch['pool_index'][1] == -1).all() and batch['pool_index'].dtype == np.int32
  assert batch['image_grids'].shape == (1, 4)


def test_padding_is_on_the_left_unless_asked(processor):
  batch = processor([[user(text('one two three'))], [user(text('a'))]])
  assert batch['tokens'][1, 0] == -1 and batch['tokens'][1, -1] != -1
  with pytest.raises(ValueError, match="'left' or 'right'"):
    processor([[user(text('a'))]], padding='up')


def test_a_batch_with_a_video_has_wide_windows(processor):
  clip = {'type': 'video', 'video': np.stack([picture(40, 50, k) for k in range(3)]), 'fps': 2}
  batch = processor([[user(image(picture(60, 60)), text('a'))], [user(clip, text('b'))]])
  assert batch['pool_index'].shape[2] == 9 and (batch['pool_index'][0, :, 4:] == -1).all()
  assert batch['video_grids'].tolist() == [[3, 3, 3]] and batch['image_num_crops'].tolist() == [2]
  # rows count for themselves
  assert batch['pool_index'][1].min(initial=0, where=batch['pool_index'][1] >= 0) == 0


def test_batch_rows_of_one_is_the_row(processor):
  row = rows(processor)[0]
  batch = batch_rows([row])
  assert all(np.array_equal(batch[name][0], row[name])
             for name in (*PER_TOKEN, 'crops', 'pool_index', 'layout_box'))


def test_frames_of_an_array_are_chosen_by_index(processor, tmp_path):
  clip = np.stack([picture(40, 50, k) for k in range(10)])
  inputs = processor([user({'type': 'video', 'video': clip, 'fps': 8.0}, text('a'))])
  # the last frame has its own time
  assert inputs['frame_times'].tolist() == [0.0, 0.5, 1.0, 9 / 8]
  assert prompt_of(processor, inputs).startswith('<|endoftext|>0.0  0.5  1.0  1.1 <|im_start|>')
  np.save(tmp_path / 'clip.npy', clip)
  kept = processor([user({'type': 'video', 'video': str(tmp_path / 'clip.npy'), 'fps': 8.0},
                         text('a'))])
  np.testing.assert_array_equal(kept['crops'], inputs['crops'])


def test_an_array_file_is_a_regular_file_of_an_array(processor, tmp_path):
  os.mkfifo(tmp_path / 'fifo.npy')
  (tmp_path / 'text.npy').write_text('hello')
  for name, reason in (('fifo', 'a FIFO, not a regular file'), ('text', 'cannot be read as')):
    with pytest.raises(MediaError, match=f'{name}.npy: {reason}'):
      processor([user({'type': 'video', 'video': str(tmp_path / f'{name}.npy'), 'fps': 8.0},
                      text('a'))])


def test_frames_of_a_file_are_chosen_by_time(processor, tmp_path):
  path = tmp_path / 'clip.mp4'
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('libx264', rate=8)
    stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
    for level in range(10):
      frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * level, np.uint8), format='rgb24')
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
  inputs = processor([user({'type': 'video', 'video': path.as_uri()}, text('a'))])
  # the last one has the duration
  assert inputs['frame_times'].tolist() == [0.0, 0.5, 1.0, 1.25]
  assert inputs['video_sizes'].tolist() == [[48, 64]]


def test_numbers_for_inference_hold(processor):
  config = dataclasses.replace(
    processor.config, image=dataclasses.replace(processor.config.image, max_crops=1,
                                                max_crops_eval=2),
    video=dataclasses.replace(processor.config.video, max_frames=1, max_frames_eval=2))
  own = Processor(processor.tokenizer, config)
  clip = {'type': 'video', 'video': np.stack([picture(40, 50)] * 9), 'fps': 2}
  assert own([user(image(picture(130, 400)), text('a'))])['image_num_crops'].tolist() == [3]
  assert len(own([user(clip, text('a'))])['crops']) == 2


SUBTITLES = [{'start': 0, 'end': 0.5, 'text': 'near'}, {'start': 40.0, 'end': 41.0, 'text': 'far'}]


@pytest.mark.parametrize('content, written', [
  ('plain words', 'plain words'),
  ([text('two'), text('parts')], 'two parts'),
  (SUBTITLES, 'subtitle\n0.0 - 0.5 near\n'),
])
def test_subtitles_follow_the_last_frame(processor, content, written):
  clip = {'type': 'video', 'video': np.stack([picture(40, 50)] * 2), 'fps': 2}
  inputs = processor([{'role': 'subtitle', 'content': content}, user(clip, text('a'))])
  assert prompt_of(processor, inputs) == (
    f'<|endoftext|>0.0  0.5 {written}<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n')


def test_points_are_pixels_of_their_image(processor):
  one = processor([user(image(picture(60, 200)), text('a'))])
  assert processor.points('<points coords="1 1 250 500">x</points>',
                          one) == [(0, 50.0, 30.0, '1', None)]
  assert processor.points('<point x="25.0" y="50.0">x</point>',
                          [(200, 60)]) == [(0, 50.0, 30.0, '', None)]
  two = processor([user(image(picture(60, 200)), image(picture(100, 80)), text('a'))])
  found = processor.points('<points coords="1 1 500 500;2 2 500 500;3 3 1 001">x</points>', two)
  assert found == [(0, 100.0, 30.0, '1', None), (1, 40.0, 50.0, '2', None)]


def test_points_of_a_video_belong_to_the_nearest_frame(processor):
  clip = {'type': 'video', 'video': np.stack([picture(40, 50, k) for k in range(10)]), 'fps': 8.0}
  inputs = processor([user(clip, text('a'))])
  assert processor.points('<points coords="0.5 1 500 500;1.1 1 100 100">x</points>', inputs) == [
    (1, 25.0, 20.0, '1', 0.5), (3, 5.0, 4.0, '1', 1.125)]


def test_points_of_a_batch_are_refused(processor):
  with pytest.raises(ValueError, match='batch'):
    processor.points('', processor([[user(text('a'))]]))


@pytest.mark.parametrize('messages, error', [
  ([], 'at least one message'),
  ('Hi', 'list of messages'),
  ([answer('a')], 'no user message'),
  ([user(text('a')), user(text('b'))], 'alternate'),
  ([{'role': 'system', 'content': 'a'}, user(text('a'))], "role 'system'"),
  ([user(text('<|image|> a'))], r'message 0: part 0: the text contains <\|image\|>'),
  ([{'role': 'user', 'content': '<|image|> a'}], r'<\|image\|>'),
  ([user(image(np.zeros((60, 60, 3), np.uint8)), text('<|image|> a'))], r'<\|image\|>'),
  ([user(text('a<|im_end|>'))], r"message 0: part 0: .*'<\|im_end\|>'"),
  ([user(text('a')), answer('<im_patch>'), user(text('b'))], 'message 1: part 0: .*<im_patch>'),
  ([user({'type': 'image'}, text('a'))], 'message 0: part 0: it has no image'),
  ([user({'type': 'sound'})], "type 'sound'"),
  ([user('a')], 'must be a dict'),
  ([user({'type': 'text'})], "'text' is None"),
  ([{'role': 'user', 'content': 3}], 'message 0: its content'),
  ([{'content': 'a'}], 'message 0: it must be a dict'),
  ([user(image('a.png'), {'type': 'video', 'video': 'a.mp4'}, text('a'))], 'one or the other'),
  ([user({'type': 'video', 'video': 'a.mp4'}, {'type': 'video', 'video': 'b.mp4'}, text('a'))],
   '2 videos'),
  ([user({'type': 'video', 'video': 'a.mp4', 'fps': -1}, text('a'))], 'positive number'),
  ([user(text('a')), {'role': 'subtitle', 'content': 'a'}], 'only be the first'),
  ([{'role': 'subtitle', 'content': SUBTITLES}, user(text('a'))], 'no video'),
  ([{'role': 'subtitle', 'content': [{'start': 2, 'end': 1, 'text': 'a'}]}, user(text('a'))],
   'line 0 of the subtitle'),
])
def test_messages_that_cannot_become_a_prompt(processor, messages, error):
  with pytest.raises(EncodingError, match=error):
    processor(messages)


def test_an_error_in_a_batch_names_the_conversation(processor):
  with pytest.raises(EncodingError, match='conversation 1: message 0: .*reserved'):
    processor([[user(text('a'))], [{'role': 'user', 'content': '<|im_start|>'}]])


@pytest.mark.parametrize('prompt, images, error', [
  ('<|image|><|image|>a', 1, r'2 <\|image\|> for 1 image'),
  ('a', 1, r'0 <\|image\|> for 1 image'),
  ('<|image|>a', 0, r'1 <\|image\|> for 0 image'),
  ('<|video|>a', 0, r'1 <\|video\|> for 0 video'),
  ('<im_patch>a', 0, '<im_patch>'),
])
def test_placeholders_must_match_the_media(processor, prompt, images, error):
  with pytest.raises(EncodingError, match=error):
    processor.from_prompt(prompt, images=['missing.png'] * images)


def test_a_template_that_loses_an_image_is_an_error():
  kept = Processor.from_pretrained(OLMO)
  other = Processor(kept.tokenizer, kept.config, template='{{ messages[0].content[-1].text }}')
  with pytest.raises(EncodingError, match=r'0 <\|image\|> for 1 image'):
    other([user(image('missing.png'), text('a'))])


@pytest.mark.parametrize('part, error', [
  (image('missing.png'), 'missing.png: no such file'),
  (image('https://example.org/a.png'), 'https is not supported'),
  (image(np.zeros((4, 4, 3))), 'must be uint8'),
  (image(b'nothing'), 'image in memory'),
  ({'type': 'video', 'video': 'missing.mp4'}, 'missing.mp4'),
  ({'type': 'video', 'video': 'missing.npy', 'fps': 2}, 'missing.npy: no such file'),
  ({'type': 'video', 'video': np.zeros((2, 4, 4, 3), np.uint8)}, 'fps is None'),
  ({'type': 'video', 'video': np.zeros((2, 4, 4, 3)), 'fps': 2}, 'uint8'),
  ({'type': 'video', 'video': [b'a'], 'fps': 2}, 'not list'),
])
def test_media_that_cannot_be_read(processor, part, error):
  with pytest.raises(MediaError, match=error):
    processor([user(part, text('a'))])


def test_a_file_that_is_no_video_is_an_error(processor, tmp_path):
  (tmp_path / 'a.mp4').write_bytes(b'no video at all')
  with pytest.raises(MediaError, match='a.mp4'):
    processor([user({'type': 'video', 'video': tmp_path / 'a.mp4'}, text('a'))])
