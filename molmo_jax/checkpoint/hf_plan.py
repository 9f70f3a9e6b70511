"""Which tensor of a file goes where: compares a folder's headers with the parameters of a model,
and lists all that does not fit.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np

from molmo_jax.checkpoint.hf_files import DTYPES, Stored, TensorFolder, listing
from molmo_jax.checkpoint.hf_table import BASE, HEAD, NAMINGS, Kind, TableEntry, file_shape
from molmo_jax.errors import CheckpointError
from molmo_jax.parameters import flatten_paths

Shapes = Mapping[str, tuple[int, ...]]   # of parameters, by path
# A tensor, and its first and last row + 1 among the joined rows of its entry.
Span = tuple[str, int, int]
COMPARED = 32 << 20   # bytes of a stored head that are compared with the embedding at a time


@dataclasses.dataclass(frozen=True)
class Rows:
  """A parameter that is made of rows of tensors.

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
  """What is wrong with the tensors of a folder, one line each.

  Attributes:
    files: the folder.
    lines: what is wrong so far.
    settled: the tensors that have a place, are known to be unused, or have a line.
  """

  def __init__(self, files: TensorFolder):
    self.files = files
    self.lines: list[str] = []
    self.settled: set[str] = set()

  def look_up(self, name: str, needed: tuple[int, ...] | None = None) -> Stored | None:
    """The header of a tensor that is needed, in the shape `needed` if one is given. What is wrong
    with it becomes a line; None if it is missing.
    """
    self.settled.add(name)
    stored = self.files.tensors.get(name)
    if stored is None:
      self.lines.append(f'missing: {name} {list(needed) if needed else ""}'.rstrip())
    elif stored.dtype not in DTYPES:
      self.lines.append(f'{name}: stored as {stored.dtype}; supported are {", ".join(DTYPES)}')
    return stored

  def misfit(self, name: str, stored: Any, needed: Any) -> None:
    """Adds a line for tensors whose shapes are not those of the configuration."""
    self.lines.append(f'{name}: stored {stored}, the configuration makes {needed}')

  def finish(self) -> None:
    """Raises CheckpointError if anything is wrong; a tensor that is not settled is left over."""
    tensors = self.files.tensors
    self.lines += [f'left over: {name} {list(tensors[name].shape)}'
                   for name in sorted(tensors.keys() - self.settled)]
    if self.lines:
      raise CheckpointError(f'{self.files.folder}: the tensors do not fit the model of the '
                            'configuration:\n  ' + listing(self.lines, '\n  '))


def plan_import(files: TensorFolder, abstract: Any,
                fresh: Mapping[str, Callable]) -> list[Rows | Callable]:
  """A source, or the initialiser of `fresh`, for every leaf of `abstract` in the tree's order; see
  `hf.load_params`.
  """
  targets = {path: tuple(leaf.shape) for path, leaf in flatten_paths(abstract).items()}
  initialisers: dict[str, Callable] = {}
  for pattern, initialiser in fresh.items():
    paths = [path for path in targets if re.search(pattern, path)]
    if not paths:
      raise CheckpointError(f'fresh: the pattern {pattern!r} matches no parameter of the model')
    initialisers |= dict.fromkeys(paths, initialiser)
  findings, table = Findings(files), NAMINGS[find_naming(files)][1]
  sources = match_table(findings, table, targets, optional=initialisers.keys())
  check_tied_head(findings, table, targets, sources)
  findings.finish()
  return [sources[path] if path in sources else initialisers[path] for path in targets]


def find_naming(files: TensorFolder) -> str:
  """The key of `NAMINGS` whose names the folder has."""
  found = [naming for naming, (prefix, _) in NAMINGS.items()
           if any(n.startswith(prefix) for n in files.tensors)]
  if len(found) != 1:
    known = ' or '.join(f'{prefix}… ({naming})' for naming, (prefix, _) in NAMINGS.items())
    raise CheckpointError(f'{files.folder}: its tensors ({listing(sorted(files.tensors), most=3)}) '
      f'have names of {" and ".join(found) or "no known checkpoint"}; they must begin with {known}')
  return found[0]


def match_table(findings: Findings, table: Iterable[TableEntry], targets: Shapes,
                optional: Collection[str] = ()) -> dict[str, Rows]:
  """Sources of the parameters `targets`; the folder may lack what is `optional`. What does not fit,
  and a parameter that no entry holds, are added to the findings.
  """
  sources: dict[str, Rows] = {}
  for entry in table:
    if all(path in targets for path in entry.paths):
      sources |= _match(findings, entry, targets, all(p in optional for p in entry.paths))
  for path in targets.keys() - sources.keys() - set(optional):
    findings.lines.append('no tensor of such a checkpoint holds the parameter '
                          f'{path} {list(targets[path])}')
  return sources


