"""The loss on held-out examples, teacher-forced: the same batches every time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from molmo_jax.data.packing import PackingConfig
from molmo_jax.data.pipeline import DataConfig, TrainingData, read_sources
from molmo_jax.data.unusable import Shard
from molmo_jax.model.molmo import Network
from molmo_jax.parallel.sharding import data_shard, shard_batch
from molmo_jax.preprocess.tokenizer import Tokenizer
from molmo_jax.preprocess.types import PreprocessConfig
from molmo_jax.training.step import TrainingConfig, batch_loss


def make_validation(model: Network, training: TrainingConfig, config: DataConfig,
                    preprocess: PreprocessConfig, tokenizer: Tokenizer, mesh: Mesh
                    ) -> Callable[[Any], dict[str, float]]:
  """A function of the parameters that gives `loss` and `accuracy` over
  `training.validation_batches` batches.

  The batches come from `data.validation` in a fixed order, not packed; weights as in training; no
  dropout.

  Args:
    model: as it is trained; its dropout stays off.
    training: how many batches, and the chunk of the loss.
    config: where the examples are, and the size of a batch.
    preprocess: how they are encoded.
    tokenizer: of the run.
    mesh: every process reads its own shard of a batch.
  """
  config = dataclasses.replace(config, train=config.validation, mixture={}, groups={},
                               packing=PackingConfig(), workers=0)
  sources, shard = read_sources(config), Shard(*data_shard(mesh))
  measure = jax.jit(lambda params, batch: batch_loss(
    model, params, batch, 0.0, training.loss_chunk)[1])

  def validate(params: Any) -> dict[str, float]:
    data = TrainingData(config, preprocess, sources, tokenizer, model.config.connector.pool_slots,
                        shard)
    measured = jax.device_get([measure(params, shard_batch(next(data), mesh))
                               for _ in range(training.validation_batches)])
    weight = sum(float(m['loss_weight']) for m in measured)
    return {name: sum(float(m[name] * m['loss_weight']) for m in measured) / max(weight, 1e-9)
            for name in ('loss', 'accuracy')}

  return validate
