"""Parameters from and to Hugging Face checkpoints, a tensor at a time (docs/model.md §9).

Beside the parameters themselves the host holds a few pieces: a table is read in runs of rows,
a tower a few layers at a time, each straight into the sharded array that it belongs to.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from molmo_jax.checkpoint.hf_config import Naming, model_config_dict
from molmo_jax.checkpoint.hf_files import Planned, TensorFolder, write_shards
from molmo_jax.checkpoint.hf_plan import Destination, Rows, Whole, plan_export, plan_import
from molmo_jax.checkpoint.hf_table import file_index, from_file, naming_of, to_file
from molmo_jax.errors import CheckpointError
from molmo_jax.files import write_atomically
from molmo_jax.model.config import ModelConfig
from molmo_jax.parameters import flatten_paths

Initializer = Callable[[tuple[int, ...], Any], Any]
Progress = Callable[[int, int], None]
Reader = Callable[[tuple[slice, ...]], np.ndarray]   # makes the part of an array at an index
# First and last + 1 on every axis; slices cannot be keys before Python 3.12.
Box = tuple[tuple[int, int], ...]
SHARD_BYTES = 5_000_000_000
PIECE = 64 << 20   # bytes that are read at once, where the first axis can be cut


def load_params(folder: str | Path, abstract: Any, dtype: Any = None,
                fresh: Mapping[str, Initializer] | None = None,
                progress: Progress | None = None) -> Any:
  """The parameters of a Hugging Face checkpoint as the tree that `init_params` gives.

  Every process reads only what its own devices hold. All headers are checked before the first
  tensor is read.

  Args:
    folder: with model.safetensors, or shards and their index.
    abstract: a tree of `jax.ShapeDtypeStruct` (or arrays) with the shapes of the configuration's
      parameters; a leaf's sharding says where it goes, without one it goes to the first device.
    dtype: of all parameters; None takes each leaf's own.
    fresh: parameters that the file may lack: pattern (`re.search` on the path) →
      `initializer(shape, dtype)`, for example `{'connector/layout/': jnp.zeros}`.
    progress: called with the MiB that are done and those of the whole.

  Raises:
    CheckpointError: unreadable files; tensors that are missing, left over, of another shape or
      dtype, all in one list.
  """
  files = TensorFolder(folder)
  leaves, structure = jax.tree.flatten(abstract)
  plan = plan_import(files, abstract, fresh or {})
  advance = counter(leaves, dtype, progress)
  return jax.tree.unflatten(structure, [load_leaf(files, source, leaf, dtype, advance)
                                        for leaf, source in zip(leaves, plan, strict=True)])


def counter(leaves: Iterable[Any], dtype: Any, progress: Progress | None) -> Callable[[int], None]:
  """A function that adds the bytes it is called with, and calls `progress` with the MiB that are
  done and those of all `leaves`.
  """
  total = sum(math.prod(x.shape) * jnp.dtype(dtype or x.dtype).itemsize for x in leaves)
  done = 0

  def advance(nbytes: int) -> None:
    nonlocal done
    done += nbytes
    if progress:
      progress(math.ceil(done / 2 ** 20), math.ceil(total / 2 ** 20))
  return advance


def load_leaf(files: TensorFolder, source: Rows | Whole | Initializer, leaf: Any, dtype: Any,
              advance: Callable[[int], None]) -> jax.Array:
  """One parameter in the sharding of `leaf`, and in its dtype unless another one is given."""
  kind, sharding = jnp.dtype(dtype or leaf.dtype), _sharding(leaf)
  if isinstance(source, Rows):
    return _load(files, source, leaf.shape, kind, sharding, advance)
  if isinstance(source, Whole):
    stored = files.read(source.name, (slice(None),) * len(files.tensors[source.name].shape))
    whole = _finite(source.change(stored.astype(np.float32)).astype(kind), files, [source.name])
    array = read_sharded(sharding, leaf.shape, lambda index: whole[index])
  else:
    array = jax.jit(functools.partial(source, leaf.shape, kind), out_shardings=sharding)()
  advance(array.nbytes)
  return array


def _sharding(leaf: Any) -> Sharding:
  sharding = getattr(leaf, 'sharding', None)
  return SingleDeviceSharding(jax.local_devices()[0]) if sharding is None else sharding


def _load(files: TensorFolder, source: Rows, shape: tuple[int, ...], dtype: np.dtype,
          sharding: Sharding, advance: Callable[[int], None]) -> jax.Array:
  """One parameter: whole if it is small or if its first axis is split over devices, else in pieces
  of that axis.
  """
  read = functools.partial(read_box, files, source, shape, dtype=dtype)
  rows = shape[0]
  step = max(1, PIECE * rows // (math.prod(shape) * dtype.itemsize))
  if step >= rows or sharding.shard_shape(shape)[0] < rows:
    array = read_sharded(sharding, shape, read)
    advance(array.nbytes)
    return array
  array = jnp.zeros(shape, dtype, device=sharding)
  for start in range(0, rows, step):
    piece = slice(start, min(start + step, rows))
    part = read_sharded(sharding, (piece.stop - start, *shape[1:]),
                        lambda index, piece=piece: read((piece, *index[1:])))   # type: ignore[misc]
    # one piece at a time: without waiting, the host would run ahead and hold many
    array = jax.block_until_ready(_updater(sharding)(array, part, np.int32(start)))
    advance(part.nbytes)
  return array


@functools.lru_cache(maxsize=256)
def _updater(sharding: Sharding) -> Callable[..., jax.Array]:
  """Writes a piece into an array, which is donated, without a second copy of the array."""
  return jax.jit(functools.partial(jax.lax.dynamic_update_slice_in_dim, axis=0), donate_argnums=0,
                 out_shardings=sharding)


def read_sharded(sharding: Sharding, shape: tuple[int, ...], read: Reader) -> jax.Array:
  """An array of `shape` whose parts on this process's devices come from `read(index)`; nothing is
  read twice.
  """
  devices = sharding.addressable_devices_indices_map(shape)
  wanted = {d: tuple(s.indices(n)[:2] for s, n in zip(index or (), shape))
            for d, index in devices.items()}
  parts = read_parts(set(wanted.values()), read)
  return jax.make_array_from_single_device_arrays(
    shape, sharding, [jax.device_put(parts[box], device) for device, box in wanted.items()])


def read_parts(wanted: set[Box], read: Reader) -> dict[Box, np.ndarray]:
  """All `wanted` boxes; by one read of the box around them if they fill it, which is faster than
  many strided ones.
  """
  around = tuple((min(a for a, _ in axis), max(b for _, b in axis)) for axis in zip(*wanted))
  volume = lambda box: math.prod(b - a for a, b in box)
  if sum(map(volume, wanted)) != volume(around):
    return {box: read(tuple(slice(*s) for s in box)) for box in wanted}
  whole = read(tuple(slice(*s) for s in around))
  return {box: whole[tuple(slice(a - first, b - first) for (a, b), (first, _) in zip(box, around))]
          for box in wanted}


def read_box(files: TensorFolder, source: Rows, shape: tuple[int, ...], index: tuple[slice, ...],
             dtype: np.dtype) -> np.ndarray:
  """The box `index` of a parameter, read from the tensors that hold it."""
  if source.layers is None:
    return _read_matrix(files, source, 0, shape, index, dtype)
  layers = range(*index[0].indices(source.layers))
  return np.stack([_read_matrix(files, source, i, shape[1:], index[1:], dtype) for i in layers])


def _read_matrix(files: TensorFolder, source: Rows, layer: int, shape: tuple[int, ...],
                 index: tuple[slice, ...], dtype: np.dtype) -> np.ndarray:
  slices, held, rest = file_index(source.kind, shape, index)
  first, last = slices[0].start + source.offset, slices[0].stop + source.offset
  blocks = [files.read(name, (slice(max(first, start) - start, min(last, stop) - start),
                              *slices[1:]))
            for name, start, stop in source.spans[layer] if start < last and stop > first]
  block = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
  return _finite(from_file(source.kind, block, held)[rest].astype(dtype, copy=False), files,
                 [name for name, _, _ in source.spans[layer]])


def _finite(array: np.ndarray, files: TensorFolder, names: Sequence[str]) -> np.ndarray:
  """`array`; raises CheckpointError, with the names of its tensors, for NaN and infinity in it."""
  bits = f'u{array.itemsize}'
  exponent = np.array(np.inf, array.dtype).view(bits)   # all ones in these two alone
  if (array.view(bits) & exponent == exponent).any():
    raise CheckpointError(f'{files.folder}: {" + ".join(names)} has values that are not finite or '
                          f'too large for {array.dtype}; such a model answers nothing')
  return array


def save_params(params: Any, config: ModelConfig, folder: Path, layout: Naming = 'hub',
                dtype: Any = None, shard_bytes: int = SHARD_BYTES,
                progress: Progress | None = None, **serving: Any) -> None:
  """Writes weights and config.json of a Hugging Face checkpoint into a folder, normally the one of
  `new_folder`.

  The host holds one layer's tensor at a time. With several processes all of them call this; the
  first one writes.

  Args:
    params: the nested dict of parameters.
    config: the model.
    folder: where the files go.
    layout: 'hub' as released (Molmo2, or Molmo v1), 'native' with the names of transformers.
    dtype: of the tensors; None: that of the parameters.
    shard_bytes: most bytes of tensors in one file.
    progress: called with the number of tensors that are done and of all.
    serving: `special`, `max_positions` and `source` of `hf_config.model_config_dict`.

  Raises:
    CheckpointError: parameters or settings that a Hugging Face checkpoint cannot express; nothing
      has been written then.
  """
  arrays = flatten_paths(params)
  plan = plan_export(params, naming_of(config, layout))
  stored = jnp.dtype(dtype or arrays[plan[0].paths[0]].dtype)
  contents = model_config_dict(config, layout, stored.name, **serving)
  is_writer = jax.process_index() == 0
  if is_writer:
    write_atomically(folder / 'config.json', json.dumps(contents, indent=2) + '\n')
  tensors = [Planned(d.name, d.shape, stored, functools.partial(_rows, arrays, d)) for d in plan]
  write_shards(folder if is_writer else None, tensors, shard_bytes, progress)


def _rows(arrays: Mapping[str, jax.Array], destination: Destination) -> Iterator[np.ndarray]:
  """The rows of a tensor of the file, parameter by parameter; of a large table in pieces."""
  for path in destination.paths:
    array = arrays[path]
    if destination.index:
      yield to_file(destination.kind, _fetch(array, destination.index))
      continue
    rows = array.shape[0]
    # the first axis of other kinds makes columns
    step = max(1, PIECE * rows // array.nbytes) if destination.kind == 'table' else rows
    for start in range(0, rows, step):
      yield to_file(destination.kind, _fetch(array, (start,), min(step, rows - start)))


def _fetch(array: jax.Array, start: tuple[int, ...], size: int | None = None) -> np.ndarray:
  """`array[start]`, or with a size the rows `array[start[0]:start[0] + size]`, on the host, on
  every process.
  """
  everywhere = (None if array.is_fully_addressable else
                NamedSharding(cast(NamedSharding, array.sharding).mesh, PartitionSpec()))
  return np.asarray(_slicer(len(start), size, everywhere)(array, np.array(start, np.int32)))


@functools.lru_cache(maxsize=256)
def _slicer(axes: int, size: int | None, sharding: Sharding | None) -> Callable[..., jax.Array]:
  def cut(array: jax.Array, start: jax.Array) -> jax.Array:
    if size is not None:
      return jax.lax.dynamic_slice_in_dim(array, start[0], size)
    box = jax.lax.dynamic_slice(array, [*start, *[0] * (array.ndim - axes)],
                                (1,) * axes + array.shape[axes:])
    return box.reshape(array.shape[axes:])

  return jax.jit(cut, out_shardings=sharding)
