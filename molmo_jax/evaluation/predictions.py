"""What an evaluation writes per example: `Prediction`, one JSON object per line.

Every file of an evaluation is written whole or not at all, by `write_atomically`: a run that is
killed leaves either the old file or the new one.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable
from typing import Any

from molmo_jax.files import write_atomically


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
    if not (isinstance(self.score, int | float) and math.isfinite(self.score)
            and 0 <= self.score <= 1):
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
  """Reads what `write_predictions` wrote; empty lines are skipped.

  Raises:
    ValueError: a line that is no prediction; names file, line and what is wrong with it.
  """
  predictions = []
  with open(path, encoding='utf-8') as file:
    for number, line in enumerate(file, start=1):
      if line.strip():
        try:
          predictions.append(prediction_from(json.loads(line)))
        except (ValueError, TypeError) as error:
          raise ValueError(f'{path}:{number}: not a prediction: {error}') from error
  return predictions


def prediction_from(entry: Any) -> Prediction:
  """The prediction of an object that was read from JSON; raises ValueError for what is none."""
  if not isinstance(entry, dict):
    raise ValueError(f'a JSON object is needed, not {type(entry).__name__}')
  fields = {f.name: f for f in dataclasses.fields(Prediction)}
  unknown = sorted(entry.keys() - fields.keys())
  missing = [n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in entry]
  if unknown or missing:
    raise ValueError(f'unknown keys: {unknown}, missing keys: {missing}; a prediction '
                     f'has: {", ".join(fields)}')
  values = dict(entry)
  for name in ('task', 'id', 'question', 'prediction', 'metric', 'source'):
    if not isinstance(values.get(name, ''), str):
      raise ValueError(f"'{name}' must be a string, not {values[name]!r}")
  for name in ('answers', 'options', 'media'):
    if not all(isinstance(item, str) for item in _list(values, name)):
      raise ValueError(f"'{name}' must hold strings, not {values[name]!r}")
    values[name] = tuple(_list(values, name))
  for name in ('times', 'clip'):
    values[name] = tuple(float(t) for t in _list(values, name))
  values['points'] = tuple((float(x), float(y)) for x, y in _list(values, 'points'))
  return Prediction(**values)


def _list(values: dict[str, Any], name: str) -> list[Any]:
  value = values.get(name, [])
  if not isinstance(value, list):
    raise ValueError(f"'{name}' must be a list, not {value!r}")
  return value
