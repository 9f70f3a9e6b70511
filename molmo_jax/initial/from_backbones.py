"""Training that starts from a plain language model and a plain image tower, as stage 1 of the
released recipes does.

    python train.py --config=configs/image.py … --config.init_llm=Qwen/Qwen3-8B \
      --config.init_vit=google/siglip2-so400m-patch14-384

Decoder, base embedding and head come from the language model, the tower from the image tower.
Everything else (connector, extra embeddings, or the part whose flag is left out) has the values
that the run's seed gives it. The folders are read once: a run that resumes does not need them
(docs/checkpoints.md).
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jax import Array

from molmo_jax.checkpoint.hf import counter, load_leaf
from molmo_jax.checkpoint.hf_backbones import (
  LANGUAGE_MODELS,
  STEMS,
  check_llm,
  check_vit,
  stem_from_file,
  stem_misfit,
  tower_table,
)
from molmo_jax.checkpoint.hf_files import TensorFolder, find_checkpoint
from molmo_jax.checkpoint.hf_plan import (
  Findings,
  Rows,
  Shapes,
  Whole,
  check_tied_head,
  match_table,
)
from molmo_jax.checkpoint.hf_table import BASE, HEAD, WEIGHTS, TableEntry
from molmo_jax.configuration import ConfigError
from molmo_jax.experiment import Experiment
from molmo_jax.model.config import LlmConfig, VitConfig
from molmo_jax.model.molmo import Network
from molmo_jax.parallel import processes
from molmo_jax.parameters import flatten_paths
from molmo_jax.progress import Display
from molmo_jax.terminal import Terminal
from molmo_jax.training.state import abstract_params, init_params


@dataclasses.dataclass(frozen=True)
class Backbone:
  """A folder, the parameters that it fills, and remarks for the user."""
  files: TensorFolder
  sources: dict[str, Rows | Whole]
  remarks: list[str]


def load_params(run: Experiment, model: Network, key: Array, abstract: Any,
                console: Terminal) -> Any:
  """The parameters at step 0, in the dtypes and shardings of `abstract`. All processes call this.

  Args:
    run: the run, of which `init_llm`, `init_vit` and `model` are read.
    model: the network of the run.
    key: of the run's state: what no folder fills is as `init_state` makes it.
    abstract: the tree of parameters as `jax.ShapeDtypeStruct`s with shardings.
    console: is told what comes from where.

  Raises:
    ConfigError: a folder or repository that does not exist.
    CheckpointError: a folder that does not fit the configuration; one error lists all that is
      wrong.
  """
  targets = flatten_paths(abstract)
  backbones = _plan(run, targets)
  filled = {path for part in backbones for path in part.sources}
  for part in backbones:
    console.print(f'{_groups(part.sources)}: from {part.files.folder}')
    for remark in part.remarks:
      console.print(f'  {remark}')
  console.print(f'{_groups(targets.keys() - filled)}: random initial values')
  values = _initial(model, key, {path: x for path, x in targets.items() if path not in filled})
  with Display(console, 'loading', 1) as display:
    advance = counter([targets[path] for path in filled], None, display.of)
    for part in backbones:
      values |= {path: load_leaf(part.files, source, targets[path], None, advance)
                 for path, source in part.sources.items()}
  return jax.tree.unflatten(jax.tree.structure(abstract), [values[path] for path in targets])


def check(run: Experiment) -> None:
  """Raises what `load_params` would raise for folders that do not exist or do not fit, from their
  headers alone.
  """
  if run.init_llm or run.init_vit:
    _plan(run, flatten_paths(abstract_params(run.model)))


def _plan(run: Experiment, targets: dict[str, Any]) -> list[Backbone]:
  shapes, backbones = {path: tuple(leaf.shape) for path, leaf in targets.items()}, []
  for flag, plan, config in (('init_llm', plan_llm, run.model.llm),
                             ('init_vit', plan_vit, run.model.vit)):
    given = getattr(run, flag)
    if given:
      try:
        folder = processes.first_then_others(functools.partial(find_checkpoint, given))
      except ValueError as error:
        raise ConfigError(f'{flag}: {error}') from None
      backbones.append(plan(folder, config, shapes))
  return backbones


def plan_llm(folder: Path, llm: LlmConfig, shapes: Shapes) -> Backbone:
  """Sources of decoder, base embedding and head; extra embeddings are not among them.

  Args:
    folder: of the language model.
    llm: what the run's configuration says of it.
    shapes: of all parameters of the model, by path.

  Raises:
    CheckpointError: unreadable files, another architecture, tensors that are missing, left over or
      of another shape.
  """
  family, may_be_tied, remarks = check_llm(folder, llm)
  files, table = TensorFolder(folder), LANGUAGE_MODELS[family][0]
  findings = Findings(files)
  base, head = (next(e.names[0] for e in table if e.paths == (path,)) for path in (BASE, HEAD))
  wanted = {path: shape for path, shape in shapes.items()
            if path.startswith('decoder/') or path in (BASE, HEAD)}
  copies_head = HEAD in wanted and may_be_tied and head not in files.tensors
  sources = match_table(findings, table, {
    path: shape for path, shape in wanted.items() if not (copies_head and path == HEAD)})
  if copies_head:
    sources[HEAD] = sources[BASE]
    remarks.append(f'the head starts as a copy of {base}: the language model has none of its own')
  _settle_unused(findings, WEIGHTS['unused']['language model'])
  check_tied_head(findings, table, wanted, sources)
  findings.finish()
  rows = files.tensors[base].shape[0]
  if rows > llm.vocab:
    remarks.append(f'{base} has {rows} rows, model.llm.vocab={llm.vocab} of them are read')
  return Backbone(files, sources, remarks)


def plan_vit(folder: Path, vit: VitConfig, shapes: Shapes) -> Backbone:
  """Sources of the tower up to the deepest block that exists in our model; arguments and errors as
  of `plan_llm`.
  """
  family, blocks = check_vit(folder, vit)
  files = TensorFolder(folder)
  is_part = any(name.startswith('vision_model.') for name in files.tensors)
  table, block, unused = tower_table(family, 'vision_model.' if is_part else '')
  findings, remarks = Findings(files), []
  stems = {e.paths[0]: e for e in table if e.kind in STEMS and e.paths[0] in shapes}
  sources: dict[str, Rows | Whole] = match_table(findings, table, {
    path: shape for path, shape in shapes.items() if path.startswith('vit/') and path not in stems})
  for path, stem in stems.items():
    sources[path] = _match_stem(findings, stem, shapes[path], vit.class_token, remarks)
  _settle_unused(findings, unused)
  built = shapes['vit/blocks/query/kernel'][0]
  above = tuple(f'{block.format(i=i)}.' for i in range(built, blocks))
  unread = {name for name in files.tensors if name.startswith(above)}
  findings.settled |= unread
  if unread:
    remarks.append(f'blocks {built} to {blocks - 1} are left out: nothing reads them')
  findings.finish()
  return Backbone(files, sources, remarks)


def _match_stem(findings: Findings, stem: TableEntry, shape: tuple[int, ...], class_rows: int,
                remarks: list[str]) -> Whole:
  name = stem.names[0]
  stored = findings.look_up(name)
  if stored is not None:
    needed = stem_misfit(stem.kind, stored.shape, shape, class_rows)
    if needed:
      findings.misfit(name, list(stored.shape), needed)
    elif stem.kind == 'positions' and stored.shape[-2] != shape[0]:
      own, ours = stored.shape[-2] - class_rows, shape[0] - class_rows
      remarks.append(f'{name}: resized from {own} to {ours} patches; '
                     f'model.vit.positions={own} keeps it as it is')
  return Whole(name, functools.partial(stem_from_file, stem.kind, shape=shape,
                                            class_rows=class_rows))


def _settle_unused(findings: Findings, unused: Mapping[str, str]) -> None:
  """Settles the tensors that a table says are not read."""
  findings.settled.update(name for name in findings.files.tensors
                          if any(re.fullmatch(pattern, name) for pattern in unused))


def _initial(model: Network, key: Array, leaves: dict[str, Any]) -> dict[str, Array]:
  """Parameters of `leaves` as `init_state` makes them; the compiler leaves out all others."""
  def make(key: Array) -> dict[str, Array]:
    params = flatten_paths(init_params(model, jax.random.split(key)[0]))
    return {path: params[path] for path in leaves}
  return jax.jit(make, out_shardings={path: x.sharding for path, x in leaves.items()})(key)


def _groups(paths: Any) -> str:
  """The parts of the model that paths are in, such as 'decoder, embedding/base'."""
  return ', '.join(sorted({'/'.join(path.split('/')[:2 if path.startswith('embedding/') else 1])
                           for path in paths}))
