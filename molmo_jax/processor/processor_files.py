"""The files of a Hugging Face processor → tokenizer, configuration and chat template (docs/model.md
§6–8, §10).

transformers 5 keeps everything in `processor_config.json`; older checkpoints keep the image and the
video part in `preprocessor_config.json` and `video_preprocessor_config.json`, and the template in
`chat_template.json` or in `tokenizer_config.json`. What a file leaves out has the value of the
transformers classes. A value that would change the arrays and is not supported is an error, and so
is a key that nobody knows and that is set.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molmo_jax.preprocess.config_section import Section
from molmo_jax.preprocess.layout import SPECIAL_TOKENS, V1_SPECIAL_TOKENS
from molmo_jax.preprocess.sampling import sample_times
from molmo_jax.preprocess.tokenizer import Tokenizer
from molmo_jax.preprocess.types import MOLMO_V1, ImageConfig, PreprocessConfig, VideoConfig

# Every file that a processor may consist of.
FILES = ('tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'added_tokens.json',
         'vocab.json',
         'merges.txt', 'processor_config.json', 'preprocessor_config.json',
         'video_preprocessor_config.json',
         'chat_template.jinja', 'chat_template.json', 'generation_config.json')

BILINEAR = 2                                  # Pillow's number of the filter
SIGLIP = (0.5, 0.5, 0.5)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
# Molmo v1: mean and deviation by the kind of tower, and the way to bring an image to size by its
# name in config.json.
V1_STATISTICS = {'openai': (CLIP_MEAN, CLIP_STD), 'siglip': (SIGLIP, SIGLIP),
                 'dino': ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}
V1_RESIZE = {'default': 'letterbox', 'siglip': 'stretch', 'dino': 'stretch_bicubic',
             'metaclip': 'stretch_bicubic'}

# Keys without an influence on the arrays: names of classes, defaults of the call, numbers of what
# is switched off.
_IGNORED = ('auto_map', 'processor_class', 'image_processor_type', 'video_processor_type',
            'feature_extractor_type',
            'transformers_version', 'data_format', 'input_data_format', 'default_to_square',
            'return_tensors', 'device',
            'disable_grouping', 'return_metadata', 'video_metadata', 'crop_size', 'pad_size',
            'sampling_fps')
_IGNORED_ABOVE = ('auto_map', 'processor_class', 'transformers_version', 'chat_template',
                  'image_processor',
                  'video_processor')


@dataclasses.dataclass(frozen=True)
class ProcessorFiles:
  """What the files of a checkpoint's processor say."""
  tokenizer: Tokenizer
  config: PreprocessConfig
  template: str | None                        # None: the checkpoint has no chat template
  eos_ids: tuple[int, ...]
  contents: Mapping[str, bytes]               # the files themselves, by name


def read_processor_files(folder: Path) -> ProcessorFiles:
  """Reads the processor of a checkpoint, of Molmo2 or Molmo v1.

  Raises:
    FileNotFoundError: no such folder, or no tokenizer in it.
    ValueError: a file that is not JSON, or a value that is not supported; the message names file,
      key and value.
  """
  if not folder.is_dir():
    raise FileNotFoundError(f'there is no folder {folder}')
  model, generation = _json(folder / 'config.json'), _json(folder / 'generation_config.json')
  text = model.get('text_config')
  # The base vocabulary is what the configuration says: a table may have more rows (docs/model.md
  # §10, §11.5).
  base = (text if isinstance(text, dict) else model).get('vocab_size')
  extra = V1_SPECIAL_TOKENS if _is_v1(folder) else SPECIAL_TOKENS
  tokenizer = Tokenizer.from_file(folder, base_vocab_size=base, special_tokens=extra)
  _check_ids(model, tokenizer, folder / 'config.json')
  contents = {name: (folder / name).read_bytes() for name in FILES if (folder / name).is_file()}
  return ProcessorFiles(tokenizer, read_config(folder), _read_template(folder),
                        _eos_ids(generation, tokenizer, folder / 'generation_config.json'),
                        contents)


