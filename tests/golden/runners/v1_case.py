"""A golden case of Molmo v1 as our configuration, parameters and batches; see `v1_model`."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from pathlib import Path
from typing import Any

import einops
import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

from molmo_jax.checkpoint.hf_table import V1, file_shape, from_file, to_file
from molmo_jax.model.config import ConnectorConfig, LlmConfig, ModelConfig, VitConfig
from molmo_jax.model.molmo import Molmo
from molmo_jax.model.vit import CHANNEL_STATISTICS
from molmo_jax.parameters import flatten_paths
from molmo_jax.training.state import init_params

Arrays = dict[str, np.ndarray]
ACTIVATIONS = {'gelu_pytorch_tanh': 'gelu_tanh', 'quick_gelu': 'quick_gelu', 'gelu': 'gelu'}


@dataclasses.dataclass(frozen=True)
class Case:
  """One model with its numbers."""
  name: str
  meta: dict[str, Any]               # the JSON file
  config: ModelConfig
  params: Any
  arrays: Arrays

  @property
  def model(self) -> Molmo:
    return Molmo(self.config)

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
    if isinstance(meta, dict) and 'vision_backbone' in meta.get('model_config', ()) and 'special_token_ids' in meta:
      found.append((path, meta))
  return found


def load_case(path: Path, meta: dict[str, Any]) -> Case:
  """Reads the weights and arrays whose names start most like that of `path`."""
  def beside(pattern: str) -> Path:
    return max(sorted(path.parent.glob(pattern)), key=lambda p: len(os.path.commonprefix([p.name, path.name])))

  config = model_config(meta['model_config'])
  with np.load(beside('*.npz*')) as data:
    arrays = dict(data)
  shapes = jax.eval_shape(lambda: init_params(Molmo(config), jax.random.key(0)))
  return Case(str(meta.get('case', path.name)), meta, config, to_ours(load_file(beside('*.safetensors*')), shapes),
              arrays)


def model_config(given: dict[str, Any]) -> ModelConfig:
  """Our configuration of a v1 model, from the fields of the original one."""
  v, heads = given['vision_backbone'], given['n_heads']
  kind, class_token = v['image_model_type'], v['image_model_type'] != 'siglip'
  ffn = given.get('mlp_hidden_size') or given.get('mlp_ratio', 4) * given['d_model']   # up and gate together
  tower = VitConfig(
    image_size=v['image_default_input_size'][0], patch_size=v['image_patch_size'], width=v['image_emb_dim'],
    layers=v['image_num_layers'], heads=v['image_num_heads'], head_dim=v['image_head_dim'], mlp=v['image_mlp_dim'],
    activation=ACTIVATIONS[v['image_mlp_activations']], norm_eps=v['image_norm_eps'], class_token=class_token,
    patch_bias=kind != 'openai', pre_norm=kind == 'openai', layer_scale=kind == 'dino', normalize=kind,
    positions=v['image_num_pos'] - class_token, keep_unread=True)
  connector = ConnectorConfig(
    vit_layers=tuple(given['vit_layers']), pooling=given.get('image_pooling_2d', 'attention_meanq'), pooling_mask=False,
    heads=v['image_num_heads'], kv_heads=v['image_num_key_value_heads'], head_dim=v['image_head_dim'],
    width=v['image_emb_dim'], pool_slots=given.get('image_pooling_h', 2) * given.get('image_pooling_w', 2),
    projector=given.get('image_projector', 'mlp'), hidden=ffn // 2, padding_embed=given.get('image_padding_embed'))
  llm = LlmConfig(
    vocab=given.get('embedding_size') or given['vocab_size'], extra_vocab=given['additional_vocab_size'],
    extra_from=given['vocab_size'], width=given['d_model'], layers=given['n_layers'], heads=heads,
    kv_heads=given.get('n_kv_heads') or (1 if given.get('multi_query_attention') else heads),
    head_dim=given['d_model'] // heads, mlp=ffn // 2, rope_theta=given['rope_theta'],
    qk_norm='full' if given.get('attention_layer_norm') else 'none',
    norm_order='post' if given.get('norm_after') else 'pre', norm_eps=given['layer_norm_eps'],
    qkv_bias=given.get('qkv_bias', False), tied=given.get('weight_tying', False))
  return ModelConfig(vit=tower, connector=connector, llm=llm, bidirectional='none', remat='none')


def make_batch(case: Case, prefix: str) -> Arrays:
  """Our batch of the arrays `<prefix>.*`: every window of every crop is a visual token, whether it is read or not."""
  given = {name.removeprefix(f'{prefix}.'): x for name, x in case.arrays.items() if name.startswith(f'{prefix}.')}
  tokens, images, targets = given['input_ids'], given['images'], given['image_input_idx']
  rows, crops, patches = images.shape[:3]
  windows = crop_windows(case.config.vit.image_size // case.config.vit.patch_size, case.window)
  pool_index = np.concatenate([np.where(windows < 0, -1, windows + patches * i) for i in range(crops)])
  feature_index = np.full(tokens.shape, -1, np.int32)
  for row, places in zip(feature_index, targets.reshape(rows, -1), strict=True):
    used = places >= 0
    row[places[used]] = np.flatnonzero(used)
  real = tokens != -1
  segments = given.get('subsegment_ids', np.zeros_like(tokens))
  positions = given.get('position_ids', np.cumsum(real, axis=1) - 1)
  batch = dict(
    tokens=tokens, targets=given.get('labels', tokens), positions=positions,
    segments=np.where(real, segments, -1), visual=np.zeros_like(tokens), feature_index=feature_index,
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
  x = einops.rearrange(patches.astype(np.float64), 'b t (y x) (dy dx c) -> b t (y dy) (x dx) c', y=grid, x=grid,
                       dy=side, dx=side, c=3)
  mean, deviation = CHANNEL_STATISTICS.get(vit.normalize, ((0.5,), (0.5,)))
  return (x * np.array(deviation) + np.array(mean)).astype(np.float32)


def to_ours(tensors: Arrays, shapes: Any) -> Any:
  """Parameters of a whole model; every tensor and every parameter takes part."""
  targets, found, used = flatten_paths(shapes), {}, set()
  for entry in V1:
    if entry.paths[0] not in targets:
      continue
    whole = [targets[path].shape[int(entry.stacked):] for path in entry.paths]
    ends = list(itertools.accumulate(file_shape(entry.kind, shape)[0] for shape in whole))
    layers = []
    for i in range(targets[entry.paths[0]].shape[0] if entry.stacked else 1):
      names = [name.format(i=i) for name in entry.names]
      used.update(names)
      parts = np.split(np.concatenate([tensors[name] for name in names]), ends[:-1])
      layers.append([from_file(entry.kind, part, shape) for part, shape in zip(parts, whole, strict=True)])
    for path, *arrays in zip(entry.paths, *layers, strict=True):
      found[path] = jnp.asarray(np.stack(arrays) if entry.stacked else arrays[0])
  odd = sorted((targets.keys() ^ found.keys()) | (tensors.keys() ^ used))
  if odd:
    raise ValueError(f'tensors or parameters without a partner: {odd[:5]}')
  return jax.tree.unflatten(jax.tree.structure(shapes), [found[path] for path in targets])


def to_theirs(params: Any, shapes: dict[str, list[int]]) -> Arrays:
  """The inverse: tensors by their original names, where several share rows cut as `shapes` says."""
  flat, out = {path: np.asarray(x) for path, x in flatten_paths(params).items()}, {}
  for entry in V1:
    if entry.paths[0] not in flat:
      continue
    stacks = [flat[path] if entry.stacked else flat[path][None] for path in entry.paths]
    for i, arrays in enumerate(zip(*stacks, strict=True)):
      names = [name.format(i=i) for name in entry.names]
      ends = list(itertools.accumulate(shapes[name][0] for name in names))
      joined = np.concatenate([to_file(entry.kind, array) for array in arrays])
      out |= dict(zip(names, np.split(joined, ends[:-1]), strict=True))
  return out
