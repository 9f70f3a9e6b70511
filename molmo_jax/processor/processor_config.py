"""How a Hugging Face processor cuts images and videos: its JSON files ↔ `PreprocessConfig`.

transformers 5 keeps everything in `processor_config.json`; older checkpoints keep the image part in
`preprocessor_config.json` and the video part in `video_preprocessor_config.json`. What a file
leaves out has the value of the transformers classes. A value that would change the arrays and is
not supported is an error, and so is an unknown key that is set. Sources: docs/model.md §6–8.
"""

from __future__ import annotations

import dataclasses
import operator
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from molmo_jax.configuration import Positive
from molmo_jax.errors import CheckpointError
from molmo_jax.json_section import Section, keys, written
from molmo_jax.normalization import STATISTICS
from molmo_jax.preprocess.types import (
  MOLMO_V1,
  ImageConfig,
  PreprocessConfig,
  Side,
  TextConfig,
  VideoConfig,
)

SIGLIP_MEAN, SIGLIP_STD = STATISTICS['siglip']
KEYS = tomllib.loads(Path(__file__).with_name('keys.toml').read_text(encoding='utf-8'))
IMAGE, IMAGE_V1, IMAGE_TOKENS = (keys(ImageConfig, KEYS[part])
                                 for part in ('image', 'image_v1', 'image_tokens'))
VIDEO, VIDEO_TOKENS = (keys(VideoConfig, KEYS[part]) for part in ('video', 'video_tokens'))
PIXELS, V1_RESIZE, FIELDS = (KEYS[part] for part in ('pixels', 'resize_v1', 'fields'))
# The released models were fine-tuned with style tags (docs/training.md §4.1); their files do not
# say so.
RELEASED_STYLES: Any = 'demo_or_style_v2'


def read_config(folder: Path) -> PreprocessConfig:
  """How the processor in a folder cuts images and videos. Small sides are not clamped, as released.

  Raises:
    CheckpointError: a file that is not JSON, or a value that is not supported; the message names
      file, key and value.
  """
  processor = Section.read(folder / 'processor_config.json', optional=True)
  image = _part(processor, 'image_processor', 'preprocessor_config.json')
  if is_v1(folder):
    return _read_v1(image, processor, Section.read(folder / 'config.json', optional=True))
  video = _part(processor, 'video_processor', 'video_preprocessor_config.json')
  tokens = processor.fields(IMAGE_TOKENS, use_global_col_tokens=None)
  if tokens['use_global_col_tokens'] is None:
    tokens['use_global_col_tokens'] = tokens['use_col_tokens']
  frame_tokens = processor.fields(VIDEO_TOKENS)
  processor.demand(video_use_col_tokens=False, time_mode='per-frame-compact')
  processor.finish(FIELDS['ignored'])
  config = PreprocessConfig(image=_read_image(image, **tokens),
                            video=_read_video(video, **frame_tokens),
                            text=TextConfig(style_prefix=RELEASED_STYLES))
  frames = (_side(video), video.size('patch_size', default=14))
  if frames != (config.image.crop_size, config.image.patch_size):
    raise CheckpointError(f'{video.file}: frames of {frames[0]} px with patches of {frames[1]} px '
                          f'must be as large as the crops of images, {config.image.crop_size} px '
                          f'with {config.image.patch_size} px')
  return config


def is_v1(folder: Path) -> bool:
  """Whether the processor in a folder is that of Molmo v1."""
  image = Section.read(folder / 'preprocessor_config.json', optional=True).values
  model = Section.read(folder / 'config.json', optional=True).values
  return (model.get('model_type') == 'molmo' or 'base_image_input_size' in image
          or image.get('image_processor_type') == 'MolmoImageProcessor')


def _part(processor: Section, key: str, file: str) -> Section:
  """The image or video part: inside processor_config.json, or else in a file of its own."""
  if isinstance(processor.values.get(key), dict):
    return processor.section(key)
  return Section.read(processor.file.with_name(file), optional=True)


def _read_image(part: Section, **tokens: Any) -> ImageConfig:
  part.demand(image_mean=SIGLIP_MEAN, image_std=SIGLIP_STD, **PIXELS)
  found = part.fields(IMAGE)
  config = ImageConfig(crop_size=_side(part), max_crops=found['max_crops_eval'],
                       clamp_small_sides=False, **found, **tokens)
  part.finish(FIELDS['ignored'])
  if config.crop_size % config.patch_size or config.grid <= sum(config.overlap_margins):
    raise CheckpointError(f'{part.file}: crops of {config.crop_size} px do not divide into patches '
      f'of {config.patch_size} px with margins of {config.overlap_margins} patches')
  return config


def _read_video(part: Section, **tokens: Any) -> VideoConfig:
  part.demand(image_mean=SIGLIP_MEAN, image_std=SIGLIP_STD, do_sample_frames=True, **PIXELS)
  found = part.fields(VIDEO)
  # null says that there is no limit, which is not the same as to say nothing
  max_fps = part.take('max_fps', kind=Positive, default=None if 'max_fps' in part.values else 2.0)
  config = VideoConfig(max_frames=found['max_frames_eval'], max_fps=max_fps, **found, **tokens)
  part.asked |= {'size', 'patch_size'}
  part.finish(FIELDS['ignored'])
  return config


