"""Everything that a training run carries from step to step."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh

from molmo_jax.model.config import ModelConfig
from molmo_jax.model.molmo import Network
from molmo_jax.parallel.sharding import sharded_shapes


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """`rng` is the raw key of the run; each step folds its number into it, so a resumed step draws
  what it would have.
  """
  step: Array                        # int32 []: steps done
  params: Any
  opt_state: Any
  rng: Array                         # uint32 [2]


def example_batch(config: ModelConfig) -> dict[str, Array]:
  """The smallest batch that touches every parameter; only its shapes matter."""
  one = jnp.zeros((1, 1), jnp.int32)
  size = config.tower.image_size
  return dict(tokens=one, targets=one, positions=one, segments=one, visual=one, feature_index=one,
              loss_weights=jnp.zeros((1, 1)), crops=jnp.zeros((1, 1, size, size, 3), jnp.uint8),
              pool_index=jnp.zeros((1, 1, config.connector.pool_slots), jnp.int32),
              layout_index=jnp.zeros((1, 1, 4), jnp.int32), layout_box=jnp.zeros((1, 1, 4)),
              patch_mask=jnp.ones((1, 1, config.tower.patches)))


def init_params(model: Network, key: Array) -> Any:
  """Random float32 parameters: a plain nested dict."""
  return model.init(key, example_batch(model.config), method=_touch_everything)['params']


def abstract_params(config: ModelConfig, mesh: Mesh | None = None,
                    dtype: jnp.dtype | str | None = None) -> Any:
  """The tree that `init_params` would make, as `jax.ShapeDtypeStruct`s: nothing is computed.

  Args:
    mesh: gives every leaf its sharding; None: the leaves have none.
    dtype: of all leaves; None: float32, as they are trained.
  """
  shapes = jax.eval_shape(lambda: init_params(Network(config), jax.random.key(0)))
  if dtype is not None:
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), shapes)
  return shapes if mesh is None else sharded_shapes(shapes, mesh)


def abstract_state(model: Network, optimizer: optax.GradientTransformation,
                   mesh: Mesh) -> TrainState:
  """The state that `init_state` would make: shapes, dtypes and shardings."""
  return sharded_shapes(jax.eval_shape(lambda: init_state(model, optimizer, jax.random.key(0))),
                        mesh)


def _touch_everything(model: Network, batch: Any) -> Array:
  return model.logits(model(batch))


def init_state(model: Network, optimizer: optax.GradientTransformation, key: Array) -> TrainState:
  """A fresh state with random parameters; under `jax.jit` with output shardings it is born
  distributed.
  """
  return state_from(init_params(model, jax.random.split(key)[0]), optimizer, key)


def state_from(params: Any, optimizer: optax.GradientTransformation, key: Array) -> TrainState:
  """A fresh state around given parameters."""
  return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params),
                    jax.random.key_data(jax.random.split(key)[1]))
