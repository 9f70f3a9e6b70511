"""The decoder's layers one by one, for the decoding step on CPU."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P


def unstack_blocks(params: Any) -> Any:
  """The parameters with `decoder/blocks` as a tuple over layers where that helps: on CPU; else
  `params` itself.

  XLA:CPU copies a layer's weights out of the stack in every step (measured: 46 ms against 8 for
  twelve layers of two 768 × 2304 products). The arrays of the tuple are views of the stack: no
  weight is copied, no memory is taken. Inside `jax.jit` and on other devices nothing is changed.
  """
  leaves, structure = jax.tree.flatten(params['decoder']['blocks'])
  if isinstance(params['decoder']['blocks'], tuple) or not all(_is_on_cpu(leaf) for leaf in leaves):
    return params
  columns = [_layers(leaf) for leaf in leaves]
  blocks = tuple(jax.tree.unflatten(structure, layer) for layer in zip(*columns, strict=True))
  return {**params, 'decoder': {**params['decoder'], 'blocks': blocks}}


def _is_on_cpu(leaf: Any) -> bool:
  if not isinstance(leaf, Array) or isinstance(leaf, jax.core.Tracer):
    return False
  return all(device.platform == 'cpu' for device in leaf.devices())


def _layers(stack: Array) -> list[Array]:
  """`[stack[0], stack[1], …]`, each of them a view of `stack` on every device; the layer axis is
  never split.
  """
  def view(data: Array, layer: int, device: jax.Device) -> Array:
    return jax.device_put(np.asarray(data)[layer], device, may_alias=True)

  if not isinstance(stack.sharding, NamedSharding):
    (device,) = stack.devices()
    return [view(stack, i, device) for i in range(len(stack))]
  sharding = NamedSharding(stack.sharding.mesh, P(*stack.sharding.spec[1:]))
  return [jax.make_array_from_single_device_arrays(
    stack.shape[1:], sharding,
    [view(shard.data, i, shard.device) for shard in stack.addressable_shards])
    for i in range(len(stack))]
