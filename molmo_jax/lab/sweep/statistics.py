"""Means over seeds: intervals and the paired test by Student's t distribution, in plain Python."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence

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
  """The mean of paired differences, and the p-value of a two-sided paired t-test of its being 0
  (NaN if n = 1).
  """
  p: float


def mean_of(values: Sequence[float], confidence: float = 0.95) -> Mean:
  """Mean and t-interval of at least one value."""
  mean = statistics.fmean(values)
  if len(values) < 2:
    return Mean(mean, math.nan, math.nan, len(values))
  half = t_quantile((1 + confidence) / 2, len(values) - 1) * _standard_error(values)
  return Mean(mean, mean - half, mean + half, len(values))


def paired_t_test(first: Sequence[float], second: Sequence[float]) -> Paired:
  """`second` − `first`, value by value; both are in the same order, of the same length, at least 1.
  """
  differences = [b - a for a, b in zip(first, second, strict=True)]
  found = mean_of(differences)
  if found.n < 2:
    return Paired(**dataclasses.asdict(found), p=math.nan)
  error = _standard_error(differences)
  if error <= 1e-12 * max(map(abs, differences)):   # all differences are equal
    p = 0.0 if found.mean else 1.0
  else:
    p = two_sided_p(found.mean / error, found.n - 1)
  return Paired(**dataclasses.asdict(found), p=p)


def two_sided_p(t: float, freedom: int) -> float:
  """The probability that Student's t with `freedom` degrees of freedom lies at least as far from 0
  as `t`.
  """
  return regularised_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


def t_quantile(probability: float, freedom: int) -> float:
  """The value that Student's t stays below with `probability`, in [0.5, 1)."""
  if not 0.5 <= probability < 1 or freedom < 1:
    raise ValueError(f'no quantile for probability {probability} and {freedom} degrees of freedom: '
                     '0.5 ≤ probability < 1 and at least one degree are needed')
  outside, low, high = 2 * (1 - probability), 0.0, 1.0
  while two_sided_p(high, freedom) > outside:
    high *= 2
  for _ in range(200):
    middle = (low + high) / 2
    low, high = (middle, high) if two_sided_p(middle, freedom) > outside else (low, middle)
  return (low + high) / 2


def regularised_beta(a: float, b: float, x: float) -> float:
  """The regularised incomplete beta function I_x(a, b) for a, b > 0 and 0 ≤ x ≤ 1.

  By its continued fraction, which converges fast where x < (a + 1) / (a + b + 2); elsewhere 1 −
  I_{1−x}(b, a).
  """
  if x <= 0 or x >= 1:
    return float(x >= 1)
  if x > (a + 1) / (a + b + 2):
    return 1 - regularised_beta(b, a, 1 - x)
  factor = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b
                    * math.log1p(-x))
  return factor / a / _beta_fraction(a, b, x)


def _beta_fraction(a: float, b: float, x: float) -> float:
  """1 + d1/(1 + d2/(1 + …)), by Lentz's method."""
  tiny = 1e-300
  value = numerator = 1.0
  denominator = 0.0
  for i in range(1, 1000):
    m = i // 2
    if i % 2:
      d = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
    else:
      d = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
    denominator = 1 / (1 + d * denominator or tiny)
    numerator = 1 + d / numerator or tiny
    value *= numerator * denominator
    if abs(numerator * denominator - 1) < 1e-15:
      break
  return value


def _standard_error(values: Sequence[float]) -> float:
  return statistics.stdev(values) / math.sqrt(len(values))
