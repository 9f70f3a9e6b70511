"""Where activations lie on the mesh, said by the model where it matters; nothing at all where there
is one device.

    [B,S,…]  rows over data and fsdp, the sequence over context        (`shard_sequence`)
    [C,…]    crops over data, fsdp and context: images are independent  (`shard_crops`)

Attention and the loss go further (kernels/attention.py, training/loss.py).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P

# rows of a batch; with `context`, a row's sequence is cut as well
ROWS = ('data', 'fsdp')
CROPS = ('data', 'fsdp', 'context')
# tensor first: then changing from sequence to heads needs no permutation
HEADS = ('tensor', 'context')


Axes = str | tuple[str, ...] | None    # that a dimension is cut along


def current_mesh() -> AbstractMesh | None:
  """The mesh that `jax.set_mesh` has set, if it is one of ours and has more than one device."""
  mesh = jax.sharding.get_abstract_mesh()
  return mesh if mesh.size > 1 and set(CROPS) <= set(mesh.axis_names) else None


def devices_along(axes: str | tuple[str, ...], mesh: Mesh | AbstractMesh | None = None) -> int:
  """How many parts the mesh cuts a dimension into that lies along `axes`; 1 without a mesh."""
  mesh = mesh or current_mesh()
  names = (axes,) if isinstance(axes, str) else axes
  return math.prod(mesh.shape[axis] for axis in names) if mesh else 1


def axes_for(size: int, axes: Axes, mesh: Mesh | AbstractMesh | None = None) -> Axes:
  """`axes`, if they divide a dimension of `size`; else None: it stays whole on every device."""
  return axes if axes and size % devices_along(axes, mesh) == 0 else None


def constrain(x: Array, axes: tuple[Axes, ...]) -> Array:
  """Asks for `x` to be cut along mesh axes, one entry per leading dimension.

  A dimension that its axes do not divide (short rows of an evaluation) stays whole.
  """
  if current_mesh() is None:
    return x
  return jax.lax.with_sharding_constraint(x, P(*map(axes_for, x.shape, axes)))


def shard_sequence(x: Array) -> Array:
  """[B,S,…]: rows over data and fsdp, the sequence over context."""
  return constrain(x, (ROWS, 'context'))


def shard_rows(x: Array) -> Array:
  """[B,…]: rows over data and fsdp; every device of a context group has them whole."""
  return constrain(x, (ROWS,))


def crops_per_row(rows: int, crops: int) -> int:
  """To how many crops a row must be padded so that all crops of the batch spread evenly over the
  devices.
  """
  unit = devices_along(CROPS)
  unit //= math.gcd(unit, rows)
  return -(-crops // unit) * unit


def shard_crops(x: Array) -> Array:
  """[C,…], crops of all rows: over data, fsdp and context."""
  return constrain(x, (CROPS,))


def take_rows(x: Array, index: Array) -> Array:
  """`x[b, index[b]]` for every row b: x [B,M,F], index int32 [B,N,…] → [B,N,…,F]; indices out of
  range are clipped.

  On a mesh, rows lie over data and fsdp and N over context, where they divide; every device has its
  rows of x whole.
  """
  take = jax.vmap(lambda row, i: jnp.take(row, i, axis=0, mode='clip'))
  mesh = current_mesh()
  if mesh is None:
    return take(x, index)
  rows, part = axes_for(x.shape[0], ROWS), axes_for(index.shape[1], 'context')
  # left to the partitioner, batched gathers are done for all rows on every device
  return jax.shard_map(take, in_specs=(P(rows), P(rows, part)), out_specs=P(rows, part),
                       check_vma=False)(x, index)


def take_columns(table: Array, index: Array, columns: tuple[str, ...]) -> Array:
  """`table[index]` for a table [V,D] whose columns lie over the axes `columns`: index int32 [B,S] →
  [B,S,D].

  On a mesh with rows over data and fsdp and S over context, each device looks up the tokens of its
  whole group in its own columns; then one all-to-all brings every token's columns together. The
  table never travels.
  """
  fits = axes_for(index.shape[0], ROWS) and axes_for(index.shape[1], 'context')
  if current_mesh() is None or not columns or not fits or not set(columns) <= set(CROPS):
    return jnp.take(table, index, axis=0)

  def local(table: Array, index: Array) -> Array:
    group = jax.lax.all_gather(index, columns)   # [group, B, S]
    found = jnp.take(table, group, axis=0)       # [group, B, S, D / group]
    return jax.lax.all_to_all(found, columns, split_axis=0, concat_axis=3, tiled=True)[0]

  tokens = P(ROWS, 'context')
  return jax.shard_map(local, in_specs=(P(None, columns), tokens), out_specs=tokens,
                       check_vma=False)(table, index)
