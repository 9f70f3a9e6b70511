"""A model that is ready to answer: what the public face and an evaluation share."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from molmo_jax.inference.generator import Generator
from molmo_jax.inference.stop import text_before_stop
from molmo_jax.model.config import ModelConfig
from molmo_jax.model.molmo import Network
from molmo_jax.parameters import count, flatten_paths
from molmo_jax.processor.processor import Processor


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LoadedModel:
  """A configuration with its weights and its processor, on a mesh."""
  config: ModelConfig
  params: Any                            # nested dict of jax.Arrays
  processor: Processor                   # text, media and tokens, with their configuration
  mesh: Mesh

  def __repr__(self) -> str:
    parts = [*self.params.items(), ('all', self.params)]
    rows = [(name, count(tree), sorted({str(x.dtype) for x in flatten_paths(tree).values()}))
            for name, tree in parts]
    return '\n'.join([f'{type(self).__name__} on the mesh {dict(self.mesh.shape)}', *(
      f'  {name:10}{number:>16,} parameters  {", ".join(kinds)}' for name, number, kinds in rows)])

  @functools.cached_property
  def generator(self) -> Generator:
    """What answers; `generator.programs` are those that were compiled so far."""
    return Generator(Network(self.config), self.params, self.processor.eos_ids, mesh=self.mesh,
                     decode=self.processor.decode)

  def text(self, ids: np.ndarray, stop: Sequence[str] = ()) -> str:
    """The text of generated ids [n], without end tokens, padding and a stop string at its end."""
    kept = [i for i in ids.tolist() if i >= 0 and i not in self.processor.eos_ids]
    return text_before_stop(kept, self.processor.decode, stop)
