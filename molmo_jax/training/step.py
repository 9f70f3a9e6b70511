"""One training step: loss, gradients, update. Pure; jitted by the caller."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from molmo_jax.configuration import ConfigError, Count, NonNegative, Size
from molmo_jax.model.molmo import Batch, Network
from molmo_jax.training.loss import loss_sums
from molmo_jax.training.optimizer import OptimizerConfig, group_norms, schedule_of
from molmo_jax.training.state import TrainState

Metrics = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
  """Length of a run, and what it writes when."""
  steps: Size = 1000                 # optimiser steps of the run
  log_every: Size = 20               # steps
  checkpoint_every: Size = 1000      # steps
  keep_checkpoints: Size = 2         # the newest ones
  keep_every: Count = 0              # steps between checkpoints that are kept for good; 0: none
  evaluate_every: Count = 0          # answers to data.validation, as at the end; 0: only there
  validate_every: Count = 0          # loss on data.validation; 0: never
  validation_batches: Size = 16      # of one such loss
  # first and last step of a profiler trace (<workdir>/profile); (0, 0): none
  profile: tuple[Count, Count] = (0, 0)
  z_loss: NonNegative = 1e-4         # weight of the squared log-sum-exp (docs/training.md §1.3)
  loss_chunk: Size = 1024            # positions whose logits exist at the same time
  # parts of a batch, whose gradients are added; the batch size stays what it is
  accumulate: Size = 1

  def __post_init__(self):
    first, last = self.profile
    if (first or last) and not 1 <= first <= last <= self.steps:
      raise ConfigError(f'training.profile={self.profile} must be two steps of the run, 1 ≤ first '
        f'≤ last ≤ training.steps={self.steps}')


def batch_loss(model: Network, params: Any, batch: Batch, z_loss: float, chunk: int,
               dropout_key: Array | None = None, weight: Array | None = None
               ) -> tuple[Array, Metrics]:
  """Weighted mean over all loss tokens of the global batch: cross-entropy plus `z_loss`·logsumexp²
  (docs/training.md §1.3).

  Args:
    model: the network.
    params: its parameters.
    batch: arrays [B,…], docs/data.md has the fields.
    z_loss: weight of the second term.
    chunk: positions of a row whose logits exist at the same time.
    dropout_key: None: no dropout.
    weight: the divisor, if `batch` is a part of a larger one; None: the sum of its loss weights.

  Returns:
    The loss, float32 [], and metrics of the same form.
  """
  hidden: Any = model.apply({'params': params}, batch, dropout_key)
  head: Any = model.apply({'params': params}, method='head_kernel')
  sums = loss_sums(hidden, head, batch['targets'], batch['loss_weights'], chunk)
  divisor = jnp.maximum(sums.weight if weight is None else weight, 1e-9)
  loss = sums.cross_entropy / divisor + z_loss * sums.z / divisor
  return loss, {'loss': sums.cross_entropy / divisor, 'z_loss': z_loss * sums.z / divisor,
                'accuracy': sums.correct / divisor, 'loss_weight': sums.weight,
                'tokens': jnp.sum(batch['segments'] >= 0)}


def make_train_step(model: Network, optimizer: optax.GradientTransformation, config: TrainingConfig,
                    optimizer_config: OptimizerConfig
                    ) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
  """The function `(state, batch) → (state, metrics)`."""
  groups = optimizer_config.groups
  schedules = {name: schedule_of(g, optimizer_config, config.steps) for name, g in groups.items()
               if not g.frozen}

  def gradients(params: Any, batch: Batch, key: Array, weight: Array) -> tuple[Metrics, Any]:
    (_, metrics), grads = jax.value_and_grad(batch_loss, argnums=1, has_aux=True)(
      model, params, batch, config.z_loss, config.loss_chunk, key, weight)
    return metrics, grads

  def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    key = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)
    weight = jnp.sum(batch['loss_weights'])
    if config.accumulate == 1:
      metrics, grads = gradients(state.params, batch, key, weight)
    else:
      metrics, grads = _accumulated(gradients, config.accumulate, state.params, batch, key, weight)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    norms = group_norms(grads, groups)
    metrics |= {'gradient_norm': optax.global_norm(grads)}
    metrics |= {f'gradient_norm/{name}': norms[name] for name in schedules}
    metrics |= {f'learning_rate/{name}': schedule(state.step)
                for name, schedule in schedules.items()}
    return TrainState(state.step + 1, params, opt_state, state.rng), metrics

  return train_step


def _accumulated(gradients: Callable, parts: int, params: Any, batch: Batch, key: Array,
                 weight: Array) -> tuple[Metrics, Any]:
  """Metrics and gradients of a whole batch, a part of every device's rows at a time."""
  rows = batch['tokens'].shape[0]
  if rows % parts:
    raise ConfigError(f'training.accumulate={parts} must divide the {rows} rows of a batch')
  split = {name: x.reshape(rows // parts, parts, *x.shape[1:]).swapaxes(0, 1)
           for name, x in batch.items()}

  def add(total: Any, part: tuple[Batch, Array]) -> tuple[Any, None]:
    some, number = part
    return jax.tree.map(jnp.add, total,
                        gradients(params, some, jax.random.fold_in(key, number), weight)), None

  first = jax.eval_shape(lambda: {name: x[0] for name, x in split.items()})
  zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(gradients, params, first, key, weight))
  return jax.lax.scan(add, zeros, (split, jnp.arange(parts)))[0]