def _match(findings: Findings, entry: TableEntry, targets: Shapes,
           is_optional: bool) -> dict[str, Rows]:
  """Sources of the entry's parameters; empty if it is optional and not there."""
  first = targets[entry.paths[0]]
  layers = first[0] if entry.stacked else None
  matrices = [file_shape(entry.kind, targets[p][int(entry.stacked):]) for p in entry.paths]
  rows, columns = [m[0] for m in matrices], matrices[0][1:]
  experts = first[1] if entry.per_expert else 1
  groups = [tuple(n.format(i=i, e=e) for n in entry.names for e in range(experts))
            for i in range(layers or 1)]
  if is_optional and not any(n in findings.files.tensors for names in groups for n in names):
    return {}
  spans = tuple(_spans(findings, names, (sum(rows), *columns), entry) for names in groups)
  return {path: Rows(entry.kind, layers, spans, sum(rows[:i]))
          for i, path in enumerate(entry.paths)}


def _spans(findings: Findings, names: tuple[str, ...], needed: tuple[int, ...],
           entry: TableEntry) -> tuple[Span, ...]:
  """Where the joined rows of the tensors lie. Experts have tensors of one shape; otherwise the rows
  may be cut between the tensors anywhere.
  """
  each = (needed[0] // len(names), *needed[1:]) if entry.per_expert or len(names) == 1 else None
  found = [findings.look_up(name, each) for name in names]
  stored = [tensor for tensor in found if tensor is not None]
  if len(stored) < len(names):
    return ()
  shapes = [t.shape for t in stored]
  heights = [shape[0] if shape else 0 for shape in shapes]
  if entry.per_expert:
    for name, shape in zip(names, shapes):
      if each and shape != each:
        findings.misfit(name, list(shape), list(each))
  elif any(shape[1:] != needed[1:] for shape in shapes) or not (
      sum(heights) == needed[0] or (entry.kind == 'padded_table' and sum(heights) > needed[0])):
    findings.misfit(' + '.join(names), ' + '.join(str(list(s)) for s in shapes), list(needed))
  ends = np.cumsum(heights).tolist()
  return tuple((n, end - height, end) for n, height, end in zip(names, heights, ends))


def check_tied_head(findings: Findings, table: Iterable[TableEntry], targets: Shapes,
                    sources: Mapping[str, Rows]) -> None:
  """A model with tied embeddings may have a stored head all the same, but it must be the embedding:
  otherwise the configuration is wrong.
  """
  entry, files = next(e for e in table if e.paths == (HEAD,)), findings.files
  head = entry.names[0]
  if HEAD in targets or head not in files.tensors:
    return
  _spans(findings, entry.names, targets[BASE], entry)
  if findings.lines:   # only a file that fits otherwise is worth reading
    return
  vocab, width = targets[BASE]
  step = max(1, COMPARED // (4 * width))
  for name, first, last in sources[BASE].spans[0]:
    for start in range(first, min(last, vocab), step):
      stop = min(start + step, last, vocab)
      rows = files.read(head, (slice(start, stop),))
      if (rows != files.read(name, (slice(start - first, stop - first),))).any():
        findings.lines.append(f'{head}: differs from the embedding, but tie_word_embeddings says '
                              'that they are one; it must be false')
        return


@dataclasses.dataclass(frozen=True)
class Destination:
  """A tensor of the file that is to be written, and the parameters whose rows it is made of.

  Attributes:
    name: of the tensor.
    shape: of the tensor.
    paths: the parameters, in the order of their rows.
    kind: how they become rows (`hf_table`).
    index: the layer, or the layer and the expert, of stacked parameters; empty otherwise.
  """
  name: str
  shape: tuple[int, ...]
  paths: tuple[str, ...]
  kind: Kind
  index: tuple[int, ...]


def plan_export(params: Any, naming: str) -> list[Destination]:
  """All tensors of a checkpoint of `params`, a layer's together.

  Args:
    params: the nested dict of arrays, or their shapes.
    naming: a key of `NAMINGS`.

  Raises:
    CheckpointError: parameters for which there is no tensor; the message names them.
  """
  shapes = {path: tuple(x.shape) for path, x in flatten_paths(params).items()}
  out: list[Destination] = []
  for entry in NAMINGS[naming][1]:
    if not all(path in shapes for path in entry.paths):
      continue
    leading = entry.stacked + entry.per_expert
    kind: Kind = 'kernel' if entry.per_expert else entry.kind   # one expert has a matrix
    # several tensors: each is one of the parameters; one tensor: all of them
    parts = list(zip(entry.names, zip(entry.paths), strict=True)) if len(entry.names) > 1 else [
      (entry.names[0], entry.paths)]
    for name, paths in parts:
      matrices = [file_shape(kind, shapes[path][leading:]) for path in paths]
      shape = (sum(m[0] for m in matrices), *matrices[0][1:])
      out += [Destination(name.format(**dict(zip('ie', index))), shape, paths, kind, index)
              for index in np.ndindex(shapes[paths[0]][:leading])]
  homeless = shapes.keys() - {path for d in out for path in d.paths}
  if homeless:
    raise CheckpointError(f'a Hugging Face checkpoint ({naming}) has no tensors for these '
      f'parameters: {listing(sorted(homeless))}; keep this model as a checkpoint of its run')
  # numbers in names count, so that layer 10 comes after layer 9
  return sorted(out, key=lambda d: [(part.isdigit(), int(part) if part.isdigit() else part)
                                    for part in d.name.split('.')])
