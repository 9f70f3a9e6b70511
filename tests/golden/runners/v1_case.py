"""A golden case of Molmo v1 as our configuration, parameters and batches; see `v1_model`."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import einops
import jax
import numpy as np

from molmo_jax.checkpoint.hf import load_params
from molmo_jax.checkpoint.hf_config_v1 import read_v1
from molmo_jax.checkpoint.hf_files import SINGLE
from molmo_jax.checkpoint.hf_plan import plan_export
from molmo_jax.checkpoint.hf_table import to_file
from molmo_jax.json_section import Section
from molmo_jax.model.config import ModelConfig, VitConfig
from molmo_jax.model.molmo import Network
from molmo_jax.normalization import STATISTICS
from molmo_jax.parameters import flatten_paths
from molmo_jax.training.state import init_params

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Case:
  """One model with its numbers."""
  name: str
  meta: dict[str, Any]               # the JSON file
  config: ModelConfig
  params: Any
  arrays: Arrays

  @property
  def model(self) -> Network:
    return Network(self.config)

  @property
  def window(self) -> tuple[int, int]:
    """Rows and columns of a pooling window."""
    given = self.meta['model_config']
    return given.get('image_pooling_h', 2), given.get('image_pooling_w', 2)


def find_cases(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
  """The JSON files that describe a model, and what they hold."""
  found = []
  for path in sorted(folder.glob('*.json*')):
    try:
      meta = json.loads(path.read_text())
    except (OSError, ValueError):
      continue
    if isinstance(meta, dict) and 'vision_backbone' in meta.get(
      'model_config', ()) and 'special_token_ids' in meta:
      found.append((path, meta))
  return found


def load_case(path: Path, meta: dict[str, Any]) -> Case:
  """Reads the weights and arrays whose names start most like that of `path`."""
  config = dataclasses.replace(read_v1(Section(path, meta['model_config'], 'model_config')),
                               remat='none')
  with np.load(beside(path, '*.npz*')) as data:
    arrays = dict(data)
  shapes = jax.eval_shape(lambda: init_params(Network(config), jax.random.key(0)))
  with tempfile.TemporaryDirectory() as folder:   # the loader wants the name that checkpoints have
    (Path(folder) / SINGLE).symlink_to(beside(path, '*.safetensors*').resolve())
    return Case(str(meta.get('case', path.name)), meta, config, load_params(folder, shapes), arrays)


def beside(path: Path, pattern: str) -> Path:
  """The file of the same case: the one whose name has most in common with that of `path`."""
  return max(sorted(path.parent.glob(pattern)),
             key=lambda p: len(os.path.commonprefix([p.name, path.name])))


def make_batch(case: Case, prefix: str) -> Arrays:
  """Our batch of the arrays `<prefix>.*`: every window of every crop is a visual token, whether it
  is read or not.
  """
  given = {name.removeprefix(f'{prefix}.'): x for name, x in case.arrays.items()
           if name.startswith(f'{prefix}.')}
  tokens, images, targets = given['input_ids'], given['images'], given['image_input_idx']
  rows, crops, patches = images.shape[:3]
  windows = crop_windows(case.config.vit.image_size // case.config.vit.patch_size, case.window)
  pool_index = np.concatenate(
    [np.where(windows < 0, -1, windows + patches * i) for i in range(crops)])
  feature_index = np.full(tokens.shape, -1, np.int32)
  for row, places in zip(feature_index, targets.reshape(rows, -1), strict=True):
    used = places >= 0
    row[places[used]] = np.flatnonzero(used)
  real = tokens != -1
  segments = given.get('subsegment_ids', np.zeros_like(tokens))
  positions = given.get('position_ids', np.cumsum(real, axis=1) - 1)
  batch = dict(
    tokens=tokens, targets=given.get('labels', tokens), positions=positions,
    segments=np.where(real, segments, -1), visual=np.zeros_like(tokens),
    feature_index=feature_index,
    pool_index=np.broadcast_to(pool_index, (rows, *pool_index.shape)))
  batch = {name: x.astype(np.int32) for name, x in batch.items()}
  if 'loss_masks' in given:
    batch['loss_weights'] = np.maximum(given['loss_masks'], 0)
  if case.config.connector.padding_embed is not None:
    batch['patch_mask'] = given['image_masks']
  return batch | dict(crops=_pixels(images, case.config.vit))


def crop_windows(grid: int, window: tuple[int, int]) -> np.ndarray:
  """Patches of the windows of one crop [n, slots]; below and right of the grid −1."""
  h, w = (-(-grid // size) * size for size in window)
  padded = np.full((h, w), -1)
  padded[:grid, :grid] = np.arange(grid * grid).reshape(grid, grid)
  return einops.rearrange(padded, '(y dy) (x dx) -> (y x) (dy dx)', dy=window[0], dx=window[1])


def _pixels(patches: np.ndarray, vit: VitConfig) -> np.ndarray:
  """Crops as shares of white, of patches that are normalised already."""
  grid, side = vit.image_size // vit.patch_size, vit.patch_size
  x = einops.rearrange(patches.astype(np.float64), 'b t (y x) (dy dx c) -> b t (y dy) (x dx) c',
                       y=grid, x=grid,
                       dy=side, dx=side, c=3)
  mean, deviation = STATISTICS[vit.normalize]
  return (x * np.array(deviation) + np.array(mean)).astype(np.float32)


def to_theirs(params: Any) -> Arrays:
  """Parameters or gradients by the names of the original tensors."""
  flat = {path: np.asarray(x) for path, x in flatten_paths(params).items()}
  return {d.name: np.concatenate([to_file(d.kind, flat[path][d.index])
                                  for path in d.paths]) for d in plan_export(params, 'v1')}
