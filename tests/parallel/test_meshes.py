"""The same training on every mesh: loss and parameters after four steps, in float32.

Rows are packed: examples with several images, one with a video-like block of many visual tokens, and message trees
whose branches do not see each other.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from molmo_jax.kernels.mask import mask_info
from molmo_jax.kernels.on_mesh import attend_on_mesh
from molmo_jax.parallel.activations import crops_per_row, take_columns, take_rows
from molmo_jax.parallel.mesh import MeshConfig, make_mesh
from molmo_jax.parallel.sharding import batch_sharding, shardings_of
from molmo_jax.parameters import flatten_paths
from molmo_jax.tools.collectives import collectives
from molmo_jax.training.loss import loss_sums
from molmo_jax.training.optimizer import GroupConfig, OptimizerConfig, make_optimizer
from molmo_jax.training.state import TrainState
from molmo_jax.training.step import TrainingConfig, make_train_step
from tests.model.tiny import batch, build, config, pack, row

STEPS = 4
CONFIG = config(connector=dict(vit_layers=(-1,), layout_embedding=True, layout_grid=4, layout_crops=4),
                llm=dict(kv_heads=4, heads=8, residual_dropout=0.1), attention='blockwise')
TRAINING = TrainingConfig(steps=10, loss_chunk=5)
# eps: Adam divides by the root of the second moment, which makes rounding errors of tiny gradients as large as steps
OPTIMIZER = OptimizerConfig(eps=1e-3, groups={'frozen': GroupConfig('embedding/base$', frozen=True),
                                              'rest': GroupConfig('.*', learning_rate=3e-3, warmup=2)})
MESHES = {
  'data 8': MeshConfig(data=8, fsdp=1),
  'fsdp 8': MeshConfig(fsdp=8),
  'fsdp 4 × tensor 2': MeshConfig(fsdp=4, tensor=2),
  'fsdp 2 × context 4': MeshConfig(fsdp=2, context=4),
  'data 2 × fsdp 2 × context 2': MeshConfig(data=2, fsdp=2, context=2),
}


def tree(first, answers, segment=0, seed=0):
  """A prefix of media and text, and branches of text that see it but not each other; positions restart per branch."""
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
  """Losses of four steps, the parameters after them, and the state's shardings."""
  mesh = make_mesh(mesh_config, jax.devices()[:devices])
  model, params = build(CONFIG)
  optimizer = make_optimizer(OPTIMIZER, TRAINING.steps, params)
  state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), jax.random.key_data(jax.random.key(0)))
  with jax.set_mesh(mesh):
    state = jax.device_put(state, shardings_of(state, mesh))
    data = jax.device_put(rows(), batch_sharding(mesh))
    step = jax.jit(make_train_step(model, optimizer, TRAINING, OPTIMIZER))
    losses = []
    for _ in range(STEPS):
      state, metrics = step(state, data)
      losses.append(float(metrics['loss']))
  return np.array(losses), flatten_paths(jax.device_get(state.params)), state.params


@pytest.fixture(scope='module')
def alone():
  return train(MeshConfig(), 1)


@pytest.mark.parametrize('mesh', MESHES.values(), ids=MESHES)
def test_four_steps_on_a_mesh_equal_four_steps_on_one_device(alone, mesh):
  losses, params, placed = train(mesh, 8)
  parts = mesh.context * mesh.tensor * (8 // mesh.data // mesh.context // mesh.tensor)
  kernel = placed['decoder']['blocks']['mlp']['up']['kernel']
  assert kernel.addressable_shards[0].data.size == kernel.size // parts   # over fsdp and context together
  expected_losses, expected, _ = alone
  assert expected_losses[-1] < expected_losses[0]
  np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
  for path, value in expected.items():
    error = np.abs(params[path] - value).max() / np.abs(value).max()
    assert error <= 1e-5, (path, error)


def exchanges(function, *arguments):
  """The collectives of a compiled function as {(operation, in loops): runs}."""
  return {(e.operation, e.in_loops): e.runs
          for e in collectives(jax.jit(function).lower(*arguments).compile().as_text())}


def test_the_loss_exchanges_nothing_while_it_goes_through_the_chunks():
  mesh = make_mesh(MeshConfig(fsdp=2, context=4))
  place = lambda x, *axes: jax.device_put(x, NamedSharding(mesh, P(*axes)))
  with jax.set_mesh(mesh):
    loss = lambda hidden, head: loss_sums(hidden, head, jnp.zeros((2, 64), jnp.int32), jnp.ones((2, 64)), 2).z
    hidden, head = place(jnp.ones((2, 64, 16)), 'fsdp', 'context'), place(jnp.ones((11, 16)), None, ('fsdp', 'context'))
    found = exchanges(jax.grad(loss, (0, 1)), hidden, head)
  assert not [operation for operation, in_loops in found if in_loops]
  assert found['all-gather', False] >= 1


def test_attention_changes_from_sequence_to_heads_and_back():
  info = mask_info(jnp.zeros((2, 32), jnp.int32), jnp.zeros((2, 32), jnp.int32))
  q, k = jnp.ones((2, 32, 8, 4)), jnp.ones((2, 32, 4, 4))
  with jax.set_mesh(make_mesh(MeshConfig(fsdp=2, context=4))):
    found = exchanges(lambda q, k: attend_on_mesh(q, k, k + 1, info, bidirectional='none', impl='blockwise'), q, k)
  assert not [operation for operation, in_loops in found if in_loops]
  assert found['all-to-all', False] >= 1


def test_too_few_key_heads_for_a_mesh_are_an_error_that_names_the_flags():
  info = mask_info(jnp.zeros((1, 8), jnp.int32), jnp.zeros((1, 8), jnp.int32))
  with jax.set_mesh(make_mesh(MeshConfig(context=4, tensor=2))), pytest.raises(ValueError, match='kv_heads=4'):
    jax.eval_shape(lambda x: attend_on_mesh(x, x, x, info, bidirectional='none'), jnp.ones((1, 8, 4, 4)))


@pytest.mark.parametrize('mesh', [MeshConfig(fsdp=2, context=4), MeshConfig(data=2, fsdp=2, context=2)],
                         ids=['fsdp 2 × context 4', 'data 2 × fsdp 2 × context 2'])
def test_lookups_and_their_gradients_are_the_same_on_a_mesh(mesh):
  rng = np.random.default_rng(0)
  table, x = rng.normal(size=(13, 16)).astype('f4'), rng.normal(size=(4, 9, 3)).astype('f4')
  tokens, index = rng.integers(0, 13, (4, 8)), rng.integers(0, 9, (4, 8, 2))
  weights, more = rng.normal(size=(4, 8, 16)).astype('f4'), rng.normal(size=(4, 8, 2, 3)).astype('f4')
  run = jax.jit(jax.value_and_grad(lambda table, x, columns: (
      jnp.sum(weights * take_columns(table, tokens, columns)) + jnp.sum(more * take_rows(x, index))), (0, 1)),
                static_argnums=2)
  expected = run(table, x, ())
  with jax.set_mesh(make_mesh(mesh)):
    found = run(table, x, ('fsdp', 'context'))
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_crops_are_padded_until_they_spread_evenly():
  assert crops_per_row(3, 5) == 5                                  # no mesh
  with jax.set_mesh(make_mesh(MeshConfig(fsdp=2, context=4))):     # 8 devices
    assert [crops_per_row(*n) for n in ((2, 8), (2, 5), (8, 5), (1, 1), (4, 3))] == [8, 8, 5, 8, 4]
