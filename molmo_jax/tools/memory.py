"""Measures the memory that the training step of a configuration needs on this machine's devices.

For a TPU slice elsewhere: molmo-jax compile_tpu.

Exit status: 0 where the step fits, 1 for errors, 2 where it does not fit.

Examples:
  molmo-jax memory --config=configs/scenes.py
  # from shapes alone, in a second, as if there were eight devices
  JAX_NUM_CPU_DEVICES=8 molmo-jax memory --config=configs/image.py:size=4b --shapes-only
"""

from __future__ import annotations

from typing import Any

import jax

from molmo_jax.command_line import make_parser, one_line_errors
from molmo_jax.experiment import Experiment
from molmo_jax.parallel.mesh import make_mesh
from molmo_jax.terminal import Terminal
from molmo_jax.tools.compiled_step import report_step, run_report


@one_line_errors
def main(arguments: list[str] | None = None) -> int:
  """Runs the command; exit status: 0 where the step fits, 1 for errors, 2 where it does not fit."""
  parser = make_parser('memory', __doc__)
  parser.add_argument('--shapes-only', action='store_true', help='do not compile; arithmetic on '
                      'shapes')
  return run_report(parser, arguments,
                    lambda run, args, console: measure(run, not args.shapes_only, console))


def measure(run: Experiment, compiles: bool, console: Terminal) -> dict[str, Any]:
  """Prints and returns the bytes of each device: from shapes and, if asked, of the compiled step.

  Raises:
    ConfigError: a mesh that does not go with the devices or the configuration.
  """
  device = jax.devices()[0]
  console.rule(f'{run.name} on {jax.device_count()} × {device.device_kind}')
  capacity = (device.memory_stats() or {}).get('bytes_limit')
  return report_step(run, make_mesh(run.mesh), console, capacity=capacity, compiles=compiles)[0]


if __name__ == '__main__':
  raise SystemExit(main())
