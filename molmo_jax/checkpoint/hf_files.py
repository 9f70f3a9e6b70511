"""Safetensors folders: any slice of any tensor read on its own, shards written tensor by tensor,
nothing half-written.

Only safetensors is read: other weight files are pickles, which can run code when they are opened.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from molmo_jax.errors import CheckpointError
from molmo_jax.files import open_regular
from molmo_jax.json_section import Section

SINGLE, INDEX = 'model.safetensors', 'model.safetensors.index.json'
DTYPES: dict[str, Any] = {'F32': np.dtype(np.float32), 'BF16': np.dtype(ml_dtypes.bfloat16),
                          'F16': np.dtype(np.float16)}
PICKLES = ('.bin', '.pt', '.pth', '.ckpt')
DOWNLOADED = ['*.safetensors', '*.json', '*.jinja']   # never a pickle, never code
CONVERT = 'load it with transformers where you trust it, and give what its save_pretrained writes'


@dataclasses.dataclass(frozen=True)
class Stored:
  """A tensor of the folder; `dtype` is safetensors' name for it."""
  file: Path
  shape: tuple[int, ...]
  dtype: str


def find_checkpoint(path: str | os.PathLike[str]) -> Path:
  """The folder at `path`, or the local copy of the repository of that name on the Hub.

  Raises:
    CheckpointError: neither exists.
  """
  folder = Path(path).expanduser()
  if folder.exists():
    return folder
  try:
    return Path(huggingface_hub.snapshot_download(str(path), allow_patterns=DOWNLOADED))
  except (OSError, ValueError) as error:   # bad ids, missing repositories, no network
    raise CheckpointError(f'{path}: no such folder, and no such repository on the Hugging Face Hub '
                          f'({str(error).splitlines()[0]})') from None


class TensorFolder:
  """The weights of a folder. All headers are read and checked when it is made; the tensors stay on
  disk.

  Attributes:
    tensors: what the folder holds, by name.
    bytes_read: size of all slices that were read so far.

  Raises:
    CheckpointError: no safetensors, a shard that is missing, cut off or something else, an index
      that is wrong.
  """

  def __init__(self, folder: str | Path):
    self.folder = Path(folder)
    self.bytes_read = 0
    if not self.folder.is_dir():
      raise CheckpointError(f'{self.folder}: no such folder')
    single, index = self.folder / SINGLE, self.folder / INDEX
    if not (single.exists() or index.exists()):
      raise CheckpointError(_no_weights(self.folder))
    if single.exists() and index.exists():
      raise CheckpointError(f'{self.folder}: holds both {SINGLE} and {INDEX}; delete the wrong one')
    self.tensors = _indexed(index) if index.exists() else _header(single)

  def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
    """A copy of the box `index` of a tensor, in the dtype of the file.

    The file is opened for this slice alone: the pages of a memory map count as memory of the
    process until it is closed.
    """
    with _open(self.tensors[name].file) as file:
      array = file.get_slice(name)[index]
    self.bytes_read += array.nbytes
    return array


@contextlib.contextmanager
def _open(file: Path) -> Iterator[Any]:
  try:
    with open_regular(file), safe_open(file, framework='numpy') as opened:
      yield opened
  except SafetensorError as error:
    raise CheckpointError(f'{file}: not a whole safetensors file ({error}); fetch or write it '
                          'again') from None
  except OSError as error:
    raise CheckpointError(f'{file}: cannot be read ({error.strerror or error})') from None


def _header(file: Path) -> dict[str, Stored]:
  """The tensors of one file; opening it checks that its size is what the header says."""
  with _open(file) as opened:
    slices = {name: opened.get_slice(name) for name in opened.keys()}
    return {name: Stored(file, tuple(s.get_shape()), str(s.get_dtype()))
            for name, s in slices.items()}


def _indexed(index: Path) -> dict[str, Stored]:
  named = Section.read(index).take('weight_map', kind=dict[str, str])
  files = sorted(set(named.values()))
  missing = [f for f in files if Path(f).name != f or not (index.parent / f).is_file()]
  if missing:
    raise CheckpointError(f'{index}: names shards that are no files of its folder: '
                          f'{listing(missing)}')
  tensors: dict[str, Stored] = {}
  wrong = []
  for file in files:
    for name, stored in _header(index.parent / file).items():
      if name in tensors:
        wrong.append(f'{name} is in {tensors[name].file.name} and in {file}')
      elif named.get(name) != file:
        wrong.append(f'{name} is in {file}, the index says {named.get(name, "nothing")}')
      tensors[name] = stored
  wrong += [f'{name} is not in {file}' for name, file in named.items() if name not in tensors]
  if wrong:
    raise CheckpointError(f'{index}: does not fit its shards:\n  ' + listing(wrong, '\n  '))
  return tensors


