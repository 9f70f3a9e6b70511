"""A scene that is drawn up but not yet painted: what every kind of scene makes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from molmo_jax.scenes.tasks import Question

Media = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Scene:
  """Its questions, and a function that paints it.

  Most scenes that are drawn in search of an answer are never painted.
  """
  questions: tuple[Question, ...]
  paint: Callable[[], Media]                  # images uint8 [h,w,3], or one clip uint8 [T,h,w,3]
  fps: Fraction | int | None = None           # of a clip; None: images
