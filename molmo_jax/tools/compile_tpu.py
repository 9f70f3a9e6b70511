"""Compiles the training step of a configuration for a TPU slice elsewhere, and says whether it fits.

It is the real compiler, the libtpu of PyPI: what it refuses would be refused there. It tells memory
and collectives, not time. docs/scale.md. Exit status: 0 where the step fits, 1 for errors, 2 where
it does not fit.
"""

from __future__ import annotations

import dataclasses
import os
import re
import time
from typing import Any

import jax
from jax.experimental import topologies
from rich.console import Console
from rich.table import Table

from molmo_jax.command_line import make_parser
from molmo_jax.configuration import ConfigError
from molmo_jax.experiment import Experiment
from molmo_jax.parallel.mesh import make_mesh
from molmo_jax.tools.collectives import collectives
from molmo_jax.tools.compiled_step import (
  GIB,
  abstract_run,
  estimates,
  lower_step,
  memory_of,
  print_estimates,
  print_memory,
  run_report,
  suggestions,
  whole_parameters,
)

EXAMPLES = """
  # does supervised fine-tuning of the 8B model fit on 256 chips of v5e?
  molmo-jax compile_tpu --config=configs/video.py:size=8b --topology=v5e:16x16 \\
    --config.mesh.context=2 --config.training.loss_chunk=512
  # the same for other programs to read
  molmo-jax compile_tpu --config=configs/video.py:size=8b --topology=v5p:4x4x4 --json > row.json

It needs libtpu in the version that goes with jax: pip install -r requirements-tpu.txt. Only one process at a time can
load it. A compilation takes minutes and some GB of memory.
"""
# bytes that a program may use, as the compiler states them; chips that are not listed are left to
# the compiler
CAPACITY = {'TPU v5 lite': 15.75, 'TPU v5': 95.74, 'TPU v6 lite': 31.25}


def main(arguments: list[str] | None = None) -> int:
  """Runs the command; returns its exit status: 0 where the step fits, 1 for errors, 2 where it does
  not fit.
  """
  parser = make_parser('compile_tpu', __doc__, EXAMPLES)
  parser.add_argument('--topology', required=True, help='generation and shape of the slice: '
                      'v5e:16x16, v5p:4x4x4, v6e:16x16, …')
  return run_report(parser, arguments, lambda run, args,
                    console: compile_for(run, args.topology, console))


def compile_for(run: Experiment, topology: str, console: Console) -> dict[str, Any]:
  """Compiles the step, prints what there is to know, and returns the same for machines (bytes,
  seconds).

  Raises:
    ConfigError: an unknown topology, no libtpu, or a mesh that does not go with the configuration.
  """
  jax.config.update('jax_platforms', 'cpu')   # the TPU is only compiled for
  devices = slice_devices(topology)
  mesh = make_mesh(run.mesh, devices)
  kind = devices[0].device_kind
  capacity = int(CAPACITY[kind] * GIB) if kind in CAPACITY else None
  console.rule(f'{run.name} on {topology}')
  console.print(f'{len(devices)} × {kind}; mesh: {dict(mesh.shape)}; {run.data.batch_size} rows of '
                f'{run.data.sequence_length} tokens and {run.data.crops} crops', highlight=False)
  sizes, whole = estimates(run, mesh), whole_parameters(abstract_run(run, mesh)[2])
  print_estimates(console, sizes, whole)
  report: dict[str, Any] = dict(name=run.name, topology=topology, devices=len(devices),
                                mesh=dict(mesh.shape),
                                estimates=sizes, whole_parameters=whole, capacity=capacity)
  start = time.monotonic()
  lowered = lower_step(run, mesh)
  console.print(f'lowered in {time.monotonic() - start:.0f} s; compiling …', highlight=False)
  start = time.monotonic()
  cached = jax.config.jax_enable_compilation_cache
  # programs for absent devices cannot be read back
  jax.config.update('jax_enable_compilation_cache', False)
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    report |= dict(fits=False, seconds=time.monotonic() - start, error=_first_line(str(error)),
                   suggestions=suggestions(run, mesh, sizes, whole))
    console.print(f'[red]does not fit:[/red] {report["error"]}', highlight=False)
    for line in report['suggestions']:
      console.print(f'  {line}', highlight=False)
    return report
  finally:
    jax.config.update('jax_enable_compilation_cache', cached)
  memory, found = memory_of(compiled), collectives(compiled.as_text())
  report |= dict(fits=capacity is None or memory.peak <= capacity, seconds=time.monotonic() - start,
                 memory=dataclasses.asdict(memory),
                 collectives=[dataclasses.asdict(e) for e in found],
                 suggestions=suggestions(run, mesh, sizes, whole))
  console.print(f'compiled in {report["seconds"]:.0f} s', highlight=False)
  print_memory(console, memory, capacity)
  table = Table('operation', 'where', 'written', 'run per step', 'GiB per step',
                title='collectives, per device',
                title_justify='left')
  for e in found:
    table.add_row(e.operation, 'in loops' if e.in_loops else 'outside', str(e.count), str(e.runs),
                  f'{e.bytes / GIB:.2f}')
  console.print(table)
  return report


def slice_devices(topology: str) -> list[Any]:
  """Descriptions of the devices of a slice, for a mesh that is only compiled for.

  Raises:
    ConfigError: libtpu is not installed, another process uses it, or it does not know the topology.
  """
  match = re.fullmatch(r'\w+:(\d+(?:x\d+){1,2})', topology)
  if not match:
    raise ConfigError(f'--topology={topology}: write generation and shape, as in v5e:16x16 or '
      'v5p:4x4x4')
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')   # there is no machine to ask
  shape = [int(n) for n in match[1].split('x')]
  # cubes have wrap-around links; without this the compiler turns every all-gather into an
  # all-reduce of twice the bytes
  options = {'wrap': (True,) * 3} if len(shape) == 3 and all(n % 4 == 0 for n in shape) else {}
  try:
    return list(topologies.get_topology_desc(platform='tpu', topology_name=topology,
                                             **options).devices)
  except Exception as error:
    # what libtpu raises differs between versions, and there is no narrower class
    text = str(error)
    if 'lockfile' in text:
      raise ConfigError('another process uses libtpu, and only one can: wait for it, or delete '
        '/tmp/libtpu_lockfile if it has died') from None
    if 'TPU support not installed' in text or 'libtpu.so' in text:
      raise ConfigError('libtpu is needed: pip install -r requirements-tpu.txt '
        f'({_first_line(text)})') from None
    raise ConfigError(f'--topology={topology}: {_first_line(text)}') from None


def _first_line(text: str) -> str:
  return text.strip().split('\n')[0][:300]


if __name__ == '__main__':
  raise SystemExit(main())
