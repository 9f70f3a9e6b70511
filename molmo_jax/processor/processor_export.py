"""Writes a processor in the files that `Processor.from_pretrained` and transformers'
`AutoProcessor` read.

A processor of Molmo v1 is written as the 0924 releases have it, without the Python code that they
bring along.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from molmo_jax.files import write_atomically
from molmo_jax.preprocess.tokenizer import Tokenizer
from molmo_jax.preprocess.types import MOLMO_V1, PreprocessConfig
from molmo_jax.processor.processor_files import BILINEAR, SIGLIP, V1_STATISTICS, ProcessorFiles

# What the files cannot say: fields that must have their released value.
_UNWRITTEN = {
  'image': ('mode', 'resize', 'pool_per_crop', 'shift_patch_mask', 'patch_mask'),
  'video': ('time_mode', 'per_frame_special_token'),
}
_UNWRITTEN_V1 = {
  'image': ('mode', 'use_col_tokens', 'use_global_col_tokens', 'use_low_res_start',
            'clamp_small_sides',
            'number_images', 'shift_patch_mask'),
  'text': ('tree_format',),
}
# the tower that goes with a way to bring images to size
_V1_KINDS = {'letterbox': 'openai', 'stretch': 'siglip'}


def copy_files(files: ProcessorFiles, folder: Path) -> None:
  """Writes the files of a checkpoint's processor as they were, byte for byte."""
  folder.mkdir(parents=True, exist_ok=True)
  for name, content in files.contents.items():
    (folder / name).write_bytes(content)


def write_files(folder: Path, tokenizer: Tokenizer, config: PreprocessConfig, template: str,
                eos_ids: Sequence[int]) -> None:
  """Makes the files of a processor of one's own.

  The number of crops and of frames is that for inference. Small sides are not clamped where
  transformers reads it: the released models are the same in this.

  Raises:
    ValueError: a configuration that the released processors cannot express; the message names the
      field.
  """
  names = tokenizer.named_tokens
  is_v1 = config.image.pool_per_crop
  _check_released(config, *((MOLMO_V1, _UNWRITTEN_V1, 'Molmo v1') if is_v1 else
                            (PreprocessConfig(), _UNWRITTEN, 'Molmo2')))
  processor = {'processor_class': 'MolmoProcessor' if is_v1 else 'Molmo2Processor'}
  contents = {
    'tokenizer_config.json': {
      'tokenizer_class': 'PreTrainedTokenizerFast', **processor, **names,
      'clean_up_tokenization_spaces': False, 'padding_side': 'left', 'model_max_length': 10 ** 6,
      'extra_special_tokens': tokenizer.extra_names},
    'generation_config.json': {
      'bos_token_id': tokenizer.bos_id, 'pad_token_id': tokenizer.pad_id,
      'eos_token_id': eos_ids[0] if len(eos_ids) == 1 else list(eos_ids)},
  }
  if is_v1:
    contents['preprocessor_config.json'] = processor | _v1_image_processor(config)
    contents['processor_config.json'] = processor | {'message_format': config.text.message_format}
  else:
    contents['processor_config.json'] = processor | _processor_config(config)
  write_atomically(folder / 'tokenizer.json', tokenizer.to_json())
  for name, content in contents.items():
    write_atomically(folder / name, json.dumps(content, indent=2, ensure_ascii=False) + '\n')
  write_atomically(folder / 'chat_template.jinja', template)


def _v1_image_processor(config: PreprocessConfig) -> dict[str, Any]:
  image = config.image
  if image.resize not in _V1_KINDS:
    raise ValueError(f'the processor of Molmo v1 cannot express image.resize={image.resize!r}; it '
      f'knows {", ".join(_V1_KINDS)}')
  mean, deviation = V1_STATISTICS[_V1_KINDS[image.resize]]
  tokens = -(-image.grid // image.pooling[0])
  return {
    'image_processor_type': 'MolmoImageProcessor', 'base_image_input_size': [image.crop_size] * 2,
    'do_normalize': True, 'image_mean': list(mean), 'image_std': list(deviation),
    'image_padding_mask': True,
    'image_patch_size': image.patch_size, 'image_token_length_h': tokens,
    'image_token_length_w': tokens,
    'max_crops': image.max_crops_eval, 'overlap_margins': list(image.overlap_margins)}


def _processor_config(config: PreprocessConfig) -> dict[str, Any]:
  image, video = config.image, config.video
  pixels = {
    'do_convert_rgb': True, 'do_normalize': True, 'do_rescale': True, 'do_resize': True,
    'image_mean': list(SIGLIP),
    'image_std': list(SIGLIP), 'patch_size': image.patch_size, 'resample': BILINEAR,
    'rescale_factor': 1 / 255,
    'size': {'height': image.crop_size, 'width': image.crop_size}}
  return {
    'image_processor': {
      **pixels, 'image_processor_type': 'Molmo2ImageProcessor', 'max_crops': image.max_crops_eval,
      'overlap_margins': list(image.overlap_margins), 'pooling_size': list(image.pooling)},
    'video_processor': {
      **pixels, 'video_processor_type': 'Molmo2VideoProcessor', 'do_sample_frames': True,
      'frame_sample_mode': video.frame_sample_mode, 'max_fps': video.max_fps, 'sampling_fps': 2,
      'num_frames': video.max_frames_eval, 'pooling_size': list(video.pooling)},
    'image_use_col_tokens': image.use_col_tokens,
    'use_single_crop_col_tokens': image.use_global_col_tokens,
    'use_single_crop_start_token': image.use_low_res_start, 'video_use_col_tokens': False,
    'use_frame_special_tokens': video.use_frame_special_tokens,
  }


def _check_released(config: PreprocessConfig, released: PreprocessConfig,
                    unwritten: Mapping[str, Sequence[str]],
                    model: str) -> None:
  different = [
    f'{part}.{field}={getattr(getattr(config, part), field)!r} (released: '
    f'{getattr(getattr(released, part), field)!r})'
    for part, fields in unwritten.items() for field in fields
    if getattr(getattr(config, part), field) != getattr(getattr(released, part), field)]
  if config.layout_format != released.layout_format:
    different.append(f'layout_format={config.layout_format!r} (released: '
      f'{released.layout_format!r})')
  if different:
    raise ValueError(f"the files of {model}'s processor cannot express {', '.join(different)}")
