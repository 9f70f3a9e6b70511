"""Converts checkpoints: Hugging Face checkpoints, under the released names or those of
transformers' own classes, and runs of train.py, into one another. docs/checkpoints.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict
from rich.console import Console

from molmo_jax import experiment
from molmo_jax.checkpoint import hf, native
from molmo_jax.checkpoint.hf_config import read_model_config, read_serving_settings
from molmo_jax.checkpoint.hf_files import TensorFolder, new_folder
from molmo_jax.command_line import make_parser
from molmo_jax.configuration import ConfigError
from molmo_jax.initial import from_checkpoint
from molmo_jax.model.config import ModelConfig
from molmo_jax.parallel.mesh import MeshConfig, make_mesh
from molmo_jax.preprocess.tokenizer import Tokenizer
from molmo_jax.pretrained import abstract_params, find_checkpoint
from molmo_jax.processor import processor_files
from molmo_jax.processor.processor import Processor
from molmo_jax.progress import Display

EXAMPLES = """
  # a run of train.py for transformers and vLLM, in bfloat16 like the releases
  molmo-jax convert runs/mine mine_molmo2 --layout hub --dtype bfloat16
  # a released checkpoint under the names of transformers' own classes
  molmo-jax convert allenai/Molmo2-4B molmo2_4b_native --layout native
  # a released checkpoint as the folder of a run, for eval.py --workdir
  molmo-jax convert DIR runs/molmo2 --layout orbax