def read_config(folder: Path) -> PreprocessConfig:
  """How the processor in a folder cuts images and videos, with the released behaviour for small
  sides (no clamping).

  Raises:
    ValueError: as `read_processor_files`.
  """
  above = Section(folder / 'processor_config.json', _json(folder / 'processor_config.json'))
  image = _part(folder, above, 'image_processor', 'preprocessor_config.json')
  if _is_v1(folder):
    return _read_v1(image, above, _json(folder / 'config.json').get('vision_backbone') or {})
  video = _part(folder, above, 'video_processor', 'video_preprocessor_config.json')
  col_tokens = above.flag('image_use_col_tokens', True)
  global_col_tokens = above.flag('use_single_crop_col_tokens', None)
  low_res_start = above.flag('use_single_crop_start_token', True)
  frame_tokens = above.flag('use_frame_special_tokens', True)
  above.fixed('video_use_col_tokens', False)
  above.fixed('time_mode', 'per-frame-compact')
  above.finish(_IGNORED_ABOVE)
  return PreprocessConfig(
    image=dataclasses.replace(
      _read_image(image), use_col_tokens=col_tokens, use_low_res_start=low_res_start,
      use_global_col_tokens=col_tokens if global_col_tokens is None else global_col_tokens),
    video=dataclasses.replace(_read_video(video, image), use_frame_special_tokens=frame_tokens))


def _is_v1(folder: Path) -> bool:
  """Whether the processor is that of Molmo v1."""
  file = _json(folder / 'preprocessor_config.json')
  return (_json(folder / 'config.json').get('model_type') == 'molmo'
          or 'base_image_input_size' in file
          or file.get('image_processor_type') == 'MolmoImageProcessor')


def _part(folder: Path, above: Section, key: str, file: str) -> Section:
  """The image or video part: inside processor_config.json, or else in a file of its own."""
  if isinstance(above.values.get(key), dict):
    return Section(above.file, above.values[key], f'{key}.')
  return Section(folder / file, _json(folder / file))


def _read_image(part: Section) -> ImageConfig:
  _read_pixels(part)
  crops = part.number('max_crops', 8)
  config = ImageConfig(
    crop_size=_side(part), patch_size=part.number('patch_size', 14), max_crops=crops,
    max_crops_eval=crops,
    overlap_margins=part.pair('overlap_margins', (4, 4), least=0),
    pooling=part.pair('pooling_size', (2, 2)),
    clamp_small_sides=False)
  part.finish(_IGNORED)
  if config.crop_size % config.patch_size or config.grid <= sum(config.overlap_margins):
    raise ValueError(f'{part.file}: crops of {config.crop_size} px do not divide into patches of '
      f'{config.patch_size} px with margins of {config.overlap_margins} patches')
  return config


def _read_video(part: Section, image: Section) -> VideoConfig:
  _read_pixels(part)
  side, patch = _side(part), part.number('patch_size', 14)
  if (side, patch) != (_side(image), image.number('patch_size', 14)):
    raise ValueError(f'{part.file}: frames of {side} px with patches of {patch} px must be as '
      f'large as the crops of images, {_side(image)} px with {image.number("patch_size", 14)} px')
  frames = part.number('num_frames', 64)
  max_fps = part.rate('max_fps', 2)
  mode = part.values.get('frame_sample_mode') or 'uniform_last_frame'
  part.asked.add('frame_sample_mode')
  try:
    sample_times(1.0, 2, mode, max_fps)
    known = not mode.startswith('fps')        # the released code and the training code differ in it
  except ValueError:
    known = False
  if not known:
    raise ValueError(f"{part.at('frame_sample_mode')} is {mode!r}; it must be 'uniform_last_frame' "
      "or 'uniform'")
  part.fixed('do_sample_frames', True)
  config = VideoConfig(max_frames=frames, max_frames_eval=frames, max_fps=max_fps,
                       frame_sample_mode=mode,
                       pooling=part.pair('pooling_size', (3, 3)))
  part.finish(_IGNORED)
  return config


def _read_pixels(part: Section, mean: tuple = SIGLIP, std: tuple = SIGLIP) -> None:
  for key in ('do_resize', 'do_rescale', 'do_normalize', 'do_convert_rgb'):
    part.fixed(key, True)
  part.fixed('resample', BILINEAR)
  part.close('rescale_factor', (1 / 255,))
  part.close('image_mean', mean)
  part.close('image_std', std)


def _side(part: Section) -> int:
  size = part.values.get('size') or {'height': 378, 'width': 378}
  part.asked.add('size')
  side = size.get('height') if isinstance(size, dict) else None
  if not isinstance(side, int) or side < 1 or size != {'height': side, 'width': side}:
    raise ValueError(f"{part.at('size')} is {size!r}; it must be a square, such as {{'height': "
      f"378, 'width': 378}}")
  return side


