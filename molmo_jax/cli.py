"""The command `molmo-jax`: its subcommands, a line for each, and the modules that they run.

Every subcommand is also a program: `python train.py`, `python -m molmo_jax.tools.chat`.
"""

from __future__ import annotations

import difflib
import runpy
import sys

from molmo_jax import __version__
from molmo_jax.programs import HOME, make_configs_importable

PROGRAMS = {                 # run from train.py and eval.py
  'train': 'trains a model, or resumes a run',
  'eval': 'evaluates a run or a released checkpoint; compares two evaluations',
}
TOOLS = {                    # run from molmo_jax/tools/
  'chat': 'asks a checkpoint about images or a video',
  'convert': 'converts between Hugging Face checkpoints and runs',
  'sweep': 'runs ablation studies, arms × seeds, and writes their report',
  'walkthrough': 'shows how an image or a video becomes tokens: a table and a page',
  'prepare_dataset': 'writes the manifest of a public training dataset',
  'prepare_task': 'writes the manifests of benchmarks',
  'judge': 'has predictions scored by a language model',
  'memory': 'memory of a training step on the devices of this machine',
  'compile_tpu': 'compiles a training step for a TPU slice that is not here',
  'configuration': 'prints every key of a configuration: type, default, meaning',
  'scenes': 'writes the synthetic dataset of configs/scenes.py',
  'wordings': 'reads the requests of a copy of allenai/molmo2 into a file for data.wordings',
  'benchmark': 'measures speed, also in turns with transformers',
}
COMMANDS = PROGRAMS | TOOLS


def main(arguments: list[str] | None = None) -> int:
  """Runs a subcommand; returns the exit status, or ends the program as the subcommand does."""
  name, *rest = (sys.argv[1:] if arguments is None else arguments) or ['--help']
  if name in ('-h', '--help', 'help'):
    print(overview())
    return 0
  if name == '--version':
    print(f'molmo_jax {__version__}')
    return 0
  if name not in COMMANDS:
    close = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.0)[0]
    print(f'error: there is no command {name!r}; did you mean {close!r}? `molmo-jax` alone lists '
          'all', file=sys.stderr)
    return 2
  make_configs_importable()
  sys.argv = [f'molmo-jax {name}', *rest]
  if name in PROGRAMS:
    runpy.run_path(str(HOME / f'{name}.py'), run_name='__main__')
  else:
    runpy.run_module(f'molmo_jax.tools.{name}', run_name='__main__', alter_sys=True)
  return 0


def overview() -> str:
  """What `molmo-jax` alone prints: all subcommands with one line each."""
  width = max(map(len, COMMANDS))
  return f"""usage: molmo-jax COMMAND …

Molmo and Molmo2 in JAX/Flax: train, evaluate, and run vision-language models.

commands:
{chr(10).join(f'  {name:{width}}  {line}' for name, line in COMMANDS.items())}

examples:
  molmo-jax train                 # a small model on generated scenes, on a CPU
  molmo-jax eval --workdir=runs/scenes
  molmo-jax COMMAND --help        # flags of a command, with examples"""
