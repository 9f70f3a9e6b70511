"""More than one process: initialisation, and small values that all processes must know.

`process_allgather`, `from_first` and `first_then_others` are collectives: all processes must call
them, in the same order.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from molmo_jax import stopping
from molmo_jax.configuration import ConfigError
from molmo_jax.errors import MolmoError, shorten
from molmo_jax.visible import plain_streams, say

HELP = ("more than one process: 'auto' where the cluster says who is who (Cloud TPU, GKE, SLURM, "
  "Open MPI), or 'HOST:PORT,INDEX,COUNT', HOST being that of process 0")


FULL = os.strerror(errno.ENOSPC)


def initialize(cluster: str) -> None:
  """Connects this process with the others, before anything else is done with JAX; '' means that
  there are no others.

  A process that dies ends the others: with an error at their next collective, or after a
  minute without a sign of life.

  Raises:
    ConfigError: `cluster` is neither 'auto' nor 'HOST:PORT,INDEX,COUNT', or the others do not
      answer.
  """
  if not cluster:
    return
  where: dict[str, Any] = {}
  if cluster != 'auto':
    parts = cluster.split(',')
    if len(parts) != 3 or ':' not in parts[0] or not (parts[1].isdigit() and parts[2].isdigit()):
      raise ConfigError(f"--distributed={cluster}: write 'auto' or HOST:PORT,INDEX,COUNT, as in "
        "10.0.0.1:4321,0,2")
    where = dict(coordinator_address=parts[0], process_id=int(parts[1]),
                 num_processes=int(parts[2]))
  try:
    jax.distributed.initialize(**where, heartbeat_timeout_seconds=60)
  except (RuntimeError, ValueError) as error:
    raise ConfigError(
      f'--distributed={cluster}: the processes did not find each other: {error}') from None


def process_allgather(value: Any) -> list[Any]:
  """The `value`s of all processes, in the order of their indices; everything JSON can write."""
  if jax.process_count() == 1:
    return [value]
  data = np.frombuffer(json.dumps(value).encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.int64(len(data)))
  padded = np.zeros(int(sizes.max()), np.uint8)
  padded[:len(data)] = data
  rows = multihost_utils.process_allgather(padded)
  return [json.loads(row[:size].tobytes())
          for row, size in zip(np.asarray(rows), sizes, strict=True)]


def from_first(value: Any) -> Any:
  """What the first process gives; the others may give anything."""
  return process_allgather(value if jax.process_index() == 0 else None)[0]


def is_first() -> bool:
  """Whether this process writes the files that there is one of."""
  return jax.process_index() == 0


def first_then_others(make: Callable[[], Any]) -> Any:
  """What `make` returns; the first process calls it before the others, which find the files that it
  wrote.
  """
  if is_first():
    made = make()
    process_allgather(None)
    return made
  process_allgather(None)
  return make()


@contextlib.contextmanager
def orderly_end() -> Iterator[None]:
  """Around a whole program: a `MolmoError`, a full disk or another fault of the system, Ctrl-C or
  SIGTERM ends it with one line instead of a traceback.

  With several processes any failure of one ends it at once, without waiting for the others at a
  barrier that they never reach; they notice the missing peer, and end with a message, too.
  """
  plain_streams()
  try:
    with stopping.listening():
      yield
  except BrokenPipeError:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)   # Python flushes it once more
    _leave('error: nobody reads standard output any more; the same command resumes')
  except (MolmoError, OSError) as error:
    _leave(f'error: {error}')
  except stopping.Stopped as stopped:
    _leave(str(stopped), stopped.status)
  except (Exception, SystemExit) as error:
    if FULL in str(error):   # the checkpoint writer's form of it
      _leave(f'error: {FULL}: {shorten(str(error), 300)}')
    ended = isinstance(error, SystemExit) and error.code in (None, 0, *stopping.STATUSES)
    if ended or not jax.distributed.is_initialized():
      raise
    if not isinstance(error, SystemExit):
      traceback.print_exc()
    _leave(f'error: process {jax.process_index()} of {jax.process_count()} failed or lost a peer: '
      f'{error}\nThe first process that failed says why. Start all of them again: a run resumes '
      'from its last checkpoint.')


def _leave(message: str, status: int = 1) -> None:
  with contextlib.suppress(OSError):
    say(message, file=sys.stderr, flush=True)
  if not jax.distributed.is_initialized():
    raise SystemExit(status) from None
  sys.stdout.flush()
  os._exit(status)


def finishing(first: str) -> contextlib.AbstractContextManager:
  """`stopping.finishing`; but Ctrl-C in one of several processes, of which the others do not know,
  ends that one at once.
  """
  return contextlib.nullcontext() if jax.process_count() > 1 else stopping.finishing(first)


def asked_to_stop(step: int) -> stopping.Stopped | None:
  """Whether the run was asked to stop before the end of `step`, for a loop within `finishing`.

  One process: SIGTERM or Ctrl-C. Several: a SIGTERM to any of them, for which JAX has a handler of
  its own; all hear of it at the same step, so all must ask, at every step.
  """
  if jax.process_count() == 1:
    return stopping.received()
  asked = multihost_utils.reached_preemption_sync_point(step)
  return stopping.Stopped(signal.SIGTERM) if asked else None
