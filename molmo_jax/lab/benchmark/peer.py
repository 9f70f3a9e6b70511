"""The other side of the comparison: transformers' own Molmo2 on torch, where both are installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from molmo_jax.errors import MolmoError

INSTALL = 'pip install -r requirements-oracle.txt'


class PeerError(MolmoError):
  """torch or transformers with Molmo2 are not there."""


def import_peer(threads: int) -> tuple[Any, Any]:
  """The modules torch and transformers, with the number of threads of torch set.

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
    raise PeerError(f'--peer needs torch, torchvision and transformers with Molmo2 ({error}): '
      f'{INSTALL}') from None
  torch.set_num_threads(threads)
  transformers.utils.logging.set_verbosity_error()
  transformers.utils.logging.disable_progress_bar()
  return torch, transformers


def _import_torchvision(torch: Any) -> None:
  """Declares two CUDA operators that torchvision misses beside a CPU build of torch.

  The processors use neither.
  """
  try:
    import torchvision  # noqa: F401
    return
  except RuntimeError as error:
    if 'torchvision::' not in str(error):
      raise
  for name in [name for name in sys.modules if name.partition('.')[0] == 'torchvision']:
    del sys.modules[name]
  # lives as long as its object
  _import_torchvision.declared = torch.library.Library('torchvision', 'FRAGMENT')
  for operator in ('nms', 'qnms'):
    try:
      _import_torchvision.declared.define(f'{operator}(Tensor dets, Tensor scores, float '
        'iou_threshold) -> Tensor')
    except RuntimeError:
      pass   # the first attempt has declared it
  import torchvision  # noqa: F401


def load_model(transformers: Any, torch: Any, folder: Path) -> Any:
  """The checkpoint of a folder in float32, on CPU, for inference."""
  model = transformers.Molmo2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
  return model.eval()
