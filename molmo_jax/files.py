"""Files that are read only if they are regular, and files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import pathlib
import stat
import tempfile
from typing import IO, Any

from molmo_jax.errors import MolmoError


def open_regular(path: str | os.PathLike, mode: str = 'rb', **options: Any) -> IO[Any]:
  """Opens a regular file for reading, as `open(path, mode, **options)` does.

  Every file that a user names or that a user's data name is opened here: a FIFO or a terminal would
  be waited for, a device has no end.

  Raises:
    MolmoError: a FIFO, device or socket, refused at once; a name that no file can have (NUL, half a
      surrogate pair). The message names the file.
    OSError: missing, a folder, without permission, as `open` raises them.
  """
  try:
    return open(os.fspath(path), mode, opener=_open_regular, **options)
  except ValueError as error:
    if isinstance(error, MolmoError):
      raise
    raise MolmoError(f'{os.fspath(path)!r}: no file can have this name ({error})') from error


def _open_regular(path: str, flags: int) -> int:
  try:
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
  except OSError as error:
    if error.errno != errno.ENXIO:   # a socket
      raise
    raise MolmoError(f'{path}: a socket, not a regular file') from error
  kind = os.fstat(descriptor).st_mode
  if stat.S_ISREG(kind):
    return descriptor
  os.close(descriptor)
  if stat.S_ISDIR(kind):
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
  raise MolmoError(f'{path}: a {"FIFO" if stat.S_ISFIFO(kind) else "device"}, not a regular file')


def write_atomically(path: str | os.PathLike, text: str) -> None:
  """Writes UTF-8 `text` to `path` by renaming a complete file; creates the folder if missing."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.', suffix='.tmp')
  try:
    with os.fdopen(handle, 'w', encoding='utf-8', newline='\n') as file:
      file.write(text)
      file.flush()
      os.fsync(file.fileno())
    # mkstemp makes a file that only its owner may read; give it the rights of a file opened as
    # usual.
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(temporary, 0o666 & ~mask)
    os.replace(temporary, path)
  except BaseException:
    pathlib.Path(temporary).unlink(missing_ok=True)
    raise
