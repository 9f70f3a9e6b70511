"""Converts between Hugging Face checkpoints and runs of train.py (docs/checkpoints.md).

Hugging Face checkpoints have the released names of tensors, or those of transformers' own classes.

Examples:
  # a run of train.py for transformers and vLLM, in bfloat16 like the releases
  molmo-jax convert runs/mine mine_molmo2 --layout hub --dtype bfloat16
  # a released checkpoint under the names of transformers' own classes
  molmo-jax convert allenai/Molmo2-4B molmo2_4b_native --layout native
  # a released checkpoint as the folder of a run, for eval.py --workdir
  molmo-jax convert DIR runs/molmo2 --layout orbax
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging
from ml_collections import ConfigDict

from molmo_jax import experiment, run_folder
from molmo_jax.checkpoint import hf, native
from molmo_jax.checkpoint.hf_config import read_model_config, read_serving_settings
from molmo_jax.checkpoint.hf_files import TensorFolder, find_checkpoint, new_folder
from molmo_jax.command_line import make_parser, one_line_errors
from molmo_jax.configuration import ConfigError
from molmo_jax.initial import from_checkpoint
from molmo_jax.model.config import ModelConfig
from molmo_jax.parallel.mesh import MeshConfig, make_mesh
from molmo_jax.preprocess.tokenizer import Tokenizer
from molmo_jax.processor.processor import Processor
from molmo_jax.processor.processor_files import read_contents, write_contents
from molmo_jax.progress import Display
from molmo_jax.terminal import Terminal
from molmo_jax.training.state import abstract_params
from molmo_jax.visible import say

UNITS = {'': 1, 'KB': 10 ** 3, 'MB': 10 ** 6, 'GB': 10 ** 9}
WIDEST = {'F32': 'float32', 'BF16': 'bfloat16'}


class LoadedCheckpoint(NamedTuple):
  """A checkpoint in memory."""
  config: ModelConfig
  params: Any                          # on the devices of this machine
  add_files: Callable[[Path], None]    # writes tokenizer and processor into a folder
  serving: dict[str, Any]              # `special`, `max_positions` and `source` of `hf.save_params`


@one_line_errors
def main(argv: list[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  args = _arguments(argv)
  logging.set_verbosity(logging.ERROR)   # Orbax warns of things that are as they should be
  convert(args, Terminal(stderr=True))
  say(f'{args.source} → {args.destination} ({args.layout})', file=sys.stderr)
  return 0


def convert(args: argparse.Namespace, console: Terminal) -> None:
  """Reads `args.source` (Hugging Face folder or id, or a run) and writes `args.destination`.

  Raises:
    MolmoError: files that do not fit, or a model that the target cannot express.
  """
  is_run, to_run = from_checkpoint.is_run(args.source), args.layout == 'orbax'
  if is_run and to_run:
    raise ConfigError(f'{args.source} is the folder of a run already; --layout must be hub or '
                      'native')
  with new_folder(args.destination) as folder:   # first: reading takes longer
    if is_run:
      loaded = _read_run(Path(args.source), args.dtype, args.step)
    else:
      source = find_checkpoint(args.source)
      loaded = _read_hugging_face(source, args.dtype or ('float32' if to_run else None), console)
    if to_run:
      _write_run(source, folder, args.destination, loaded.params)
      return
    loaded.add_files(folder)
    with Display(console, 'writing tensors', 1) as display:
      hf.save_params(loaded.params, loaded.config, folder, args.layout, progress=display.of,
                     shard_bytes=args.shard_size, **loaded.serving)


def _read_hugging_face(folder: Path, dtype: str | None, console: Terminal) -> LoadedCheckpoint:
  """Without `dtype`: as stored, but mixed dtypes and float16 as float32, which loses nothing."""
  stored = {t.dtype for t in TensorFolder(folder).tensors.values()}
  exact = WIDEST.get(stored.pop(), 'float32') if len(stored) == 1 else 'float32'
  config = read_model_config(folder)
  abstract = abstract_params(config, make_mesh(MeshConfig()), dtype or exact)
  with Display(console, f'reading {folder} (MiB)', 1) as display:
    params = hf.load_params(folder, abstract, progress=display.of)
  add_files = functools.partial(write_contents, read_contents(folder))
  return LoadedCheckpoint(config, params, add_files, read_serving_settings(folder))


def _read_run(workdir: Path, dtype: str | None, step: int | None) -> LoadedCheckpoint:
  run = experiment.from_config(experiment.load(workdir / 'config.json'))
  processor = _processor(workdir, run)
  abstract = abstract_params(run.model, make_mesh(MeshConfig()), dtype)
  with native.open_checkpoints(workdir / 'checkpoints',
                               run.training.keep_checkpoints) as checkpoints:
    say(f'reading {workdir}', file=sys.stderr)
    params, step = native.restore_params(checkpoints, step, abstract)
  say(f'step {step}', file=sys.stderr)
  # A model that was trained from random parameters knows the positions of its rows; a fine-tuned
  # one knows those of its checkpoint, too.
  longest = None if run.init_from else run.data.sequence_length
  return LoadedCheckpoint(run.model, params, processor.save,
                          dict(special=processor.tokenizer.special, max_positions=longest))


def _processor(workdir: Path, run: experiment.Experiment) -> Processor:
  """The processor of the checkpoint that the run started from, or one of the run's own."""
  if (workdir / 'processor').is_dir():
    return Processor.from_pretrained(workdir / 'processor')
  try:
    tokenizer = Tokenizer.from_file(run.data.tokenizer,
                                    base_vocab_size=run.model.llm.first_extra_id)
  except (OSError, ValueError) as error:
    raise ConfigError(f'{workdir}/config.json: data.tokenizer: {error}; start this command where '
                      'train.py ran') from None
  return Processor(tokenizer, run.preprocess)


