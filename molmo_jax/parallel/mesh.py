"""The device mesh: four named axes, whatever the machine."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from molmo_jax.configuration import ConfigError, Range

Devices = Annotated[int, Range(-1, 2 ** 20, but=0)]
AXES = ('data', 'fsdp', 'context', 'tensor')


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """Devices along each axis; one of them may be −1: all that remain."""
  data: Devices = 1                  # copies of the model, each with its rows
  fsdp: Devices = -1                 # parameters and rows are sharded
  context: Devices = 1               # the tokens of a row are sharded
  tensor: Devices = 1                # heads and hidden widths are sharded


def make_mesh(config: MeshConfig, devices: list | None = None) -> Mesh:
  """A mesh over all devices (or those given), every axis of type Auto.

  Raises:
    ConfigError: the axes do not multiply to the number of devices, or need more than the network
      between slices.
  """
  devices = jax.devices() if devices is None else devices
  shape = [getattr(config, axis) for axis in AXES]
  known = math.prod(n for n in shape if n != -1)
  if shape.count(-1) > 1:
    raise ConfigError(f'mesh: only one axis can be -1, got {dict(zip(AXES, shape))}')
  shape = [len(devices) // known if n == -1 else n for n in shape]
  if math.prod(shape) != len(devices):
    raise ConfigError(f'mesh: {dict(zip(AXES, shape))} needs {math.prod(shape)} devices, there are '
      f'{len(devices)}')
  return Mesh(_arrange(shape, devices), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _arrange(shape: list[int], devices: list) -> np.ndarray:
  """The devices as a grid; between TPU slices, which a slower network joins, only the data axis
  runs.
  """
  slices = len({getattr(d, 'slice_index', 0)
                for d in devices}) if devices[0].platform == 'tpu' else 1
  if slices == 1:
    return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
  data, *others = shape
  if data % slices:
    raise ConfigError(f'mesh.data={data} must be a multiple of the {slices} slices: only the data '
      'axis runs between slices')
  return mesh_utils.create_hybrid_device_mesh((data // slices, *others),
                                              (slices, *(1 for _ in others)), devices,
                                              allow_split_physical_axes=True)


def check_heads(kv_heads: int, context: int, tensor: int) -> None:
  """Raises ConfigError unless context × tensor divides the number of key/value heads."""
  if kv_heads % (context * tensor):
    raise ConfigError(f'mesh.context={context} × mesh.tensor={tensor} must divide '
      f'model.llm.kv_heads={kv_heads}: attention gives every device some of the heads for the '
      'whole sequence')


def check_mesh(mesh: Mesh, *, kv_heads: int, batch_size: int, sequence_length: int,
               accumulate: int = 1, offload: bool = False) -> None:
  """Whether a run can be trained on `mesh`, before anything is compiled.

  Args:
    accumulate: parts of a batch, one after another.
    offload: whether activations are to be kept in the host's memory.

  Raises:
    ConfigError: heads, rows or tokens that the axes do not divide, or devices without a host's
      memory; names the flags.
  """
  data, fsdp, context, tensor = (mesh.shape[axis] for axis in AXES)
  check_heads(kv_heads, context, tensor)
  if batch_size % (data * fsdp * accumulate):
    raise ConfigError(f'data.batch_size={batch_size} must be a multiple of mesh.data={data} × '
      f'mesh.fsdp={fsdp} × training.accumulate={accumulate} = {data * fsdp * accumulate}')
  if sequence_length % (context * tensor):
    raise ConfigError(f'data.sequence_length={sequence_length} must be a multiple of '
      f'mesh.context={context} × mesh.tensor={tensor}')
  device = mesh.devices.flat[0]
  if offload and (device.platform == 'cpu'
                  or 'pinned_host' not in {m.kind for m in device.addressable_memories()}):
    raise ConfigError("model.remat='offload' keeps activations in the host's memory, which "
      f"{device.platform} devices do not have apart from their own; take model.remat='full'")
