"""Golden images, groups of images and videos: crops, pooling windows and layout tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from molmo_jax.preprocess.images import normalize
from molmo_jax.preprocess.layout import prepare_image, prepare_images, prepare_video
from molmo_jax.preprocess.types import ImageConfig, Subtitle, VideoConfig, VisualInput
from tests.golden.stub_tokenizer import StubTokenizer

CONFIGS = {
    'siglip2': ImageConfig(),
    'openai': ImageConfig(crop_size=336, resize='letterbox'),
    'dino': ImageConfig(crop_size=336, resize='stretch_bicubic'),
}
# (what one value may be off by, share of the values that may be off at all); a level is 1/255 of
# the range. The reference itself rounds an exact half up or down with its number of threads, and
# these pictures have many halves.
TOLERANCE = {'uint8': (1.0, 3e-3), 'siglip2': (2.01 / 255, 3e-3), 'openai': (3e-5, 1.0),
             'dino': (4.5 / 255, 5e-3)}
NORMALIZATION = {'siglip2': 'siglip', 'openai': 'openai', 'dino': 'dino'}


def recognises(folder: Path) -> bool:
  """True for a folder with a JSON file that lists image and video cases, and an archive of their
  arrays.
  """
  return _find(folder) is not None


def run(folder: Path) -> list[tuple[str, str | None]]:
  """Checks every case: (name, None) or (name, what is wrong)."""
  found = _find(folder)
  if found is None:
    raise ValueError(f'{folder} holds no golden images and videos')
  cases, archive = found
  special = cases['special_token_ids']
  results = []
  with np.load(archive) as data:
    arrays = dict(data)
  checks = {'image_cases': _check_image, 'multi_image_cases': _check_images,
            'video_cases': _check_video}
  for key, check in checks.items():
    for case in cases.get(key, ()):
      try:
        reason = check(case, arrays, special, StubTokenizer(special))
      except Exception as error:   # whatever goes wrong is this case's result
        reason = f'{type(error).__name__}: {error}'
      results.append((case['key'], reason))
  return results


def synthetic_image(kind: str, height: int, width: int) -> np.ndarray:
  """The pictures of the golden data, uint8 [height,width,3]: integer formulas of the pixel's place.
  """
  y, x = np.mgrid[:height, :width].astype(np.int64)
  if kind == 'A':
    planes = (3 * x + 5 * y) % 256, (x * x // 37 + 2 * y) % 256, 200 * ((x // 8 + y // 8)
                                                                        % 2) + x * y % 41
  elif kind == 'B':
    planes = (255 * x // max(width - 1, 1), 255 * y // max(height - 1, 1),
              ((x - width // 2) ** 2 + (y - height // 2) ** 2) // 97 % 256)
  elif kind == 'C':
    planes = ((7 * x + y * y // 53) % 256, 255 - 180 * ((x // 5 + y // 3) % 2) - (x + y) % 60,
              (13 * x + 11 * y + x * y // 101) % 256)
  else:
    raise ValueError(f'unknown kind of synthetic image: {kind!r}')
  return np.stack(planes, axis=-1).astype(np.uint8)


def _find(folder: Path) -> tuple[dict[str, Any], Path] | None:
  for path in sorted(folder.glob('*.json')):
    try:
      cases = json.loads(path.read_text())
    except (OSError, ValueError):
      continue
    if not isinstance(cases, dict) or not {'image_cases', 'video_cases',
                                           'special_token_ids'} <= set(cases):
      continue
    first = (cases['image_cases'] + cases['video_cases'])[:1]
    for archive in sorted(folder.glob('*.npz')):
      with np.load(archive) as data:
        if first and f'{first[0]["key"]}.token_pooling' in data:
          return cases, archive
  return None


def _check_image(case: dict[str, Any], arrays: dict[str, np.ndarray], special: dict[str, int],
                 tokenize: StubTokenizer) -> str | None:
  image = synthetic_image(case['image_kind'], case['height'], case['width'])
  got = prepare_image(image, CONFIGS[case['vit']], case['max_crops'], special, tokenize)
  if case['use_image_mask']:
    expected = arrays[f'{case["key"]}.image_masks']
    if got.patch_mask is None or got.patch_mask.shape != expected.shape:
      return (f'patch_mask {None if got.patch_mask is None else got.patch_mask.shape}, expected '
        f'{expected.shape}')
    if np.abs(got.patch_mask - expected).max() > 1e-6:
      return f'patch_mask is off by {np.abs(got.patch_mask - expected).max():.3g}'
  return _compare(got, case['key'], arrays, case['vit'], case['images_shape'], case['images_dtype'])


def _check_images(case: dict[str, Any], arrays: dict[str, np.ndarray], special: dict[str, int],
                  tokenize: StubTokenizer) -> str | None:
  images = [synthetic_image(*image) for image in case['images']]
  inputs = prepare_images(images, CONFIGS['siglip2'], case['max_multi_image_crops'], special,
                          tokenize)
  for k, (got, out) in enumerate(zip(inputs, case['images_out'], strict=True)):
    reason = _compare(got, f'{case["key"]}.{k}', arrays, 'siglip2', out['images_shape'],
                      out['images_dtype'])
    if reason:
      return f'image {k + 1}: {reason}'
  return None


def _check_video(case: dict[str, Any], arrays: dict[str, np.ndarray], special: dict[str, int],
                 tokenize: StubTokenizer) -> str | None:
  frames = np.stack([synthetic_image(kind, case['height'], case['width'])
                     for kind in case['frame_kinds']])
  subtitles = case['subtitle']
  if isinstance(subtitles, list):
    subtitles = [Subtitle(*line) for line in subtitles]
  options = ('time_mode', 'subtitle_mode', 'use_frame_special_tokens', 'per_frame_special_token')
  config = VideoConfig(pooling=(case['pooling'],) * 2, **{name: case[name] for name in options})
  try:
    got = prepare_video(frames, case['timestamps'], subtitles, CONFIGS['siglip2'], config, special,
                        tokenize)
  except ValueError:
    if case['error']:
      return None
    raise
  return _compare(got, case['key'], arrays, 'siglip2', case['images_shape'], case['images_dtype'])


def _compare(got: VisualInput, key: str, arrays: dict[str, np.ndarray], vit: str, shape: list[int],
             dtype: str) -> str | None:
  """None, or how an input differs from the arrays stored under `key`."""
  for name, value in (('tokens', got.tokens), ('token_pooling', got.pool_index)):
    expected = arrays[f'{key}.{name}']
    if value.shape != expected.shape:
      return f'{name} has shape {value.shape}, expected {expected.shape}'
    if (value != expected).any():
      return f'{name} differs first at {np.argwhere(value != expected)[0].tolist()}'
  crops = got.crops if dtype == 'uint8' else normalize(got.crops, NORMALIZATION[vit])
  if crops.dtype != dtype:
    return f'crops are {crops.dtype}, expected {dtype}'
  patches = _patches(crops, CONFIGS[vit].patch_size)
  if list(patches.shape) != shape:
    return f'patches have shape {list(patches.shape)}, expected {shape}'
  values = np.concatenate([patches.ravel()[arrays[f'{key}.sample_flat_idx']],
                           patches.reshape(-1,
                                           patches.shape[-1])[arrays[f'{key}.patch_idx']].ravel()])
  expected = np.concatenate([arrays[f'{key}.sample_values'], arrays[f'{key}.patch_values'].ravel()])
  errors = np.abs(values.astype(np.float64) - expected)
  largest, share = TOLERANCE['uint8' if dtype == 'uint8' else vit]
  if errors.max() > largest or (errors > 1e-6).mean() > share:
    return (f'pixels are off by up to {errors.max():.3g}, {(errors > 1e-6).sum()} of {errors.size} '
      'differ')
  flat = patches.reshape(len(patches), -1).astype(np.float64)
  for name, value in (('crop_mean', flat.mean(axis=1)), ('crop_std', flat.std(axis=1))):
    error = np.abs(value - arrays[f'{key}.{name}']).max()
    if error > (2e-2 if dtype == 'uint8' else 2e-4):
      return f'{name} is off by {error:.3g}'
  return None


def _patches(crops: np.ndarray, size: int) -> np.ndarray:
  """[C,h,w,3] → [C, P, size * size * 3], raster order, pixels of a patch by row, column, channel.
  """
  count, height, width, channels = crops.shape
  blocks = crops.reshape(count, height // size, size, width // size, size, channels)
  return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(count, -1, size * size * channels)
