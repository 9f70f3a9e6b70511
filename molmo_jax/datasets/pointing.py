"""Benchmarks of counting and pointing: what the declarations in `pointing.toml` need code for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from molmo_jax.datasets.files import Row


def count_of(row: Row) -> int:
  """The count of a row, whose column has one of two names."""
  return int(row['count'] if 'count' in row else row['number'])


def screen_kind(row: Row) -> Iterator[Row]:
  """The part of ScreenSpot, from the name of the file."""
  yield row | {'kind': Path(row['_file']).stem.removeprefix('screenspot_').removesuffix('_v2')}


def width(row: Row) -> int:
  """Of the picture, in pixels."""
  return row['_size']()[0]


def height(row: Row) -> int:
  """Of the picture, in pixels."""
  return row['_size']()[1]


def box_with_size(row: Row) -> list[float]:
  """A box x, y, width, height as x0, y0, x1, y1."""
  x, y, width, height = row['bbox'] if 'bbox' in row else row['box_coordinates']
  return [x, y, x + width, y + height]
