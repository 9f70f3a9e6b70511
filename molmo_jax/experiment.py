"""One run as a whole: the configuration file as typed records, checked against each other."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from molmo_jax.configuration import ConfigError, Seed, build, with_defaults
from molmo_jax.data.pipeline import DataConfig
from molmo_jax.evaluation.runner import EvaluationConfig
from molmo_jax.files import read_json
from molmo_jax.model.config import ModelConfig
from molmo_jax.parallel.mesh import MeshConfig, check_mesh
from molmo_jax.preprocess.types import PreprocessConfig
from molmo_jax.scenes.config import ScenesConfig
from molmo_jax.training.optimizer import OptimizerConfig
from molmo_jax.training.step import TrainingConfig


@dataclasses.dataclass(frozen=True)
class Experiment:
  """What `configs/*.py` describe; every section belongs to the room that reads it."""
  name: str                            # of the run, in logs and reports
  model: ModelConfig
  preprocess: PreprocessConfig
  data: DataConfig
  optimizer: OptimizerConfig
  training: TrainingConfig
  evaluation: EvaluationConfig = EvaluationConfig()
  mesh: MeshConfig = MeshConfig()
  scenes: ScenesConfig | None = None   # generated into data.scenes_root if they are not there yet
  seed: Seed = 0                       # of the initial values and of dropout
  # a released checkpoint (folder or Hub id), or a run, to start from (docs/checkpoints.md); or
  init_from: str = ''
  init_llm: str = ''                   # a plain language model (folder or Hub id), together with
  init_vit: str = ''                   # a plain image tower (folder or Hub id)

  def __post_init__(self):
    if self.init_from and (self.init_llm or self.init_vit):
      raise ConfigError(f'init_from={self.init_from} is a whole model: leave init_llm and init_vit '
        'out, or init_from')
    image, video = self.preprocess.image, self.preprocess.video
    connector, tower = self.model.connector, self.model.tower
    for flag, is_value, should in (
        ('preprocess.image.crop_size', image.crop_size, tower.image_size),
        ('preprocess.image.patch_size', image.patch_size, tower.patch_size)):
      if is_value != should:
        raise ConfigError(f'{flag}={is_value} does not go with the rest of the configuration; it '
          f'must be {should}')
    longest = self.preprocess.text.max_sequence_length
    if longest is not None and longest > self.data.sequence_length:
      raise ConfigError(f'preprocess.text.max_sequence_length={longest} must not be larger than '
                        f'data.sequence_length={self.data.sequence_length}, the length of a row')
    if connector.padding_embed is not None and not image.has_patch_mask:
      raise ConfigError(f'model.connector.padding_embed={connector.padding_embed} tells padding '
        f'from real patches, but preprocess.image.resize={image.resize} pads none; set '
        'preprocess.image.patch_mask=True')
    slots = max(image.pooling[0] * image.pooling[1], video.pooling[0] * video.pooling[1])
    if connector.pooling == 'none' and slots != 1:
      raise ConfigError('model.connector.pooling=none keeps every patch: set also '
        'preprocess.image.pooling=(1,1), preprocess.video.pooling=(1,1), '
        'model.connector.pool_slots=1, and enough data.sequence_length and data.visual_tokens')
    if connector.pool_slots != slots:
      raise ConfigError(f'model.connector.pool_slots={connector.pool_slots} must be {slots}, the '
        f'larger of the pooling windows {image.pooling} and {video.pooling}')


def complete(config: ConfigDict) -> ConfigDict:
  """What `configs/*.py` return: with all defaults, so that any `--config.key=value` works."""
  return with_defaults(Experiment, config)


def from_config(config: ConfigDict | dict[str, Any]) -> Experiment:
  """Checks a configuration; an unknown key is an error that names the closest one."""
  run = build(Experiment, ConfigDict(config).to_dict())
  text = run.preprocess.text
  if text.max_sequence_length is None:   # then a message tree may fill its row
    text = dataclasses.replace(text, max_sequence_length=run.data.sequence_length)
  return dataclasses.replace(run, preprocess=dataclasses.replace(run.preprocess, text=text))


def check_on_mesh(run: Experiment, mesh: Mesh) -> None:
  """Raises ConfigError, naming the flags, for a run that cannot be trained on `mesh`."""
  check_mesh(mesh, kv_heads=run.model.llm.kv_heads, batch_size=run.data.batch_size,
             sequence_length=run.data.sequence_length, accumulate=run.training.accumulate,
             offload=run.model.remat == 'offload')


def load(path: Path) -> ConfigDict:
  """Reads the configuration of a run, `config.json` in its folder.

  Raises:
    ConfigError: there is none, or it is none; the message names the file.
  """
  try:
    config = ConfigDict(read_json(path))
    from_config(config)
    return config
  except OSError as error:
    raise ConfigError(f'{path}: no configuration of a run ({error.strerror}); give --workdir of a '
                      'run that train.py made, or --config') from None
  except (ValueError, TypeError, AttributeError) as error:
    raise ConfigError(f'{path}: {str(error).removeprefix(f"{path}: ")}') from None
