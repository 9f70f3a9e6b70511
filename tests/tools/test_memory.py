"""What is told about a step before it runs: exchanges read off a program, bytes, and clear errors.
"""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from molmo_jax.command_line import read_config
from molmo_jax.experiment import from_config
from molmo_jax.parallel.mesh import MeshConfig, check_mesh, make_mesh
from molmo_jax.tools import compile_tpu, memory
from molmo_jax.tools.collectives import Collective, collectives
from molmo_jax.tools.compiled_step import (
  abstract_run,
  estimates,
  suggestions,
  whole_parameters,
)

SCENES = ['--config=configs/scenes.py', '--config.mesh.fsdp=8', '--config.model.remat=full']
# as TPU programs write them: a loop that runs 36 times, an exchange that is written twice on one
# channel, a fused reduce-scatter, an asynchronous start whose result repeats its operand
HLO = """
HloModule step

%part.1 (p: bf16[8]) -> bf16[16] {
  %ag.1 = bf16[16]{0} all-gather(%p), channel_id=3, dimensions={0}
}

%part.2 (p: bf16[8]) -> bf16[16] {
  %ag.2 = bf16[16]{0} all-gather(%p), channel_id=3, dimensions={0}
}

%all-reduce-scatter.7 (p: f32[32]) -> f32[8] {
  %ar.3 = f32[32]{0} all-reduce(%p), channel_id=9
}

%body.1 (s: (s32[], f32[8])) -> (s32[], f32[8]) {
  %a = bf16[16]{0} fusion(%x), kind=kCustom, calls=%part.1
  %b = bf16[16]{0} fusion(%x), kind=kCustom, calls=%part.2
  %c = f32[8]{0} fusion(%y), kind=kCustom, calls=%all-reduce-scatter.7
}

%condition.1 (s: (s32[], f32[8])) -> pred[] {
  %limit = s32[]{:T(128)} constant(36)
  ROOT %lt = pred[]{:T(512)} compare(%counter, %limit), direction=LT
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %loop = (s32[], f32[8]{0}) while(%init), condition=%condition.1, body=%body.1
  %g = (f32[4]{0}, f32[16]{0}) all-gather-start(%p), channel_id=5, dimensions={0}
  ROOT %r = f32[4]{0} all-reduce(%p), channel_id=6
}
"""


def read_experiment(config, *flags):
  return from_config(read_config(config.removeprefix('--config='), flags).config)


def test_exchanges_are_counted_once_per_channel_and_as_often_as_their_loop_runs():
  assert collectives(HLO) == [
      Collective('all-gather', False, 1, 1, 64), Collective('all-gather', True, 1, 36, 36 * 32),
      Collective('all-reduce', False, 1, 1, 16), Collective('reduce-scatter', True, 1, 36, 36 * 32)]


def test_exchanges_of_a_compiled_program_are_found():
  mesh = make_mesh(MeshConfig(fsdp=8))
  x = jax.ShapeDtypeStruct((16, 64, 64), jnp.float32, sharding=NamedSharding(mesh, P(None, 'fsdp')))

  def run(stack):
    whole = lambda w: jax.lax.with_sharding_constraint(w, NamedSharding(mesh, P()))
    return jax.lax.scan(lambda y, w: (jnp.tanh(y @ whole(w)), None), jnp.ones((64, 64)), stack)[0]

  found = {(e.operation, e.in_loops): e
           for e in collectives(jax.jit(run).lower(x).compile().as_text())}
  assert found['all-gather', True].runs == 16
  assert found['all-gather', True].bytes == 16 * 64 * 64 * 4


def test_estimates_are_the_bytes_of_one_device():
  run = read_experiment(*SCENES)
  mesh = make_mesh(run.mesh)
  sizes = estimates(run, mesh)
  one = estimates(run, make_mesh(MeshConfig(), jax.devices()[:1]))
  # norms lie whole on every device
  assert one['parameters'] == pytest.approx(8 * sizes['parameters'], rel=0.25)
  assert sizes['optimizer'] == pytest.approx(2 * sizes['parameters'], rel=0.01)
  assert one['batch'] == 8 * sizes['batch']
  c, tokens = run.model.llm, run.data.batch_size // 8 * run.data.sequence_length
  assert sizes['saved by the language model'] == tokens * c.width * c.layers * 4


def test_parameters_that_no_axis_divides_are_named_and_another_mesh_is_suggested():
  run = read_experiment('--config=configs/image.py:size=4b', '--config.data.batch_size=7')
  mesh = make_mesh(MeshConfig(fsdp=7), jax.devices()[:7])
  whole = whole_parameters(abstract_run(run, mesh)[2])
  assert whole['decoder/blocks/mlp/up/kernel'] == 36 * 2560 * 9728 * 4
  assert any('another mesh' in line for line in suggestions(run, mesh, estimates(run, mesh), whole))


def test_the_memory_tool_prints_json(capsys):
  assert memory.main(['--json', *SCENES]) == 0
  report = json.loads(capsys.readouterr().out)
  assert report['mesh'] == dict(data=1, fsdp=8, context=1, tensor=1)
  assert report['memory']['peak'] >= report['memory']['arguments'] > 0
  assert report['memory']['arguments'] == pytest.approx(
      sum(report['estimates'][n] for n in ('parameters', 'optimizer', 'batch')), rel=0.05)


@pytest.mark.parametrize(
  'tool', [lambda a: memory.main(a), lambda a: compile_tpu.main(['--topology=v5e:2x2', *a])],
  ids=['memory', 'compile_tpu'])
@pytest.mark.parametrize('arguments, message', [
    ([], '--config=FILE[:options] is needed'),
    (['--config=configs/scenes.py', '--config.mesh.contxt=2'], 'contxt'),
    (['--config=configs/scenes.py', 'more'], "unknown arguments: ['more']")])
def test_wrong_arguments_are_one_line(tool, arguments, message, capsys):
  assert tool(arguments) == 1
  printed = capsys.readouterr().err
  assert printed.startswith('error: ') and message in printed and printed.count('\n') == 1


def test_a_topology_that_cannot_be_is_one_line(capsys):
  assert compile_tpu.main(['--topology=v5e-256', '--config=configs/scenes.py']) == 1
  assert 'write generation and shape, as in v5e:16x16' in capsys.readouterr().err


@pytest.mark.parametrize('mesh, settings, message', [
    (MeshConfig(context=8), dict(kv_heads=4),
     r'mesh.context=8 × mesh.tensor=1 must divide model.llm.kv_heads=4'),
    (MeshConfig(fsdp=8), dict(batch_size=12),
     r'data.batch_size=12 must be a multiple of mesh.data=1 × mesh.fsdp=8'),
    (MeshConfig(fsdp=8), dict(accumulate=2), r'training.accumulate=2 = 16'),
    (MeshConfig(context=8), dict(sequence_length=100),
     r'data.sequence_length=100 must be a multiple of'),
    (MeshConfig(fsdp=8), dict(offload=True), r"model.remat='offload' .* host's memory, which cpu")])
def test_a_mesh_that_does_not_go_with_the_run_is_an_error_that_names_the_flags(mesh, settings,
                                                                               message):
  good = dict(kv_heads=8, batch_size=8, sequence_length=128)
  check_mesh(make_mesh(mesh), **good)
  with pytest.raises(ValueError, match=message):
    check_mesh(make_mesh(mesh), **good | settings)
