"""The device mesh: four named axes, whatever the machine."""

from __future__ import annotations

import dataclasses
import math

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from molmo_jax.configuration import ConfigError

AXES = ('data', 'fsdp', 'context', 'tensor')


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """Devices along each axis; one of them may be −1: all that remain."""
  data: int = 1
  fsdp: int = -1
  context: int = 1
  tensor: int = 1


def make_mesh(config: MeshConfig, devices: list | None = None) -> Mesh:
  """A mesh over all devices (or those given), every axis of type Auto.

  Raises:
    ConfigError: the axes do not multiply to the number of devices.
  """
  devices = jax.devices() if devices is None else devices
  shape = [getattr(config, axis) for axis in AXES]
  known = math.prod(n for n in shape if n != -1)
  if shape.count(-1) > 1:
    raise ConfigError(f'mesh: only one axis can be -1, got {dict(zip(AXES, shape))}')
  shape = [len(devices) // known if n == -1 else n for n in shape]
  if math.prod(shape) != len(devices):
    raise ConfigError(f'mesh: {dict(zip(AXES, shape))} needs {math.prod(shape)} devices, there are {len(devices)}')
  grid = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
  return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))
