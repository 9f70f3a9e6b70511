"""The loss on held-out examples, teacher-forced: the same batches every time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from molmo_jax.data.manifest import read_manifest
from molmo_jax.data.packing import PackingConfig
from molmo_jax.data.pipeline import DataConfig, TrainingData
from molmo_jax.model.molmo import Molmo
from molmo_jax.preprocess.tokenizer import Tokenizer
from molmo_jax.preprocess.types import PreprocessConfig
from molmo_jax.training.step import TrainingConfig, batch_loss


def make_validation(model: Molmo, training: TrainingConfig, config: DataConfig,
                    preprocess: PreprocessConfig,
                    tokenizer: Tokenizer, share: tuple[int, int], place: Callable[[dict], dict]
                    ) -> Callable[[Any], dict[str, float]]:
  """A function of the parameters that gives `loss` and `accuracy` over
  `training.validation_batches` batches.

  The batches are drawn from `data.validation` in a fixed order, not packed; weights as in training;
  no dropout.

  Args:
    share: index of this process's part of a batch, and the number of parts.
    place: puts this process's rows onto the devices.
  """
  config = dataclasses.replace(config, train=config.validation, mixture={}, groups={},
                               packing=PackingConfig(),
                               workers=0)
  manifest = read_manifest(config.validation)
  measure = jax.jit(lambda params,
                    batch: batch_loss(model, params, batch, 0.0, training.loss_chunk)[1])

  def validate(params: Any) -> dict[str, float]:
    data = TrainingData(config, preprocess, manifest, tokenizer, model.config.connector.pool_slots,
                        *share)
    measured = jax.device_get(
      [measure(params, place(next(data))) for _ in range(training.validation_batches)])
    weight = sum(float(m['loss_weight']) for m in measured)
    return {name: sum(float(m[name] * m['loss_weight']) for m in measured) / max(weight, 1e-9)
            for name in ('loss', 'accuracy')}

  return validate
