"""The ablation lab: a tiny Molmo2 on scenes that need what an arm of a study takes away
(docs/ablations.md).

  molmo-jax sweep --study=pooling                  # arms × 5 seeds, then a report → runs/ablations
  molmo-jax sweep --study=all --list               # what there is, and how long it takes
  molmo-jax sweep --study=pooling,columns --seeds=2 --config.training.steps=300 --out=runs/quick

The studies are in ablations.toml. One of your own is a few lines in a file like it, and a file like
this one with `get_config` and `STUDIES`: `molmo-jax sweep --config=mine.py --study=mine`.
"""

import tomllib
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs import scenes
from molmo_jax.configuration import flatten
from molmo_jax.experiment import complete


def get_config() -> ConfigDict:
  """What all studies share: a model that is smaller than that of configs/scenes.py and learns
  faster, and no data.

  A study brings its data. What is not set here is as there.
  """
  c = scenes.get_config()
  c.name = 'ablations'
  c.scenes.train.update(objects=0, reading=0, comparison=0, motion=0, order=0)
  # every answer of every wording of the images' tasks equally often
  c.scenes.val_per_task = 336
  c.model.vit.update(width=48, heads=2, head_dim=24, mlp=96)
  c.model.connector.update(width=48, heads=2, kv_heads=2, head_dim=24, hidden=96, layout_crops=16)
  c.model.llm.update(width=64, layers=2, heads=2, kv_heads=2, head_dim=32, mlp=128)
  c.model.unroll = 2
  c.data.threads = 1
  # an example that does not fit must not be missing in one arm only
  c.data.on_error = 'raise'
  # an arm may have no layout vectors, and a group that matches nothing is an error: they share one
  # with the embeddings of the layout tokens, which every arm has
  c.optimizer.groups.layout.update(pattern='connector/layout/|embedding/extra', learning_rate=5e-3,
                                   warmup=50)
  c.optimizer.groups.others.update(pattern='(?!connector/layout/|embedding/extra)',
                                   learning_rate=2e-3, warmup=50)
  c.training.update(steps=600, log_every=25, checkpoint_every=1000, keep_checkpoints=1)
  c.evaluation.update(smallest_shape=(32, 1, 4), shown_per_task=4)
  c.evaluation.generation.max_new_tokens = 3
  return complete(c)


def read_studies(path: str | Path) -> dict[str, dict[str, Any]]:
  """The studies of a TOML file, as `lab.sweep.study.Study` wants them.

  `settings` of a study names tables of `settings`, whose flags hold for all its arms; `flags` are
  added to them.
  """
  studies = tomllib.loads(Path(path).read_text(encoding='utf-8'))
  settings = {name: _flags(table) for name, table in studies.pop('settings').items()}
  for study in studies.values():
    flags: dict[str, Any] = {}
    for name in study['settings']:
      flags |= settings[name]
    study['settings'] = flags | _flags(study.pop('flags', {}))
    study['tasks'] = tuple(study['tasks'])
    study['arms'] = {name: _flags(table) for name, table in study['arms'].items()}
  return studies


def _flags(table: dict[str, Any]) -> dict[str, Any]:
  """Flags by their whole names, with tuples in the place of lists."""
  return {name: _tuples(value) for name, value in flatten(table).items()}


def _tuples(value: Any) -> Any:
  return tuple(map(_tuples, value)) if isinstance(value, list) else value


STUDIES = read_studies(Path(__file__).with_suffix('.toml'))