def _no_weights(folder: Path) -> str:
  pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
  if pickles:
    return (f'{folder}: its weights are pickles ({listing(pickles)}), which can run any code when '
            f'opened and are never read here; {CONVERT}')
  return (f'{folder}: holds no weights; a checkpoint folder has {SINGLE} or {INDEX}. Only these '
          f'are downloaded from the Hub; if a repository has only pickles (.bin), {CONVERT}')


def listing(items: Sequence[str], separator: str = ', ', most: int = 20) -> str:
  """The first `most` items and how many there are more."""
  more = [f'… and {len(items) - most} more'] if len(items) > most else []
  return separator.join([*items[:most], *more])


@dataclasses.dataclass(frozen=True)
class Planned:
  """A tensor to be written; `blocks` makes its rows, one array after another, when they are due."""
  name: str
  shape: tuple[int, ...]
  dtype: Any
  blocks: Callable[[], Iterable[np.ndarray]]

  @property
  def nbytes(self) -> int:
    """Bytes of the tensor in the file."""
    return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


def write_shards(folder: Path | None, tensors: Sequence[Planned], shard_bytes: int,
                 progress: Callable[[int, int], None] | None = None) -> None:
  """Writes the tensors and, where there are several shards, their index.

  Args:
    folder: where the files go; None: only the blocks are made.
    tensors: what is written.
    shard_bytes: most bytes of tensors in one file; a larger tensor gets a file of its own.
    progress: called with the number of tensors that are done and of all.
  """
  by_name = {t.name: t for t in tensors}
  shards = huggingface_hub.split_state_dict_into_shards_factory(
    by_name, get_storage_size=lambda t: t.nbytes, filename_pattern='model{suffix}.safetensors',
    max_shard_size=shard_bytes)
  done = 0
  for file_name, names in shards.filename_to_tensors.items():
    with open(folder / file_name, 'wb') if folder else contextlib.nullcontext() as file:
      if file:
        file.write(_header_bytes([by_name[name] for name in names]))
      for name in names:
        _write_tensor(file, by_name[name])
        done += 1
        if progress:
          progress(done, len(tensors))
      if file:
        file.flush()
        os.fsync(file.fileno())
  if folder and shards.is_sharded:
    index = {'metadata': shards.metadata, 'weight_map': shards.tensor_to_filename}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + '\n', encoding='utf-8')


def _header_bytes(tensors: Sequence[Planned]) -> bytes:
  """Length and JSON of the header. The library's own writer needs all of a shard in memory."""
  names = {dtype: name for name, dtype in DTYPES.items()}
  header: dict[str, Any] = {'__metadata__': {'format': 'pt'}}   # transformers asks for it
  at = 0
  for t in tensors:
    header[t.name] = {'dtype': names[np.dtype(t.dtype)], 'shape': list(t.shape),
                      'data_offsets': [at, at + t.nbytes]}
    at += t.nbytes
  text = json.dumps(header, separators=(',', ':')).encode()
  text += b' ' * (-len(text) % 8)   # the data begin at a multiple of eight
  return len(text).to_bytes(8, 'little') + text


def _write_tensor(file: Any, tensor: Planned) -> None:
  written = 0
  for block in tensor.blocks():
    if file:
      data = np.ascontiguousarray(block, tensor.dtype)
      written += data.nbytes
      file.write(data.reshape(-1).view(np.uint8))
  if file and written != tensor.nbytes:
    raise AssertionError(f'{tensor.name}: {written} bytes made, {tensor.nbytes} planned')


@contextlib.contextmanager
def new_folder(path: str | Path, keep: bool = True) -> Iterator[Path]:
  """A temporary folder beside `path` that becomes `path` when the block ends well, and vanishes
  when it does not.

  Args:
    keep: False makes a folder that always vanishes: for the processes of a run that are not to
      write.

  Raises:
    CheckpointError: `path` is a file or a folder with something in it; nothing is overwritten.
  """
  path = Path(path)
  if path.exists() and (not path.is_dir() or any(path.iterdir())):
    raise CheckpointError(f'{path}: exists already; give a new folder, or an empty one')
  if not keep:
    with tempfile.TemporaryDirectory() as scratch:
      yield Path(scratch)
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f'.{path.name}.'))
  try:
    yield temporary
    mask = os.umask(0)
    os.umask(mask)
    temporary.chmod(0o777 & ~mask)   # mkdtemp makes a folder that only its owner may read
    os.rename(temporary, path)
  except BaseException:
    shutil.rmtree(temporary, ignore_errors=True)
    raise
