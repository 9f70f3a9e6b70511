"""What the rest of the program asks of an image tower, and the towers of the released models.

    crops u8 [C,h,w,3] ── normalised ── features [C,P,F]      F = width × number of layers read

A tower of another kind is one file with a subclass of `Tower`, and one entry in `TOWERS` of
model/molmo.py; `model.vit.kind` chooses it. A tower that is a ViT is one table of
vits.toml.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Float

from molmo_jax.model.config import TowerConfig
from molmo_jax.normalization import STATISTICS

# the image towers that released models were trained with, as values of `model.vit`
VITS: dict[str, dict[str, Any]] = tomllib.loads(
  Path(__file__).with_name('vits.toml').read_text(encoding='utf-8'))


class Tower(nn.Module):
  """Crops → one vector per patch.

  Attributes:
    config: sizes and normalisation; `config.patches` is P.
    read: indices of the layers whose outputs are returned, concatenated on the channel axis in this
      order.
    dtype: of matrix products.
    remat, unroll: as in `model.layers.apply_stack`.
  """
  config: TowerConfig
  read: tuple[int, ...]
  dtype: jnp.dtype = jnp.float32
  remat: str = 'full'
  unroll: int = 1

  def __call__(self, crops: Float[Array, 'C h w 3']) -> Float[Array, 'C P F']:
    """uint8 crops, or float ones in 0..1; patches are in raster order."""
    return self.features(normalize_crops(crops, self.config.normalize))

  def features(self, pixels: Float[Array, 'C h w 3']) -> Float[Array, 'C P F']:
    """The same for pixels that are normalised already. What every kind of tower implements."""
    raise NotImplementedError(type(self).__name__)


def normalize_crops(crops: Array, kind: str) -> Array:
  """uint8 crops [..., h, w, 3] (or float ones in 0..1) → float32 as the tower was trained
  (docs/model.md §1.1, §6.2).
  """
  x = crops.astype(jnp.float32) / 255.0 if crops.dtype == jnp.uint8 else crops
  mean, deviation = STATISTICS[kind]
  return (x - jnp.asarray(mean)) / jnp.asarray(deviation)
