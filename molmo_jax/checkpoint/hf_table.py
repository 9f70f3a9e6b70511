"""The tables of `weights.toml` between the tensors of a Hugging Face checkpoint and our parameters.

A PyTorch linear weight is [out, in]; our kernels are [in…, out…] with the heads apart, stacked over
layers. `att_proj` holds the rows of q, k, v; `ff_proj` those of up, then gate (docs/model.md §4.2,
§9).
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast

import numpy as np

from molmo_jax.checkpoint.hf_config_v1 import is_v1
from molmo_jax.errors import CheckpointError
from molmo_jax.model.config import ModelConfig

Kind = Literal['vector', 'table', 'padded_table', 'kernel', 'output', 'experts', 'experts_out',
               'patches', 'class', 'positions']
BASE, HEAD = 'embedding/base', 'embedding/head'
WEIGHTS = tomllib.loads(Path(__file__).with_name('weights.toml').read_text(encoding='utf-8'))


@dataclasses.dataclass(frozen=True)
class TableEntry:
  """Tensors of a file and the parameters that they hold, both joined along their first axis: rows.

  An entry counts for a model that has all of its parameters; other models pass over it.

  Attributes:
    names: tensors of the file; '{i}' stands for the layer, '{e}' for the expert where each has a
      tensor of its own. Where there are several, rows may be cut between them anywhere: the
      parameters' own shapes decide where one ends.
    paths: parameters, in the order of their rows; with '{i}' in the names they have a leading layer
      axis.
    kind: how a parameter (without its layer axis) becomes rows: 'vector' flattened; 'table' as it
      is, 'padded_table' with further rows in the file that are not read; 'kernel' [in, out…] →
      [out, in]; 'output' [in…, out] → [out, in]; 'experts' [expert, in, out] → [expert·out, in];
      'experts_out' [expert, in, out] → [expert·in, out]. The other kinds are of the first layer of
      a tower (`hf_backbones.stem_from_file`).
  """
  names: tuple[str, ...]
  paths: tuple[str, ...]
  kind: Kind

  @property
  def stacked(self) -> bool:
    """Whether the parameters have a leading layer axis."""
    return '{i}' in self.names[0]

  @property
  def per_expert(self) -> bool:
    """Whether every expert has tensors of its own."""
    return '{e}' in self.names[0]


def _axes(kind: Kind, ndim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """Our axes that make the rows, and those that make the columns."""
  axes = tuple(range(ndim))
  table = axes[:1], axes[1:]
  return {'vector': (axes, ()), 'table': table, 'padded_table': table,
          'kernel': (axes[1:], axes[:1]), 'output': (axes[-1:], axes[:-1]),
          'experts': (axes[:1] + axes[2:], axes[1:2]), 'experts_out': (axes[:2], axes[2:])}[kind]


def file_shape(kind: Kind, shape: tuple[int, ...]) -> tuple[int, ...]:
  """Shape in the file of a parameter of `shape` (without its layer axis)."""
  return tuple(math.prod(shape[a] for a in group) for group in _axes(kind, len(shape)) if group)


def to_file(kind: Kind, array: np.ndarray) -> np.ndarray:
  """Our array (without its layer axis) as it stands in the file."""
  rows, columns = _axes(kind, array.ndim)
  return array.transpose(rows + columns).reshape(file_shape(kind, array.shape))


def from_file(kind: Kind, block: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """The inverse of `to_file`, for a whole parameter or for a box of one; `shape` is ours."""
  rows, columns = _axes(kind, len(shape))
  order = rows + columns
  return block.reshape([shape[a] for a in order]).transpose(np.argsort(order))


def file_index(kind: Kind, shape: tuple[int, ...], index: tuple[slice, ...]
               ) -> tuple[tuple[slice, ...], tuple[int, ...], tuple[slice, ...]]:
  """Which part of the file's tensor holds the box `index` of a parameter of `shape`.

  Returns:
    The slices in the file, the shape of our array that they hold, and the slices of that array that
    are `index`: all of it, unless an inner axis of several that share rows or columns is cut.
  """
  bounds = [s.indices(n)[:2] for s, n in zip(index, shape)]
  slices, held, rest = [], list(shape), [slice(*b) for b in bounds]
  for group in _axes(kind, len(shape)):
    if group:
      (start, stop), inner = bounds[group[0]], math.prod(shape[a] for a in group[1:])
      slices.append(slice(start * inner, stop * inner))
      held[group[0]], rest[group[0]] = stop - start, slice(0, stop - start)
  return tuple(slices), tuple(held), tuple(rest)


def read_table(name: str, **words: str) -> tuple[TableEntry, ...]:
  """The table `name` of weights.toml and those that it includes, with `words` for the braces."""
  lines = dict(WEIGHTS['tables'][name])
  included = [e for other in lines.pop('include', ()) for e in read_table(other, **words)]
  return (*included, *(e for line in lines.items() for e in _entries(*line, words)))


def _entries(tensors: str, parameters: str, words: Mapping[str, str]) -> list[TableEntry]:
  names = tuple(tensors.format(i='{i}', e='{e}', **words).split('+'))
  kind, _, path = parameters.rpartition(' ')
  if kind:
    return [TableEntry(names, tuple(path.split('+')), cast(Kind, kind))]
  weight: tuple[str, Kind] = (('scale', 'vector') if path.endswith('norm') else
                              ('kernel', 'output' if path.endswith('/out') else 'kernel'))
  return [TableEntry((f'{names[0]}.{ending}',), (f'{path}/{leaf}',), kind)
          for ending, leaf, kind in (('weight', *weight), ('bias', 'bias', 'vector'))]


# The sets of names, each recognised by the start of a name that only it has.
NAMINGS: dict[str, tuple[str, tuple[TableEntry, ...]]] = {
  naming: (found['start'], read_table(found['table'], **found['words']))
  for naming, found in WEIGHTS['namings'].items()}


def naming_of(config: ModelConfig, layout: str) -> str:
  """The key of `NAMINGS` under whose names a model is written.

  Raises:
    CheckpointError: transformers has no classes of its own for this model.
  """
  if not is_v1(config):
    return layout
  if layout == 'native':
    raise CheckpointError('transformers has no classes of its own for Molmo v1 '
      "(model.vit.keep_unread=True); write it with layout 'hub', as it was released")
  return 'v1 experts hub' if config.llm.experts else 'v1 hub'
