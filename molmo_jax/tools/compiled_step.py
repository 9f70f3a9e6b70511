"""The training step of a configuration, compiled without data or weights, and what it needs.

Shared by `tools/compile_tpu` (another machine's devices) and `tools/memory` (those that are
present).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.stages import Compiled, Lowered
from rich.table import Table

from molmo_jax.command_line import add_config, read_config
from molmo_jax.data.batching import RowShape, empty_row
from molmo_jax.experiment import Experiment, check_on_mesh, from_config
from molmo_jax.model.molmo import Network
from molmo_jax.parallel.sharding import batch_sharding
from molmo_jax.parameters import flatten_paths
from molmo_jax.terminal import Terminal
from molmo_jax.training.optimizer import make_optimizer
from molmo_jax.training.state import TrainState, abstract_params, abstract_state
from molmo_jax.training.step import make_train_step

GIB = 2 ** 30


def run_report(parser: argparse.ArgumentParser, arguments: list[str] | None,
               report_on: Callable[[Experiment, argparse.Namespace, Terminal], dict[str, Any]],
               ) -> int:
  """Runs such a tool; exit status: 0 where the step fits, 2 where it does not fit.

  Args:
    parser: with the tool's own flags.
    arguments: default: those of the program.
    report_on: prints to the console and returns what --json prints; its `fits`, if any, decides the
      status.

  Raises:
    ConfigError: a configuration that is missing or wrong.
  """
  add_config(parser)
  parser.add_argument('--json', action='store_true',
                      help='one JSON object on standard output, nothing else')
  args, rest = parser.parse_known_args(arguments)
  run = from_config(read_config(args.config, rest).config)
  report = report_on(run, args, Terminal(stderr=args.json))
  if args.json:
    print(json.dumps(report))
  return 0 if report.get('fits', True) else 2


def report_step(run: Experiment, mesh: Mesh, console: Terminal, *, capacity: int | None,
                compiles: bool = True) -> tuple[dict[str, Any], Compiled | None]:
  """Prints what a training step needs of every device.

  Returns the same as a dict (bytes, seconds), with the compiled step.

  Args:
    run: what is trained.
    mesh: its devices need not be here.
    console: where it is printed.
    capacity: bytes of a device, if known.
    compiles: False: only arithmetic on shapes; the compiled step is None then, as it is where the
      compiler finds no room.

  Raises:
    ConfigError: the mesh does not go with the model or the batch.
  """
  whole = whole_parameters(abstract_run(run, mesh)[2])
  sizes = estimates(run, mesh)
  report: dict[str, Any] = dict(name=run.name, devices=mesh.size, mesh=dict(mesh.shape),
                                estimates=sizes, whole_parameters=whole, capacity=capacity)
  console.print(f'mesh: {dict(mesh.shape)}; {run.data.batch_size} rows of '
                f'{run.data.sequence_length} tokens and {run.data.crops} crops')
  console.print(bytes_table('per device, from shapes', sizes))
  if whole:
    console.print(f'{len(whole)} large parameters ({sum(whole.values()) / GIB:.2f} GiB) are whole '
                  f'on every device: no axis divides them; the first is {min(whole)}',
                  style='yellow')
  if not compiles:
    return report, None
  start = time.monotonic()
  lowered = lower_step(run, mesh)
  console.print(f'lowered in {time.monotonic() - start:.0f} s; compiling …')
  start = time.monotonic()
  compiled, problem = None, 'more than the capacity of a device'
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    report['error'] = problem = first_line(error)
  report |= dict(fits=compiled is not None, seconds=time.monotonic() - start,
                 suggestions=suggestions(run, mesh, sizes, whole))
  if compiled is not None:
    console.print(f'compiled in {report["seconds"]:.0f} s')
    memory = report['memory'] = memory_of(compiled)
    of_device = {'capacity of a device': capacity} if capacity else {}
    console.print(bytes_table('per device, compiled', memory | of_device))
    report['fits'] = capacity is None or memory['peak'] <= capacity
  if not report['fits']:
    console.print(f'does not fit: {problem}; smaller steps:', style='red')
    console.print('\n'.join(f'  {line}' for line in report['suggestions']))
  return report, compiled


def first_line(error: Exception) -> str:
  """The beginning of a compiler's message."""
  return str(error).strip().split('\n')[0][:300]


def abstract_run(run: Experiment, mesh: Mesh) -> tuple[Any, Any, TrainState]:
  """Model, optimizer, and the training state as shapes, dtypes and shardings."""
  model = Network(run.model)
  optimizer = make_optimizer(run.optimizer, run.training.steps, abstract_params(run.model))
  return model, optimizer, abstract_state(model, optimizer, mesh)


