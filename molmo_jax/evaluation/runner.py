"""Evaluates a model on a manifest by generation: encode, batch by bucketed shape, generate, score."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from absl import logging

from molmo_jax.data.batching import RowShape, bucket, pad_row, shape_of, stack_rows
from molmo_jax.data.manifest import Manifest, ManifestError
from molmo_jax.data.pipeline import USABLE_ERRORS
from molmo_jax.evaluation.metrics import score
from molmo_jax.evaluation.records import Record
from molmo_jax.inference.generate import generate
from molmo_jax.model.molmo import Molmo
from molmo_jax.preprocess.encode import encode
from molmo_jax.preprocess.tokenizer import Tokenizer
from molmo_jax.preprocess.types import Example, PreprocessConfig


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
  """How an evaluation generates, and what it shows."""
  batch_size: int = 32               # prompts generated together
  max_new_tokens: int = 64
  smallest_shape: tuple[int, int, int] = (64, 2, 16)   # of a batch's rows: tokens, crops, visual tokens
  limit: int = 0                     # examples per evaluation, 0: all
  shown_per_task: int = 24           # cards per task in the HTML report


Encoded = dict[str, np.ndarray]


def evaluate(model: Molmo, params: Any, manifest: Manifest, preprocess: PreprocessConfig, tokenizer: Tokenizer,
             config: EvaluationConfig, slots: int, progress: Callable[[int], None] = lambda n: None,
             place: Callable[[Any], Any] = jax.device_put) -> tuple[list[Record], list[str]]:
  """Answers every example of `manifest` greedily and scores it.

  Args:
    slots: W, slots of a pooling window.
    progress: called with the number of examples just finished.
    place: puts a numpy batch onto the devices.

  Returns:
    A record per example in the manifest's order, and a message for every record that could not be used.
  """
  done: dict[int, Record] = {}
  problems: list[str] = []
  waiting: dict[RowShape, list[tuple[int, Example, Encoded]]] = defaultdict(list)

  def flush(shape: RowShape) -> None:
    group = waiting.pop(shape)
    rows = [pad_row(encoded, shape) for _, _, encoded in group]
    rows += [rows[-1]] * (config.batch_size - len(rows))   # a full batch: one program per shape
    ids = np.asarray(generate(model, params, place(stack_rows(rows)), max_new_tokens=config.max_new_tokens,
                              eos_ids=(tokenizer.eos_id,)))
    for (index, example, encoded), row in zip(group, ids, strict=False):   # ids end with the filling rows
      done[index] = _record(example, _text(row, tokenizer), encoded['frame_times'])
    progress(len(group))

  total = min(len(manifest), config.limit) if config.limit else len(manifest)
  for index, item in _encoded(manifest, total, preprocess, tokenizer):
    if isinstance(item, str):
      logging.warning('record skipped: %s', item)
      problems.append(item)
      progress(1)
      continue
    example, encoded = item
    shape = bucket(shape_of(encoded, slots), config.smallest_shape)
    waiting[shape].append((index, example, encoded))
    if len(waiting[shape]) == config.batch_size:
      flush(shape)
  for shape in sorted(waiting):
    flush(shape)
  return [done[i] for i in sorted(done)], problems


def _encoded(manifest: Manifest, total: int, preprocess: PreprocessConfig, tokenizer: Tokenizer
             ) -> Iterator[tuple[int, tuple[Example, Encoded] | str]]:
  """Encodes in threads, a bounded number ahead; gives a message instead of an example that cannot be used."""
  def one(index: int) -> tuple[Example, Encoded] | str:
    source = ''
    try:
      example = manifest[index]
      source = example.source
      _check_scorable(example)
      return example, vars(encode(example, preprocess, tokenizer, training=False))
    except USABLE_ERRORS as error:
      return str(error) if source in str(error) else f'{source}: {error}'

  ahead = 128
  with ThreadPoolExecutor(max_workers=2) as pool:
    for start in range(0, total, ahead):
      indices = range(start, min(start + ahead, total))
      yield from zip(indices, pool.map(one, indices))


def _check_scorable(example: Example) -> None:
  """Raises ManifestError for a record without what its metric needs, before time is spent on an answer."""
  try:
    score('', example, example.metric)
  except ValueError as error:
    raise ManifestError(str(error)) from None


def _text(ids: np.ndarray, tokenizer: Tokenizer) -> str:
  """The answer without its end token and padding."""
  kept = [int(i) for i in ids if i >= 0]
  return tokenizer.decode(kept[:-1] if kept and kept[-1] == tokenizer.eos_id else kept)


def _record(example: Example, prediction: str, times: np.ndarray) -> Record:
  media = (example.video,) if example.video is not None else example.images
  question = [m for m in example.conversations[0] if m.role == 'user'][-1].content
  return Record(task=example.task, id=example.id or example.source, question=question, prediction=prediction,
                score=score(prediction, example, example.metric), metric=example.metric,
                source=example.source, answers=example.answers, options=example.options,
                media=tuple(str(m) for m in media), times=tuple(times.tolist()), points=example.points)
