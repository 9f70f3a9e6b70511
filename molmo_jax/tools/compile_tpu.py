"""Compiles the training step of a configuration for a TPU slice elsewhere: does it fit?

It is the real compiler, the libtpu of PyPI: what it refuses would be refused there. It tells memory
and collectives, not time. docs/scale.md. Exit status: 0 where the step fits, 1 for errors, 2 where
it does not fit.

Examples:
  # does supervised fine-tuning of the 8B model fit on 256 chips of v5e?
  molmo-jax compile_tpu --config=configs/video.py:size=8b --topology=v5e:16x16 \\
    --config.mesh.context=2 --config.training.loss_chunk=512
  # the same for other programs to read
  molmo-jax compile_tpu --config=configs/video.py:size=8b --topology=v5p:4x4x4 --json > row.json

It needs libtpu in the version that goes with jax: pip install -r requirements-tpu.txt. Only one
process at a time can load it. A compilation takes minutes and some GB of memory.
"""

from __future__ import annotations

import os
import re
from typing import Any

import jax
from jax.experimental import topologies
from rich.table import Table

from molmo_jax.command_line import make_parser, one_line_errors
from molmo_jax.configuration import ConfigError
from molmo_jax.experiment import Experiment
from molmo_jax.parallel.mesh import make_mesh
from molmo_jax.terminal import Terminal
from molmo_jax.tools.collectives import collectives
from molmo_jax.tools.compiled_step import GIB, first_line, report_step, run_report

# bytes that a program may use, as the compiler states them; chips that are not listed are left to
# the compiler
CAPACITY = {'TPU v5 lite': 15.75, 'TPU v5': 95.74, 'TPU v6 lite': 31.25}


@one_line_errors
def main(arguments: list[str] | None = None) -> int:
  """Runs the command; exit status: 0 where the step fits, 1 for errors, 2 where it does not fit."""
  parser = make_parser('compile_tpu', __doc__)
  parser.add_argument('--topology', required=True, help='generation and shape of the slice: '
                      'v5e:16x16, v5p:4x4x4, v6e:16x16, …')
  return run_report(parser, arguments,
                    lambda run, args, console: compile_for(run, args.topology, console))


def compile_for(run: Experiment, topology: str, console: Terminal) -> dict[str, Any]:
  """Compiles the step and prints its report; returns the same as a dict (bytes, seconds).

  Raises:
    ConfigError: an unknown topology, no libtpu, or a mesh that does not go with the configuration.
  """
  jax.config.update('jax_platforms', 'cpu')   # the TPU is only compiled for
  devices = slice_devices(topology)
  kind = devices[0].device_kind
  capacity = int(CAPACITY[kind] * GIB) if kind in CAPACITY else None
  console.rule(f'{run.name} on {topology}: {len(devices)} × {kind}')
  # programs for absent devices cannot be read back
  jax.config.update('jax_enable_compilation_cache', False)
  report, compiled = report_step(run, make_mesh(run.mesh, devices), console, capacity=capacity)
  report['topology'] = topology
  if compiled is None:
    return report
  found = collectives(compiled.as_text() or '')
  report['collectives'] = [vars(e) for e in found]
  table = Table('operation', 'where', 'written', 'run per step', 'GiB per step',
                title='collectives, per device', title_justify='left')
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
    text, problem = str(error), f'--topology={topology}: {first_line(error)}'
    if 'lockfile' in text:
      problem = ('another process uses libtpu, and only one can: wait for it, or delete '
                 '/tmp/libtpu_lockfile if it has died')
    if 'TPU support not installed' in text or 'libtpu.so' in text:
      problem = f'libtpu is needed: pip install -r requirements-tpu.txt ({first_line(error)})'
    raise ConfigError(problem) from None


if __name__ == '__main__':
  raise SystemExit(main())
