"""Which tensors of a plain language model or image tower fill which of our parameters; only headers
are read.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from molmo_jax.checkpoint.hf_backbones import (
  LANGUAGE_MODEL_UNUSED,
  LANGUAGE_MODELS,
  Stem,
  Tower,
  stem_from_file,
  stem_problem,
  tower,
)
from molmo_jax.checkpoint.hf_backbones_config import check_llm, check_vit
from molmo_jax.checkpoint.hf_files import DTYPES, TensorFolder
from molmo_jax.checkpoint.hf_plan import BASE, HEAD, Findings, Source, Whole, check_tied_head, match
from molmo_jax.checkpoint.hf_table import Entry
from molmo_jax.model.config import LlmConfig, VitConfig

Shapes = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Backbone:
  """A folder, the parameters that it fills, and remarks for the user."""
  files: TensorFolder
  sources: dict[str, Source | Whole]
  remarks: list[str]


def plan_llm(folder: Path, llm: LlmConfig, shapes: Shapes) -> Backbone:
  """Sources of decoder, base embedding and head; extra embeddings are not among them.

  Args:
    shapes: of all parameters of the model, by path.

  Raises:
    CheckpointError: unreadable files, another architecture, tensors that are missing, left over or
      of another shape.
  """
  family, may_be_tied, remarks = check_llm(folder, llm)
  files, findings = TensorFolder(folder), Findings()
  wanted = {p: shape for p, shape in shapes.items() if p.startswith('decoder/')
            or p in (BASE, HEAD)}
  table = LANGUAGE_MODELS[family]
  name_of = {e.paths[0]: e.names[0] for e in table}
  base, head = name_of[BASE], name_of[HEAD]
  copies_head = HEAD in wanted and may_be_tied and head not in files.tensors
  sources = _match_table(files, table, wanted, findings, skipped=(HEAD,) if copies_head else ())
  if copies_head and BASE in sources:
    sources[HEAD] = sources[BASE]
    remarks.append(f'the head starts as a copy of {base}: the language model has none of its own')
  _drop(files, LANGUAGE_MODEL_UNUSED, findings)
  if HEAD not in wanted and head in files.tensors:
    check_tied_head(files, head, wanted[BASE], sources.get(BASE), findings, spare=True)
  findings.finish(files)
  rows = files.tensors[base].shape[0]
  if rows > llm.vocab:
    remarks.append(f'{base} has {rows} rows, model.llm.vocab={llm.vocab} of them are read')
  return Backbone(files, sources, remarks)


def plan_vit(folder: Path, vit: VitConfig, shapes: Shapes) -> Backbone:
  """Sources of the tower up to the deepest block that exists in our model; arguments and errors as
  `plan_llm`.
  """
  family, blocks = check_vit(folder, vit)
  files, findings = TensorFolder(folder), Findings()
  table = tower(family, any(name.startswith('vision_model.') for name in files.tensors))
  wanted = {path: shape for path, shape in shapes.items() if path.startswith('vit/')}
  sources = _match_table(files, table.entries, wanted, findings,
                         skipped=[s.path for s in table.stem])
  remarks = []
  for stem in table.stem:
    sources |= _match_stem(files, stem, wanted[stem.path], findings, remarks)
  _drop(files, table.unused, findings)
  built = wanted['vit/blocks/query/kernel'][0]
  if _drop_blocks(files, table, range(built, blocks), findings):
    remarks.append(f'blocks {built} to {blocks - 1} are left out: nothing reads them')
  findings.finish(files)
  return Backbone(files, sources, remarks)


def _match_table(files: TensorFolder, table: Iterable[Entry], wanted: Shapes, findings: Findings,
                 skipped: Iterable[str]) -> dict[str, Source | Whole]:
  sources: dict[str, Source | Whole] = {}
  for entry in table:
    if entry.paths[0] in wanted and entry.paths[0] not in skipped:
      sources |= match(files, entry, wanted, findings)
  for path in wanted.keys() - sources.keys() - set(skipped):
    findings.add(f'no tensor of such a folder holds the parameter {path} {list(wanted[path])}')
  return sources


def _match_stem(files: TensorFolder, stem: Stem, shape: tuple[int, ...], findings: Findings,
                remarks: list[str]
                ) -> dict[str, Whole]:
  findings.settled.add(stem.name)
  if stem.name not in files.tensors:
    findings.add(f'missing: {stem.name}')
    return {}
  stored = files.tensors[stem.name]
  if stored.dtype not in DTYPES:
    findings.add(f'{stem.name}: stored as {stored.dtype}; what can be read is {", ".join(DTYPES)}')
  needed = stem_problem(stem, stored.shape, shape)
  if needed:
    findings.add(f'{stem.name}: stored {list(stored.shape)}, the configuration makes {needed}')
  elif stem.kind == 'positions' and stored.shape[-2] != shape[0]:
    own, ours = stored.shape[-2] - stem.class_rows, shape[0] - stem.class_rows
    remarks.append(f'{stem.name}: resized from {own} to {ours} patches; model.vit.positions={own} '
      'keeps it as it is')
  return {stem.path: Whole(stem.name, functools.partial(stem_from_file, stem, shape=shape))}


def _drop(files: TensorFolder, unused: Mapping[str, str], findings: Findings) -> None:
  """Marks the tensors that the table says are not read."""
  findings.settled.update(n for n in files.tensors
                          if any(re.fullmatch(pattern, n) for pattern in unused))


def _drop_blocks(files: TensorFolder, table: Tower, above: range, findings: Findings) -> set[str]:
  """Marks the tensors of blocks that our model does not have; returns them."""
  prefixes = tuple(table.block.format(i=i) + '.' for i in above)
  dropped = {name for name in files.tensors if name.startswith(prefixes)}
  findings.settled |= dropped
  return dropped
