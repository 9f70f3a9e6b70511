"""Numeric answers about space: VSI-Bench and Ego3D-Bench (docs/training.md §5.3)."""

from __future__ import annotations

import re

import numpy as np

from molmo_jax.evaluation.metrics.numerals import to_float

_CONFIDENCES = np.linspace(0.5, 0.95, 10)
_SIGNED = re.compile(r'[-+]?(?:(?<!\d)\d++(?:\.\d++)?|\.\d+)')

EGO3D_MAX = 100.0                               # metres; larger predictions count as this
EGO3D_MISSING = -1.0


def mean_relative_accuracy(prediction: str, target: str) -> float:
  """VSI-Bench: the share of the thresholds t = 0.5, 0.55, …, 0.95 with a relative error of at most
  1 − t.

  The prediction is its first word, without a final period. 0 where it or the target is no number,
  or the target is 0.
  """
  words = prediction.split()
  given, expected = to_float(words[0].rstrip('.')) if words else None, to_float(target)
  if given is None or not expected:
    return 0.0
  return float(np.mean(abs(given - expected) / expected <= 1 - _CONFIDENCES))


def ego3d_squared_error(prediction: str, target: str, *, accept_zero: bool = False) -> float:
  """Ego3D-Bench: squared error of the first number of the text, which counts as at most 100; −1 if
  there is none.

  Upstream bug, reproduced: a predicted 0 counts as missing; `accept_zero` scores it.
  """
  found = _SIGNED.search(prediction)
  if found is None or not (accept_zero or float(found.group())):
    return EGO3D_MISSING
  return (min(float(found.group()), EGO3D_MAX) - float(target)) ** 2
