"""Before JAX starts: eight CPU devices, so that meshes can be tested anywhere."""

import os

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_NUM_CPU_DEVICES', '8')

import pytest  # noqa: E402
from absl import logging  # noqa: E402


@pytest.fixture(autouse=True)
def _warnings_are_heard():
  """What a command that ran before in this process did to the log is undone."""
  logging.set_verbosity(logging.WARNING)
  logging.get_absl_logger().propagate = True
