"""What a metric reads of an example, and how it says that something is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


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


def check_has(example: Reference, metric: str, *, answers: bool = False, options: bool = False,
              metadata: tuple[str, ...] = ()) -> None:
  """Raises ValueError if `metric` needs what the example does not have; the message names the
  example and all of it.
  """
  missing = ["at least one answer in 'answers'"] if answers and not example.answers else []
  missing += ["'options'"] if options and not example.options else []
  missing += [f"'{key}' in 'metadata'" for key in metadata if key not in metadata_of(example)]
  if missing:
    raise ValueError(f"{name_of(example)}: metric '{metric}' needs {', '.join(missing)}")


def name_of(example: Reference) -> str:
  """How messages call an example: the line of its file, or its id."""
  return getattr(example, 'source', '') or f"example '{getattr(example, 'id', '')}'"
