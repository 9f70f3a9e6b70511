"""Evaluates a model on a manifest by generation: encode, batch by bucketed shape, generate, score.

With several processes every one of them encodes and scores its share of the examples, while all
generate together: in every round they agree on one shape, and each puts its waiting rows of that
shape into the batch, or rows that do not count.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from molmo_jax.data.batching import RowShape, bucket, empty_row, pad_row, shape_of, stack_rows
from molmo_jax.data.manifest import Manifest, ManifestError
from molmo_jax.data.pipeline import USABLE_ERRORS
from molmo_jax.evaluation.predictions import Prediction, prediction_from
from molmo_jax.inference.beam import beam_search
from molmo_jax.inference.generate import generate
from molmo_jax.inference.generator import content_seed
from molmo_jax.inference.sampling import row_keys, rules_of
from molmo_jax.inference.settings import GenerationConfig
from molmo_jax.inference.stop import find_stop, text_before_stop
from molmo_jax.metrics import score
from molmo_jax.model.molmo import Molmo
from molmo_jax.parallel.processes import process_allgather
from molmo_jax.parallel.sharding import batch_sharding, data_shard
from molmo_jax.preprocess.encode import encode
from molmo_jax.preprocess.tokenizer import Tokenizer
from molmo_jax.preprocess.types import Example, PreprocessConfig


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
  """How an evaluation generates, and what it shows."""
  batch_size: int = 32               # prompts generated together, by all processes
  generation: GenerationConfig = GenerationConfig()    # greedy; docs/generation.md
  # of a batch's rows: tokens, crops, visual tokens
  smallest_shape: tuple[int, int, int] = (64, 2, 16)
  limit: int = 0                     # examples per evaluation, 0: all
  shown_per_task: int = 24           # cards per task in the HTML report


@dataclasses.dataclass(frozen=True)
class Waiting:
  """An example that is ready to be asked."""
  index: int                         # in the manifest
  example: Example
  encoded: dict[str, np.ndarray]


def evaluate(model: Molmo, params: Any, manifest: Manifest, preprocess: PreprocessConfig,
             tokenizer: Tokenizer,
             config: EvaluationConfig, slots: int, mesh: Mesh, done: Collection[int] = (),
             shapes: set[RowShape] | None = None) -> Iterator[dict[int, Prediction | str]]:
  """Answers every example of `manifest`, scores it, and yields results as they come.

  Where tokens are drawn, an example's draws depend on `config.generation.seed` and its own tokens
  and media: they are the same in any batch and by any number of processes.

  Args:
    slots: W, slots of a pooling window.
    done: indices of examples that need no answer any more; the same in every process.
    shapes: is given the shape of every batch; each needs programs of its own.

  Yields:
    Per round, for some examples of this process or another: its index, and its record or why it
    could not be used. All processes get the same. Every example comes once.
  """
  total = min(len(manifest), config.limit) if config.limit else len(manifest)
  share, shares = data_shard(mesh)
  mine = [i for i in range(total) if i not in done][share::shares]
  groups = mesh.shape['data'] * mesh.shape['fsdp']
  # per process; every device has as many
  rows = -(-config.batch_size // groups) * groups // shares
  source = _encoded(manifest, mine, preprocess, tokenizer)
  waiting: dict[RowShape, list[Waiting]] = defaultdict(list)
  exhausted = False
  while True:
    results: dict[int, Prediction | str] = {}
    while not exhausted and all(len(group) < rows for group in waiting.values()):
      index, item = next(source, (-1, None))
      exhausted = item is None
      if isinstance(item, str):
        logging.warning('record skipped: %s', item)
        results[index] = item
      elif item is not None:
        waiting[bucket(shape_of(item.encoded, slots), config.smallest_shape)].append(item)
    shape = _agree({shape: len(group) for shape, group in waiting.items() if group})
    if shape is not None:
      if shapes is not None:
        shapes.add(shape)
      group, waiting[shape] = waiting[shape][:rows], waiting[shape][rows:]
      for item, ids in zip(group, _answer(model, params, mesh, group, shape, rows, preprocess,
                                          config, tokenizer)):
        prediction = _text(ids, tokenizer, config.generation)
        results[item.index] = _record(item.example, prediction, item.encoded['frame_times'])
    yield _share(results)
    if shape is None:   # no process has anything left: one with a full group would have been heard
      return


def _agree(counts: dict[RowShape, int]) -> RowShape | None:
  """The shape for which most rows wait, over all processes; None if none do."""
  total: dict[RowShape, int] = defaultdict(int)
  for one in process_allgather([[dataclasses.astuple(shape), n] for shape, n in counts.items()]):
    for shape, n in one:
      total[RowShape(*shape)] += n
  return max(total, key=lambda shape: (total[shape], shape), default=None)


def _answer(model: Molmo, params: Any, mesh: Mesh, group: list[Waiting], shape: RowShape, rows: int,
            preprocess: PreprocessConfig, config: EvaluationConfig,
            tokenizer: Tokenizer) -> list[np.ndarray]:
  """New tokens for every example of `group`, this process's part of a batch; the rest of its `rows`
  do not count.
  """
  batch = [pad_row(item.encoded, shape) for item in group]
  batch += [batch[-1] if batch else empty_row(shape, preprocess.image)] * (rows - len(batch))
  spare = rows - len(group)
  arrays = stack_rows(batch) | {
    'row': np.array([item.index for item in group] + [-1] * spare, np.int32),
    'seed': np.array([content_seed(item.encoded) for item in group] + [0] * spare, np.uint32)}
  to_devices = batch_sharding(mesh)
  arrays = {name: jax.make_array_from_process_local_data(to_devices, x)
            for name, x in arrays.items()}
  # travels with its row: which rows of a global batch are whose is the mesh's affair
  numbers = arrays.pop('row')
  ids = _generate(model, params, arrays, arrays.pop('seed'), config.generation, (tokenizer.eos_id,))
  ids, numbers = _everywhere(NamedSharding(mesh, PartitionSpec()))(ids, numbers)
  of = dict(zip(np.asarray(numbers).tolist(), np.asarray(ids)))
  return [of[item.index] for item in group]


def _generate(model: Molmo, params: Any, batch: dict[str, jax.Array], seeds: jax.Array,
              settings: GenerationConfig,
              eos_ids: tuple[int, ...]) -> jax.Array:
  """int32 [B,T]: an answer to every row as the settings say, but for stop strings, which are found
  in the text.
  """
  common = dict(max_new_tokens=settings.max_new_tokens, eos_ids=eos_ids, rules=rules_of(settings),
                cache_dtype=settings.cache_dtype)
  if settings.beams > 1:
    return beam_search(model, params, batch, beams=settings.beams,
                       length_penalty=settings.length_penalty,
                       **common).tokens[:, 0]
  keys = jax.jit(row_keys, static_argnums=0)(settings.seed, seeds) if settings.temperature else None
  return generate(model, params, batch, keys=keys, **common)


@functools.lru_cache
def _everywhere(whole: NamedSharding) -> Callable:
  """Copies its arguments to every process; kept, so that a second evaluation compiles nothing."""
  return jax.jit(lambda *arrays: arrays, out_shardings=whole)


def _share(results: dict[int, Prediction | str]) -> dict[int, Prediction | str]:
  """The results of all processes."""
  if jax.process_count() == 1:
    return results
  plain = [[i, r if isinstance(r, str) else dataclasses.asdict(r)] for i, r in results.items()]
  return {i: r if isinstance(r, str) else prediction_from(r)
          for part in process_allgather(plain) for i, r in part}


def _encoded(manifest: Manifest, indices: list[int], preprocess: PreprocessConfig,
             tokenizer: Tokenizer
             ) -> Iterator[tuple[int, Waiting | str]]:
  """Encodes in threads, a bounded number ahead; gives a message instead of an example that cannot
  be used.
  """
  def one(index: int) -> Waiting | str:
    source = ''
    try:
      example = manifest[index]
      source = example.source
      _check_scorable(example)
      return Waiting(index, example, vars(encode(example, preprocess, tokenizer, training=False)))
    except USABLE_ERRORS as error:
      return str(error) if source in str(error) else f'{source}: {error}'

  ahead = 128
  with ThreadPoolExecutor(max_workers=2) as pool:
    for start in range(0, len(indices), ahead):
      some = indices[start:start + ahead]
      yield from zip(some, pool.map(one, some))


def _check_scorable(example: Example) -> None:
  """Raises ManifestError for a record without what its metric needs, before time is spent on an
  answer.
  """
  try:
    score('', example, example.metric)
  except ValueError as error:
    raise ManifestError(str(error)) from None


def _text(ids: np.ndarray, tokenizer: Tokenizer, settings: GenerationConfig) -> str:
  """The answer without its end token, padding, and what comes from a stop string on."""
  kept = [int(i) for i in ids if i >= 0]
  kept = kept[:-1] if kept and kept[-1] == tokenizer.eos_id else kept
  end = find_stop(kept, tokenizer.decode, settings.stop, settings.min_new_tokens)
  return tokenizer.decode(kept) if end is None else text_before_stop(kept[:end], tokenizer.decode,
                                                                     settings.stop)


def _record(example: Example, prediction: str, times: np.ndarray) -> Prediction:
  media = (example.video,) if example.video is not None else example.images
  question = [m for m in example.conversations[0] if m.role == 'user'][-1].content
  return Prediction(task=example.task, id=example.id or example.source, question=question,
                prediction=prediction,
                score=score(prediction, example, example.metric), metric=example.metric,
                source=example.source, answers=example.answers, options=example.options,
                media=tuple(str(m) for m in media), times=tuple(times.tolist()),
                points=example.points,
                clip=example.clip or ())
