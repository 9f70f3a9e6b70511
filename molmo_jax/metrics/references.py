"""What a metric is, what it reads of an example, and how it says that something is missing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from molmo_jax.metrics.text_answers import clean_prediction


class Reference(Protocol):
  """What a metric reads of an example: `preprocess.types.Example` has all of it.

  `evaluation.predictions.Prediction` has it but for `metadata`: enough for the metrics that need
  answers or points alone.
  """
  @property
  def answers(self) -> tuple[str, ...]:
    """Correct answers."""

  @property
  def options(self) -> tuple[str, ...]:
    """Options of multiple choice; empty otherwise."""

  @property
  def points(self) -> tuple[tuple[float, float], ...]:
    """Points (x, y) of the reference."""


def metadata_of(example: Reference) -> Mapping[str, Any]:
  """The example's `metadata`, empty for one that has none."""
  return getattr(example, 'metadata', {})


def name_of(example: Reference) -> str:
  """How messages call an example: the line of its file, or its id."""
  return getattr(example, 'source', '') or f"example '{getattr(example, 'id', '')}'"


Scores = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Metric:
  """A metric: its rule, and what an example must have for it."""
  rule: Callable[[str, Reference, Mapping[str, Any]], Scores | float]   # of the metadata too
  answers: bool = True
  options: bool = False
  metadata: tuple[str, ...] = ()
  cleaned: bool = True                        # the rule gets `clean_prediction` of the text
  judged: bool = False                        # a language model scores afterwards; until then 0

  def scores(self, prediction: str, example: Reference, name: str) -> Scores:
    """Sub-scores by name, the example's score first.

    Raises:
      ValueError: the example lacks something that metric `name` needs; all of it is named.
    """
    data = metadata_of(example)
    missing = ["at least one answer in 'answers'"] if self.answers and not example.answers else []
    missing += ["'options'"] if self.options and not example.options else []
    missing += [f"'{key}' in 'metadata'" for key in self.metadata if key not in data]
    if missing:
      raise ValueError(f"{name_of(example)}: metric '{name}' needs {', '.join(missing)}")
    text = clean_prediction(prediction) if self.cleaned else prediction
    scores = self.rule(text, example, data)
    return scores if isinstance(scores, Mapping) else {'score': float(scores)}


def of_answers(rule: Callable[[Sequence[str], str], float]) -> Metric:
  """A metric that compares the text, after `clean_prediction`, with all answers."""
  return Metric(lambda p, e, d: rule(e.answers, p))


def of_metadata(rule: Callable[[str, Mapping[str, Any]], Scores], *keys: str) -> Metric:
  """A metric whose reference is in the metadata, under `keys`."""
  return Metric(lambda p, e, d: rule(p, d), answers=False, cleaned=False, metadata=keys)
