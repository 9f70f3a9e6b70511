"""AdamW or Lion in groups of parameters, chosen by patterns on their paths (docs/training.md §1.2).
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from molmo_jax.configuration import ConfigError, Count, Dropout, NonNegative, Positive, Rate
from molmo_jax.parameters import flatten_paths


@dataclasses.dataclass(frozen=True)
class GroupConfig:
  """Parameters whose path matches `pattern`, a regular expression that is matched from the start of
  the path. The first group that matches wins; those of a configuration file are tried in the
  alphabetical order of their names.
  """
  pattern: str                       # of paths such as connector/projector/gate/kernel
  learning_rate: NonNegative = 1e-5  # its peak, after the warm-up
  warmup: Count = 200                # steps of linear warm-up
  warmup_start: NonNegative = 0.0    # the learning rate that it starts from
  frozen: bool = False               # not trained, without optimiser state
  # may match nothing: a flag of the model decides whether its parameters exist
  optional: bool = False


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """Shared by all groups. Each group is clipped on its own, as in the released recipes."""
  groups: dict[str, GroupConfig]
  algorithm: Literal['adamw', 'lion'] = 'adamw'  # AdamW or Lion
  b1: Dropout = 0.9                  # decay of the first moment
  b2: Dropout = 0.95                 # decay of the second moment
  eps: Positive = 1e-6               # added to the root of the second moment (AdamW)
  weight_decay: NonNegative = 0.0    # decoupled: times the learning rate
  # a pattern; parameters in whose paths it is found do not decay
  no_decay: str = r'(^|/)(norm|bias|scale|embedding)'
  clip_norm: Positive = 1.0          # largest L2 norm of a group's gradient
  min_lr_ratio: Rate = 0.1           # the last learning rate of the schedule over the peak
  schedule_steps: Count = 0          # length of the schedule; 0: training.steps


def label_parameters(params: Any, groups: dict[str, GroupConfig]) -> Any:
  """The group of every parameter, as a tree like `params`.

  Raises:
    ConfigError: a group that matches nothing and is not optional, or a parameter that no group
      matches.
  """
  def group_of(path: str) -> str | None:
    return next((name for name, g in groups.items() if re.match(g.pattern, path)), None)

  labels = {path: group_of(path) for path in flatten_paths(params)}
  orphans = [path for path, label in labels.items() if label is None]
  if orphans:
    raise ConfigError(f'no group of optimizer.groups matches {len(orphans)} parameters, the first '
      f'is {orphans[0]!r}; the patterns are {[g.pattern for g in groups.values()]}')
  for name, group in groups.items():
    if name not in labels.values() and not group.optional:
      raise ConfigError(f'optimizer.groups.{name}.pattern={group.pattern!r} matches no parameter '
        'that an earlier group has not taken; paths start with '
        f'{sorted({p.split("/")[0] for p in labels})}')
  return jax.tree.unflatten(jax.tree.structure(params), labels.values())


def warmup_cosine(peak: float, warmup: int, steps: int, min_lr_ratio: float,
                  start: float = 0.0) -> optax.Schedule:
  """Learning rate at the 1-based step `count + 1`: linear from `start` to `peak`, cosine to
  `min_lr_ratio`·peak at `steps`.

  Computed in JAX's widest float: float32, or float64 where that is enabled.
  """
  def schedule(count: jax.Array) -> jax.Array:
    s = jnp.asarray(count + 1, float)
    low = min_lr_ratio * peak
    progress = jnp.clip((s - warmup) / max(steps - warmup, 1), 0.0, 1.0)
    cosine = low + (peak - low) * (1 + jnp.cos(jnp.pi * progress)) / 2
    return jnp.where(s < warmup, start + (peak - start) * s / max(warmup, 1), cosine)
  return schedule


def schedule_of(group: GroupConfig, config: OptimizerConfig, steps: int) -> optax.Schedule:
  """The learning rate of one group in a run of `steps`."""
  return warmup_cosine(group.learning_rate, group.warmup, config.schedule_steps or steps,
                       config.min_lr_ratio, group.warmup_start)


def clip_by_norm(max_norm: float) -> optax.GradientTransformation:
  """Scales by min(1, max_norm / (norm + 1e-6)) over the leaves that it sees."""
  def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
    scale = jnp.minimum(1.0, max_norm / (optax.global_norm(updates) + 1e-6))
    return jax.tree.map(lambda u: u * scale.astype(u.dtype), updates), state
  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def make_optimizer(config: OptimizerConfig, steps: int,
                   params: Any) -> optax.GradientTransformation:
  """One clipped AdamW or Lion per group of `config`; frozen groups get no update and no state."""
  def decays(tree: Any) -> Any:
    decided = [not re.search(config.no_decay, path) for path in flatten_paths(tree)]
    return jax.tree.unflatten(jax.tree.structure(tree), decided)

  def transform(group: GroupConfig) -> optax.GradientTransformation:
    if group.frozen:
      return optax.set_to_zero()
    schedule = schedule_of(group, config, steps)
    decay = dict(weight_decay=config.weight_decay, mask=decays if config.weight_decay else None)
    update = (optax.lion(schedule, config.b1, config.b2, **decay) if config.algorithm == 'lion' else
              optax.adamw(schedule, config.b1, config.b2, config.eps, **decay))
    return optax.chain(clip_by_norm(config.clip_norm), update)

  return optax.multi_transform({name: transform(g) for name, g in config.groups.items()},
                               label_parameters(params, config.groups))


def group_norms(tree: Any, groups: dict[str, GroupConfig]) -> dict[str, jax.Array]:
  """The L2 norm over every group's leaves of a tree like the parameters, 0 for a group without any;
  float32.
  """
  squares = dict.fromkeys(groups, jnp.zeros((), jnp.float32))
  labels = jax.tree.leaves(label_parameters(tree, groups))
  for label, leaf in zip(labels, jax.tree.leaves(tree), strict=True):
    squares[label] += jnp.sum(jnp.square(leaf.astype(jnp.float32)))
  return jax.tree.map(jnp.sqrt, squares)
