"""Pairs of our model and transformers' on the same random checkpoint.

`MOLMO_ORACLE_SEEDS=20 python -m pytest tests/oracle` compares on twenty of them; without it there
are four. Every seed is another architecture, with media of other sizes.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from pathlib import Path
from typing import Any

import pytest

SEEDS = range(int(os.environ.get('MOLMO_ORACLE_SEEDS', '4')))


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
  """A checkpoint, loaded by both sides in float32 the first time that it is needed."""
  design: Any
  folder: Path

  @functools.cached_property
  def ours(self) -> Any:
    import molmo_jax
    return molmo_jax.from_pretrained(self.folder, dtype='float32')

  @functools.cached_property
  def theirs(self) -> Any:
    from tests.oracle import reference
    return reference.load_model(self.folder)

  @functools.cached_property
  def processor(self) -> Any:
    """transformers' processor; ours is `ours.processor`."""
    from tests.oracle import reference
    return reference.load_processor(self.folder)


@pytest.fixture(scope='session', params=SEEDS, ids='seed{}'.format)
def pair(request, tmp_path_factory):
  from tests.oracle import (
    checkpoints,  # not above: without the reference's packages the tests are skipped, not broken
  )
  design = checkpoints.design(request.param)
  folder = tmp_path_factory.mktemp(f'{design.family}{design.seed}') / 'checkpoint'
  checkpoints.write(folder, design)
  return Pair(design, folder)
