"""Four training steps of a tiny model on any mesh, in float32; as a program, one of several
processes.

Rows are packed: examples with several images, one with a video-like block of many visual tokens,
and message trees whose branches do not see each other.

  python tests/parallel/four_steps.py OUT --distributed=HOST:PORT,INDEX,COUNT   # all of `SHARED`
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from molmo_jax.parallel import processes
from molmo_jax.parallel.mesh import MeshConfig, make_mesh
from molmo_jax.parallel.sharding import batch_sharding, shardings_of
from molmo_jax.parameters import flatten_paths
from molmo_jax.training.optimizer import GroupConfig, OptimizerConfig, make_optimizer
from molmo_jax.training.state import TrainState
from molmo_jax.training.step import TrainingConfig, make_train_step
from tests.model.tiny import batch, build, config, pack, row

STEPS = 4
CONFIG = config(connector=dict(vit_layers=(-1,), layout_embedding=True, layout_grid=4,
                               layout_crops=4),
                llm=dict(kv_heads=4, heads=8, residual_dropout=0.1), attention='blockwise')
TRAINING = TrainingConfig(steps=10, loss_chunk=5)
# eps: Adam divides by the root of the second moment, which makes rounding errors of tiny gradients
# as large as steps
OPTIMIZER = OptimizerConfig(eps=1e-3, groups={'frozen': GroupConfig('embedding/base$', frozen=True),
                                              'rest': GroupConfig('.*', learning_rate=3e-3,
                                                                  warmup=2)})
# meshes of devices of several processes; the devices of a process are neighbours, or as far apart
# as can be
SHARED = {
  'data 2 × fsdp 2 × context 2': (MeshConfig(data=2, fsdp=2, context=2), False),
  'fsdp 4 × context 2, every context group in both': (MeshConfig(fsdp=4, context=2), True),
}


def tree(first, answers, segment=0, seed=0):
  """A prefix of media and text, and branches of text that see it but not each other; positions
  restart per branch.
  """
  out = row(*first, *answers, seed=seed)
  start = sum(map(abs, first))
  out['segments'] = np.full(len(out['tokens']), segment + 10_000, np.int32)
  for branch, length in enumerate(answers):
    out['segments'][start:start + length] = segment + branch
    out['positions'][start:start + length] = int(np.sum(np.abs(first))) + np.arange(length)
    start += length
  return out


def rows():
  """Eight rows of 48 tokens and 8 crops: two packed examples each, and padding."""
  packed = []
  for i in range(8):
    images = tree((2, -2, 1, -3, 1 + i % 3), (3, 2), seed=i)           # two images, two branches
    video = row(1, -4, 1, -4, 1, -4, 1, -4, 3 + i % 2, seed=10 + i)    # four frames and a question
    packed.append(pack(*((images, video) if i % 2 else (video, images))))
  extra = 48 - max(len(r['tokens']) for r in packed)
  return batch(*packed, extra=extra)


def train(mesh_config, devices):
  """Losses of four steps, the whole parameters after them by path, and the parameters as they lie
  on the devices.
  """
  mesh = make_mesh(mesh_config, devices)
  model, params = build(CONFIG)
  optimizer = make_optimizer(OPTIMIZER, TRAINING.steps, params)
  state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params),
                     jax.random.key_data(jax.random.key(0)))
  with jax.set_mesh(mesh):
    state = jax.tree.map(place, state, shardings_of(state, mesh))
    data = {name: place(x, batch_sharding(mesh)) for name, x in rows().items()}
    step = jax.jit(make_train_step(model, optimizer, TRAINING, OPTIMIZER))
    losses = []
    for _ in range(STEPS):
      state, metrics = step(state, data)
      losses.append(float(metrics['loss']))
    whole = multihost_utils.process_allgather(state.params, tiled=True)
  return np.array(losses), flatten_paths(whole), state.params


def place(x, sharding):
  """An array that all processes have, on the devices of all."""
  x = np.asarray(x)
  return jax.make_array_from_callback(x.shape, sharding, lambda part: x[part])


def main(out, flag):
  processes.initialize(flag.removeprefix('--distributed='))
  for name, (mesh, apart) in SHARED.items():
    devices = sorted(jax.devices(), key=lambda d: d.id)
    if apart:
      devices = [d for i in range(jax.local_device_count())
                 for d in devices[i::jax.local_device_count()]]
    losses, params, _ = train(mesh, devices)
    if processes.is_first():
      np.savez(Path(out) / f'{name}.npz', losses=losses, **params)


if __name__ == '__main__':
  main(*sys.argv[1:])
