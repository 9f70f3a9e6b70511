"""Rotary position embedding in the half-split layout, with YaRN scaling on chosen layers
(docs/model.md §4.3).
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from molmo_jax.model.config import YarnConfig


def inverse_frequencies(head_dim: int, theta: float) -> np.ndarray:
  """θ^(−2i/H), float32 [H/2]."""
  return (1.0 / theta ** (np.arange(0, head_dim, 2, dtype=np.float32)
                          / np.float32(head_dim))).astype(np.float32)


def yarn_frequencies(head_dim: int, theta: float, yarn: YarnConfig) -> np.ndarray:
  """Frequencies that YaRN interpolates: the slow ones divided by `factor`, the fast ones kept, a
  ramp between.
  """
  def turns_at(rotations: float) -> float:
    return head_dim * math.log(yarn.original_length
                               / (rotations * 2 * math.pi)) / (2 * math.log(theta))

  low, high = max(math.floor(turns_at(yarn.beta_fast)), 0), min(math.ceil(turns_at(yarn.beta_slow)),
                                                                head_dim - 1)
  ramp = np.clip((np.arange(head_dim // 2, dtype=np.float32) - low) / max(high - low, 1e-3), 0,
                 1).astype(np.float32)
  base = inverse_frequencies(head_dim, theta)
  return (base * (1 - ramp) + base / np.float32(yarn.factor) * ramp).astype(np.float32)


def rotary_tables(positions: Int[Array, 'B S'], head_dim: int, theta: float, yarn: YarnConfig
                  ) -> Float[Array, 'T B S half 2']:
  """Cosines and sines for every kind of layer: [0] unscaled and, where `yarn.layers` is not empty,
  [1] scaled.
  """
  kinds = [(inverse_frequencies(head_dim, theta), 1.0)]
  if yarn.layers:
    kinds.append((yarn_frequencies(head_dim, theta, yarn), yarn.attention_factor))
  tables = []
  for frequencies, factor in kinds:
    angles = positions.astype(jnp.float32)[..., None] * jnp.asarray(frequencies)
    tables.append(jnp.stack([jnp.cos(angles) * factor, jnp.sin(angles) * factor], axis=-1))
  return jnp.stack(tables)


def rotate(x: Float[Array, 'B S N H'],
           table: Float[Array, 'B S half 2']) -> Float[Array, 'B S N H']:
  """Rotates each pair (x[i], x[i + H/2]) by its angle; computed in float32, returned in x's dtype.
  """
  cos, sin = table[:, :, None, :, 0], table[:, :, None, :, 1]
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
