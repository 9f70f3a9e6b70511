"""Writes a processor in the files that transformers' `AutoProcessor` and `Processor.from_pretrained` read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from molmo_jax.files import write_atomically
from molmo_jax.preprocess.processor_files import BILINEAR, SIGLIP, ProcessorFiles
from molmo_jax.preprocess.tokenizer import Tokenizer
from molmo_jax.preprocess.types import ImageConfig, PreprocessConfig, VideoConfig

# What the files cannot say: fields that must have their released value.
_UNWRITTEN = {
  'image': ('mode', 'resize', 'pool_per_crop', 'shift_patch_mask', 'patch_mask'),
  'video': ('time_mode', 'per_frame_special_token'),
}


def copy_files(files: ProcessorFiles, folder: Path) -> None:
  """Writes the files of a checkpoint's processor as they were, byte for byte."""
  folder.mkdir(parents=True, exist_ok=True)
  for name, content in files.contents.items():
    (folder / name).write_bytes(content)


def write_files(folder: Path, tokenizer: Tokenizer, config: PreprocessConfig, template: str,
                eos_ids: Sequence[int]) -> None:
  """Makes the files of a processor of one's own.

  The number of crops and of frames is that for inference. Small sides are not clamped where transformers reads it: the
  released models are the same in this.

  Raises:
    ValueError: a configuration that transformers' Molmo2 processor cannot express; the message names the field.
  """
  _check_released(config)
  names = tokenizer.named_tokens
  contents = {
    'tokenizer_config.json': {
      'tokenizer_class': 'PreTrainedTokenizerFast', 'processor_class': 'Molmo2Processor', **names,
      'clean_up_tokenization_spaces': False, 'padding_side': 'left', 'model_max_length': 10 ** 6,
      'extra_special_tokens': tokenizer.extra_names},
    'processor_config.json': _processor_config(config),
    'generation_config.json': {
      'bos_token_id': tokenizer.bos_id, 'pad_token_id': tokenizer.pad_id,
      'eos_token_id': eos_ids[0] if len(eos_ids) == 1 else list(eos_ids)},
  }
  write_atomically(folder / 'tokenizer.json', tokenizer.to_json())
  for name, content in contents.items():
    write_atomically(folder / name, json.dumps(content, indent=2, ensure_ascii=False) + '\n')
  write_atomically(folder / 'chat_template.jinja', template)


def _processor_config(config: PreprocessConfig) -> dict[str, Any]:
  image, video = config.image, config.video
  pixels = {
    'do_convert_rgb': True, 'do_normalize': True, 'do_rescale': True, 'do_resize': True, 'image_mean': list(SIGLIP),
    'image_std': list(SIGLIP), 'patch_size': image.patch_size, 'resample': BILINEAR, 'rescale_factor': 1 / 255,
    'size': {'height': image.crop_size, 'width': image.crop_size}}
  return {
    'processor_class': 'Molmo2Processor',
    'image_processor': {
      **pixels, 'image_processor_type': 'Molmo2ImageProcessor', 'max_crops': image.max_crops_eval,
      'overlap_margins': list(image.overlap_margins), 'pooling_size': list(image.pooling)},
    'video_processor': {
      **pixels, 'video_processor_type': 'Molmo2VideoProcessor', 'do_sample_frames': True,
      'frame_sample_mode': video.frame_sample_mode, 'max_fps': video.max_fps, 'sampling_fps': 2,
      'num_frames': video.max_frames_eval, 'pooling_size': list(video.pooling)},
    'image_use_col_tokens': image.use_col_tokens, 'use_single_crop_col_tokens': image.use_global_col_tokens,
    'use_single_crop_start_token': image.use_low_res_start, 'video_use_col_tokens': False,
    'use_frame_special_tokens': video.use_frame_special_tokens,
  }


def _check_released(config: PreprocessConfig) -> None:
  released = PreprocessConfig(ImageConfig(), VideoConfig())
  different = [
    f'{part}.{field}={getattr(getattr(config, part), field)!r} (released: {getattr(getattr(released, part), field)!r})'
    for part, fields in _UNWRITTEN.items() for field in fields
    if getattr(getattr(config, part), field) != getattr(getattr(released, part), field)]
  if config.layout_format != released.layout_format:
    different.append(f'layout_format={config.layout_format!r} (released: {released.layout_format!r})')
  if different:
    raise ValueError(f"transformers' Molmo2 processor cannot express {', '.join(different)}")
