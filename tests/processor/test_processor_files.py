"""The files of a processor, read and written."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from molmo_jax.errors import CheckpointError, MolmoError
from molmo_jax.preprocess.tokenizer import Tokenizer, train_tokenizer
from molmo_jax.preprocess.types import (
  MOLMO_V1,
  ImageConfig,
  PreprocessConfig,
  TextConfig,
  VideoConfig,
)
from molmo_jax.processor.processor import Processor
from molmo_jax.processor.processor_config import read_config
from molmo_jax.processor.processor_files import FILES

CHECKPOINT = Path(__file__).parents[1] / 'golden' / 'molmo2_olmo_hub'
MESSAGES = [{'role': 'user',
             'content': [{'type': 'image', 'image': np.zeros((60, 60, 3), np.uint8)},
                         {'type': 'text', 'text': 'a 1'}]}]
STYLED = TextConfig(style_prefix='demo_or_style_v2')     # as the released models were trained
IMAGE = ImageConfig(crop_size=126, overlap_margins=(2, 2), clamp_small_sides=False,
                    max_crops_eval=8)
VIDEO = VideoConfig(max_frames=384, max_frames_eval=384, max_fps=2)


@pytest.fixture
def folder(tmp_path):
  """A checkpoint without its weights and cases, which a test may change."""
  copy = tmp_path / 'checkpoint'
  copy.mkdir()
  for name in (*FILES, 'config.json'):
    if (CHECKPOINT / name).exists():
      shutil.copy(CHECKPOINT / name, copy)
  return copy


def change(folder, name, edit):
  values = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
  edit(values)
  (folder / name).write_text(json.dumps(values))


def split_as_older_checkpoints(folder):
  values = json.loads((folder / 'processor_config.json').read_text())
  for key, name in (('image_processor', 'preprocessor_config.json'),
                    ('video_processor', 'video_preprocessor_config.json')):
    (folder / name).write_text(json.dumps(values.pop(key)))
  (folder / 'processor_config.json').write_text(json.dumps(values))


def test_configuration_of_the_checkpoint(folder):
  assert Processor.from_pretrained(folder).config == PreprocessConfig(IMAGE, VIDEO, STYLED)


def test_numbers_of_crops_and_frames_hold_for_inference(folder):
  change(folder, 'processor_config.json', lambda c: (c['image_processor'].update(max_crops=3),
                                                     c['video_processor'].update(num_frames=7,
                                                                                 max_fps=None)))
  config = read_config(folder)
  assert (config.image.max_crops_eval, config.video.max_frames_eval,
          config.video.max_fps) == (3, 7, None)


def test_older_files_say_the_same(folder):
  split_as_older_checkpoints(folder)
  assert read_config(folder) == PreprocessConfig(IMAGE, VIDEO, STYLED)


def test_what_is_left_out_is_as_in_transformers(tmp_path):
  config = read_config(tmp_path)
  assert config.image == ImageConfig(clamp_small_sides=False, max_crops_eval=8,
                                     use_global_col_tokens=True)
  assert config.video == VideoConfig(max_frames=64, max_frames_eval=64)


@pytest.mark.parametrize('flags, expected', [
  ({'use_single_crop_col_tokens': None, 'image_use_col_tokens': False}, (False, False, True, True)),
  ({'use_single_crop_col_tokens': True}, (True, True, True, True)),
  ({'use_single_crop_start_token': False, 'use_frame_special_tokens': False},
   (True, False, False, False)),
])
def test_flags_of_layout_tokens(folder, flags, expected):
  change(folder, 'processor_config.json', lambda c: c.update(flags))
  config = read_config(folder)
  assert (config.image.use_col_tokens, config.image.use_global_col_tokens,
          config.image.use_low_res_start,
          config.video.use_frame_special_tokens) == expected


@pytest.mark.parametrize('part, key, value', [
  ('image_processor', 'resample', 3),
  ('image_processor', 'image_mean', [0.48, 0.46, 0.41]),
  ('image_processor', 'image_std', [0.5, 0.5, 0.4]),
  ('image_processor', 'do_resize', False),
  ('image_processor', 'do_rescale', False),
  ('image_processor', 'rescale_factor', 1 / 127.5),
  ('image_processor', 'size', {'height': 126, 'width': 140}),
  ('image_processor', 'size', {'shortest_edge': 126}),
  ('image_processor', 'max_crops', 0),
  ('image_processor', 'max_crops', 2 ** 63),
  ('image_processor', 'overlap_margins', [2]),
  ('image_processor', 'patch_sise', 14),
  ('image_processor', 'do_center_crop', True),
  ('video_processor', 'do_normalize', False),
  ('video_processor', 'do_sample_frames', False),
  ('video_processor', 'frame_sample_mode', 'fps'),
  ('video_processor', 'frame_sample_mode', 'nearest'),
  ('video_processor', 'fps', 2),
  ('video_processor', 'max_fps', '2'),
  (None, 'video_use_col_tokens', True),
  (None, 'image_use_col_tokens', 'yes'),
  (None, 'time_mode', 'per-frame'),
])
@pytest.mark.parametrize('older', [False, True])
def test_what_is_not_supported_is_named(folder, part, key, value, older):
  change(folder, 'processor_config.json', lambda c: (c[part] if part else c).update({key: value}))
  name = 'processor_config.json'
  if older:
    split_as_older_checkpoints(folder)
    name = {'image_processor': 'preprocessor_config.json',
            'video_processor': 'video_preprocessor_config.json'}.get(
              part, name)
  with pytest.raises(ValueError) as error:
    Processor.from_pretrained(folder)
  assert all(word in str(error.value) for word in (f'{folder / name}', key, repr(value)))


def test_an_unknown_key_names_the_nearest(folder):
  change(folder, 'processor_config.json', lambda c: c['image_processor'].update(max_crop=4))
  with pytest.raises(ValueError, match='did you mean max_crops'):
    read_config(folder)


def test_crops_must_hold_their_margins(folder):
  change(folder, 'processor_config.json',
         lambda c: c['image_processor'].update(overlap_margins=[5, 4]))
  with pytest.raises(ValueError, match='margins'):
    read_config(folder)


def test_frames_must_be_as_large_as_crops(folder):
  size = {'height': 140, 'width': 140}
  change(folder, 'processor_config.json', lambda c: c['video_processor'].update(size=size))
  with pytest.raises(ValueError, match='140 px .* 126 px'):
    read_config(folder)


@pytest.mark.parametrize('name',
                         ['chat_template.json', 'tokenizer_config.json', 'processor_config.json'])
@pytest.mark.parametrize('named', [False, True])
def test_places_of_the_template(folder, name, named):
  (folder / 'chat_template.jinja').unlink()
  template = '{{ messages[0].content[1].text }}<|image|>'
  value = [{'name': 'tool', 'template': 'no'},
           {'name': 'default', 'template': template}] if named else template
  change(folder, name, lambda c: c.update(chat_template=value))
  assert Processor.from_pretrained(folder).template == template


def test_without_a_template_the_released_one_holds(folder):
  wanted = Processor.from_pretrained(folder)(MESSAGES)['tokens']
  (folder / 'chat_template.jinja').unlink()
  np.testing.assert_array_equal(Processor.from_pretrained(folder)(MESSAGES)['tokens'], wanted)


def test_a_broken_template_is_an_error_at_once(folder):
  (folder / 'chat_template.jinja').write_text('{% if %}')
  with pytest.raises(ValueError, match='cannot be compiled'):
    Processor.from_pretrained(folder)


@pytest.mark.parametrize('ids, expected', [(423, (423,)), ([421, 423], (421, 423)), (None, None)])
def test_end_tokens_of_the_generation_configuration(folder, ids, expected):
  change(folder, 'generation_config.json', lambda c: c.update(eos_token_id=ids))
  processor = Processor.from_pretrained(folder)
  assert processor.eos_ids == (expected or (processor.tokenizer.eos_id,))
  assert processor.eos_id == processor.eos_ids[0]


def test_control_tokens_may_stand_in_the_map_alone(folder):
  wanted = Processor.from_pretrained(folder).tokenizer.named_tokens
  config = json.loads((folder / 'tokenizer_config.json').read_text())
  moved = {key: {'content': config.pop(key)} for key in ('bos_token', 'eos_token', 'pad_token')}
  (folder / 'tokenizer_config.json').write_text(json.dumps(config))
  (folder / 'special_tokens_map.json').write_text(json.dumps(moved))
  assert Processor.from_pretrained(folder).tokenizer.named_tokens == wanted


def test_without_a_bos_token_the_eos_token_begins(folder):
  change(folder, 'tokenizer_config.json', lambda c: c.update(bos_token=None))
  processor = Processor.from_pretrained(folder)
  assert processor(MESSAGES)['tokens'][0] == processor.tokenizer.eos_id == processor.bos_id


def test_the_base_vocabulary_is_that_of_the_configuration(folder):
  change(folder, 'config.json', lambda c: c['text_config'].update(vocab_size=500))
  with pytest.raises(ValueError, match='more than the base vocabulary'):
    Processor.from_pretrained(folder)


def test_ids_of_configuration_and_tokenizer_must_agree(folder):
  change(folder, 'config.json', lambda c: c.update(image_patch_id=515))
  with pytest.raises(ValueError, match='config.json: image_patch_id is 515'):
    Processor.from_pretrained(folder)


def test_missing_files(tmp_path):
  with pytest.raises(ValueError, match='none: no such folder'):
    Processor.from_pretrained(tmp_path / 'none')
  with pytest.raises(FileNotFoundError, match='tokenizer'):
    Processor.from_pretrained(tmp_path)


def test_a_file_that_is_not_json_is_named(folder):
  (folder / 'processor_config.json').write_text('{')
  with pytest.raises(ValueError, match='processor_config.json: not valid JSON'):
    Processor.from_pretrained(folder)


def test_files_are_written_back_byte_for_byte(folder, tmp_path):
  (folder / 'generation_config.json').write_bytes(b'{"eos_token_id":  [423],\r\n "x": "\xc3\xa4"}')
  processor = Processor.from_pretrained(folder)
  wanted = {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}
  shutil.rmtree(folder)
  processor.save(tmp_path / 'copy')
  assert {path.name: path.read_bytes() for path in (tmp_path / 'copy').iterdir()} == wanted


@pytest.fixture
def own(tmp_path):
  train_tokenizer([' What is in this image? 1 2'], 300, tmp_path / 'tokenizer.json')
  return Tokenizer.from_file(tmp_path / 'tokenizer.json', base_vocab_size=320)


@pytest.mark.parametrize('message_format', ['qwen3', 'role', 'none'])
def test_a_processor_of_ones_own_is_read_back(own, tmp_path, message_format):
  config = PreprocessConfig(
    ImageConfig(crop_size=56, overlap_margins=(1, 1), max_crops=2, max_crops_eval=4),
    VideoConfig(max_frames=4, max_frames_eval=9), TextConfig(message_format))
  processor = Processor(own, config, eos_ids=[5, 7])
  processor.save(tmp_path / 'saved')
  saved = Processor.from_pretrained(tmp_path / 'saved')
  assert saved.config.image == dataclasses.replace(config.image, max_crops=4,
                                                   clamp_small_sides=False)
  assert saved.config.video == dataclasses.replace(config.video, max_frames=9)
  assert (saved.template, saved.eos_ids, saved.tokenizer.special) == (processor.template, (5, 7),
                                                                      own.special)
  for name in ('tokens', 'crops', 'pool_index'):
    np.testing.assert_array_equal(saved(MESSAGES)[name], processor(MESSAGES)[name])


def test_fillers_precede_the_extra_tokens(own, tmp_path):
  Processor(own, PreprocessConfig()).save(tmp_path / 'saved')
  saved = json.loads((tmp_path / 'saved' / 'tokenizer.json').read_text())
  added = {token['id']: token['content'] for token in saved['added_tokens']}
  size = own.base_vocab_size - sum(name.startswith('|<EXTRA') for name in added.values())
  assert added[size] == '|<EXTRA_TOKENS_0>|' and added[319].startswith('|<EXTRA_TOKENS_')
  assert added[320] == '<im_start>' and added[333] == '<|vit_loc|>'


@pytest.mark.parametrize('config, field', [
  (PreprocessConfig(image=ImageConfig(resize='letterbox')), "image.resize='letterbox'"),
  (PreprocessConfig(image=ImageConfig(mode='resize')), 'image.mode'),
  (PreprocessConfig(video=VideoConfig(time_mode='none')), 'video.time_mode'),
  (dataclasses.replace(PreprocessConfig(), layout_format='seed1'), 'layout_format'),
])
def test_what_transformers_cannot_express_is_not_written(own, tmp_path, config, field):
  with pytest.raises(ValueError, match=field):
    Processor(own, config).save(tmp_path / 'saved')
  assert not (tmp_path / 'saved').exists()


V1 = {'image_processor_type': 'MolmoImageProcessor', 'base_image_input_size': [336, 336],
      'do_normalize': True,
      'image_mean': [0.48145466, 0.4578275, 0.40821073],
      'image_std': [0.26862954, 0.26130258, 0.27577711],
      'image_padding_mask': True, 'image_patch_size': 14, 'image_token_length_h': 12,
      'image_token_length_w': 12,
      'max_crops': 12, 'overlap_margins': [4, 4], 'processor_class': 'MolmoProcessor',
      'auto_map': {'a': 'b'}}


def test_molmo_v1(own, tmp_path):
  (tmp_path / 'preprocessor_config.json').write_text(json.dumps(V1))
  (tmp_path / 'processor_config.json').write_text(
    json.dumps({'message_format': 'role', 'system_prompt': 'x'}))
  assert read_config(tmp_path) == MOLMO_V1
  inputs = Processor(own, read_config(tmp_path))(MESSAGES)
  assert inputs['crops'].shape == (2, 336, 336, 3) and inputs['patch_mask'].shape == (2, 576)
  assert inputs['image_grids'].tolist() == [[12, 12, 12, 12]]
  assert (inputs['tokens'] == own.special['<im_col>']).sum() == 24
  assert own.decode(inputs['tokens']) == ' User: a 1 Assistant:'


def test_molmo_v1_with_another_normalisation_is_an_error(tmp_path):
  (tmp_path / 'preprocessor_config.json').write_text(
    json.dumps({**V1, 'image_mean': [0.4, 0.5, 0.5]}))
  with pytest.raises(ValueError, match='preprocessor_config.json: image_mean'):
    read_config(tmp_path)


@pytest.mark.parametrize('changes', [
  {}, dict(max_crops_eval=36, max_crops=36, crop_size=56, overlap_margins=(1, 1)),
  dict(resize='stretch', patch_mask=True, crop_size=378)], ids=['clip', 'other sizes', 'siglip'])
def test_a_processor_of_molmo_v1_of_ones_own_comes_back(own, tmp_path, changes):
  config = dataclasses.replace(MOLMO_V1, image=dataclasses.replace(MOLMO_V1.image, **changes),
                               text=dataclasses.replace(MOLMO_V1.text, message_format='none'))
  Processor(own, config).save(tmp_path)
  again = Processor.from_pretrained(tmp_path)
  assert again.config == config and again.template == Processor(own, config).template
  assert again.eos_ids == (own.eos_id,
                           ) and again.tokenizer.special['<im_col>'] == own.special['<im_col>']


@pytest.mark.parametrize('changes, message', [
  (dict(resize='stretch_bicubic'), "image.resize='stretch_bicubic'; it knows letterbox, stretch"),
  (dict(shift_patch_mask=False), r'image.shift_patch_mask=False \(released: True\)'),
  (dict(use_col_tokens=False), 'image.use_col_tokens=False')])
def test_what_the_files_of_molmo_v1_cannot_say_is_named(own, tmp_path, changes, message):
  config = dataclasses.replace(MOLMO_V1, image=dataclasses.replace(MOLMO_V1.image, **changes))
  with pytest.raises(ValueError, match=message):
    Processor(own, config).save(tmp_path / 'saved')
  assert not (tmp_path / 'saved').exists()


@pytest.mark.parametrize('name, contents, message', [
  ('generation_config.json', b'{"eos_token_id": 1000000000}', 'eos_token_id is 1000000000'),
  ('generation_config.json', b'{"eos_token_id": []}', 'eos_token_id is .*; it must have an id'),
  ('tokenizer_config.json', b'{"eos_token": true}', 'eos_token is True; it must be of type str'),
  ('tokenizer_config.json', b'{"eos_token": {"content": 1}}', 'eos_token.content is 1'),
  ('tokenizer_config.json', b'', 'not valid JSON'), ('tokenizer_config.json', b'\xff', 'utf-8'),
  ('tokenizer.json', b'{"model": 3}', 'is not a tokenizer.json'),
  ('chat_template.jinja', b'\xff', 'cannot be read as text'),
  ('processor_config.json', b'{"image_processor": {"max_crops": 9223372036854775808}}',
   'image_processor.max_crops is 9223372036854775808; it must be of type int from 1 to 1000')])
def test_a_damaged_file_is_one_error_that_names_it(folder, name, contents, message):
  (folder / name).write_bytes(contents)
  with pytest.raises(CheckpointError, match=f'{name}.*{message}'):
    Processor.from_pretrained(folder)


@pytest.mark.parametrize('name', ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja',
                                  'generation_config.json', 'processor_config.json'])
def test_a_fifo_is_refused_at_once(folder, name):
  (folder / name).unlink(missing_ok=True)
  os.mkfifo(folder / name)
  with pytest.raises(MolmoError, match=f'{name}: a FIFO'):
    Processor.from_pretrained(folder)
