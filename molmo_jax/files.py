"""Files that are read only if they are regular, and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import stat
from collections.abc import Callable
from typing import IO, Any

from molmo_jax.errors import MolmoError
from molmo_jax.visible import well_formed


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


def read_json_lines(path: str | os.PathLike, parse: Callable[[Any], Any] = lambda value: value
                    ) -> tuple[list[Any], list[str]]:
  """What `parse` makes of the JSON values of a file, one a line; blank lines are skipped.

  Args:
    parse: may fail with any error of a value of the wrong type.

  Returns:
    The values of all lines that can be used, and a message for each of the others, which names
    file and line.
  """
  values, problems = [], []
  with open_regular(path) as file:
    lines = file.read().splitlines()
  for number, line in enumerate(lines, start=1):
    if line.strip():
      try:
        values.append(parse(json.loads(line.decode('utf-8'))))
      except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        kind = '' if isinstance(error, ValueError) else f'{type(error).__name__}: '
        problems.append(f'{os.fspath(path)}:{number}: {kind}{str(error)[:300]}')
  return values, problems


def read_json(path: str | os.PathLike) -> Any:
  """The JSON value of a file.

  Raises:
    MolmoError: it is not JSON in UTF-8; the message names the file.
  """
  with open_regular(path) as file:
    data = file.read()
  try:
    return json.loads(data.decode('utf-8'))
  except (ValueError, RecursionError) as error:
    raise MolmoError(f'{os.fspath(path)}: not valid JSON in UTF-8 ({error})') from None


def file_name(name: Any, where: str) -> str:
  """`name`, which comes from data, if it can be the name of one file in a folder.

  Args:
    where: where it stands, for the message.

  Raises:
    MolmoError: no text, empty, '.' or '..', with a separator or a character that is not printable
      (NUL, half a surrogate pair), or longer than 200 bytes.
  """
  if not isinstance(name, str) or name in ('', '.', '..') or not name.isprintable() or (
    set(name) & set('/\\') or len(name.encode()) > 200):
    raise MolmoError(f'{where}: {str(name)[:80]!r} cannot be the name of a file')
  return name


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes a value as JSON for people to read; see `write_atomically`."""
  write_atomically(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + '\n')


def append_json(path: str | os.PathLike, value: Any) -> None:
  """Appends a line with a value as JSON; see `write_atomically` for what UTF-8 cannot hold."""
  with open(path, 'ab') as file:
    file.write(well_formed(json.dumps(value, ensure_ascii=False) + '\n').encode())


def write_atomically(path: str | os.PathLike, text: str) -> None:
  """Writes `text` to `path` in UTF-8 by renaming a complete file; creates the folder if missing.

  Half a surrogate pair, which no file in UTF-8 can hold, becomes U+FFFD. The temporary file of a
  program that was killed is used by the next one that writes to `path`.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  data = well_formed(text).encode()
  temporary = path.with_name(f'.{path.name}.tmp')
  with open_alone(temporary) as file:
    try:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
      os.replace(temporary, path)
    except BaseException:
      temporary.unlink()
      raise


def open_alone(path: pathlib.Path, how: int = fcntl.LOCK_EX) -> IO[bytes]:
  """Opens an empty file that no other process has until it is closed."""
  while True:
    file = open(path, 'ab')
    try:
      fcntl.flock(file, how)
    except BlockingIOError:
      file.close()
      raise
    except OSError:   # some network file systems have no locks
      pass
    with contextlib.suppress(FileNotFoundError):   # who had it before renamed or deleted it
      if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
        file.truncate(0)
        return file
    file.close()
