"""The other side of the comparison: transformers' own Molmo2 on torch, where both are installed."""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import Any

from molmo_jax.errors import MolmoError

INSTALL = 'pip install -r requirements-oracle.txt'


class PeerError(MolmoError):
  """torch, or a version of transformers that has Molmo2, is not installed."""


@dataclasses.dataclass(frozen=True)
class Peer:
  """The two modules."""
  torch: Any
  transformers: Any

  @property
  def versions(self) -> list[str]:
    """What the numbers of the peer depend on."""
    return [f'torch {self.torch.__version__}', f'transformers {self.transformers.__version__}',
            'sdpa attention']


def import_peer(threads: int) -> Peer:
  """Imports torch, which gets `threads` threads, and transformers.

  Raises:
    PeerError: they are not installed, or too old for Molmo2.
  """
  os.environ.setdefault('HF_HUB_OFFLINE', '1')
  try:
    import torch
    _import_torchvision(torch)
    import transformers
    transformers.Molmo2ForConditionalGeneration, transformers.Molmo2ImageProcessor   # noqa: B018 (imported on use)
  except (ImportError, AttributeError) as error:
    raise PeerError('--peer needs torch, torchvision and transformers with Molmo2 '
                    f'({error}): {INSTALL}') from None
  torch.set_num_threads(threads)
  transformers.utils.logging.set_verbosity_error()
  transformers.utils.logging.disable_progress_bar()
  return Peer(torch, transformers)


_DECLARED: list[Any] = []   # declarations live as long as their libraries


def _import_torchvision(torch: Any) -> None:
  """Imports torchvision; beside a CPU build of torch, declares two CUDA operators that it needs.

  The processors use neither of them.
  """
  try:
    import torchvision  # noqa: F401
    return
  except RuntimeError as error:
    if 'torchvision::' not in str(error):
      raise
  for name in [name for name in sys.modules if name.partition('.')[0] == 'torchvision']:
    del sys.modules[name]
  library = torch.library.Library('torchvision', 'FRAGMENT')
  _DECLARED.append(library)
  for operator in ('nms', 'qnms'):
    try:
      library.define(f'{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    except RuntimeError:
      pass   # the first attempt declared it
  import torchvision  # noqa: F401