"""
UNITS = {'': 1, 'KB': 10 ** 3, 'MB': 10 ** 6, 'GB': 10 ** 9}
WIDEST = {'F32': 'float32', 'BF16': 'bfloat16'}


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """A checkpoint in memory.

  Attributes:
    add_files: writes tokenizer and processor into a folder.
    serving: `special` and `max_positions` of `hf.save_params`.
  """
  config: ModelConfig
  params: Any
  add_files: Callable[[Path], None]
  serving: dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  args = _arguments(arguments)
  logging.set_verbosity(logging.ERROR)   # Orbax warns of things that are as they should be
  console = Console(stderr=True)
  try:
    convert(args.source, args.destination, args.layout, args.dtype, args.shard_size, args.step,
            console)
  except (native.CheckpointError, ConfigError, FileNotFoundError, PermissionError,
          ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  console.print(f'{args.source} → {args.destination} ({args.layout})', highlight=False)
  return 0


def convert(source: str, destination: Path, layout: str, dtype: str | None, shard_bytes: int,
            step: int | None,
            console: Console) -> None:
  """Reads `source`, a Hugging Face folder or id or the folder of a run, and writes `destination`;
  see the command.

  Raises:
    CheckpointError, ConfigError, ValueError: files that do not fit, or a model that the layout
      cannot express.
  """
  is_run = (Path(source) / 'checkpoints').is_dir()
  if is_run and layout == 'orbax':
    raise ConfigError(f'{source} is the folder of a run already; --layout must be hub or native')
  # before anything is read: nobody waits to hear that the name is taken
  with new_folder(destination) as folder:
    loaded = _read_run(Path(source), dtype, step, console) if is_run else _read_hugging_face(
      find_checkpoint(source), dtype or ('float32' if layout == 'orbax' else None), console)
    if layout == 'orbax':
      _write_run(find_checkpoint(source), folder, destination, loaded.params)
      return
    loaded.add_files(folder)
    with Display(console, 'writing tensors', 1) as display:
      hf.save_params(loaded.params, loaded.config, folder, layout, shard_bytes=shard_bytes,
                     **loaded.serving,
                     progress=display.of)


def _read_hugging_face(folder: Path, dtype: str | None, console: Console) -> Checkpoint:
  # as stored; where the file mixes dtypes, or for float16, the one that loses nothing
  if not dtype:
    stored = {t.dtype for t in TensorFolder(folder).tensors.values()}
    dtype = WIDEST.get(stored.pop(), 'float32') if len(stored) == 1 else 'float32'
  config = read_model_config(folder)
  abstract = abstract_params(dataclasses.replace(config, dtype=dtype), make_mesh(MeshConfig()))
  with Display(console, f'reading {folder} (MiB)', 1) as display:
    params = hf.load_params(folder, abstract, progress=display.of)

  def copy_files(target: Path) -> None:
    for name in processor_files.FILES:
      if (folder / name).is_file():
        (target / name).write_bytes((folder / name).read_bytes())

  return Checkpoint(config, params, copy_files, read_serving_settings(folder))


def _read_run(workdir: Path, dtype: str | None, step: int | None, console: Console) -> Checkpoint:
  run = experiment.from_config(experiment.load(workdir / 'config.json'))
  processor = _processor(workdir, run)
  abstract = abstract_params(dataclasses.replace(run.model, dtype=dtype or 'float32'),
                             make_mesh(MeshConfig()))
  with native.open_checkpoints(workdir / 'checkpoints',
                               run.training.keep_checkpoints) as checkpoints:
    console.print(f'reading {workdir}', highlight=False)
    params, step = native.restore_params(checkpoints, step, abstract)
  console.print(f'step {step}', highlight=False)
  # a model trained from nothing knows the positions of its rows; a fine-tuned one those of its
  # checkpoint, too
  longest = None if run.init_from else run.data.sequence_length
  return Checkpoint(run.model, params, processor.save,
                    dict(special=processor.tokenizer.special, max_positions=longest))


def _processor(workdir: Path, run: experiment.Experiment) -> Processor:
  """The one that the run took over from a checkpoint, or one of its own tokenizer and
  preprocessing.
  """
  if (workdir / 'processor').is_dir():
    return Processor.from_pretrained(workdir / 'processor')
  try:
    tokenizer = Tokenizer.from_file(run.data.tokenizer,
                                    base_vocab_size=run.model.llm.first_extra_id)
  except (OSError, ValueError) as error:
    raise ConfigError(f'{workdir}/config.json: data.tokenizer: {error}; start this where train.py '
      'ran') from None
  return Processor(tokenizer, run.preprocess)


def _write_run(source: Path, folder: Path, destination: Path, params: Any) -> None:
  """A folder like that of a run that ended at step 0: configuration, processor, and parameters
  without optimiser.
  """
  config = experiment.complete(ConfigDict(dict(
    name=destination.name, init_from=str(source), model=dict(), preprocess=dict(),
    data=dict(train='', validation='', tokenizer='', sequence_length=36864),
    optimizer=dict(groups=dict(all=dict(pattern='.*'))), training=dict())))
  config = from_checkpoint.adopt(config, folder)
  # where it will be when the folder has its name
  config.data.tokenizer = str(destination / 'processor')
  experiment.claim(folder, config)
  with native.open_checkpoints(folder / 'checkpoints') as checkpoints:
    native.save(checkpoints, 0, {'params': params}, {'converted_from': str(source)})


def _bytes(text: str) -> int:
  match = re.fullmatch(r'(\d+(?:\.\d+)?) *([KMG]B)?', text.strip().upper())
  if not match or float(match[1]) <= 0:
    raise argparse.ArgumentTypeError(f'{text!r} is no size; sizes look like 5GB, 500MB')
  return int(float(match[1]) * UNITS[match[2] or ''])


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
  parser = make_parser('convert', __doc__, EXAMPLES)
  parser.add_argument('source', metavar='SRC', help='a Hugging Face folder (either layout), an id '
                      'on the Hub, or the folder of a run')
  parser.add_argument('destination', metavar='DST', type=Path, help='a folder that does not exist '
                      'yet, or is empty')
  parser.add_argument('--layout', required=True, choices=('hub', 'native', 'orbax'),
                      help="hub: as released; native: names of transformers' own classes; orbax: "
                      "the folder of a run")
  parser.add_argument('--dtype', choices=('float32', 'bfloat16'),
                      help='of the weights; default: as they are stored, float32 for orbax')
  parser.add_argument('--shard-size', type=_bytes, default='5GB', metavar='SIZE',
                      help='most bytes of one safetensors file (default: %(default)s)')
  parser.add_argument('--step', type=int, help="checkpoint of a run; default: the newest")
  return parser.parse_args(arguments)


if __name__ == '__main__':
  sys.exit(main())
