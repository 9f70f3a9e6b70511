"""Molmo v1: crops, masks, pooling windows and tokens of golden images, and whole sequences of text
and images.

The reference gives every pooled patch of every crop its place in the sequence (`image_input_idx`,
−100 where a margin is dropped); here the i-th row of `pool_index` belongs to the i-th `<im_patch>`,
which is brought into that form. Where the reference has a fault that no released model has met, the
project does the sane thing and the comparison says what: with several images its places leave out
the tokens of earlier images, text without images has neither BOS nor a shift, and the mask of a
single crop is not averaged over its patches.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from molmo_jax.preprocess.images import image_tiling, normalize
from molmo_jax.preprocess.layout import prepare_images
from molmo_jax.preprocess.resize import letterbox
from molmo_jax.preprocess.sequence import (
  LOSS_WEIGHTS,
  LossWeight,
  SequenceRules,
  TokenSequence,
  build_sequence,
)
from molmo_jax.preprocess.types import MOLMO_V1, EncodingError, ImageConfig, VisualInput
from tests.golden.runners.visual import synthetic_image
from tests.golden.stub_tokenizer import StubTokenizer

DROPPED = -100
RESIZE = {'default': 'letterbox', 'siglip': 'stretch', 'dino': 'stretch_bicubic',
          'metaclip': 'stretch_bicubic'}
# after normalisation
LEVEL = {'siglip': 1.01 / 255 / 0.5, 'openai': 1.01 / 255 / 0.261, 'dino': 1.01 / 255 / 0.224}
# Share of the values that may be off by more than 3e-5, by a level at most: the uint8 filters
# round.
ONE_LEVEL_OFF = {'letterbox': 0.0, 'stretch': 1e-3, 'stretch_bicubic': 5e-3}


def recognises(folder: Path) -> bool:
  """True for a folder with a JSON file of v1 images or conversations, and an archive of
  `….image_input_idx` arrays.
  """
  return _find(folder) is not None


def run(folder: Path) -> list[tuple[str, str | None]]:
  """Checks every case: (name, None) or (name, what is wrong)."""
  found = _find(folder)
  if found is None:
    raise ValueError(f'{folder} holds no golden v1 preprocessing')
  cases, archive = found
  with np.load(archive) as data:
    arrays = dict(data)
  todo = [(case['key'], _check_image, case) for case in cases.get('cases', ())]
  todo += [(f'text {case["name"]}', _check_sequence, case)
           for case in cases.get('interleave_cases', ())]
  todo += [(f'letterbox {case["w"]}x{case["h"]} in {case["out_w"]}x{case["out_h"]}',
            _check_letterbox, case)
           for case in cases.get('resize_geometry', ())]
  results = []
  for name, check, case in todo:
    try:
      reason = check(case, cases, arrays)
    except Exception as error:   # whatever goes wrong is this case's result
      reason = f'{type(error).__name__}: {error}'
    results.append((name, reason))
  return results


def image_config(settings: dict[str, Any]) -> ImageConfig:
  """Our configuration for the settings of the reference."""
  height, width = settings['base_image_input_size']
  patch = settings.get('image_patch_size', 14)
  pooled = settings['image_token_length_h'], settings['image_token_length_w']
  columns = settings.get('use_col_tokens', True)
  if height != width:
    raise ValueError(f'crops of {width}×{height} pixels: only square crops are supported')
  return dataclasses.replace(
      MOLMO_V1.image, crop_size=height, patch_size=patch, max_crops=settings['max_crops'],
      mode=settings['crop_mode'],
      overlap_margins=tuple(settings['overlap_margins']), resize=RESIZE[settings['resize']],
      use_col_tokens=columns,
      use_global_col_tokens=columns,
      pooling=tuple(-(-height // patch // tokens) for tokens in pooled),
      patch_mask=settings.get('image_padding_mask', True))


def _find(folder: Path) -> tuple[dict[str, Any], Path] | None:
  archives = []
  for path in sorted(folder.glob('*.npz')):
    with np.load(path) as data:
      if any(name.endswith('.image_input_idx') or name.startswith('i.') for name in data.files):
        archives.append(path)
  for path in sorted(folder.glob('*.json')) if archives else ():
    try:
      cases = json.loads(path.read_text())
    except ValueError:
      continue
    if isinstance(cases, dict) and 'special_token_ids' in cases and (
        {'configs', 'cases'} <= set(cases) or {'tiny_config', 'interleave_cases'} <= set(cases)):
      return cases, archives[0]
  return None


def _check_image(case: dict[str, Any], cases: dict[str, Any],
                 arrays: dict[str, np.ndarray]) -> str | None:
  settings, special = cases['configs'][case['config']], cases['special_token_ids']
  config, key = image_config(settings), case['key']
  height, width = case['height'], case['width']
  if case.get('tiling') and list(
    image_tiling(height, width, config, config.max_crops)) != case['tiling']:
    return (f'tiling {image_tiling(height, width, config, config.max_crops)}, expected '
      f'{case["tiling"]}')
  image = synthetic_image(case['image_kind'], height, width)
  (got,) = prepare_images([image], config, config.max_crops, special, StubTokenizer(special))
  counts = dict(n_crops=len(got.crops), n_tokens=len(got.tokens),
                n_patch_tokens=int((got.tokens == special['<im_patch>']).sum()),
                n_col_tokens=int((got.tokens == special['<im_col>']).sum()))
  wrong = [f'{name} {value}, expected {case[name]}' for name, value in counts.items()
           if value != case.get(name, value)]
  if wrong:
    return '; '.join(wrong)
  places = np.flatnonzero(got.tokens == special['<im_patch>'])
  return (_differ('tokens', got.tokens, arrays[f'{key}.tokens'])
          or _differ('image_input_idx', _places(got, places, config),
                     arrays[f'{key}.image_input_idx'])
          or _mask_differs([got], arrays.get(f'{key}.image_masks'))
          or _pixels_differ(got.crops, config, settings['normalize'], key, arrays))


def _check_sequence(case: dict[str, Any], cases: dict[str, Any],
                    arrays: dict[str, np.ndarray]) -> str | None:
  settings, special = cases['tiny_config'], cases['special_token_ids']
  config, tokenize = image_config(settings), StubTokenizer(special)
  images = [synthetic_image(*image) for image in case['images'] or ()]
  inputs = prepare_images(images, config, config.max_crops, special, tokenize,
                          max_images=len(images))
  try:
    got = _sequence(case, inputs, cases, tokenize)
  except EncodingError:
    if case.get('error'):
      return None
    raise
  if case.get('error'):
    return f'should fail ({case["error"]}), gave {len(got.tokens)} tokens'
  golden = {name.removeprefix(f'i.{case["name"]}.'): value for name, value in arrays.items()
            if name.startswith(f'i.{case["name"]}.')}
  if not images:
    return _text_differs(got, golden)
  # a prompt ends with a dummy target, −1 there and 0 here
  kept = golden['target_tokens'] >= 0
  expected = [('tokens', got.tokens, golden['input_tokens']),
              ('target_tokens', got.targets[kept], golden['target_tokens'][kept]),
              ('position_ids', got.positions, golden['position_ids']),
              ('subsegment_ids', got.segments,
               golden.get('subsegment_ids', np.zeros_like(got.segments))),
              ('image_input_idx', *_sequence_places(got, inputs, golden['image_input_idx'], config,
                                                    special,
                                                    '<|image|>' in str(case['messages'])))]
  # nothing trains on a prompt: its weights mean nothing
  if kept.all():
    expected.append(('loss_masks', got.loss_weights, golden['loss_masks']))
  for name, ours, theirs in expected:
    if reason := _differ(name, ours, theirs, 1e-6 if name == 'loss_masks' else 0):
      return reason
  crops = np.concatenate([visual.crops for visual in inputs])
  patches = _patches(normalize(crops, settings['normalize']), config.patch_size)
  return (_mask_differs(inputs, golden.get('image_masks'))
          or _values_differ('images', patches, golden['images'], config, settings['normalize']))


def _sequence(case: dict[str, Any], inputs: Sequence[VisualInput], cases: dict[str, Any],
              tokenize: StubTokenizer
              ) -> TokenSequence:
  messages, weight = case['messages'], case.get('weight')
  conversations = messages if messages and isinstance(messages[0], list) else [messages]
  weights = weight if isinstance(weight, list) else [weight] * len(conversations)
  default = LOSS_WEIGHTS[case.get('loss_token_weighting') or 'none']
  return build_sequence(
      conversations, [visual.tokens for visual in inputs], tokenize=tokenize,
      bos_id=cases['bos_token_id'],
      eos_id=cases['eos_token_id'],
      rules=SequenceRules(default, eos_between=True),
      branch_weights=[None if w is None
                      else LossWeight(w, default.root_length, default.root_branches)
                      for w in weights])


def _text_differs(got: TokenSequence, golden: dict[str, np.ndarray]) -> str | None:
  """Text alone: the reference's inputs are our targets, for it adds no BOS; its crops, if asked
  for, are none.
  """
  reason = (_differ('target_tokens', got.targets, golden['target_tokens'])
            or _differ('input_tokens', got.targets, golden['input_tokens'])
            or _differ('loss_masks', got.loss_weights, golden['loss_masks'], 1e-6))
  # BOS, which all branches see here, belongs to the first there
  if reason is None and 'subsegments' in golden:
    reason = _differ('subsegments', got.segments[1:], golden['subsegments'][1:])
  if reason is None and len(golden.get('images', ())):
    reason = f'{len(golden["images"])} crops expected for text alone'
  return reason


def _places(visual: VisualInput, places: np.ndarray, config: ImageConfig) -> np.ndarray:
  """Where each pooled patch of each crop goes: int [C, pooled patches], −100 for those that no
  token takes.

  Args:
    places: [V] place of the i-th `<im_patch>`.
  """
  rows, cols = config.pooling
  across = -(-config.grid // cols)
  first = np.where(visual.pool_index >= 0, visual.pool_index, np.iinfo(np.int32).max).min(axis=1)
  crop, patch = np.divmod(first, config.grid ** 2)
  row, col = np.divmod(patch, config.grid)
  out = np.full((len(visual.crops), -(-config.grid // rows) * across), DROPPED)
  out[crop, row // rows * across + col // cols] = places
  if (out != DROPPED).sum() != len(places):
    raise ValueError('two rows of pool_index are the same window')
  return out


def _sequence_places(got: TokenSequence, inputs: Sequence[VisualInput], golden: np.ndarray,
                     config: ImageConfig,
                     special: dict[str, int], inside: bool) -> tuple[np.ndarray, np.ndarray]:
  """Our places, and the reference's made right: in it an earlier image counts nothing, or one token
  where images stand inside the text (its placeholder), and there the mark of a dropped patch moves
  with the text before the image."""
  places = np.flatnonzero(got.tokens == special['<im_patch>'])
  ours, theirs, row, crop, missing = [], [], 0, 0, 0
  for visual in inputs:
    place = places[row:row + len(visual.pool_index)]
    part = golden[crop:crop + len(visual.crops)]
    # tokens between BOS and the image's first, <im_start>
    text = int(place[0]) - 2 - missing if inside else 0
    ours.append(_places(visual, place, config))
    theirs.append(np.where(part == DROPPED + text, DROPPED, part + missing))
    row, crop, missing = row + len(place), crop + len(part), missing + len(visual.tokens) - inside
  return np.concatenate(ours), np.concatenate(theirs)


def _check_letterbox(case: dict[str, Any], cases: dict[str, Any],
                     arrays: dict[str, np.ndarray]) -> str | None:
  canvas, real = letterbox(np.full((case['h'], case['w'], 3), 255, np.uint8), case['out_h'],
                           case['out_w'])
  top, left, height, width = (case[f'content_{name}'] for name in ('top', 'left', 'h', 'w'))
  expected = np.zeros((case['out_h'], case['out_w']), bool)
  expected[top:top + height, left:left + width] = True
  return _differ('mask', real, expected) or _differ('canvas', canvas[..., 0], expected, 1e-6)


def _mask_differs(inputs: Sequence[VisualInput], golden: np.ndarray | None) -> str | None:
  if golden is None or inputs[0].patch_mask is None:
    return None if golden is inputs[
      0].patch_mask else 'one side has a mask of patches, the other none'
  masks = np.concatenate([visual.patch_mask for visual in inputs])
  if golden.dtype == bool:                         # one crop: the mask of every pixel, by patch
    golden = golden.mean(axis=1)[None]
  return _differ('image_masks', masks, golden, 1e-6)


def _pixels_differ(crops: np.ndarray, config: ImageConfig, normalization: str, key: str,
                   arrays: dict[str, np.ndarray]) -> str | None:
  patches = _patches(normalize(crops, normalization), config.patch_size)
  values = np.concatenate([patches.ravel()[arrays[f'{key}.sample_flat_idx']],
                           patches.reshape(-1,
                                           patches.shape[-1])[arrays[f'{key}.patch_idx']].ravel()])
  expected = np.concatenate([arrays[f'{key}.sample_values'], arrays[f'{key}.patch_values'].ravel()])
  if reason := _values_differ('pixels', values, expected, config, normalization):
    return reason
  flat = patches.reshape(len(patches), -1).astype(np.float64)
  extreme = LEVEL[normalization] if ONE_LEVEL_OFF[config.resize] else 1e-4
  for name, limit in dict(crop_mean=1e-4, crop_std=1e-4, crop_min=extreme,
                          crop_max=extreme).items():
    if reason := _differ(name, getattr(flat, name.removeprefix('crop_'))(axis=1),
                         arrays[f'{key}.{name}'], limit):
      return reason
  return None


def _values_differ(name: str, ours: np.ndarray, golden: np.ndarray, config: ImageConfig,
                   normalization: str
                   ) -> str | None:
  """None, or how normalised pixels differ."""
  if ours.shape != golden.shape:
    return f'{name} has shape {ours.shape}, expected {golden.shape}'
  errors = np.abs(ours.astype(np.float64) - golden)
  off, share = errors > 3e-5, ONE_LEVEL_OFF[config.resize]
  if off.mean() <= share and errors.max() <= (LEVEL[normalization] if share else 3e-5):
    return None
  return f'{name} off by up to {errors.max():.3g}, {off.sum()} of {errors.size} by more than 3e-5'


def _patches(crops: np.ndarray, size: int) -> np.ndarray:
  """[C,h,w,3] → [C, P, size * size * 3], raster order, pixels of a patch by row, column, channel.
  """
  count, height, width, channels = crops.shape
  blocks = crops.reshape(count, height // size, size, width // size, size, channels)
  return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(count, -1, size * size * channels)


def _differ(name: str, ours: np.ndarray, golden: np.ndarray, tolerance: float = 0) -> str | None:
  if ours.shape != golden.shape:
    return f'{name} has shape {ours.shape}, expected {golden.shape}'
  wrong = np.argwhere(np.abs(ours.astype(np.float64) - golden) > tolerance)
  if not len(wrong):
    return None
  place = tuple(int(i) for i in wrong[0])
  return f'{name}{list(place)} is {ours[place]}, expected {golden[place]} ({len(wrong)} differ)'
