"""Checkpoints of a training run: weights, optimiser, RNG and data position together, through Orbax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orbax.checkpoint import v1 as ocp

from molmo_jax.parameters import flatten_paths

FORMAT = 1


class CheckpointError(ValueError):
  """A checkpoint that is missing or does not fit; the message names the folder and the difference."""


def open_checkpoints(directory: str | Path, keep: int = 2) -> ocp.training.Checkpointer:
  """The checkpoints below `directory`, which is made if missing; the newest `keep` are kept."""
  policy = ocp.training.preservation_policies.LatestN(keep)
  return ocp.training.Checkpointer(Path(directory).absolute(), preservation_policy=policy)


def save(checkpoints: ocp.training.Checkpointer, step: int, state: Any, data: Any) -> None:
  """Writes `state` and the position of the data iterator `data` in the background; the folder appears when complete."""
  # force: without it a save is dropped, silently, while an earlier one is still being written
  checkpoints.save_checkpointables_async(step, {'state': state, 'data': data, 'meta': {'format': FORMAT}}, force=True)


def restore(checkpoints: ocp.training.Checkpointer, step: int | None, abstract_state: Any, data: Any) -> Any:
  """Reads a whole state straight into the shardings of `abstract_state`, and sets the data iterator in place.

  Args:
    step: None takes the newest.
    abstract_state: `jax.ShapeDtypeStruct`s with shardings.
    data: the Grain iterator whose position was saved.

  Raises:
    CheckpointError: no checkpoint, another step than those there are, or arrays of another shape.
  """
  step = _choose(checkpoints, step)
  _check_shapes(checkpoints, step, abstract_state, '')
  return checkpoints.load_checkpointables(step, {'state': abstract_state, 'data': data})['state']


def restore_params(checkpoints: ocp.training.Checkpointer, step: int | None, abstract_params: Any) -> tuple[Any, int]:
  """Reads the parameters only, and tells the step they are from; raises like `restore`."""
  step = _choose(checkpoints, step)
  _check_shapes(checkpoints, step, abstract_params, 'params/')
  with ocp.Context(pytree_options=ocp.options.PyTreeOptions(
      loading=ocp.options.PyTreeOptions.Loading(partial_load=True))):
    return checkpoints.load_checkpointables(step, {'state': {'params': abstract_params}})['state']['params'], step


def _choose(checkpoints: ocp.training.Checkpointer, step: int | None) -> int:
  steps = [c.step for c in checkpoints.checkpoints]
  if not steps:
    raise CheckpointError(f'{checkpoints.directory} holds no checkpoint: train first, or give another --workdir')
  if step is not None and step not in steps:
    raise CheckpointError(f'{checkpoints.directory} holds no step {step}; it holds {steps}')
  return max(steps) if step is None else step


def _check_shapes(checkpoints: ocp.training.Checkpointer, step: int, abstract: Any, prefix: str) -> None:
  """One error that lists every array that differs, instead of the first that fails deep inside."""
  stored = flatten_paths(checkpoints.checkpointables_metadata(step).metadata['state'])
  have = {name.removeprefix(prefix): tuple(x.shape) for name, x in stored.items() if name.startswith(prefix)}
  want = {name: tuple(x.shape) for name, x in flatten_paths(abstract).items()}
  wrong = [f'  {name}: stored {have.get(name, "nothing")}, the configuration makes {want.get(name, "nothing")}'
           for name in sorted(have.keys() | want.keys()) if have.get(name) != want.get(name)]
  if wrong:
    raise CheckpointError(f'the checkpoint {checkpoints.directory}/{step} does not fit this configuration:\n'
                          + '\n'.join(wrong[:20]) + ('' if len(wrong) <= 20 else f'\n  … {len(wrong) - 20} more'))
