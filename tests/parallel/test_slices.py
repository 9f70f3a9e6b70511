"""Meshes over several TPU slices: only the data axis runs between them."""

from __future__ import annotations

import dataclasses

import pytest

from molmo_jax.configuration import ConfigError
from molmo_jax.parallel.mesh import MeshConfig, make_mesh


@dataclasses.dataclass(frozen=True)
class Chip:
  """What a mesh asks of a TPU device."""
  id: int
  slice_index: int
  coords: tuple[int, int, int]
  platform: str = 'tpu'
  device_kind: str = 'TPU v5 lite'
  core_on_chip: int = 0

  @property
  def process_index(self) -> int:
    return self.id // 4


def chips(slices, side=4):
  return [Chip(s * side * side + y * side + x, s, (x, y, 0))
          for s in range(slices) for y in range(side) for x in range(side)]


def test_each_slice_is_one_part_of_the_data_axis():
  grid = make_mesh(MeshConfig(data=2), chips(2)).devices
  assert grid.shape == (2, 16, 1, 1)
  assert [{chip.slice_index for chip in part.flat} for part in grid] == [{0}, {1}]


def test_the_data_axis_can_also_run_within_slices():
  grid = make_mesh(MeshConfig(data=4, context=2), chips(2)).devices
  assert grid.shape == (4, 4, 2, 1)
  assert all(len({chip.slice_index for chip in part.flat}) == 1 for part in grid)


def test_one_slice_needs_no_data_axis():
  assert make_mesh(MeshConfig(), chips(1)).devices.shape == (1, 16, 1, 1)


def test_other_axes_between_slices_are_refused():
  with pytest.raises(ConfigError, match='mesh.data=1 must be a multiple of the 2 slices'):
    make_mesh(MeshConfig(), chips(2))
