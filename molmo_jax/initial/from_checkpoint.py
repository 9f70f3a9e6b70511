"""Training that starts from a released checkpoint or from an earlier run, such as the stage before.

The checkpoint decides the architecture, the tokenizer and how images are cut: other values would
not fit its weights. The configuration decides everything that is a choice of the new run: numbers
of crops and frames, dropout, precision, remat, layout embeddings (which start at zero and change
nothing until they have learned).
"""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from molmo_jax.checkpoint import hf, native
from molmo_jax.checkpoint.hf_config import read_model_config
from molmo_jax.checkpoint.hf_files import find_checkpoint, new_folder
from molmo_jax.configuration import ConfigError
from molmo_jax.experiment import Experiment, complete, from_config
from molmo_jax.experiment import load as load_config
from molmo_jax.model.config import ModelConfig
from molmo_jax.preprocess.types import PreprocessConfig
from molmo_jax.processor.processor import Processor
from molmo_jax.progress import Display
from molmo_jax.terminal import Terminal

_TABLE = tomllib.loads(Path(__file__).with_name('choices.toml').read_text(encoding='utf-8'))
INHERITED = frozenset(_TABLE.pop('inherited'))
CHOICES = frozenset(f'{section}.{name}' for section, names in _TABLE.items() for name in names)
FRESH = {'connector/layout/': jnp.zeros}   # parameters that no released checkpoint has


def adopt(config: ConfigDict, workdir: Path | None = None) -> ConfigDict:
  """`config` with the model, the preprocessing and the tokenizer of `config.init_from`: a released
  checkpoint, or the folder of a run, such as an earlier stage, whose newest checkpoint counts.

  Args:
    config: of the new run.
    workdir: folder of the new run. The files of a released processor are copied to
      `<workdir>/processor`, so that the folder stays complete without the checkpoint.

  Raises:
    ConfigError: the folder is neither, or the configuration sets a value that only the checkpoint
      decides to another one.
  """
  config = complete(config)
  run = from_config(config)
  try:
    if is_run(config.init_from):
      folder = Path(config.init_from)
      earlier = from_config(load_config(folder / 'config.json'))
      model, preprocess, tokenizer = earlier.model, earlier.preprocess, earlier.data.tokenizer
    else:
      folder, tokenizer = find_checkpoint(config.init_from), ''
      model, preprocess = read_model_config(folder), Processor.from_pretrained(folder).config
  except (OSError, ValueError) as error:
    raise ConfigError(f'init_from: {error}') from None
  out = config.copy_and_resolve_references()
  out.init_from = str(folder)
  out.model = ConfigDict(_merge('model', run.model, model, ModelConfig(), folder))
  # the length of a row fills an open limit only later: `from_config` does it again
  mine = dataclasses.replace(run.preprocess, text=dataclasses.replace(
    run.preprocess.text, max_sequence_length=config.preprocess.text.max_sequence_length))
  out.preprocess = ConfigDict(_merge('preprocess', mine, preprocess, PreprocessConfig(), folder))
  if not (run.data.tokenizer or tokenizer) and workdir is not None:
    folder = workdir / 'processor'
    _copy_processor(Path(out.init_from), folder)
  out.data.tokenizer = run.data.tokenizer or tokenizer or str(folder)
  return out


def is_run(folder: str | Path) -> bool:
  """Whether a folder is that of a run of train.py."""
  return (Path(folder) / 'checkpoints').is_dir()


def _merge(path: str, mine: Any, theirs: Any, default: Any, folder: Path) -> dict[str, Any]:
  """Field by field the run's choice or the checkpoint's value, as nested dicts."""
  out = {}
  for field in dataclasses.fields(theirs):
    name = f'{path}.{field.name}'
    here, there, usual = (getattr(x, field.name) for x in (mine, theirs, default))
    if dataclasses.is_dataclass(there):
      out[field.name] = _merge(name, here, there, usual, folder)
    elif name in CHOICES:
      out[field.name] = there if name in INHERITED and here == usual else here
    elif here not in (usual, there):
      raise ConfigError(f'{name}={here}: the checkpoint {folder} has {there}, and its weights fit '
                        'nothing else; leave this key out')
    else:
      out[field.name] = there
  return out


def load_params(run: Experiment, abstract: Any, console: Terminal) -> Any:
  """The parameters of `run.init_from` in the dtype and sharding of `abstract`; layout embeddings
  start at zero.
  """
  if is_run(run.init_from):
    with native.open_checkpoints(Path(run.init_from) / 'checkpoints') as checkpoints:
      params, step = native.restore_params(checkpoints, None, abstract)
    console.print(f'starting from step {step} of {run.init_from}')
    return params
  fresh = FRESH if run.model.connector.layout_embedding else {}
  with Display(console, f'loading {run.init_from}', 1) as display:
    return hf.load_params(run.init_from, abstract, fresh=fresh, progress=display.of)


def _copy_processor(folder: Path, target: Path) -> None:
  """Copies the tokenizer and processor files of a checkpoint, unless that was done before."""
  if target.exists():
    return
  try:
    with new_folder(target) as partial:
      Processor.from_pretrained(folder).save(partial)
  except OSError:   # another process of this run was faster
    if not target.exists():
      raise
