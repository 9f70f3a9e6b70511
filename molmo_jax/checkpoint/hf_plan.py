"""Which tensor of a file goes where: compares a folder's headers with the parameters, and lists all
that is wrong.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from molmo_jax.checkpoint.hf_files import DTYPES, TensorFolder, listing
from molmo_jax.checkpoint.hf_table import LAYOUTS, Entry, Kind, file_shape
from molmo_jax.errors import CheckpointError
from molmo_jax.parameters import flatten_paths

HEAD, BASE = 'embedding/head', 'embedding/base'
# a tensor, and its first and last row + 1 among the joined rows of its entry
Span = tuple[str, int, int]


@dataclasses.dataclass(frozen=True)
class Source:
  """Where a parameter is found.

  Attributes:
    kind: how it becomes rows (`hf_table`).
    layers: of a stacked parameter; None otherwise.
    spans: for every layer (or once) the tensors whose joined rows hold the parameter.
    offset: the parameter's first row among them.
  """
  kind: Kind
  layers: int | None
  spans: tuple[tuple[Span, ...], ...]
  offset: int


@dataclasses.dataclass(frozen=True)
class Whole:
  """A small parameter that is made of a whole tensor by `change`, float32 in and out."""
  name: str
  change: Callable[[np.ndarray], np.ndarray]


class Findings:
  """What is wrong, one line each, and the tensors that something has been said about or that have a
  place.
  """

  def __init__(self):
    self.lines: list[str] = []
    self.settled: set[str] = set()

  def add(self, line: str, *names: str) -> None:
    self.lines.append(line)
    self.settled.update(names)

  def finish(self, files: TensorFolder) -> None:
    """Raises CheckpointError if anything is wrong; a tensor that nothing was said about is."""
    for name in sorted(files.tensors.keys() - self.settled):
      self.add(f'left over: {name} {list(files.tensors[name].shape)}')
    if self.lines:
      raise CheckpointError(f'{files.folder}: the tensors do not fit the model of the '
        'configuration:\n  '
        + listing(self.lines, '\n  '))


def plan_import(files: TensorFolder, abstract: Any,
                fresh: Mapping[str, Callable]) -> list[Source | Callable]:
  """A source, or the initialiser of `fresh`, for every leaf of `abstract` in the tree's order; see
  `load_params`.
  """
  targets = {path: tuple(leaf.shape) for path, leaf in flatten_paths(abstract).items()}
  initialisers = _initialisers(targets, fresh)
  findings, sources, placed = Findings(), {}, set()
  table = LAYOUTS[layout_of(files)][1]
  for entry in table:
    if all(path in targets for path in entry.paths):
      placed.update(entry.paths)
      sources |= match(files, entry, targets, findings,
                       optional=all(p in initialisers for p in entry.paths))
  head = next(entry.names[0] for entry in table if entry.paths == (HEAD,))
  if HEAD not in targets and head in files.tensors:
    check_tied_head(files, head, targets[BASE], sources.get(BASE), findings)
  for path in targets.keys() - placed - initialisers.keys():
    findings.add(f'no tensor of a Hugging Face checkpoint holds the parameter {path} '
      f'{list(targets[path])}')
  findings.finish(files)
  return [sources[path] if path in sources else initialisers[path] for path in targets]


def layout_of(files: TensorFolder) -> str:
  """The layout whose names the folder has."""
  found = [layout for layout, (prefix, _) in LAYOUTS.items()
           if any(n.startswith(prefix) for n in files.tensors)]
  if len(found) != 1:
    known = ' or '.join(f'{prefix}… ({layout})' for layout, (prefix, _) in LAYOUTS.items())
    raise CheckpointError(f'{files.folder}: its tensors have names of '
      f'{"both layouts" if found else "no known layout"} '
      f'({listing(sorted(files.tensors), most=3)}); they must be called {known}')
  return found[0]


def _initialisers(targets: Mapping[str, Any], fresh: Mapping[str, Callable]) -> dict[str, Callable]:
  out = {}
  for pattern, initialiser in fresh.items():
    paths = [path for path in targets if re.search(pattern, path)]
    if not paths:
      raise CheckpointError(f'fresh: the pattern {pattern!r} matches no parameter of the model')
    out |= dict.fromkeys(paths, initialiser)
  return out


def match(files: TensorFolder, entry: Entry, targets: Mapping[str, tuple[int, ...]],
          findings: Findings,
          optional: bool = False) -> dict[str, Source]:
  """Sources of the entry's parameters; empty if something does not fit, or if it is optional and
  not there.
  """
  layers = targets[entry.paths[0]][0] if entry.stacked else None
  matrices = [file_shape(entry.kind, targets[p][int(entry.stacked):]) for p in entry.paths]
  rows, columns = [m[0] for m in matrices], matrices[0][1:]
  experts = targets[entry.paths[0]][1] if entry.per_expert else 1
  groups = [tuple(n.format(i=i, e=e) for n in entry.names for e in range(experts))
            for i in range(1 if layers is None else layers)]
  if optional and not any(n in files.tensors for names in groups for n in names):
    return {}
  each = (sum(rows) // experts, *columns) if entry.per_expert else None
  spans = tuple(_spans(files, names, (sum(rows), *columns), findings, each, entry.spare)
                for names in groups)
  return {path: Source(entry.kind, layers, spans, sum(rows[:i]))
          for i, path in enumerate(entry.paths)}


def _spans(files: TensorFolder, names: tuple[str, ...], needed: tuple[int, ...], findings: Findings,
           each: tuple[int, ...] | None = None, spare: bool = False) -> tuple[Span, ...]:
  """Where the joined rows of the tensors lie; `each` is the shape of every one, None where rows are
  cut anywhere.

  `spare`: there may be more rows than needed.
  """
  findings.settled.update(names)
  missing = [n for n in names if n not in files.tensors]
  for name in missing:
    shape = each or (needed if len(names) == 1 else None)
    findings.add(f'missing: {name}' + (f' {list(shape)}' if shape else ''))
  if missing:
    return ()
  stored = [files.tensors[n] for n in names]
  for name, tensor in zip(names, stored):
    if tensor.dtype not in DTYPES:
      findings.add(f'{name}: stored as {tensor.dtype}; what can be read is {", ".join(DTYPES)}')
    if each and tensor.shape != each:
      findings.add(f'{name}: stored {list(tensor.shape)}, the configuration makes {list(each)}')
  heights = [t.shape[0] if t.shape else 0 for t in stored]
  has_rows = sum(heights) >= needed[0] if spare else sum(heights) == needed[0]
  if not each and (not has_rows or any(t.shape[1:] != needed[1:] for t in stored)):
    shapes = ' + '.join(str(list(t.shape)) for t in stored)
    findings.add(f'{" + ".join(names)}: stored {shapes}, the configuration makes {list(needed)}')
  ends = [sum(heights[:i + 1]) for i in range(len(heights))]
  return tuple((n, end - height, end) for n, height, end in zip(names, heights, ends))


def check_tied_head(files: TensorFolder, head: str, shape: tuple[int, ...], base: Source | None,
                    findings: Findings,
                    spare: bool = False) -> None:
  """A tied head may be stored all the same, but it must be the embedding: otherwise the
  configuration is wrong.
  """
  findings.settled.add(head)
  stored = files.tensors[head]
  if stored.shape != shape and not (spare and stored.shape[:1] > shape[:1]
                                    and stored.shape[1:] == shape[1:]):
    findings.add(f'{head}: stored {list(stored.shape)}, the configuration makes {list(shape)}')
  if findings.lines or base is None:   # only a file that fits otherwise is worth reading
    return
  step = max(1, (32 << 20) // (4 * math.prod(shape[1:])))
  for name, first, last in base.spans[0]:
    for start in range(first, min(last, shape[0]), step):
      stop = min(start + step, last, shape[0])
      rows = files.read(head, (slice(start, stop),))
      if (rows != files.read(name, (slice(start - first, stop - first),))).any():
        findings.add(f'{head}: differs from the embedding, but tie_word_embeddings says that they '
          'are one; it must be false')
        return


@dataclasses.dataclass(frozen=True)
class Destination:
  """A tensor of the file that is to be written, and the parameters whose rows it is made of.

  Attributes:
    index: the layer, or the layer and the expert, of stacked parameters; empty of others.
  """
  name: str
  shape: tuple[int, ...]
  paths: tuple[str, ...]
  kind: Kind
  index: tuple[int, ...]


def plan_export(params: Any, layout: str) -> list[Destination]:
  """All tensors of a checkpoint of `params`, a layer's together.

  Raises:
    CheckpointError: parameters that the layout has no tensor for; names them.
  """
  shapes = {path: tuple(x.shape) for path, x in flatten_paths(params).items()}
  out, placed = [], set()
  for entry in LAYOUTS[layout][1]:
    if not all(path in shapes for path in entry.paths):
      continue
    placed.update(entry.paths)
    indices = list(np.ndindex(shapes[entry.paths[0]][:entry.stacked + entry.per_expert]))
    # an expert alone has a matrix like any other
    kind: Kind = 'kernel' if entry.per_expert else entry.kind
    # several tensors: each is one of the parameters; one tensor: all of them
    for names, paths in ([((n,), (p,)) for n, p in zip(entry.names, entry.paths, strict=True)]
                         if len(entry.names) > 1 else [(entry.names, entry.paths)]):
      matrices = [file_shape(kind, shapes[p][entry.stacked + entry.per_expert:]) for p in paths]
      shape = (sum(m[0] for m in matrices), *matrices[0][1:])
      out += [Destination(names[0].format(**dict(zip('ie', index))), shape, paths, kind, index)
              for index in indices]
  homeless = [path for path in shapes if path not in placed]
  if homeless:
    raise CheckpointError(f'the {layout} layout of Hugging Face checkpoints has no tensors for '
      f'these parameters: {listing(homeless)}; keep such a model as a checkpoint of its run')
  # numbers in names count, so that layer 10 comes after layer 9
  return sorted(out, key=lambda d: [(part.isdigit(), int(part) if part.isdigit() else part)
                                    for part in d.name.split('.')])
