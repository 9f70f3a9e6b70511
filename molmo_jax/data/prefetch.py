"""Batches made ahead in a thread, so that the devices never wait for the host to pack and pad."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from molmo_jax.data.pipeline import TrainingData


class Prefetched:
  """The batches of `data`, up to `depth` of them ahead; position and counts are those of the batch
  given last.

  Errors of making a batch are raised when it is asked for.
  """

  def __init__(self, data: TrainingData, depth: int = 2):
    self._data = data
    self._pool = ThreadPoolExecutor(max_workers=1)
    self._position, self.skipped_by_dataset = data.position(), data.skipped_by_dataset
    self._ahead: deque[Future] = deque(self._pool.submit(self._make) for _ in range(depth))

  def _make(self) -> tuple[dict[str, np.ndarray], Any, dict[str, int]]:
    batch = next(self._data)
    return batch, self._data.position(), self._data.skipped_by_dataset

  def __next__(self) -> Mapping[str, np.ndarray]:
    batch, self._position, self.skipped_by_dataset = self._ahead.popleft().result()
    self._ahead.append(self._pool.submit(self._make))
    return batch

  def position(self) -> Any:
    """As `TrainingData.position`, after the batch that was given last."""
    return self._position

  def close(self) -> None:
    """Ends the thread; what it has made ahead is lost."""
    self._pool.shutdown(wait=True, cancel_futures=True)
