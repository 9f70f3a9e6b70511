"""What each of several processes may use: its own cores on a CPU, its part of the memory on a GPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from molmo_jax.configuration import ConfigError

# bytes of main memory that a tiny run takes, with room to spare
MEMORY_PER_RUN = 1.5 * 2 ** 30
ASK_JAX = 'import jax; print(jax.default_backend())'


@dataclasses.dataclass(frozen=True)
class Share:
  """What one process gets."""
  cores: frozenset[int] = frozenset()           # empty: not restricted
  environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


def backend() -> str:
  """What train.py will run on: 'cpu', 'gpu' or 'tpu'.

  Another process asks JAX, so that this one holds no device.
  """
  asked = os.environ.get('JAX_PLATFORMS', '').split(',')[0]
  if asked == 'cpu':
    return asked
  found = subprocess.run([sys.executable, '-c', ASK_JAX], capture_output=True, text=True,
                         check=False)
  if found.returncode:
    raise ConfigError(f'JAX finds no device: {found.stderr.strip().splitlines()[-1]}')
  return found.stdout.strip()


def shares(processes: int | None, kind: str) -> list[Share]:
  """One share per process that may run at the same time.

  Args:
    processes: how many are asked for. None: on a CPU one per core, as far as the free memory
      allows; else one.
    kind: of device, as `backend` gives it.

  Raises:
    ConfigError: several processes on a TPU, which belongs to one.
  """
  if kind == 'tpu' and (processes or 1) > 1:
    raise ConfigError(f'--processes={processes}: a TPU belongs to one process at a time')
  if kind != 'cpu':
    count = processes or 1
    memory = {'XLA_PYTHON_CLIENT_MEM_FRACTION': f'{0.9 / count:.3f}'} if count > 1 else {}
    return [Share(environment=memory) for _ in range(count)]
  cores = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else []
  free = int(min(_free_memory() // MEMORY_PER_RUN, len(cores) or os.cpu_count() or 1))
  count, found = processes or max(free, 1), []
  for i in range(count):
    mine = cores[i * len(cores) // count:(i + 1) * len(cores) // count]
    if len(cores) < count:
      mine = [cores[i % len(cores)]] if cores else []
    threads = str(max(len(mine), 1))
    found.append(Share(frozenset(mine), {'OMP_NUM_THREADS': threads, 'JAX_PLATFORMS': 'cpu',
                                         'OPENBLAS_NUM_THREADS': threads}))
  return found


def _free_memory() -> float:
  """Bytes that processes may still take; infinite where the system does not say."""
  with contextlib.suppress(OSError, StopIteration):
    lines = Path('/proc/meminfo').read_text(encoding='ascii').splitlines()
    return 1024.0 * int(next(line for line in lines if line.startswith('MemAvailable')).split()[1])
  return float('inf')