def _side(part: Section) -> int:
  size = part.take('size', kind=dict[str, Side], default={'height': 378, 'width': 378})
  side = size.get('height', 0)
  if size != {'height': side, 'width': side}:
    part.fail('size', "it must be a square, such as {'height': 378, 'width': 378}")
  return side


def _read_v1(part: Section, processor: Section, model: Section) -> PreprocessConfig:
  """Molmo v1: `MolmoImageProcessor` of the 0924 releases (docs/model.md §6, §8.2). A tower other
  than the released one is described in section `vision_backbone` of config.json.
  """
  tower = model.values.get('vision_backbone') or {}
  likely = (kind for kind, (mean, _) in STATISTICS.items()
            if part.values.get('image_mean') == list(mean))
  kind = tower.get('image_model_type') or next(likely, 'openai')
  resize = tower.get('resize_mode') or ('default' if kind == 'openai' else kind)
  if kind not in STATISTICS or resize not in V1_RESIZE:
    raise CheckpointError(f'{model.file}: vision_backbone is of image_model_type {kind!r} with '
      f'resize_mode {resize!r}; supported are {", ".join(STATISTICS)} with {", ".join(V1_RESIZE)}')
  mean, deviation = STATISTICS[kind]
  part.demand(image_mean=mean, image_std=deviation, image_padding_mask=True, **PIXELS)
  found, side = part.fields(IMAGE_V1), part.square('base_image_input_size', default=336)
  tokens = {part.size(f'image_token_length_{axis}', default=12) for axis in 'hw'}
  if side % found['patch_size'] or len(tokens) > 1:
    part.fail('base_image_input_size', f'with patches of {found["patch_size"]} px and {tokens} '
              'tokens a side; crops must be squares of whole patches')
  part.finish(FIELDS['ignored'])
  pool = -(-side // found['patch_size'] // tokens.pop())
  image = dataclasses.replace(
    MOLMO_V1.image, crop_size=side, pooling=(pool, pool), max_crops=found['max_crops_eval'],
    resize=V1_RESIZE[resize], patch_mask=None if resize == 'default' else True, **found)
  form = processor.choose('message_format', words={'role': 'role', 'none': 'none'}, default='role')
  return dataclasses.replace(
    MOLMO_V1, image=image, video=dataclasses.replace(MOLMO_V1.video, pooling=image.pooling),
    text=dataclasses.replace(MOLMO_V1.text, message_format=form))


def config_files(config: PreprocessConfig) -> dict[str, dict[str, Any]]:
  """The files that `read_config` and transformers' `AutoProcessor` read, by name.

  The number of crops and of frames is that for inference. Small sides are not clamped where
  transformers reads it: the released models are the same in this. Molmo v1 is written as the 0924
  releases have it, without the Python code that they bring along.

  Raises:
    CheckpointError: a configuration that the released processors cannot express; the message names
      the fields.
  """
  if config.image.pool_per_crop:
    _check_released(config, MOLMO_V1, FIELDS['unwritten_v1'], 'Molmo v1')
    processor = {'processor_class': 'MolmoProcessor'}
    return {'preprocessor_config.json': processor | _v1_image_processor(config.image),
            'processor_config.json': processor | {'message_format': config.text.message_format}}
  _check_released(config, PreprocessConfig(), FIELDS['unwritten'], 'Molmo2')
  image, video = config.image, config.video
  size = {'height': image.crop_size, 'width': image.crop_size}
  pixels = PIXELS | {'image_mean': list(SIGLIP_MEAN), 'image_std': list(SIGLIP_STD),
                     'patch_size': image.patch_size, 'size': size}
  return {'processor_config.json': {
    'processor_class': 'Molmo2Processor',
    'image_processor': {**pixels, 'image_processor_type': 'Molmo2ImageProcessor',
                        **written(IMAGE, image)},
    'video_processor': {**pixels, 'video_processor_type': 'Molmo2VideoProcessor',
                        'do_sample_frames': True, 'max_fps': video.max_fps, 'sampling_fps': 2,
                        **written(VIDEO, video)},
    'video_use_col_tokens': False, **written(IMAGE_TOKENS, image), **written(VIDEO_TOKENS, video)}}


def _v1_image_processor(image: ImageConfig) -> dict[str, Any]:
  kinds = {'letterbox': 'openai', 'stretch': 'siglip'}   # the tower that goes with a way to resize
  if image.resize not in kinds:
    raise CheckpointError('the processor of Molmo v1 cannot express '
                          f'image.resize={image.resize!r}; it knows {", ".join(kinds)}')
  mean, deviation = STATISTICS[kinds[image.resize]]
  tokens = -(-image.grid // image.pooling[0])
  return {
    'image_processor_type': 'MolmoImageProcessor', 'base_image_input_size': [image.crop_size] * 2,
    'do_normalize': True, 'image_mean': list(mean), 'image_std': list(deviation),
    'image_padding_mask': True, 'image_token_length_h': tokens, 'image_token_length_w': tokens,
    **written(IMAGE_V1, image)}


def _check_released(config: PreprocessConfig, released: PreprocessConfig, fields: Sequence[str],
                    model: str) -> None:
  values = ((name, *map(operator.attrgetter(name), (config, released))) for name in fields)
  different = [f'{name}={ours!r} (released: {theirs!r})' for name, ours, theirs in values
               if ours != theirs]
  if different:
    raise CheckpointError(f"the files of {model}'s processor cannot express {', '.join(different)}")
