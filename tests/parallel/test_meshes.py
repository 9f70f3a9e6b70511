"""The same training on every mesh, of one process or two: loss and parameters after four steps, in
float32.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from molmo_jax.kernels.attention import attend
from molmo_jax.kernels.mask import mask_info
from molmo_jax.parallel.activations import take_columns, take_rows
from molmo_jax.parallel.mesh import MeshConfig, make_mesh
from molmo_jax.tools.collectives import collectives
from molmo_jax.training.loss import loss_sums
from tests.parallel.four_steps import SHARED, train
from tests.programs import finish, together

MESHES = {
  'data 8': MeshConfig(data=8, fsdp=1),
  'fsdp 8': MeshConfig(fsdp=8),
  'fsdp 4 × tensor 2': MeshConfig(fsdp=4, tensor=2),
  'fsdp 2 × context 4': MeshConfig(fsdp=2, context=4),
  'data 2 × fsdp 2 × context 2': MeshConfig(data=2, fsdp=2, context=2),
}


@pytest.fixture(scope='module')
def alone():
  return train(MeshConfig(), jax.devices()[:1])


def assert_same(losses, params, alone):
  expected_losses, expected, _ = alone
  assert expected_losses[-1] < expected_losses[0]
  np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
  assert params.keys() == expected.keys()
  for path, value in expected.items():
    error = np.abs(params[path] - value).max() / np.abs(value).max()
    assert error <= 1e-5, (path, error)


@pytest.mark.parametrize('mesh', MESHES.values(), ids=MESHES)
def test_four_steps_on_a_mesh_equal_four_steps_on_one_device(alone, mesh):
  losses, params, placed = train(mesh, jax.devices()[:8])
  parts = mesh.context * mesh.tensor * (8 // mesh.data // mesh.context // mesh.tensor)
  kernel = placed['decoder']['blocks']['mlp']['up']['kernel']
  # over fsdp and context together
  assert kernel.addressable_shards[0].data.size == kernel.size // parts
  assert_same(losses, params, alone)


@pytest.fixture(scope='module')
def of_two_processes(tmp_path_factory):
  """The folder of what two processes of four devices each have come to."""
  folder = tmp_path_factory.mktemp('two_processes')
  for status, printed in map(
    finish, together(folder, 'tests/parallel/four_steps.py', str(folder), devices=4)):
    assert status == 0, printed
  return folder


@pytest.mark.parametrize('name', SHARED)
def test_four_steps_of_two_processes_equal_four_steps_on_one_device(alone, of_two_processes, name):
  with np.load(of_two_processes / f'{name}.npz') as stored:
    found = dict(stored)
  assert_same(found.pop('losses'), found, alone)


def exchanges(function, *arguments):
  """The collectives of a compiled function as {(operation, in loops): runs}."""
  return {(e.operation, e.in_loops): e.runs
          for e in collectives(jax.jit(function).lower(*arguments).compile().as_text())}


def test_the_loss_exchanges_nothing_while_it_goes_through_the_chunks():
  mesh = make_mesh(MeshConfig(fsdp=2, context=4))
  place = lambda x, *axes: jax.device_put(x, NamedSharding(mesh, P(*axes)))
  with jax.set_mesh(mesh):
    loss = lambda hidden, head: loss_sums(hidden, head, jnp.zeros((2, 64), jnp.int32),
                                          jnp.ones((2, 64)), 2).z
    hidden, head = place(jnp.ones((2, 64, 16)), 'fsdp', 'context'), place(jnp.ones((11, 16)), None,
                                                                          ('fsdp', 'context'))
    found = exchanges(jax.grad(loss, (0, 1)), hidden, head)
  assert not [operation for operation, in_loops in found if in_loops]
  assert found['all-gather', False] >= 1


def test_attention_changes_from_sequence_to_heads_and_back():
  info = mask_info(jnp.zeros((2, 32), jnp.int32), jnp.zeros((2, 32), jnp.int32))
  q, k = jnp.ones((2, 32, 8, 4)), jnp.ones((2, 32, 4, 4))
  with jax.set_mesh(make_mesh(MeshConfig(fsdp=2, context=4))):
    found = exchanges(lambda q, k: attend(q, k, k + 1, info, bidirectional='none',
                                                  impl='blockwise'), q, k)
  assert not [operation for operation, in_loops in found if in_loops]
  assert found['all-to-all', False] >= 1


def test_too_few_key_heads_for_a_mesh_are_an_error_that_names_the_flags():
  info = mask_info(jnp.zeros((1, 8), jnp.int32), jnp.zeros((1, 8), jnp.int32))
  with jax.set_mesh(make_mesh(MeshConfig(context=4, tensor=2))), pytest.raises(ValueError,
                                                                               match='kv_heads=4'):
    jax.eval_shape(lambda x: attend(x, x, x, info, bidirectional='none'),
                   jnp.ones((1, 8, 4, 4)))


@pytest.mark.parametrize('mesh',
                         [MeshConfig(fsdp=2, context=4), MeshConfig(data=2, fsdp=2, context=2)],
                         ids=['fsdp 2 × context 4', 'data 2 × fsdp 2 × context 2'])
def test_lookups_and_their_gradients_are_the_same_on_a_mesh(mesh):
  rng = np.random.default_rng(0)
  table, x = rng.normal(size=(13, 16)).astype('f4'), rng.normal(size=(4, 9, 3)).astype('f4')
  tokens, index = rng.integers(0, 13, (4, 8)), rng.integers(0, 9, (4, 8, 2))
  weights, more = rng.normal(size=(4, 8, 16)).astype('f4'), rng.normal(size=(4, 8, 2, 3)).astype(
    'f4')
  run = jax.jit(jax.value_and_grad(lambda table, x, columns: (
      jnp.sum(weights * take_columns(table, tokens, columns))
      + jnp.sum(more * take_rows(x, index))), (0, 1)),
                static_argnums=2)
  expected = run(table, x, ())
  with jax.set_mesh(make_mesh(mesh)):
    found = run(table, x, ('fsdp', 'context'))
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
