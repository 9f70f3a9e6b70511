"""Training that starts from a plain language model and a plain image tower, as stage 1 of the
released recipes does.

    python train.py --config=configs/image.py … --config.init_llm=Qwen/Qwen3-8B \
      --config.init_vit=google/siglip2-so400m-patch14-384

Decoder, base embedding and head come from the one, the tower from the other; everything else,
connector and extra embeddings first of all, has the values that the run's seed gives it; with one
of the two flags the other part, too. The folders are read once: a run that goes on does not need
them (docs/checkpoints.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
from jax import Array
from rich.console import Console

from molmo_jax.checkpoint.hf import counter, load_leaf
from molmo_jax.checkpoint.hf_backbones_plan import Backbone, plan_llm, plan_vit
from molmo_jax.configuration import ConfigError
from molmo_jax.experiment import Experiment
from molmo_jax.model.molmo import Molmo
from molmo_jax.parallel import processes
from molmo_jax.parameters import flatten_paths
from molmo_jax.pretrained import find_checkpoint
from molmo_jax.progress import Display
from molmo_jax.training.state import init_params


def load_params(run: Experiment, model: Molmo, key: Array, abstract: Any, console: Console) -> Any:
  """The parameters at step 0, in the dtypes and shardings of `abstract`. All processes call this.

  Args:
    key: of the run's state: what no folder fills is as `init_state` makes it.

  Raises:
    ConfigError: a folder or repository that cannot be had.
    CheckpointError: a folder that does not fit the configuration; all that is wrong with it in one
      error.
  """
  targets = flatten_paths(abstract)
  parts = _plan(run, targets)
  filled = {path for part in parts for path in part.sources}
  _report(parts, targets.keys() - filled, console)
  values = _initial(model, key,
                    {path: leaf for path, leaf in targets.items() if path not in filled})
  with Display(console, 'loading', 1) as display:
    advance = counter([targets[path] for path in filled], None, display.of)
    for part in parts:
      values |= {path: load_leaf(part.files, source, targets[path], None, advance)
                 for path, source in part.sources.items()}
  return jax.tree.unflatten(jax.tree.structure(abstract), [values[path] for path in targets])


def check(run: Experiment) -> None:
  """Raises what `load_params` would raise for folders that cannot be had or do not fit, from their
  headers alone.
  """
  if run.init_llm or run.init_vit:
    _plan(run, flatten_paths(
      jax.eval_shape(lambda: init_params(Molmo(run.model), jax.random.key(0)))))


def _plan(run: Experiment, targets: dict[str, Any]) -> list[Backbone]:
  shapes, parts = {path: tuple(leaf.shape) for path, leaf in targets.items()}, []
  if run.init_llm:
    parts.append(plan_llm(_find('init_llm', run.init_llm), run.model.llm, shapes))
  if run.init_vit:
    parts.append(plan_vit(_find('init_vit', run.init_vit), run.model.vit, shapes))
  return parts


def _find(flag: str, path: str) -> Path:
  try:
    return processes.first_then_others(lambda: find_checkpoint(path))
  except ValueError as error:
    raise ConfigError(f'{flag}: {error}') from None


def _initial(model: Molmo, key: Array, leaves: dict[str, Any]) -> dict[str, Array]:
  """Parameters of `leaves` as `init_state` draws them; the compiler leaves out all others."""
  def make(key: Array) -> dict[str, Array]:
    drawn = flatten_paths(init_params(model, jax.random.split(key)[0]))
    return {path: drawn[path] for path in leaves}
  return jax.jit(make, out_shardings={path: leaf.sharding for path, leaf in leaves.items()})(key)


def _report(parts: list[Backbone], initial: set[str], console: Console) -> None:
  for part in parts:
    groups = sorted({_group(path) for path in part.sources})
    console.print(f'{", ".join(groups)}: from {part.files.folder}', highlight=False)
    for remark in part.remarks:
      console.print(f'  {remark}', highlight=False)
  console.print(f'{", ".join(sorted({_group(p) for p in initial}))}: initial values of the seed',
                highlight=False)


def _group(path: str) -> str:
  first, *rest = path.split('/')
  return f'{first}/{rest[0]}' if first == 'embedding' else first
