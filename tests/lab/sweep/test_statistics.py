"""Means, intervals and paired tests over seeds, against values that are written down."""

from __future__ import annotations

import math

import numpy as np
import pytest

from molmo_jax.lab.sweep.statistics import mean_of, paired_t_test

FIRST, SECOND = (0.71, 0.68, 0.75, 0.70, 0.66), (0.74, 0.73, 0.77, 0.76, 0.68)
LOW, HIGH = 0.657893125180077, 0.7421068748199229        # of the mean of FIRST
PAIRED_P, PAIRED_LOW, PAIRED_HIGH = 0.011410571669866938, 0.013444053337009619, 0.0585559466629904


def spread(freedom, t=0.0):
  """`freedom` + 1 values whose mean lies `t` standard errors from 0, and the standard error."""
  values = np.arange(freedom + 1.0) - freedom / 2
  error = values.std(ddof=1) / math.sqrt(freedom + 1)
  return values + t * error, error


@pytest.mark.parametrize('t, freedom, expected', [
  (1.0, 1, 0.5), (2.5, 4, 0.06676654481198814), (-3.7, 4, 0.020835429490449902),
  (6.0, 9, 0.00020249932206764079), (12.0, 4, 0.000276428548502973), (0.0, 3, 1.0)])
def test_p_values_are_those_of_students_t(t, freedom, expected):
  second, _ = spread(freedom, t)
  assert paired_t_test(np.zeros_like(second), second).p == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('confidence, freedom, expected', [
  (0.95, 1, 12.706204736174694), (0.95, 4, 2.7764451051977934), (0.95, 9, 2.262157162798205),
  (0.99, 4, 4.604094871349993)])
def test_quantiles_are_those_of_students_t(confidence, freedom, expected):
  values, error = spread(freedom)
  assert mean_of(values, confidence).half / error == pytest.approx(expected, rel=1e-9)


def test_a_mean_has_its_t_interval():
  found = mean_of(FIRST)
  assert (found.mean, found.n) == (pytest.approx(0.70), 5)
  assert (found.low, found.high) == (pytest.approx(LOW, rel=1e-9), pytest.approx(HIGH, rel=1e-9))
  assert found.half == pytest.approx((HIGH - LOW) / 2)


def test_the_paired_test_takes_second_minus_first():
  found = paired_t_test(FIRST, SECOND)
  assert found.mean == pytest.approx(0.036)
  assert found.p == pytest.approx(PAIRED_P, rel=1e-9)
  assert (found.low, found.high) == (pytest.approx(PAIRED_LOW, rel=1e-9),
                                     pytest.approx(PAIRED_HIGH, rel=1e-9))
  assert paired_t_test(SECOND, FIRST).mean == pytest.approx(-0.036)


def test_pairing_matters():
  """What a seed does to both arms cancels; unpaired values in another order would not be told
  apart.
  """
  assert paired_t_test(FIRST, SECOND[::-1]).p > 5 * PAIRED_P


def test_one_seed_gives_a_mean_and_no_test():
  found = paired_t_test([0.5], [0.75])
  assert (found.mean, found.n) == (0.25, 1)
  assert math.isnan(found.p) and math.isnan(found.low)


def test_equal_values_are_no_difference_and_equal_differences_a_certain_one():
  assert paired_t_test([0.5, 0.6], [0.5, 0.6]).p == 1.0
  assert paired_t_test([0.25, 0.5], [0.5, 0.75]).p == 0.0
