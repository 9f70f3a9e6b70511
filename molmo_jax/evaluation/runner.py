"""Evaluates a model on a manifest by generation: encode, batch by bucketed shape, generate, score.

With several processes every one of them encodes and scores its part of the examples, while all
generate together: in every round they agree on one shape, and each puts its waiting rows of that
shape into the batch, or rows that do not count.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from molmo_jax.configuration import Count, Size
from molmo_jax.data.batching import RowShape, bucket, empty_row, pad_row, shape_of, stack_rows
from molmo_jax.data.formatting import WordedManifest
from molmo_jax.data.manifest import Manifest
from molmo_jax.data.unusable import BadRecordError, record_at
from molmo_jax.evaluation.predictions import Prediction, prediction_from
from molmo_jax.inference.generator import content_seed
from molmo_jax.inference.loaded import LoadedModel
from molmo_jax.inference.settings import GenerationConfig
from molmo_jax.metrics import score
from molmo_jax.parallel.processes import process_allgather
from molmo_jax.parallel.sharding import data_shard, shard_batch, to_host
from molmo_jax.preprocess.encode import encode
from molmo_jax.preprocess.types import Example
from molmo_jax.processor.processor import Processor

AHEAD = 128                    # examples that are encoded before they are needed


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
  """How an evaluation generates, and what it shows."""
  batch_size: Size = 32              # prompts generated together, by all processes
  generation: GenerationConfig = GenerationConfig()    # greedy; docs/generation.md
  # of a batch's rows: tokens, crops, visual tokens
  smallest_shape: tuple[Size, Size, Size] = (64, 2, 16)
  limit: Count = 0                   # examples per evaluation, 0: all
  shown_per_task: Count = 24         # cards per task in the HTML report


@dataclasses.dataclass(frozen=True)
class Waiting:
  """An encoded example that has no answer yet."""
  index: int                         # in the manifest
  example: Example
  encoded: dict[str, np.ndarray]


Result = Prediction | str            # or why there is none


def evaluate(model: LoadedModel, manifest: Manifest | WordedManifest, config: EvaluationConfig,
             done: Collection[int] = ()) -> Iterator[dict[int, Result]]:
  """Answers every example of `manifest`, scores it, and yields results as they come.

  Where tokens are sampled, an example's tokens depend on `config.generation.seed` and its own
  prompt and media: they are the same in any batch and on any number of processes.

  Args:
    done: indices of examples that need no answer any more; the same in every process.

  Yields:
    Per round, for some examples: the index in the manifest, and the prediction or why there is
    none. All processes get the same. Every example comes once.
  """
  total = min(len(manifest), config.limit) if config.limit else len(manifest)
  shard, shards = data_shard(model.mesh)
  mine = [i for i in range(total) if i not in done][shard::shards]
  groups = model.mesh.shape['data'] * model.mesh.shape['fsdp']
  rows = -(-config.batch_size // groups) * groups // shards   # as many for every device
  source = _encoded(manifest, mine, model.processor)
  waiting: dict[RowShape, list[Waiting]] = defaultdict(list)
  exhausted = False
  while True:
    results: dict[int, Result] = {}
    while not exhausted and all(len(group) < rows for group in waiting.values()):
      index, item = next(source, (-1, None))
      exhausted = item is None
      if isinstance(item, str):
        results[index] = item
      elif item is not None:
        shape = bucket(shape_of(item.encoded, model.config.connector.pool_slots),
                       config.smallest_shape)
        waiting[shape].append(item)
    shape = _agree({shape: len(group) for shape, group in waiting.items() if group})
    if shape is not None:
      group, waiting[shape] = waiting[shape][:rows], waiting[shape][rows:]
      answers = _answer(model, group, shape, rows, config.generation)
      for item, ids in zip(group, answers, strict=True):
        text = model.text(ids, config.generation.stop)
        try:
          with record_at(item.example.source):
            results[item.index] = _prediction(item.example, text, item.encoded['frame_times'])
        except BadRecordError as error:
          results[item.index] = str(error)
    yield _exchange(results)
    if shape is None:   # no process has anything left: one with a full group would have been heard
      return


def _agree(counts: dict[RowShape, int]) -> RowShape | None:
  """The shape for which most rows wait, over all processes; None if none do."""
  total: dict[RowShape, int] = defaultdict(int)
  for one in process_allgather([[dataclasses.astuple(shape), n] for shape, n in counts.items()]):
    for shape, n in one:
      total[RowShape(*shape)] += n
  return max(total, key=lambda shape: (total[shape], shape), default=None)


def _answer(model: LoadedModel, group: list[Waiting], shape: RowShape, rows: int,
            settings: GenerationConfig) -> list[np.ndarray]:
  """Generated ids for `group`, this process's part of a batch, padded to `rows` rows."""
  spare = rows - len(group)
  batch = [pad_row(item.encoded, shape) for item in group]
  batch += [empty_row(shape, model.processor.config.image)] * spare
  numbers = np.array([item.index for item in group] + [-1] * spare, np.int32)
  seeds = np.array([content_seed(item.encoded) for item in group] + [0] * spare, np.uint32)
  # the numbers travel with the rows: which rows of the batch are whose is the mesh's affair
  sharded = shard_batch(stack_rows(batch) | {'numbers': numbers, 'seeds': seeds}, model.mesh)
  numbers = to_host(sharded.pop('numbers')).tolist()
  ids = dict(zip(numbers, model.generator.answer(sharded, settings), strict=True))
  return [ids[item.index] for item in group]


def _exchange(results: dict[int, Result]) -> dict[int, Result]:
  """The results of all processes."""
  if jax.process_count() == 1:
    return results
  plain = [[i, r if isinstance(r, str) else dataclasses.asdict(r)] for i, r in results.items()]
  return {i: r if isinstance(r, str) else prediction_from(r)
          for part in process_allgather(plain) for i, r in part}


def _encoded(manifest: Manifest | WordedManifest, indices: list[int], processor: Processor
             ) -> Iterator[tuple[int, Waiting | str]]:
  """Encodes in threads, a bounded number ahead; gives a message where an example has a fault."""
  def one(index: int) -> Waiting | str:
    try:
      with record_at(manifest.source(index)):
        example = manifest[index]
        score('', example, example.metric)   # has it what its metric needs?
        encoded = encode(example, processor.config, processor.tokenizer, training=False)
        return Waiting(index, example, vars(encoded))
    except BadRecordError as error:
      return str(error)

  with ThreadPoolExecutor(max_workers=2) as pool:
    for start in range(0, len(indices), AHEAD):
      some = indices[start:start + AHEAD]
      yield from zip(some, pool.map(one, some))


def _prediction(example: Example, text: str, times: np.ndarray) -> Prediction:
  media = (example.video,) if example.video is not None else example.images
  question = [m for m in example.conversations[0] if m.role == 'user'][-1].content
  return Prediction(task=example.task, id=example.id or example.source, question=question,
                    prediction=text, score=score(text, example, example.metric),
                    metric=example.metric, source=example.source, answers=example.answers,
                    options=example.options, media=tuple(str(m) for m in media),
                    times=tuple(times.tolist()), points=example.points, clip=example.clip or ())
