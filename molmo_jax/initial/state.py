"""The state that a run of train.py begins with."""

from __future__ import annotations

from typing import Any

import jax
import optax
from jax.sharding import Mesh
from orbax.checkpoint import v1 as ocp

from molmo_jax.checkpoint import native
from molmo_jax.experiment import Experiment
from molmo_jax.initial import from_backbones, from_checkpoint
from molmo_jax.model.molmo import Network
from molmo_jax.terminal import Terminal
from molmo_jax.training.state import TrainState, abstract_state, init_state, state_from


def first_state(run: Experiment, model: Network, optimizer: optax.GradientTransformation,
                checkpoints: ocp.training.Checkpointer, mesh: Mesh, console: Terminal
                ) -> tuple[TrainState, Any]:
  """The state, and the positions in the data of a run that resumes; None for one that begins.

  A run that has a checkpoint resumes: state and data continue where they were, to the same bytes.
  What it starts from (init_from, init_llm, init_vit) is read once, at step 0.

  Args:
    run: the configuration.
    model: the network.
    optimizer: what the state holds the moments of.
    checkpoints: of this run.
    mesh: what the state is sharded over.
    console: is told what is read.
  """
  key = jax.random.key(run.seed)
  abstract = abstract_state(model, optimizer, mesh)
  shardings = jax.tree.map(lambda x: x.sharding, abstract)
  if checkpoints.latest is not None:
    state, positions = native.restore(checkpoints, None, abstract)
    console.print(f'resuming from step {int(state.step)}')
    return state, positions
  if run.init_from or run.init_llm or run.init_vit:
    params = (from_checkpoint.load_params(run, abstract.params, console) if run.init_from else
              from_backbones.load_params(run, model, key, abstract.params, console))
    return jax.jit(lambda p: state_from(p, optimizer, key), out_shardings=shardings,
                   donate_argnums=0)(params), None
  return jax.jit(lambda: init_state(model, optimizer, key), out_shardings=shardings)(), None
