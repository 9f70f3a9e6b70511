"""Checkpoints of a training run: weights, optimiser, RNG and data position together, through Orbax.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from orbax.checkpoint import v1 as ocp

from molmo_jax.checkpoint.hf_files import listing
from molmo_jax.errors import CheckpointError
from molmo_jax.parallel.processes import is_first, process_allgather
from molmo_jax.parameters import flatten_paths

# 1 had no checksums, and the data's position in a file of its own
FORMAT = 2
DAMAGED = 'damaged_'                 # before the name of a folder that was set aside


def open_checkpoints(directory: str | Path, keep: int = 2,
                     keep_every: int = 0) -> ocp.training.Checkpointer:
  """The checkpoints below `directory`, which is made if missing.

  The newest `keep` are kept, and for good those whose step is a multiple of `keep_every`, if that
  is not 0.

  Raises:
    CheckpointError: a FIFO, a device or a broken link among the files.
  """
  for file in Path(directory).rglob('*'):
    if not (file.is_file() or file.is_dir()):   # Orbax would wait for a FIFO
      raise CheckpointError(f'{file}: neither a regular file nor a folder; delete it')
  policies = ocp.training.preservation_policies
  kept = [policies.LatestN(keep)] + ([policies.EveryNSteps(keep_every)] if keep_every else [])
  return ocp.training.Checkpointer(Path(directory).absolute(),
                                   preservation_policy=policies.AnyPreservationPolicy(kept))


def save(checkpoints: ocp.training.Checkpointer, step: int, state: Any, data: Any) -> None:
  """Writes `state` and `data` in the background; the folder appears when it is complete. All
  processes call it.

  Args:
    data: the position in the data, as plain values that JSON can write; the same in all processes.
  """
  meta = {'format': FORMAT, 'checksums': _checksums(state), 'shapes': _shapes(state), 'data': data}
  # force: without it a save is dropped, silently, while an earlier one is still being written
  checkpoints.save_checkpointables_async(step, {'state': state, 'meta': meta}, force=True)


def restore(checkpoints: ocp.training.Checkpointer, step: int | None,
            abstract_state: Any) -> tuple[Any, Any]:
  """Reads a whole state straight into the shardings of `abstract_state`, and the position in the
  data.

  Args:
    step: None takes the newest one that is whole. Newer ones that are damaged are set aside: their
      folders get the prefix `damaged_`.
    abstract_state: `jax.ShapeDtypeStruct`s with shardings.

  Raises:
    CheckpointError: no checkpoint, another step than those there are, arrays of another shape, or
      nothing but damage.
  """
  number = _choose(checkpoints, step)
  try:
    found = _load(checkpoints, number, abstract_state)
    return found['state'], found['meta']['data']
  except _Damage as damage:
    folder = checkpoints.directory / str(number)
    if step is not None:
      raise CheckpointError(f'the checkpoint {folder} is damaged: {damage}') from None
    logging.warning('the checkpoint %s is damaged: %s. It is set aside; trying the one before',
                    folder, damage)
    if is_first():
      aside = folder.with_name(f'{DAMAGED}{number}')
      while aside.exists():
        aside = folder.with_name(f'{aside.name}_')
      folder.rename(aside)
    process_allgather(None)          # nobody lists the folder before it has its new name
    checkpoints.reload()
    return restore(checkpoints, None, abstract_state)


class _Damage(Exception):
  """What was stored is not what can be read; the message says what is wrong."""


def _load(checkpoints: ocp.training.Checkpointer, step: int, abstract_state: Any,
          part: str = '') -> dict[str, Any]:
  """What is stored of one step, compared with the checksums; of the state only the arrays whose
  names begin with `part`. Raises _Damage in every process if it is damaged for any of them.
  """
  problem, found = None, {}
  options = ocp.options.PyTreeOptions(
    loading=ocp.options.PyTreeOptions.Loading(partial_load=bool(part)))
  try:
    shapes = checkpoints.load_checkpointables(step, {'meta': None})['meta'].get('shapes')
    _check_shapes(checkpoints, step, abstract_state, part, shapes)
    with ocp.Context(pytree_options=options):
      found = checkpoints.load_checkpointables(step, {'state': abstract_state, 'meta': None})
    problem = _compare(found['meta'], found['state'])
  except CheckpointError:
    raise
  except Exception as error:
    problem = _unreadable(error)
  problems = [p for p in process_allgather(problem) if p]
  if problems:
    raise _Damage(problems[0])
  return found


def _unreadable(error: Exception) -> str:
  """Orbax and TensorStore have no common error for files that cannot be read, and tell long
  stories.
  """
  return f'{type(error).__name__}: {(str(error).splitlines() or ["no details"])[0][:300]}'


def _checksums(tree: Any) -> dict[str, tuple[str, int]]:
  """Every array's dtype, and the sum of its bits as integers modulo 2³²: the same for every
  sharding.
  """
  arrays = flatten_paths(tree)
  sums = np.asarray(_sums_of_bits(tree)).tolist()
  return {path: (str(x.dtype), total)
          for (path, x), total in zip(arrays.items(), sums, strict=True)}


@jax.jit   # one program: several with collectives in flight at once can block each other on a CPU
def _sums_of_bits(tree: Any) -> jax.Array:
  def total(x: jax.Array) -> jax.Array:
    bits = jax.lax.bitcast_convert_type(x, f'uint{8 * x.dtype.itemsize}')
    return jnp.sum(bits.astype(jnp.uint32), dtype=jnp.uint32)
  return jnp.stack([total(x) for x in jax.tree.leaves(tree)])


def _compare(meta: dict[str, Any], tree: Any) -> str | None:
  """What is wrong with arrays that were read: those whose checksums differ. Nothing is known of
  other dtypes.
  """
  if meta['format'] != FORMAT:
    raise CheckpointError(f'the checkpoint has format {meta["format"]} of another version of this '
                          f'program, which reads format {FORMAT}')
  stored = meta['checksums']
  wrong = [path for path, (dtype, total) in _checksums(tree).items()
           if dtype == stored[path][0] and total != stored[path][1]]
  return f'the contents of {len(wrong)} arrays have changed, first {wrong[0]}' if wrong else None


def restore_params(checkpoints: ocp.training.Checkpointer, step: int | None,
                   abstract_params: Any) -> tuple[Any, int]:
  """Reads the parameters only, and tells the step they are from; raises like `restore`."""
  step = _choose(checkpoints, step)
  try:
    found = _load(checkpoints, step, {'params': abstract_params}, 'params/')
  except _Damage as damage:
    raise CheckpointError(f'the checkpoint {checkpoints.directory}/{step} is damaged: '
                          f'{damage}') from None
  return found['state']['params'], step


def _choose(checkpoints: ocp.training.Checkpointer, step: int | None) -> int:
  steps = [c.step for c in checkpoints.checkpoints]
  if not steps:
    aside = sorted(p.name for p in Path(checkpoints.directory).glob(f'{DAMAGED}*'))
    why = (f'what it had is damaged and was set aside as {listing(aside)}' if aside else
           'train first, or give another --workdir')
    raise CheckpointError(f'{checkpoints.directory} holds no checkpoint: {why}')
  if step is not None and step not in steps:
    raise CheckpointError(f'{checkpoints.directory} holds no step {step}; it holds {steps}')
  return max(steps) if step is None else step


def _shapes(tree: Any) -> dict[str, str]:
  return {name: str(tuple(x.shape)) for name, x in flatten_paths(tree).items()}


def _check_shapes(checkpoints: ocp.training.Checkpointer, step: int, abstract: Any, part: str,
                  shapes: dict[str, str] | None) -> None:
  """One error that lists every array that differs, instead of the first that fails deep inside.
  ValueError if the files contradict what was noted of them, `shapes` (None in old checkpoints).
  """
  stored = _shapes(checkpoints.checkpointables_metadata(step).metadata['state'])
  if not stored or shapes not in (None, stored):
    raise ValueError('the list of its arrays has changed')
  have, want = ({name.removeprefix(part): shape for name, shape in arrays.items()
                 if name.startswith(part)} for arrays in (stored, _shapes(abstract)))
  wrong = [f'{name}: stored {have.get(name, "nothing")}, the configuration makes '
           f'{want.get(name, "nothing")}' for name in sorted(have.keys() | want.keys())
           if have.get(name) != want.get(name)]
  if wrong:
    raise CheckpointError(f'the checkpoint {checkpoints.directory}/{step} does not fit this '
                          'configuration:\n  ' + listing(wrong, '\n  '))
