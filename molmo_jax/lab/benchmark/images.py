"""Preprocessing throughput: images per second from pixels in memory to crops and pooling windows.
"""

from __future__ import annotations

import numpy as np

from molmo_jax.lab.benchmark.peer import Peer
from molmo_jax.lab.benchmark.timing import Run, timed
from molmo_jax.preprocess.images import crop_image, normalize
from molmo_jax.preprocess.types import ImageConfig


def picture(width: int, height: int) -> np.ndarray:
  """A test image, uint8 [height, width, 3]: waves with a little noise."""
  y, x = np.mgrid[:height, :width].astype(np.float32)
  waves = np.stack([np.sin(x / 40) * np.cos(y / 55), np.sin((x + y) / 70),
                    np.cos(x / 90) * np.sin(y / 30)], axis=-1)
  noise = np.random.default_rng(0).normal(0, 4, waves.shape)
  return np.clip(128 + 100 * waves + noise, 0, 255).astype(np.uint8)


def ours(image: np.ndarray, max_crops: int, normalised: bool) -> Run:
  """Our crops: uint8, as the model takes them, or float32 like the peer's if `normalised`."""
  config = ImageConfig()

  def work() -> None:
    crops = crop_image(image, config, max_crops).crops
    if normalised:
      normalize(crops, 'siglip')

  return timed(work)


def theirs(image: np.ndarray, max_crops: int, peer: Peer) -> Run:
  """The float32 patches of Molmo2ImageProcessor with the settings of the released checkpoints."""
  size = ImageConfig().crop_size
  processor = peer.transformers.Molmo2ImageProcessor(
    size=dict(height=size, width=size), max_crops=max_crops, overlap_margins=[4, 4], patch_size=14,
    pooling_size=[2, 2])

  def work() -> None:
    with peer.torch.no_grad():
      processor(images=[image], return_tensors='pt')

  return timed(work)
