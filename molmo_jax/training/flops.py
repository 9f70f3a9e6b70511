"""How much arithmetic a batch takes, exactly: from the shapes of the weights and the true number of
visible pairs.

Convention: multiply and add are two operations; only matrix products count; backward is twice
forward; what rematerialisation repeats, padding, and tokens that the mask hides do not count. MFU
by this convention is the fraction of the chips' peak that useful arithmetic gets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from molmo_jax.kernels.mask import MaskInfo, Tokens, rule
from molmo_jax.model.config import ModelConfig
from molmo_jax.parameters import flatten_paths

# bfloat16 operations per second of one chip, dense, by the beginning of jax.Device.device_kind
# (makers' data sheets)
PEAK = {'TPU v4': 275e12, 'TPU v5 lite': 197e12, 'TPU v5e': 197e12, 'TPU v5p': 459e12,
        'TPU v5': 459e12, 'TPU v6 lite': 918e12, 'TPU v6e': 918e12, 'TPU7x': 2307e12,
        'NVIDIA A100': 312e12, 'NVIDIA H100': 989e12, 'NVIDIA H200': 989e12, 'NVIDIA B200': 2250e12}


@dataclasses.dataclass(frozen=True)
class Work:
  """What a batch holds, padding aside; `capacity` is what it has room for."""
  tokens: int = 0
  crops: int = 0
  visual: int = 0                    # pooled visual tokens
  slots: int = 0                     # filled slots of their windows
  pairs: int = 0                     # (query, key) that see each other in the decoder
  capacity: int = 0                  # tokens
  crop_capacity: int = 0

  def __add__(self, other: Work) -> Work:
    return Work(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other))))


def work_of(batch: Mapping[str, np.ndarray], patches: int, bidirectional: str) -> Work:
  """Counts a numpy batch [B,…].

  Args:
    patches: P, of a crop.
    bidirectional: `model.bidirectional`.
  """
  index = batch['pool_index']
  crops = sum(len(np.unique(row[row >= 0] // patches)) for row in index)
  pairs = sum(visible_pairs(s, v, bidirectional)
              for s, v in zip(batch['segments'], batch['visual']))
  filled, room = index >= 0, batch['crops'].shape
  return Work(int((batch['segments'] >= 0).sum()), crops, int(filled.any(-1).sum()),
              int(filled.sum()), pairs, batch['tokens'].size, room[0] * room[1])


def visible_pairs(segments: np.ndarray, visual: np.ndarray, bidirectional: str) -> int:
  """How many (query, key) of one row [S] may attend: the mask's own rule, asked about runs.

  A run is a stretch of tokens that differ in their index alone. The rule says the same about all
  pairs of two runs, because it compares indices only for which comes first; inside of one run it
  may differ for keys before and after the query. So it is asked once for every pair of runs.
  """
  starts = np.flatnonzero(np.append(True, (np.diff(segments) != 0) | (np.diff(visual) != 0)))
  lengths = np.diff(np.append(starts, len(segments)))
  first: Any = MaskInfo(segments[starts], visual[starts], starts)   # type: ignore[arg-type]
  last = dataclasses.replace(first, index=starts + lengths - 1)
  column = Tokens(jax.tree.map(lambda x: x[:, None], first))
  seen = rule(column, Tokens(first), bidirectional)
  inside = np.diagonal(seen)                       # the key is the query, or stands before it
  ahead = rule(Tokens(first), Tokens(last), bidirectional)
  pairs = lengths @ (seen @ lengths) - inside @ lengths ** 2
  before = lengths * (lengths + 1) // 2
  return int(pairs + inside @ before + ahead @ (lengths * (lengths - 1) // 2))


def forward_flops(params: Any, config: ModelConfig, work: Work) -> float:
  """Operations of one forward pass over `work`, with the shapes of `params`."""
  tower, connector, llm = config.tower, config.connector, config.llm
  # weights that a patch, slot, visual token or token meets
  size = {'vit': 0, 'slot': 0, 'visual': 0, 'token': 0.0}
  for path, leaf in flatten_paths(params).items():
    if not path.endswith(('/kernel', '/gate', '/up', '/down')):
      continue
    n = int(np.prod(leaf.shape))
    if path.startswith('vit/'):
      size['vit'] += n
    elif path.startswith('connector/'):
      size['slot' if '/key/' in path or '/value/' in path else 'visual'] += n
    elif path.startswith('decoder/'):
      experts = llm.experts and leaf.ndim == 4   # [layer, expert, …]
      size['token'] += n * llm.experts_per_token / llm.experts if experts else n
  size['token'] += llm.vocab * llm.width         # the head
  attention = (work.crops * tower.attention_flops(config.read) +
               4 * connector.heads * connector.head_dim * work.slots
               * ('attention' in connector.pooling) +
               4 * llm.layers * llm.heads * llm.head_dim * work.pairs)
  return 2.0 * (size['vit'] * work.crops * tower.tokens + size['slot'] * work.slots
                + size['visual'] * work.visual + size['token'] * work.tokens) + attention


def peak_of(kind: str) -> float | None:
  """Operations per second of a chip, None for one that the table does not know."""
  names = [name for name in PEAK if kind.startswith(name)]
  return PEAK[max(names, key=len)] if names else None
