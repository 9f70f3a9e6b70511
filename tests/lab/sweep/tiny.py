"""A configuration file with studies whose runs are over in seconds."""

from __future__ import annotations

from tests.tiny_run import tiny_config

MORE = """

from molmo_jax.experiment import complete

_tiny = get_config


def get_config():
  c = complete(_tiny())
  c.scenes.val_per_task = 3
  c.evaluation.update(batch_size=32, smallest_shape=(192, 8, 32), limit=0, shown_per_task=1)
  return c


STUDIES = dict(
  pooling=dict(claim='Attention beats averaging.', tasks=('colour', 'count'),
               arms={'attention': {}, 'mean': {'model.connector.pooling': 'mean'}}),
  both=dict(claim='Two changes.', tasks=('colour',), settings={'training.log_every': 1},
            arms={'attention': {}, 'no column tokens': {'preprocess.image.use_col_tokens': False}}),
)
"""


def config_file(steps: int) -> str:
  """Its text."""
  return tiny_config(steps) + MORE
