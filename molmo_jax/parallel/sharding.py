"""Who holds which part of which array: `sharding.toml`, from parameter paths to the mesh."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from molmo_jax.configuration import ConfigError
from molmo_jax.parallel.activations import ROWS, Axes, axes_for, current_mesh
from molmo_jax.parameters import path_name

_TABLE = tomllib.loads(Path(__file__).with_suffix('.toml').read_text(encoding='utf-8'))
RULES = tuple((pattern, P(*(None if axis == '-' else axis for axis in axes.split())))
              for pattern, axes in _TABLE.items())
BATCH = P(ROWS)


def spec_of(path: str, shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> P:
  """The table's entry for `path`; an axis that does not divide its dimension is left out.

  Where context is larger than 1, a dimension along fsdp is cut along context, too, if both together
  divide it.
  """
  spec = next(spec for pattern, spec in RULES if re.search(pattern, path))
  # optimizer counters and the like, below a path that looks like a parameter's
  if len(spec) > len(shape):
    return P()
  def fitting(axis: str | None, size: int) -> Axes:
    both = ('fsdp', 'context') if axis == 'fsdp' and mesh.shape['context'] > 1 else None
    return axes_for(size, both, mesh) or axes_for(size, axis, mesh)
  return P(*map(fitting, spec, shape))


def columns_of(path: str, table: jax.Array) -> tuple[str, ...]:
  """The axes of the mesh of `jax.set_mesh` over which the columns of the matrix `path` lie; () for
  none.
  """
  mesh = current_mesh()
  axes = (*spec_of(path, table.shape, mesh), None, None)[1] if mesh else None
  return (axes,) if isinstance(axes, str) else axes or ()


def shardings_of(tree: Any, mesh: Mesh) -> Any:
  """NamedShardings for a tree of arrays or shapes: parameters, optimizer state, or a whole training
  state.
  """
  def sharding(path: tuple, leaf: Any) -> NamedSharding:
    return NamedSharding(mesh, spec_of(path_name(path), leaf.shape, mesh))
  return jax.tree_util.tree_map_with_path(sharding, tree)


def sharded_shapes(tree: Any, mesh: Mesh) -> Any:
  """`jax.ShapeDtypeStruct`s with the shardings of the table, for a tree of arrays or shapes."""
  return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree,
                      shardings_of(tree, mesh))


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Rows of a batch are spread over the data and fsdp axes."""
  return NamedSharding(mesh, BATCH)


def shard_batch(batch: Any, mesh: Mesh, *, whole: bool = False) -> Any:
  """Puts a batch onto the mesh: a tree of numpy arrays [B,…] → one of global `jax.Array`s.

  Rows are spread over the axes data and fsdp. Training and evaluation give the rows of this
  process alone (`data_shard`). With `whole`, every process gives the same B rows; where the axes
  do not divide B, every device then holds all of them.
  """
  spread = mesh.shape['data'] * mesh.shape['fsdp']

  def shard(x: np.ndarray) -> jax.Array:
    if not whole:
      return jax.make_array_from_process_local_data(batch_sharding(mesh), x)
    return jax.device_put(x, NamedSharding(mesh, P() if len(x) % spread else BATCH))
  return jax.tree.map(shard, batch)


def to_host(x: jax.Array) -> np.ndarray:
  """The whole of an array, also where other processes hold parts of it: then all must call it."""
  return np.asarray(x if x.is_fully_addressable
                    else multihost_utils.process_allgather(x, tiled=True))


def data_shard(mesh: Mesh) -> tuple[int, int]:
  """The shard of every batch that this process provides: (index, number of shards).

  Processes whose devices hold the same rows (the context or tensor axis runs over them) provide the
  same part.

  Raises:
    ConfigError: rows of one process overlap those of another without being the same.
  """
  groups = mesh.shape['data'] * mesh.shape['fsdp']
  rows: dict[int, set[int]] = {}
  device: Any
  for device, (index,) in batch_sharding(mesh).devices_indices_map((groups,)).items():
    rows.setdefault(device.process_index, set()).add(index.start or 0)
  parts = sorted({tuple(sorted(r)) for r in rows.values()})
  if sum(map(len, parts)) != groups:
    raise ConfigError(f'mesh: {dict(mesh.shape)} splits rows over {len(rows)} processes unevenly; '
      'let mesh.data × mesh.fsdp and the number of processes divide each other')
  return parts.index(tuple(sorted(rows[jax.process_index()]))), len(parts)
