"""What must be set before any other module is imported; needs the standard library alone."""

from __future__ import annotations

import os
import sys

HUGE_PAGES = 'glibc.malloc.hugetlb=1'


def restart_with_huge_pages() -> None:
  """Restarts this program with huge pages, a setting that glibc reads when a process starts.

  Without them the allocator gives large buffers back and faults them in again in every step. They
  hold for both sides.
  """
  tunables = os.environ.get('GLIBC_TUNABLES', '')
  if sys.platform != 'linux' or 'glibc.malloc.hugetlb' in tunables:
    return
  os.environ['GLIBC_TUNABLES'] = f'{tunables}:{HUGE_PAGES}' if tunables else HUGE_PAGES
  os.execv(sys.executable, [sys.executable, '-m', 'molmo_jax.tools.benchmark', *sys.argv[1:]])


def use_cores(count: int) -> int:
  """Restricts this process (JAX, torch) to `count` cores (0: all); returns their number."""
  if not hasattr(os, 'sched_setaffinity'):
    return count or os.cpu_count() or 1
  allowed = sorted(os.sched_getaffinity(0))
  if count:
    os.sched_setaffinity(0, allowed[:count])
  return len(os.sched_getaffinity(0))