def abstract_batch(run: Experiment, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes of a global batch, as the data pipeline makes it."""
  data = run.data
  shape = RowShape(data.sequence_length, data.crops, data.visual_tokens,
                   run.model.connector.pool_slots)
  return {name: jax.ShapeDtypeStruct((data.batch_size, *x.shape), x.dtype,
                                     sharding=batch_sharding(mesh))
          for name, x in empty_row(shape, run.preprocess.image).items()}


def lower_step(run: Experiment, mesh: Mesh) -> Lowered:
  """The step of train.py for `mesh`, whose devices need not be here.

  Raises:
    ConfigError: the mesh does not go with the model or the batch.
  """
  check_on_mesh(run, mesh)
  model, optimizer, state = abstract_run(run, mesh)
  step = make_train_step(model, optimizer, run.training, run.optimizer)
  with jax.set_mesh(mesh):
    return jax.jit(step, donate_argnums=0).lower(state, abstract_batch(run, mesh))


def memory_of(compiled: Compiled) -> dict[str, int]:
  """Bytes of one device while a step runs, as the compiler has laid them out.

  'arguments' are state and batch, 'outputs' those that do not take the place of an argument; 'peak'
  is the most of all of them together at one moment.
  """
  m: Any = compiled.memory_analysis()
  parts = dict(arguments=m.argument_size_in_bytes, temporaries=m.temp_size_in_bytes,
               outputs=m.output_size_in_bytes - m.alias_size_in_bytes,
               program=m.generated_code_size_in_bytes)
  # TPU temporaries include holes between buffers
  return parts | {'peak': m.peak_memory_in_bytes or sum(parts.values())}


def bytes_per_device(tree: Any) -> int:
  """Bytes of the shards that one device holds of arrays or shapes with shardings."""
  return sum(math.prod(x.sharding.shard_shape(x.shape)) * jnp.dtype(x.dtype).itemsize
             for x in jax.tree.leaves(tree))


def whole_parameters(state: TrainState, least: int = 2 ** 20) -> dict[str, int]:
  """Large parameters that no axis of the mesh divides: path → bytes that every device holds."""
  return {path: x.size * x.dtype.itemsize for path, x in flatten_paths(state.params).items()
          if x.size >= least and x.sharding.is_fully_replicated and x.sharding.num_devices > 1}


def estimates(run: Experiment, mesh: Mesh) -> dict[str, int]:
  """Bytes per device by arithmetic on shapes: what is there before anything is compiled.

  `saved …` is what stays of the forward pass until the backward pass: each layer's input
  (model.remat=full).
  """
  c, t, data, size = run.model, run.training, run.data, dict(mesh.shape)
  _, _, state = abstract_run(run, mesh)
  rows = max(data.batch_size // (size['data'] * size['fsdp'] * t.accumulate), 1)
  tokens = rows * data.sequence_length // size['context']
  crops = rows * data.crops / size['context']
  compute, residual = jnp.dtype(c.dtype).itemsize, jnp.dtype(c.residual_dtype).itemsize
  saved = c.remat != 'offload'
  parameters = bytes_per_device(state.params)
  return {
      'parameters': parameters,
      'gradients': parameters,
      'optimizer': bytes_per_device(state.opt_state),
      'batch': bytes_per_device(abstract_batch(run, mesh)),
      'saved by the language model': saved * tokens * c.llm.width * c.llm.layers * residual,
      'saved by the ViT': saved * int(crops * c.tower.patches * c.tower.width
                                      * (max(c.read) + 1) * compute),
      'head, gathered, and its gradient': 2 * c.llm.vocab * c.llm.width * compute,
      'logits of a chunk': rows * min(t.loss_chunk, data.sequence_length) * c.llm.vocab * 4,
  }


def suggestions(run: Experiment, mesh: Mesh, sizes: dict[str, int], whole: dict[str, int]
                ) -> list[str]:
  """Flags that make the step smaller, the largest saving first; `sizes` as from `estimates`."""
  c, t, size = run.model, run.training, dict(mesh.shape)
  language = sizes['saved by the language model']
  saved = language + sizes['saved by the ViT']
  rows = max(run.data.batch_size // (size['data'] * size['fsdp'] * t.accumulate), 1)
  options: list[tuple[bool, float, str]] = [   # whether it is possible, bytes that it saves, how
    (c.llm.kv_heads % (2 * size['context'] * size['tensor']) == 0 and size['fsdp'] % 2 == 0,
     saved / 2, f'--config.mesh.context={2 * size["context"]} '
     f'--config.mesh.fsdp={size["fsdp"] // 2} with half as many rows: half a row per device'),
    (c.remat != 'offload' and mesh.devices.flat[0].platform != 'cpu', saved,
     "--config.model.remat=offload: what the layers keep waits in the host's memory"),
    (c.remat in ('none', 'dots'), saved,
     '--config.model.remat=full: keeps only the input of each layer'),
    (rows > 1, saved * (1 - 1 / rows),
     f'--config.training.accumulate={rows * t.accumulate}: one row per device at a time instead of '
     f'{rows}'),
    (c.residual_dtype == 'float32', language / 2,
     '--config.model.residual_dtype=bfloat16: half of what the language model keeps, at a loss of '
     'precision'),
    (t.loss_chunk > 256, sizes['logits of a chunk'] / 2,
     f'--config.training.loss_chunk={t.loss_chunk // 2}: fewer logits at the same time'),
    (bool(whole), 3 * sum(whole.values()),
     f'another mesh: fsdp divides no dimension of {len(whole)} parameters, which every device '
     'holds; try a smaller fsdp with data or context')]
  return [f'{text} (about {saves / GIB:.1f} GiB)'
          for possible, saves, text in sorted(options, key=lambda o: -o[1])
          if possible and saves > 0]


def bytes_table(title: str, sizes: dict[str, int]) -> Table:
  """GiB per device, a line per entry."""
  table = Table('', 'GiB', title=title, title_justify='left')
  table.columns[1].justify = 'right'
  for name, size in sizes.items():
    table.add_row(name, f'{size / GIB:.3f}')
  return table
