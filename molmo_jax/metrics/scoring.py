"""The metrics that an example can name, and the score that needs no picture at all.

A metric is a function of the predicted text and of the example (its `answers`, `options`, `points`
and `metadata`), and gives 0…1.
"""

from __future__ import annotations

import collections
import difflib
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from molmo_jax.metrics.benchmarks import BENCHMARKS
from molmo_jax.metrics.choices import LETTERS, named_option
from molmo_jax.metrics.numeric_answers import relaxed_correctness, scientific_relaxed_correctness
from molmo_jax.metrics.references import Metric, Reference, name_of, of_answers
from molmo_jax.metrics.text_answers import a_okvqa_score, anls, vqa_score
from molmo_jax.preprocess.points import parse_points

# How far a predicted point may be from its reference point: Euclidean distance of (x, y) where both
# are fractions of the picture's own width and height, so that the tolerance is an ellipse in a
# picture that is not square.
POINT_TOLERANCE = 0.10

# Step of the grid on which `chance` looks for the best fixed point, as a fraction of the sides:
# half the tolerance.
GRID_STEP = 0.05

_TRAILING = ' .,;:!?'

# Room for the rounding of points to thousandths and of fractions to floats: a point at exactly the
# tolerance counts.
_ROUNDING = 1e-9


def exact_match(prediction: str, example: Reference) -> float:
  """1 if the text equals one of `example.answers`, else 0.

  Both are compared without regard to case, to the amount of whitespace and to punctuation at the
  end (`. , ; : ! ?`).
  """
  return float(_normalise(prediction) in {_normalise(answer) for answer in example.answers})


def _normalise(text: str) -> str:
  collapsed = ' '.join(text.casefold().split())
  # An answer that is punctuation alone must not become equal to an empty prediction.
  return collapsed.rstrip(_TRAILING) or collapsed


def points(prediction: str, example: Reference) -> float:
  """1 if the text points at exactly the reference points, else 0.

  As many points must be predicted as `example.points` has, and there must be a pairing, one to one,
  in which no pair is farther apart than `POINT_TOLERANCE`. Without reference points the right
  answer has no points.
  """
  predicted = parse_points(prediction, 1.0, 1.0)
  if len(predicted) != len(example.points) or not predicted:
    return float(len(predicted) == len(example.points))
  far = cdist(predicted, example.points) > POINT_TOLERANCE + _ROUNDING
  return float(not far[linear_sum_assignment(far)].any())


def multiple_choice(prediction: str, example: Reference) -> float:
  """1 if the text names an option (`choices.named_option`) that is accepted, else 0.

  An answer is the text of an option or its letter.

  Raises:
    ValueError: an example without options, or none of whose answers is one of them.
  """
  names = [*example.options, *LETTERS[:len(example.options)]]
  right = {names.index(a) % len(example.options) for a in example.answers if a in names}
  if not right:
    raise ValueError(f"{name_of(example)}: metric 'multiple_choice' needs 'options', and 'answers' "
                     'that are among them, or their letters')
  return float(named_option(prediction, example.options) in right)


METRICS: dict[str, Metric] = {
  'exact_match': Metric(lambda p, e, d: exact_match(p, e), cleaned=False),
  'points': Metric(lambda p, e, d: points(p, e), answers=False, cleaned=False),
  'multiple_choice': Metric(lambda p, e, d: multiple_choice(p, e), answers=False, cleaned=False),
  'vqa_score': of_answers(vqa_score),
  'a_okvqa_score': of_answers(a_okvqa_score),
  'anls': of_answers(anls),
  'relaxed_correctness': of_answers(relaxed_correctness),
  'scientific_relaxed_correctness': of_answers(scientific_relaxed_correctness),
} | BENCHMARKS

# How many of the most frequent answers `chance` tries as the constant one.
_CONSTANTS = 50


def score(prediction: str, example: Reference, metric: str) -> float:
  """The score, 0…1, that `metric` gives the predicted text: the first of its sub-scores, 0 where
  that does not apply.

  Raises:
    ValueError: a metric that does not exist, or an example that the metric cannot use.
  """
  return headline(sub_scores(prediction, example, metric))


def headline(scores: Mapping[str, float]) -> float:
  """The score of an example among its sub-scores: the first, or 0 where that does not apply."""
  first = next(iter(scores.values()))
  return 0.0 if math.isnan(first) else float(first)


def sub_scores(prediction: str, example: Reference, metric: str) -> Mapping[str, float]:
  """All that `metric` says of one prediction, by name, the score first; NaN for what does not
  apply.

  A metric with one number calls it 'score'. Raises as `score` does.
  """
  return _named(metric).scores(prediction, example, metric)


def is_judged(metric: str) -> bool:
  """Whether a language model scores afterwards (`evaluation.judging`); `score` gives 0 until then.

  Raises:
    ValueError: a metric that does not exist.
  """
  return _named(metric).judged


def chance(examples: Sequence[Reference], metric: str) -> float:
  """The mean score, 0…1, that is reached over `examples` without looking at the pictures.

  An example with `options` counts 1/number of options: a guess among them. The examples without
  options count as the best constant answer does over them: for answers in words one of those that
  are accepted most often; for 'points' no point, or one fixed point, the best on a grid of step
  `GRID_STEP` (questions with several points count as wrong: a fixed set of points hardly ever has
  both the right number and the right places). For a metric of a benchmark, an example without
  options counts 0: no constant text is tried.

  Raises:
    ValueError: no examples, or a metric that does not exist.
  """
  _named(metric)
  if not examples:
    raise ValueError('chance needs at least one example')
  guesses = sum(1 / len(e.options) for e in examples if e.options)
  rest = [e for e in examples if not e.options]
  return (guesses + (_best_constant(rest, metric) if rest else 0)) / len(examples)


def _best_constant(examples: Sequence[Reference], metric: str) -> float:
  """The sum of scores over `examples` that one text, the same for all, reaches."""
  if metric == 'points':
    return _best_constant_points(examples)
  if metric in BENCHMARKS:
    return 0.0
  if metric == 'exact_match':   # equal answers are written in several ways
    accepted = collections.Counter(a for e in examples for a in set(map(_normalise, e.answers)))
    return max(accepted.values(), default=0)
  frequent = collections.Counter(a for e in examples for a in e.answers).most_common(_CONSTANTS)
  return max((sum(score(a, e, metric) for e in examples) for a, _ in frequent), default=0.0)


def _best_constant_points(examples: Sequence[Reference]) -> int:
  """How many examples the better of 'no point' and the best fixed point gets right."""
  empty = sum(not e.points for e in examples)
  single = np.array([e.points[0] for e in examples if len(e.points) == 1]).reshape(-1, 2)
  side = np.linspace(0, 1, round(1 / GRID_STEP) + 1)
  grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
  hits = (cdist(grid, single) <= POINT_TOLERANCE + _ROUNDING).sum(axis=1)
  return max(empty, int(hits.max()))


def _named(metric: str) -> Metric:
  if metric not in METRICS:
    close = difflib.get_close_matches(metric, METRICS, n=1, cutoff=0.0)[0]
    raise ValueError(f"metric '{metric}' does not exist; did you mean '{close}'? The metrics are: "
                     f"{', '.join(METRICS)}")
  return METRICS[metric]
