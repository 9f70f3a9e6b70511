"""The model that is measured: Molmo2's architecture with 111 M random parameters."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from molmo_jax.checkpoint import hf
from molmo_jax.lab.benchmark.peer import Peer
from molmo_jax.model.config import ConnectorConfig, LlmConfig, ModelConfig, VitConfig
from molmo_jax.model.molmo import Network
from molmo_jax.training.state import init_params

SMALL = ModelConfig(
  vit=VitConfig(width=384, layers=6, heads=6, head_dim=64, mlp=1536),
  connector=ConnectorConfig(vit_layers=(-1, -4), heads=6, kv_heads=6, head_dim=64, width=384,
                            hidden=2304, pool_slots=4),
  llm=LlmConfig(vocab=8192, width=768, layers=12, heads=12, kv_heads=4, head_dim=64, mlp=2304),
  remat='none')


def make_model() -> tuple[Network, Any]:
  """The network and random parameters, float32."""
  model = Network(SMALL)
  return model, jax.block_until_ready(
    jax.jit(lambda key: init_params(model, key))(jax.random.key(0)))


def text_batch(tokens: np.ndarray) -> dict[str, np.ndarray]:
  """A batch of text tokens, int32 [B,S]: one example in a row, no crops."""
  rows, length = tokens.shape
  zeros, size = np.zeros_like(tokens), SMALL.tower.image_size
  return dict(tokens=tokens, positions=np.tile(np.arange(length, dtype=np.int32), (rows, 1)),
              segments=zeros, visual=zeros, feature_index=zeros - 1,
              crops=np.zeros((rows, 0, size, size, 3), np.uint8),
              pool_index=np.zeros((rows, 0, SMALL.connector.pool_slots), np.int32))


def peer_model(params: Any, peer: Peer) -> Any:
  """transformers' model with the same parameters, in float32; they go through a checkpoint."""
  with tempfile.TemporaryDirectory() as folder:
    hf.save_params(params, SMALL, Path(folder), 'native')
    load = peer.transformers.Molmo2ForConditionalGeneration.from_pretrained
    return load(folder, dtype=peer.torch.float32).eval()
