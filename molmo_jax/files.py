"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import pathlib
import tempfile


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
