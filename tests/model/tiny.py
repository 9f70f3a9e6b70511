"""A model that compiles in a second, and rows for it, for all tests that need a whole model.

A row is written as counts: 3 = three text tokens, −2 = an image with two visual tokens. Segments
count up from `segment`, so that rows can be packed.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from molmo_jax.data.batching import RowShape, pad_row, stack_rows
from molmo_jax.model.config import ConnectorConfig, LlmConfig, ModelConfig, VitConfig
from molmo_jax.model.molmo import Network
from molmo_jax.parameters import path_name
from molmo_jax.training.state import abstract_params

CONFIG = ModelConfig(
  vit=VitConfig(image_size=12, patch_size=4, width=8, layers=3, heads=2, head_dim=4, mlp=16),
  connector=ConnectorConfig(vit_layers=(-1, -2), heads=2, kv_heads=2, head_dim=4, width=8,
                            hidden=12, pool_slots=4),
  llm=LlmConfig(vocab=40, extra_vocab=8, width=16, layers=2, heads=4, kv_heads=2, head_dim=8,
                mlp=24, rope_theta=1e4),
  remat='none')
SLOTS = 4
IM_PATCH = CONFIG.llm.vocab + 2


def config(connector=None, llm=None, vit=None, **fields) -> ModelConfig:
  """The tiny configuration with some fields replaced, those of its sections given as dicts."""
  c = dataclasses.replace(CONFIG, **fields)
  return dataclasses.replace(c, connector=dataclasses.replace(c.connector, **(connector or {})),
                             llm=dataclasses.replace(c.llm, **(llm or {})),
                             vit=dataclasses.replace(c.vit, **(vit or {})))


def build(c: ModelConfig = CONFIG, seed: int = 0):
  """A model and parameters that are nowhere zero or one, so that nothing is invisible. Nothing is
  compiled.
  """
  model, rng = Network(c), np.random.default_rng(seed)
  shapes = abstract_params(c)
  def draw(path, leaf):
    is_scale = path_name(path).endswith('scale')
    return jnp.asarray(rng.normal(float(is_scale), 0.1 if is_scale else 0.3, leaf.shape),
                       leaf.dtype)
  return model, jax.tree_util.tree_map_with_path(draw, shapes)


def row(*counts: int, seed: int = 0, segment: int = 0) -> dict[str, np.ndarray]:
  """The encoded arrays of one row; every image has one crop and windows of four of its patches."""
  rng = np.random.default_rng([seed, *np.abs(counts)])
  tokens, visual, crops, windows = [], [], [], []
  patches = CONFIG.vit.patches
  for count in counts:
    if count > 0:
      tokens += rng.integers(3, CONFIG.llm.vocab, count).tolist()
      visual += [0] * count
      continue
    tokens += [IM_PATCH] * -count
    windows += [rng.integers(0, patches, SLOTS) + patches * len(crops) for _ in range(-count)]
    crops.append(rng.integers(0, 256, (CONFIG.vit.image_size, CONFIG.vit.image_size, 3)))
    visual += [1 + len(crops)] * -count
  tokens, size = np.array(tokens, np.int32), CONFIG.vit.image_size
  is_patch = tokens == IM_PATCH
  return dict(
    tokens=tokens, targets=np.roll(np.where(is_patch, 0, tokens), -1),
    visual=np.array(visual, np.int32),
    positions=np.arange(len(tokens), dtype=np.int32),
    segments=np.full(len(tokens), segment, np.int32),
    feature_index=np.where(is_patch, np.cumsum(is_patch) - 1, -1).astype(np.int32),
    loss_weights=(~is_patch).astype(np.float32),
    crops=np.array(crops, np.uint8).reshape(-1, size, size, 3),
    pool_index=np.array(windows, np.int32).reshape(-1, SLOTS),
    layout_index=rng.integers(0, 3, (is_patch.sum(), 4)).astype(np.int32),
    layout_box=rng.random((is_patch.sum(), 4)).astype(np.float32))


def batch(*rows: dict[str, np.ndarray], extra: int = 0) -> dict[str, np.ndarray]:
  """Rows padded to the longest, and `extra` more places of every kind."""
  size = lambda name: max(len(r[name]) for r in rows)
  shape = RowShape(size('tokens') + extra, size('crops') + extra, size('pool_index') + extra, SLOTS)
  return stack_rows([pad_row(r, shape) for r in rows])


def pack(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Two rows one after the other in one, as different examples."""
  joined = {name: np.concatenate([first[name], second[name]]) for name in first}
  n = len(first['tokens'])
  patches = len(first['crops']) * CONFIG.vit.patches
  joined['segments'][n:] = 100_000
  joined['pool_index'][len(first['pool_index']):] += patches
  later = joined['feature_index'][n:]
  later[later >= 0] += len(first['pool_index'])
  marked = joined['visual'][n:]
  marked[marked > 0] += len(first['crops'])
  return joined


@functools.partial(jax.jit, static_argnums=0)
def logits(model: Network, params, rows: dict[str, np.ndarray]) -> jax.Array:
  """[B,S,vocab] of a whole forward pass."""
  return model.apply({'params': params}, model.apply({'params': params}, rows), method='logits')


def close(a, b, tolerance: float = 1e-5) -> bool:
  """Whether all numbers of two trees agree within `tolerance`."""
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return all(np.allclose(x, y, atol=tolerance, rtol=0) for x, y in pairs)
