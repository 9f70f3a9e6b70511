"""One training step: loss, gradients, update. Pure; jitted by the caller."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from molmo_jax.model.molmo import Batch, Molmo
from molmo_jax.training.loss import loss_sums
from molmo_jax.training.optimizer import OptimizerConfig, warmup_cosine
from molmo_jax.training.state import TrainState

Metrics = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
  """Length of a run, and what it writes when."""
  steps: int = 1000
  log_every: int = 20
  checkpoint_every: int = 1000
  keep_checkpoints: int = 2
  z_loss: float = 1e-4
  loss_chunk: int = 1024             # positions whose logits exist at the same time


def batch_loss(model: Molmo, params: Any, batch: Batch, z_loss: float, chunk: int, dropout_key: Array | None = None
               ) -> tuple[Array, Metrics]:
  """Weighted mean over all loss tokens of the global batch: cross-entropy plus `z_loss`·logsumexp²."""
  hidden = model.apply({'params': params}, batch, dropout_key)
  head = model.apply({'params': params}, method='head_kernel')
  sums = loss_sums(hidden, head, batch['targets'], batch['loss_weights'], chunk)
  weight = jnp.maximum(sums.weight, 1e-9)
  loss = sums.cross_entropy / weight + z_loss * sums.z / weight
  return loss, {'loss': sums.cross_entropy / weight, 'accuracy': sums.correct / weight,
                'loss_weight': sums.weight, 'tokens': jnp.sum(batch['segments'] >= 0)}


def make_train_step(model: Molmo, optimizer: optax.GradientTransformation, config: TrainingConfig,
                    optimizer_config: OptimizerConfig) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
  """The function `(state, batch) → (state, metrics)`."""
  schedules = {name: warmup_cosine(g.learning_rate, g.warmup, config.steps, optimizer_config.floor)
               for name, g in optimizer_config.groups.items() if not g.frozen}

  def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    key = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)
    loss_fn = lambda p: batch_loss(model, p, batch, config.z_loss, config.loss_chunk, key)
    (_, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics |= {'gradient_norm': optax.global_norm(grads)}
    metrics |= {f'learning_rate/{name}': schedule(state.step) for name, schedule in schedules.items()}
    return TrainState(state.step + 1, params, opt_state, state.rng), metrics

  return train_step
