"""The same numbers on every mesh, and a place for every parameter of the released sizes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from configs import image, molmo_v1
from molmo_jax import experiment
from molmo_jax.parallel.mesh import AXES, MeshConfig, make_mesh
from molmo_jax.parallel.sharding import batch_sharding, shardings_of, spec_of
from molmo_jax.parameters import flatten_paths
from molmo_jax.training.optimizer import GroupConfig, OptimizerConfig, make_optimizer
from molmo_jax.training.state import TrainState, abstract_params
from molmo_jax.training.step import TrainingConfig, make_train_step
from tests.model.tiny import batch, build, close, config, row

CONFIG = config(connector=dict(vit_layers=(-1,)))
ROWS = batch(*(row(1 + i % 3, -2, 2, -1 - i % 2, 1, seed=i) for i in range(8)))
TRAINING = TrainingConfig(steps=10, loss_chunk=4)
OPTIMIZER = OptimizerConfig(groups={'all': GroupConfig('.*', learning_rate=1e-3, warmup=2)},
                            eps=1e-3)


def train(mesh_config, devices):
  """Losses and parameters of two steps."""
  mesh = make_mesh(mesh_config, jax.devices()[:devices])
  model, params = build(CONFIG)
  optimizer = make_optimizer(OPTIMIZER, TRAINING.steps, params)
  state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params),
                     jax.random.key_data(jax.random.key(0)))
  shardings = shardings_of(state, mesh)
  with jax.set_mesh(mesh):
    state = jax.device_put(state, shardings)
    step = jax.jit(make_train_step(model, optimizer, TRAINING, OPTIMIZER))
    losses = []
    for _ in range(2):
      state, metrics = step(state, jax.device_put(ROWS, batch_sharding(mesh)))
      losses.append(float(metrics['loss']))
  return losses, state.params


@pytest.fixture(scope='module')
def alone():
  return train(MeshConfig(), 1)


@pytest.mark.parametrize(
  'mesh', [MeshConfig(data=8, fsdp=1), MeshConfig(fsdp=8), MeshConfig(fsdp=4, tensor=2)],
  ids=['data 8', 'fsdp 8', 'fsdp 4 × tensor 2'])
def test_two_steps_on_a_mesh_equal_two_steps_on_one_device(alone, mesh):
  losses, params = train(mesh, 8)
  assert np.allclose(losses, alone[0], atol=1e-5)
  assert close(params, alone[1], 1e-5)
  if mesh.fsdp != 1:
    kernel = params['decoder']['blocks']['mlp']['up']['kernel']
    assert kernel.addressable_shards[0].data.size == kernel.size // 8


@pytest.fixture(scope='module', params=['4b', '8b', 'o7b', '7b_d', '7b_o', '72b', '1b_e'])
def released(request):
  of = molmo_v1 if request.param in molmo_v1.LLM else image
  run = experiment.from_config(of.get_config(f'size={request.param}'))
  return flatten_paths(abstract_params(run.model))


class PodMesh:
  """Only the sizes of the axes of a pod."""
  shape = dict(data=1, fsdp=64, context=1, tensor=4)


def test_every_parameter_of_a_released_size_divides_or_is_not_split(released):
  for path, leaf in released.items():
    spec = spec_of(path, leaf.shape, PodMesh)
    for size, axis in zip(leaf.shape, spec, strict=False):
      assert axis is None or size % PodMesh.shape[axis] == 0, path


def test_every_large_parameter_of_a_released_size_is_split(released):
  whole = [path for path, leaf in released.items() if leaf.size > 2e6
           and not any(spec_of(path, leaf.shape, PodMesh))]
  assert whole == []


@pytest.mark.parametrize('path, shape, spec', [
  ('decoder/blocks/attention/query/kernel', (36, 4096, 32, 128), P(None, 'fsdp', 'tensor')),
  ('decoder/blocks/attention/out/kernel', (36, 32, 128, 4096), P(None, 'tensor', None, 'fsdp')),
  ('decoder/blocks/mlp/up/kernel', (36, 4096, 12288), P(None, 'fsdp', 'tensor')),
  ('decoder/blocks/mlp/down/kernel', (36, 12288, 4096), P(None, 'tensor', 'fsdp')),
  ('decoder/blocks/mlp/gate', (16, 64, 2048, 1024), P(None, None, 'fsdp', 'tensor')),
  ('decoder/blocks/mlp/down', (16, 64, 1024, 2048), P(None, None, 'tensor', 'fsdp')),
  ('decoder/blocks/mlp/router/kernel', (16, 2048, 64), P(None, 'fsdp')),
  ('embedding/base', (151936, 4096), P(None, 'fsdp')),
  ('decoder/norm/scale', (4096,), P())])
def test_matrices_are_split_over_the_axes_of_the_table(path, shape, spec):
  assert spec_of(path, shape, PodMesh) == spec


def test_layers_are_never_split(released):
  assert all(not spec_of(path, leaf.shape, PodMesh) or spec_of(path, leaf.shape, PodMesh)[0] is None
             for path, leaf in released.items() if 'blocks/' in path)


def test_an_axis_that_does_not_divide_is_left_out():
  class Odd:
    shape = dict(data=1, fsdp=3, context=1, tensor=2)
  assert spec_of('decoder/blocks/mlp/up/kernel', (2, 16, 24), Odd) == P(None, None, 'tensor')


def test_moments_lie_where_their_parameters_do():
  model, params = build(CONFIG)
  optimizer = make_optimizer(OPTIMIZER, 10, params)
  mesh = make_mesh(MeshConfig(fsdp=4, tensor=2))
  of_params = flatten_paths(shardings_of(params, mesh))
  of_state = flatten_paths(shardings_of(jax.eval_shape(optimizer.init, params), mesh))
  for name, sharding in of_params.items():
    moments = [s for path, s in of_state.items() if path.endswith(f'/{name}')]
    assert len(moments) == 2, name
    assert all(s == sharding for s in moments), name


@pytest.mark.parametrize('mesh, shape', [
  (MeshConfig(), (1, 8, 1, 1)), (MeshConfig(data=2), (2, 4, 1, 1)),
  (MeshConfig(data=-1, fsdp=2, tensor=2), (2, 2, 1, 2))])
def test_minus_one_takes_the_devices_that_remain(mesh, shape):
  assert dict(make_mesh(mesh).shape) == dict(zip(AXES, shape, strict=True))


@pytest.mark.parametrize('mesh, message', [
  (MeshConfig(data=3), 'needs 6 devices, there are 8'),
  (MeshConfig(data=2, fsdp=2), 'needs 4 devices, there are 8'),
  (MeshConfig(data=-1), 'only one axis can be -1')])
def test_a_mesh_that_does_not_fit_the_devices_is_an_error(mesh, message):
  with pytest.raises(ValueError, match=message):
    make_mesh(mesh)
