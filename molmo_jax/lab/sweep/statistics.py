"""Means over seeds: intervals and the paired test by Student's t distribution."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import scipy.stats

STRONG, WEAK = 0.01, 0.05                       # p-values below these are marked


@dataclasses.dataclass(frozen=True)
class Mean:
  """A mean with its 95 % interval; without one (NaN) if there is a single value."""
  mean: float
  low: float
  high: float
  n: int

  @property
  def half(self) -> float:
    """Half of the interval's width: mean ± half."""
    return (self.high - self.low) / 2


@dataclasses.dataclass(frozen=True)
class Paired(Mean):
  """The mean of paired differences and the p-value of a two-sided t-test (NaN if n = 1)."""
  p: float

  @property
  def strong(self) -> bool:
    """Whether it is marked as a difference."""
    return self.p < STRONG


def mean_of(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Mean:
  """Mean and t-interval of at least one value."""
  mean, n = float(np.mean(values)), len(values)
  if n < 2:
    return Mean(mean, math.nan, math.nan, n)
  half = scipy.stats.t.ppf((1 + confidence) / 2, n - 1) * scipy.stats.sem(values)
  return Mean(mean, float(mean - half), float(mean + half), n)


def paired_t_test(first: Sequence[float], second: Sequence[float]) -> Paired:
  """`second` − `first`, value by value; both are in the same order, of the same length, at least 1.
  """
  differences = np.subtract(second, first)
  found = mean_of(differences)
  if found.n < 2:
    p = math.nan
  elif np.ptp(differences) <= 1e-12 * np.abs(differences).max():   # no spread: t is not defined
    p = 0.0 if found.mean else 1.0
  else:
    p = float(scipy.stats.ttest_rel(second, first).pvalue)
  return Paired(**vars(found), p=p)
