"""Requests to a judge, and its answers, as two files of JSON lines.

A request is `{"id": …, "prompt": …, "images": […]}`, an answer `{"id": …, "answer": …}`. The id
holds a digest of the prompt, so that an answer is never taken for another question. Some scores
need two rounds: what is asked in the second depends on the answers of the first.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from molmo_jax.errors import MolmoError
from molmo_jax.evaluation.judging.kinds import KINDS, Ask
from molmo_jax.files import read_json_lines
from molmo_jax.metrics.means import mean_by, mean_of
from molmo_jax.metrics.references import metadata_of
from molmo_jax.preprocess.types import Example


@dataclasses.dataclass(frozen=True)
class Request:
  """One question to the judge."""
  id: str
  prompt: str
  images: tuple[str, ...] = ()                # paths of pictures that belong to the prompt


@dataclasses.dataclass(frozen=True)
class Judged:
  """What is known about the predictions of one task."""
  # by the example's place; what is not applicable is not there
  scores: dict[int, dict[str, float]]
  requests: list[Request]                     # to be answered before the others have scores
  groups: dict[int, tuple[str, ...]]

  def means(self) -> dict[str, float]:
    """The mean of every score, and 'group_G' of the first scores of examples in group G."""
    columns: dict[str, list[float]] = {}
    for scores in self.scores.values():
      for name, value in scores.items():
        columns.setdefault(name, []).append(value)
    grouped = [(group, next(iter(scores.values()))) for place, scores in self.scores.items()
               if scores for group in self.groups[place]]
    return {name: mean_of(values) for name, values in columns.items()} | mean_by(grouped, 'group_')


def judge(pairs: Sequence[tuple[str, Example]], answers: Mapping[str, str]) -> Judged:
  """Scores predictions as far as answers are there.

  Args:
    pairs: (prediction, example) of one task; the example's metric is one of `KINDS`.
    answers: by id of the request.

  Raises:
    ValueError: a metric that no judge scores.
  """
  scores: dict[int, dict[str, float]] = {}
  requests: list[Request] = []
  for place, (prediction, example) in enumerate(pairs):
    if example.metric not in KINDS:
      raise ValueError(f"{example.source}: metric '{example.metric}' needs no judge; those that "
        f"do: {', '.join(KINDS)}")
    result = _judge_one(prediction, example, answers)
    if isinstance(result, list):
      requests += result
    else:
      scores[place] = {name: float(value) for name, value in result.items()
                       if not math.isnan(value)}
  groups = {place: tuple(metadata_of(example).get('groups', ()))
            for place, (_, example) in enumerate(pairs)}
  return Judged(scores, requests, groups)


def _judge_one(prediction: str, example: Example,
               answers: Mapping[str, str]) -> Mapping[str, float] | list[Request]:
  """Scores of one prediction, or the requests that it waits for."""
  conversation = KINDS[example.metric](prediction, example)
  try:
    asked = next(conversation)
    while True:
      requests = {step: _request(example, step, ask) for step, ask in asked.items()}
      missing = [request for request in requests.values() if request.id not in answers]
      if missing:
        return missing
      asked = conversation.send({step: answers[request.id] for step, request in requests.items()})
  except StopIteration as done:
    return done.value


def _request(example: Example, step: str, ask: Ask) -> Request:
  images = tuple(str(image) for image in example.images) if ask.with_images else ()
  digest = hashlib.sha256('\0'.join([ask.prompt, *images]).encode(
    'utf-8', 'surrogatepass')).hexdigest()[:10]
  return Request(f'{example.task}/{example.id or example.source}/{step}/{digest}', ask.prompt,
                 images)


def read_answers(path: str | os.PathLike) -> dict[str, str]:
  """Answers by id; empty without a file. A later answer to a request replaces an earlier one.

  Raises:
    MolmoError: a line that is no answer; the message names it.
  """
  if not Path(path).exists():
    return {}
  answers, problems = read_json_lines(path, _answer)
  if problems:
    raise MolmoError(problems[0])
  return dict(answers)


def _answer(row: Any) -> tuple[str, str]:
  answer = (row['id'], row['answer']) if isinstance(row, dict) and len(row) > 1 else ()
  if not (answer and all(isinstance(text, str) for text in answer)):
    raise ValueError('an answer is {"id": "…", "answer": "…"}, both strings')
  return answer


def requests_text(requests: Sequence[Request]) -> str:
  """The requests as JSON lines."""
  return ''.join(json.dumps(dataclasses.asdict(request), ensure_ascii=False) + '\n'
                 for request in requests)
