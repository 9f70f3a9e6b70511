"""Training throughput: one AdamW step on text, forward and backward, tokens per second."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from molmo_jax.lab.benchmark.peer import Peer
from molmo_jax.lab.benchmark.small import text_batch
from molmo_jax.lab.benchmark.timing import Run, timed
from molmo_jax.model.molmo import Network
from molmo_jax.training.optimizer import GroupConfig, OptimizerConfig, make_optimizer
from molmo_jax.training.state import state_from
from molmo_jax.training.step import TrainingConfig, make_train_step

RATE = 1e-5


def ours(model: Network, params: Any, tokens: np.ndarray) -> Run:
  """One training step of this library, compiled."""
  batch = text_batch(tokens) | dict(targets=np.roll(tokens, -1, axis=1),
                                    loss_weights=np.ones(tokens.shape, np.float32))
  config = OptimizerConfig({'all': GroupConfig('', learning_rate=RATE, warmup=0)})
  optimizer = make_optimizer(config, 1000, params)
  step = jax.jit(make_train_step(model, optimizer, TrainingConfig(), config), donate_argnums=0)
  # every step takes the memory of the state before it
  held = [state_from(jax.tree.map(lambda x: x + 0, params), optimizer, jax.random.key(0))]

  def work() -> None:
    held[0], metrics = step(held[0], batch)
    jax.block_until_ready((held[0], metrics))

  return timed(work)


def theirs(model: Any, peer: Peer, tokens: np.ndarray) -> Run:
  """The same with torch: cross-entropy of the next token, gradients clipped, AdamW."""
  torch = peer.torch
  ids = torch.from_numpy(tokens.astype(np.int64))
  model.train()
  used = [p for p in model.parameters() if p.requires_grad]
  optimizer = torch.optim.AdamW(used, lr=RATE, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.0)

  def work() -> None:
    optimizer.zero_grad(set_to_none=True)
    model(input_ids=ids, attention_mask=torch.ones_like(ids),
          mm_token_type_ids=torch.zeros_like(ids), labels=ids).loss.backward()
    torch.nn.utils.clip_grad_norm_(used, 1.0)
    optimizer.step()

  return timed(work)
