"""One process works in a folder: a lock that tells a process that died, here or on another host."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import socket
import threading
import time
from collections.abc import Iterator

from absl import logging

from molmo_jax.errors import MolmoError
from molmo_jax.files import open_alone, open_regular

# Seconds between two touches of a lock, and how long one of another host is looked at.
BEAT, PATIENCE = 10.0, 60.0


@contextlib.contextmanager
def locked(folder: str | os.PathLike) -> Iterator[None]:
  """Holds `<folder>/run.lock`, which names host and process, while the context is open.

  The system frees the lock of a process that died. A host that died, or lost its job, cannot be
  asked: a holder touches the file every `BEAT` seconds, and who does not for `PATIENCE` is gone.

  Raises:
    MolmoError: another process has it; the message names it.
  """
  path, here = pathlib.Path(folder) / 'run.lock', socket.gethostname()
  path.parent.mkdir(parents=True, exist_ok=True)
  holder = path.read_text('utf-8', 'replace')[:200] if path.exists() else ''
  in_use = MolmoError(f'{folder} is in use by {holder or "another process"}; wait for it, or give '
                      'another folder')
  if holder and not holder.endswith(f' on {here}') and _is_touched(path, holder):
    raise in_use
  try:
    file = open_alone(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    raise in_use from None
  ended = threading.Event()

  def touch() -> None:
    while not ended.wait(BEAT):
      with contextlib.suppress(OSError):
        os.utime(path)

  with file:
    file.write(f'process {os.getpid()} on {here}'.encode())
    file.flush()
    threading.Thread(target=touch, daemon=True).start()
    try:
      yield
    finally:
      ended.set()
      path.unlink(missing_ok=True)


def _is_touched(path: pathlib.Path, holder: str) -> bool:
  """Whether a file is touched within `PATIENCE`; no clocks of two hosts are compared."""
  logging.warning('%s names %s: looking for %.0f s whether it is still there', path, holder,
                  PATIENCE)
  began, times = time.monotonic(), set()
  while time.monotonic() - began < PATIENCE and len(times) < 2:
    with contextlib.suppress(FileNotFoundError), open_regular(path) as file:
      times.add(os.fstat(file.fileno()).st_mtime_ns)   # opening it asks a network file system anew
    time.sleep(BEAT / 10)
  return len(times) > 1
