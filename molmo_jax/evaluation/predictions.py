"""What an evaluation writes per example: `Prediction`, one JSON object per line.

Every file of an evaluation is written whole or not at all, by `write_atomically`: a run that is
killed leaves either the old file or the new one.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from typing import Any

from molmo_jax.configuration import build
from molmo_jax.errors import MolmoError
from molmo_jax.files import read_json_lines, write_atomically


@dataclasses.dataclass(frozen=True)
class Prediction:
  """One evaluated example. Its field names are the keys of a line of `predictions.jsonl`."""
  task: str
  id: str
  question: str
  prediction: str                             # the generated text, as it came
  score: float                                # what the metric gave, 0…1
  metric: str = 'exact_match'
  source: str = ''                            # 'file.jsonl:12' of the example
  answers: tuple[str, ...] = ()               # accepted answers
  # the possible answers, where the question has a closed set
  options: tuple[str, ...] = ()
  media: tuple[str, ...] = ()                 # paths of the images, or of the one video
  # seconds of the sampled frames; not empty means that `media` is a video
  times: tuple[float, ...] = ()
  # reference points (x, y) as fractions of width and height
  points: tuple[tuple[float, float], ...] = ()
  # start and end of the video that was shown, seconds; empty: all of it
  clip: tuple[float, ...] = ()

  def __post_init__(self):
    if not 0 <= self.score <= 1:   # NaN neither
      raise ValueError(f"score of task '{self.task}', id '{self.id}' is {self.score!r}; it must be "
                       'a number in 0…1')
    if self.times and len(self.media) != 1:
      raise ValueError(f"task '{self.task}', id '{self.id}' has sampled times and "
                       f"{len(self.media)} media; sampled times belong to exactly one video")

  @property
  def is_right(self) -> bool:
    """Whether a page shows the example as right."""
    return self.score >= 0.5


def write_predictions(path: str | os.PathLike, predictions: Iterable[Prediction]) -> None:
  """Writes `predictions` as JSON lines in UTF-8, in their order."""
  lines = [json.dumps(dataclasses.asdict(p), ensure_ascii=False, allow_nan=False) + '\n'
           for p in predictions]
  write_atomically(path, ''.join(lines))


def read_predictions(path: str | os.PathLike) -> list[Prediction]:
  """Reads what `write_predictions` wrote; blank lines are skipped.

  Raises:
    MolmoError: a line that is no prediction; names file, line and what is wrong with it.
  """
  predictions, problems = read_json_lines(path, prediction_from)
  if problems:
    raise MolmoError(f'{problems[0]}; a line must be a prediction')
  return predictions


def prediction_from(entry: Any) -> Prediction:
  """The prediction of an object that was read from JSON.

  Raises:
    ConfigError: a key that a prediction does not have, a missing one, or a value of a wrong type.
  """
  return build(Prediction, entry)