def _write_run(source: Path, folder: Path, destination: Path, params: Any) -> None:
  """A folder like that of a run that ended at step 0, without optimiser state."""
  config = experiment.complete(ConfigDict(dict(
    name=destination.name, init_from=str(source), model=dict(), preprocess=dict(),
    data=dict(train='', validation='', tokenizer='', sequence_length=36864),
    optimizer=dict(groups=dict(all=dict(pattern='.*'))), training=dict())))
  config = from_checkpoint.adopt(config, folder)
  config.data.tokenizer = str(destination / 'processor')   # the final name of the folder
  run_folder.claim(folder, config)
  with native.open_checkpoints(folder / 'checkpoints') as checkpoints:
    native.save(checkpoints, 0, {'params': params}, {'converted_from': str(source)})


def _bytes(text: str) -> int:
  match = re.fullmatch(r'(\d+(?:\.\d+)?) *([KMG]B)?', text.strip().upper())
  if not match or float(match[1]) <= 0:
    raise argparse.ArgumentTypeError(f'{text!r} is not a size; sizes look like 5GB, 500MB')
  return int(float(match[1]) * UNITS[match[2] or ''])


def _arguments(argv: list[str] | None) -> argparse.Namespace:
  parser = make_parser('convert', __doc__)
  parser.add_argument('source', metavar='SRC', help='a Hugging Face folder, an id on the Hub, or '
                      'the folder of a run')
  parser.add_argument('destination', metavar='DST', type=Path, help='a new or empty folder')
  parser.add_argument('--layout', required=True, choices=('hub', 'native', 'orbax'),
                      help="hub: as released; native: names of transformers' own classes; orbax: "
                      'the folder of a run')
  parser.add_argument('--dtype', choices=('float32', 'bfloat16'),
                      help='of the weights; default: as they are stored, float32 for orbax')
  parser.add_argument('--shard-size', type=_bytes, default='5GB', metavar='SIZE',
                      help='most bytes of one safetensors file (default: %(default)s)')
  parser.add_argument('--step', type=int, help='checkpoint of a run; default: the newest')
  return parser.parse_args(argv)


if __name__ == '__main__':
  sys.exit(main())