def _read_v1(part: Section, above: Section, tower: Mapping[str, Any]) -> PreprocessConfig:
  """Molmo v1: `MolmoImageProcessor` of the 0924 releases (docs/model.md §6, §8.2).

  Args:
    tower: section `vision_backbone` of config.json, where a tower other than the released one is
      described.
  """
  likely = (k for k, (mean, _) in V1_STATISTICS.items()
            if part.values.get('image_mean') == list(mean))
  kind = tower.get('image_model_type') or next(likely, 'openai')
  resize = tower.get('resize_mode') or ('default' if kind == 'openai' else kind)
  if kind not in V1_STATISTICS or resize not in V1_RESIZE:
    raise ValueError(f'{part.file.with_name("config.json")}: vision_backbone is of '
      f'image_model_type {kind!r} with resize_mode {resize!r}; what is known is '
      f'{", ".join(V1_STATISTICS)}; {", ".join(V1_RESIZE)}')
  _read_pixels(part, *V1_STATISTICS[kind])
  part.fixed('image_padding_mask', True)
  size = part.pair('base_image_input_size', (336, 336))
  patch = part.number('image_patch_size', 14)
  tokens = (part.number('image_token_length_h', 12), part.number('image_token_length_w', 12))
  if size[0] != size[1] or size[0] % patch or tokens[0] != tokens[1]:
    raise ValueError(f"{part.at('base_image_input_size')} is {list(size)} with patches of {patch} "
      f"and {list(tokens)} tokens; crops must be squares of whole patches")
  pool = -(-size[0] // patch // tokens[0])
  crops = part.number('max_crops', 12)
  image = dataclasses.replace(
    MOLMO_V1.image, crop_size=size[0], patch_size=patch, pooling=(pool, pool), max_crops=crops,
    max_crops_eval=crops,
    overlap_margins=part.pair('overlap_margins', (4, 4), least=0), resize=V1_RESIZE[resize],
    patch_mask=None if resize == 'default' else True)
  part.finish(_IGNORED)
  form = above.values.get('message_format') or 'role'
  if form not in ('role', 'none'):
    raise ValueError(f"{above.at('message_format')} is {form!r}; it must be 'role' or 'none'")
  return dataclasses.replace(
    MOLMO_V1, image=image, video=dataclasses.replace(MOLMO_V1.video, pooling=image.pooling),
    text=dataclasses.replace(MOLMO_V1.text, message_format=form))


def _read_template(folder: Path) -> str | None:
  file = folder / 'chat_template.jinja'
  if file.is_file():
    return file.read_text(encoding='utf-8')
  # its processor writes prompts itself; tokenizer_config.json has the language model's template
  if _is_v1(folder):
    return None
  for name in ('chat_template.json', 'processor_config.json', 'tokenizer_config.json'):
    template = _json(folder / name).get('chat_template')
    if isinstance(template, list):            # [{'name': 'default', 'template': …}, …]
      template = {entry['name']: entry['template'] for entry in template}.get('default')
    if template:
      return template
  return None


def _check_ids(model: Mapping[str, Any], tokenizer: Tokenizer, file: Path) -> None:
  for key, token in (('image_patch_id', '<im_patch>'), ('image_start_token_id', '<im_start>'),
                     ('image_end_token_id', '<im_end>'), ('frame_start_token_id', '<frame_start>')):
    if model.get(key) is not None and model[key] != tokenizer.special.get(token):
      raise ValueError(f'{file}: {key} is {model[key]}, but the tokenizer has {token} at '
                       f'{tokenizer.special.get(token)}')


def _eos_ids(generation: Mapping[str, Any], tokenizer: Tokenizer, file: Path) -> tuple[int, ...]:
  value = generation.get('eos_token_id')
  ids = [tokenizer.eos_id] if value is None else value if isinstance(value, list) else [value]
  if not ids or not all(isinstance(index, int) and index >= 0 for index in ids):
    raise ValueError(f'{file}: eos_token_id is {value!r}; it must be an id or a list of ids')
  return tuple(ids)


def _json(path: Path) -> dict[str, Any]:
  """A JSON object, empty where there is no such file."""
  if not path.is_file():
    return {}
  try:
    value = json.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:
    raise ValueError(f'{path} is not JSON: {error}') from error
  if not isinstance(value, dict):
    raise ValueError(f'{path} holds a {type(value).__name__}; it must be a JSON object')
  return value
