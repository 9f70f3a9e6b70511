"""More than one process: joining a cluster, and small values that all processes must know.

`gather` and `from_first` are collectives: all processes must call them, in the same order.
"""

from __future__ import annotations

import json
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from molmo_jax.configuration import ConfigError

HELP = ("more than one process: 'auto' where the cluster says who is who (Cloud TPU, GKE, SLURM, Open MPI), "
        "or 'HOST:PORT,INDEX,COUNT', HOST being that of process 0")


def join(cluster: str) -> None:
  """Connects this process with the others, before anything else is done with JAX; '' means that there are no others.

  A process that dies ends the others: with an error at their next exchange of data, or after a minute without a sign
  of life.

  Raises:
    ConfigError: `cluster` is neither 'auto' nor 'HOST:PORT,INDEX,COUNT', or the others do not answer.
  """
  if not cluster:
    return
  place: dict[str, Any] = {}
  if cluster != 'auto':
    parts = cluster.split(',')
    if len(parts) != 3 or ':' not in parts[0] or not (parts[1].isdigit() and parts[2].isdigit()):
      raise ConfigError(f"--distributed={cluster}: write 'auto' or HOST:PORT,INDEX,COUNT, as in 10.0.0.1:4321,0,2")
    place = dict(coordinator_address=parts[0], process_id=int(parts[1]), num_processes=int(parts[2]))
  try:
    jax.distributed.initialize(**place, heartbeat_timeout_seconds=60)
  except (RuntimeError, ValueError) as error:
    raise ConfigError(f'--distributed={cluster}: the processes did not find each other: {error}') from None


def gather(value: Any) -> list[Any]:
  """The `value`s of all processes, in the order of their indices; everything JSON can write."""
  if jax.process_count() == 1:
    return [value]
  data = np.frombuffer(json.dumps(value).encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.int64(len(data)))
  padded = np.zeros(int(sizes.max()), np.uint8)
  padded[:len(data)] = data
  rows = multihost_utils.process_allgather(padded)
  return [json.loads(row[:size].tobytes()) for row, size in zip(np.asarray(rows), sizes, strict=True)]


def from_first(value: Any) -> Any:
  """What the first process gives; the others may give anything."""
  return gather(value if jax.process_index() == 0 else None)[0]


def is_first() -> bool:
  """Whether this process writes the files that there is one of."""
  return jax.process_index() == 0
