"""Programs for TPUs can be made without one: attention and the training step lower for TPU, forward
and backward.
"""

from __future__ import annotations

import importlib.util
import json
import re

import jax
import jax.numpy as jnp
import pytest
from jax import export

from molmo_jax.kernels.attention import IMPLEMENTATIONS, attend, attend_patches
from molmo_jax.kernels.blockwise import attend_blockwise
from molmo_jax.kernels.mask import mask_info
from molmo_jax.parallel.mesh import MeshConfig, make_mesh
from molmo_jax.parallel.sharding import batch_sharding
from molmo_jax.tools import compile_tpu
from molmo_jax.training.optimizer import GroupConfig, OptimizerConfig, make_optimizer
from molmo_jax.training.state import abstract_state, init_state
from molmo_jax.training.step import TrainingConfig, make_train_step
from tests.model.tiny import batch, build, config, row

LONG = 36_864   # tokens of a row in long-context training


def lowered_for_tpu(function, *arguments):
  """The module that a TPU would compile."""
  checks = [export.DisabledSafetyCheck.custom_call('tpu_custom_call')]
  return export.export(jax.jit(function), platforms=['tpu'],
                       disabled_checks=checks)(*arguments).mlir_module()


def shape(*sizes, dtype=jnp.bfloat16):
  return jax.ShapeDtypeStruct(sizes, dtype)


def gradient(function):
  return jax.grad(lambda q, k, v, *rest: jnp.sum(function(q, k, v, *rest).astype(jnp.float32)),
                  (0, 1, 2))


@pytest.mark.parametrize('backward', [False, True], ids=['forward', 'backward'])
@pytest.mark.parametrize('impl', ['auto', *IMPLEMENTATIONS])
def test_attention_lowers(impl, backward):
  def attention(q, k, v, segments, visual):
    info = mask_info(segments, visual)
    return attend(q, k, v, info, bidirectional='image_tokens', impl=impl)
  heads, ints = shape(1, 512, 4, 128), shape(1, 512, dtype=jnp.int32)
  keys = shape(1, 512, 2, 128)
  assert 'stablehlo' in lowered_for_tpu(gradient(attention) if backward else attention, heads, keys,
                                        keys, ints, ints)


def test_attention_to_the_longest_rows_has_no_array_of_all_pairs():
  def attention(q, k, v, segments, visual):
    info = mask_info(segments, visual)
    return attend_blockwise(q, k, v, info, info, 'image_tokens')
  heads, ints = shape(1, LONG, 8, 128), shape(1, LONG, dtype=jnp.int32)
  keys = shape(1, LONG, 2, 128)
  module = lowered_for_tpu(gradient(attention), heads, keys, keys, ints, ints)
  sizes = [sorted(map(int, dims.rstrip('x').split('x')))
           for dims in re.findall(r'tensor<((?:\d+x)+)', module)]
  assert max(s[-1] for s in sizes) == LONG
  assert not [s for s in sizes if s.count(LONG) > 1 or s[-1] > LONG]


@pytest.mark.parametrize('backward', [False, True], ids=['forward', 'backward'])
def test_attention_among_patches_lowers_with_few_scores_at_a_time(backward):
  crops = shape(32, 729, 16, 72)
  module = lowered_for_tpu(gradient(attend_patches) if backward else attend_patches, crops, crops,
                           crops)
  assert '729x729' in module
  assert '32x16x729x729' not in module


@pytest.mark.parametrize(
  'mesh', [None, MeshConfig(data=2, fsdp=2, context=2), MeshConfig(fsdp=4, tensor=2)],
  ids=['one device', 'data 2 × fsdp 2 × context 2', 'fsdp 4 × tensor 2'])
def test_the_training_step_lowers(mesh):
  c = config(llm=dict(kv_heads=4), remat='full')
  model, params = build(c)
  optimizer_config = OptimizerConfig(groups={'all': GroupConfig('.*')})
  optimizer = make_optimizer(optimizer_config, 10, params)
  step = make_train_step(model, optimizer, TrainingConfig(steps=10, loss_chunk=4), optimizer_config)
  rows = batch(*(row(3, -2, 3, -2, 2, seed=i) for i in range(8)))
  if mesh is None:
    state = jax.eval_shape(lambda: init_state(model, optimizer, jax.random.key(0)))
    assert 'stablehlo' in lowered_for_tpu(step, state, rows)
    return
  devices = make_mesh(mesh)
  with jax.set_mesh(devices):
    state, spread = abstract_state(model, optimizer, devices), batch_sharding(devices)
    rows = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=spread)
            for name, x in rows.items()}
    assert 'stablehlo' in lowered_for_tpu(step, state, rows)


TINY = ['--config.model.vit.layers=2', '--config.model.connector.vit_layers=(-1,)',
        '--config.model.vit.width=128',
        '--config.model.vit.heads=2', '--config.model.vit.head_dim=64',
        '--config.model.vit.mlp=256',
        '--config.model.llm.layers=2', '--config.model.llm.width=256', '--config.model.llm.heads=4',
        '--config.model.llm.kv_heads=2', '--config.model.llm.mlp=512',
        '--config.model.llm.vocab=1024',
        '--config.model.connector.hidden=256', '--config.data.sequence_length=512',
        '--config.data.crops=4',
        '--config.data.visual_tokens=324', '--config.data.batch_size=2', '--config.mesh.context=2']


@pytest.mark.skipif(importlib.util.find_spec('libtpu') is None,
                    reason='needs libtpu, the compiler for TPU: '
                           'pip install -r requirements-tpu.txt')
def test_the_step_of_a_small_model_compiles_for_a_tpu_slice(capsys):
  status = compile_tpu.main(['--config=configs/video.py', '--topology=v5e:2x2', '--json', *TINY])
  printed = capsys.readouterr()
  if 'another process uses libtpu' in printed.err:
    pytest.skip('another process uses libtpu')
  assert status == 0, printed.err
  report = json.loads(printed.out)
  assert report['fits']
  assert 0 < report['memory']['peak'] < report['capacity']
  assert {'all-to-all', 'all-gather'} <= {e['operation'] for e in report['collectives']}
