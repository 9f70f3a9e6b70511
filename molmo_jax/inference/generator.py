"""The generator: answers for prompts of users and batches of an evaluation, on any mesh."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from molmo_jax.data.batching import Row, RowShape, bucket_size, pad_row, stack_rows
from molmo_jax.inference.beam import check_beams, search_from
from molmo_jax.inference.generate import NO_TOKEN, Answers, begin, extend
from molmo_jax.inference.sampling import Rules, row_keys, rules_of
from molmo_jax.inference.settings import GenerationConfig
from molmo_jax.inference.stop import Decode, find_stop
from molmo_jax.inference.unstack import unstack_blocks
from molmo_jax.inference.vision import Vision, media_key
from molmo_jax.model.molmo import Batch, Network
from molmo_jax.parallel.mesh import MeshConfig, make_mesh
from molmo_jax.parallel.sharding import shard_batch, to_host
from molmo_jax.preprocess.types import SEQUENCE_FIELDS

TEXT_FIELDS = ('tokens', 'positions', 'segments', 'visual', 'feature_index')
SMALLEST = (64, 2, 16)       # of a row: tokens, crops, visual tokens
SMALLEST_ROOM = 16           # of new tokens
STOP_CHUNK = 16              # tokens between two searches for stop strings

_row_keys = jax.jit(row_keys, static_argnums=0)


class Generator:
  """One model that answers batches of prompts.

  Sizes are rounded up to a small set before anything is compiled (docs/generation.md), so that a
  stream of different prompts needs few programs; `programs` names those that were needed so far.

  A row is one prompt: the arrays of `Processor` or `encode` without the batch axis. Rows of a batch
  do not influence each other: an answer is the same alone and in any batch, sampled tokens
  included.
  """

  def __init__(self, model: Network, params: Any, eos_ids: Sequence[int], *,
               mesh: Mesh | None = None, decode: Decode | None = None,
               smallest: tuple[int, int, int] = SMALLEST, kept_media: int = 4):
    """
    Args:
      model, params: the network and its weights, on the mesh.
      eos_ids: tokens that end an answer.
      mesh: rows are spread over its axes data and fsdp; None: the first device.
      decode: the text of ids; needed for stop strings.
      smallest: least bucketed sizes: tokens, crops, visual tokens.
      kept_media: the visual features of this many prompts' media are kept for later questions.
    """
    self.model, self.params, self.eos_ids = model, params, tuple(int(i) for i in eos_ids)
    self._mesh = mesh or make_mesh(MeshConfig(), jax.devices()[:1])
    self._decode, self._smallest = decode, smallest
    self._on_mesh = functools.partial(computing_on, self._mesh, model.config.dtype)
    self._layers = unstack_blocks(params)
    self._programs: OrderedDict[str, None] = OrderedDict()
    self._note = self._programs.setdefault
    self._vision = Vision(model, params, self._mesh, smallest, kept_media, self._note)

  @property
  def programs(self) -> tuple[str, ...]:
    """A line for every program that was compiled (or taken from the persistent cache), in order."""
    return tuple(self._programs)

  @property
  def compilations(self) -> int:
    """Number of `programs`."""
    return len(self._programs)

  def generate(self, rows: Sequence[Row], settings: GenerationConfig | None = None,
               seeds: Sequence[int] | None = None) -> list[np.ndarray]:
    """The answer to every row: int32 [n], the end token included.

    Args:
      seeds: a number from 0 to 2³² − 1 for every row, which with `settings.seed` makes the key of
        its samples. None: `content_seed` of the row. Equal rows then get equal answers.

    Raises:
      ValueError: settings that contradict each other or the model, or stop strings without
        `decode`.
    """
    settings = settings or GenerationConfig()
    ids = np.concatenate(list(self.stream(rows, settings, _chunk(settings), seeds)), axis=1)
    return [row[row >= 0] for row in ids]

  def stream(self, rows: Sequence[Row], settings: GenerationConfig | None = None, chunk: int = 1,
             seeds: Sequence[int] | None = None) -> Iterator[np.ndarray]:
    """Like `generate`, `chunk` tokens at a time: int32 [B, ≤ chunk], −1 after the end of a row.

    A beam search gives everything at its end.
    """
    settings, rows = settings or GenerationConfig(), [trim(row) for row in rows]
    batch = self._text_batch(rows)
    count = len(batch['tokens'])
    if settings.temperature:
      seeds = [content_seed(row) for row in rows] if seeds is None else list(seeds)
      if len(seeds) != len(rows):
        raise ValueError(f'{len(seeds)} seeds for {len(rows)} rows; every row needs one')
      batch['seeds'] = np.array(seeds + [0] * (count - len(rows)), np.uint32)
    with self._on_mesh():
      batch = shard_batch(batch, self._mesh, whole=True)
      features = self._vision.features(rows, count)
    for piece in self._answer(batch, features, settings, chunk):
      yield piece[:len(rows)]

  def answer(self, batch: Batch, settings: GenerationConfig) -> np.ndarray:
    """The answers to a batch that was padded and put onto the mesh by the caller, int32 [B,T].

    Args:
      batch: prompts with their media, padded on either side. `seeds` uint32 [B] as in `generate`,
        where the settings sample. Rows of padding alone get no answer.

    Returns:
      All rows of the batch, in every process; −1 after the end of an answer.
    """
    return np.concatenate(list(self._answer(batch, None, settings, _chunk(settings))), axis=1)

  def _answer(self, batch: Batch, features: Array | None, settings: GenerationConfig, chunk: int
              ) -> Iterator[np.ndarray]:
    """int32 [B, ≤ chunk] at a time; without `features` the batch has crops and windows."""
    if settings.stop and self._decode is None:
      raise ValueError('stop strings are found in the text: give the Generator `decode`')
    rules, seeds = rules_of(settings), batch.get('seeds')
    batch = {name: x for name, x in batch.items() if name != 'seeds'}
    if settings.beams > 1:
      check_beams(settings.beams, self.model.config.llm.vocab, self.eos_ids, rules)
    if rules.samples and seeds is None:
      raise ValueError('temperature asks for sampled tokens: give the batch `seeds`, one per row')
    with self._on_mesh():
      answers = self._begin(batch, features, settings)
      keys = _row_keys(settings.seed, seeds) if rules.samples else None
      found = self._search(answers, settings, rules) if settings.beams > 1 else None
    if found is not None:
      yield found
      return
    ids: list[list[int]] = [[] for _ in range(len(answers.done))]
    for start in range(0, settings.max_new_tokens, chunk):
      end = min(start + chunk, settings.max_new_tokens)
      with self._on_mesh():
        answers = self._extend(answers, end, rules, keys)
        piece = to_host(answers.tokens)[:, start:end].copy()
        done = to_host(answers.done).copy()
        if settings.stop and self._end_at_stop(ids, piece, done, settings):
          answers = dataclasses.replace(answers, done=shard_batch(done, self._mesh, whole=True))
      yield piece
      if done.all():
        return

  def _begin(self, batch: Batch, features: Array | None, settings: GenerationConfig) -> Answers:
    room = bucket_size(settings.max_new_tokens, SMALLEST_ROOM)
    rows, length = batch['tokens'].shape
    visual = (f'visual={features.shape[1]}' if features is not None else
              f'crops={batch["crops"].shape[1]} visual={batch["pool_index"].shape[1]}')
    cache = f' cache={settings.cache_dtype}' if settings.cache_dtype else ''
    self._note(f'prefill rows={rows} tokens={length} {visual} room={room}{cache}')
    return begin(self.model, self.params, batch, room, features, settings.cache_dtype)

  def _extend(self, answers: Answers, end: int, rules: Rules, keys: Array | None) -> Answers:
    limits = [f'{name}={getattr(rules, name)}' for name in ('top_k', 'no_repeat_ngram')
              if getattr(rules, name)]
    kind = ' '.join([*sorted(rules.numbers), *limits]) or 'greedy'
    self._note(f'decode {_sizes(answers)} {kind}')
    return extend(self.model, self._layers, answers, np.int32(end), self.eos_ids, rules, keys)

  def _search(self, answers: Answers, settings: GenerationConfig, rules: Rules) -> np.ndarray:
    """The best beam of every row, int32 [B, T]."""
    beams, length = settings.beams, settings.max_new_tokens
    self._note(' '.join([f'beams {_sizes(answers)} beams={beams} max_new_tokens={length}',
                         *sorted(rules.numbers)]))
    found = search_from(self.model, self._layers, answers, rules, beams=beams,
                        max_new_tokens=length, eos_ids=self.eos_ids)
    return to_host(found.tokens)[:, 0]

  def _end_at_stop(self, ids: list[list[int]], piece: np.ndarray, done: np.ndarray,
                   settings: GenerationConfig) -> bool:
    """Adds `piece` to `ids`, cuts both where a stop string is complete, and marks those rows as
    done; returns whether there are any.
    """
    found = False
    for i, new in enumerate(piece):
      seen = len(ids[i])
      ids[i] += [int(t) for t in new if t >= 0 and t not in self.eos_ids]
      end = self._decode and find_stop(ids[i], self._decode, settings.stop,
                                       max(seen + 1, settings.min_new_tokens))
      if end is not None:
        piece[i, end - seen:], done[i], found = NO_TOKEN, True, True
    return found

  def _text_batch(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """The text of the rows as a batch of bucketed length: a power of two of rows, and a multiple
    of what the mesh spreads rows over.
    """
    spread = self._mesh.shape['data'] * self._mesh.shape['fsdp']
    count = -(-(1 << (len(rows) - 1).bit_length()) // spread) * spread
    length = bucket_size(max(len(row['tokens']) for row in rows), self._smallest[0])
    texts = [{name: row[name] for name in TEXT_FIELDS} for row in rows]
    texts += [{name: x[:0] for name, x in texts[0].items()}] * (count - len(rows))
    return stack_rows([pad_row(text, RowShape(length, 0, 0, 0)) for text in texts])


@contextlib.contextmanager
def computing_on(mesh: Mesh, dtype: str) -> Iterator[None]:
  """The mesh; and 'float32' means float32 on accelerators too, whose default is less."""
  with jax.set_mesh(mesh), jax.default_matmul_precision('highest' if dtype == 'float32' else None):
    yield


def trim(row: Row) -> dict[str, np.ndarray]:
  """A row without the padding that it had in a batch, on either side of its tokens."""
  if row['tokens'].ndim != 1:
    raise ValueError(f'a row is one prompt, but its tokens have shape {row["tokens"].shape}')
  real = np.flatnonzero(row['segments'] >= 0)
  if not len(real):
    raise ValueError('a prompt has no tokens')
  kept = slice(real[0], real[-1] + 1)
  return {name: x[kept] if name in SEQUENCE_FIELDS else x for name, x in row.items()}


def content_seed(row: Row) -> int:
  """A number from 0 to 2³² − 1 made of the tokens and of the media that they are about."""
  digest = hashlib.blake2b(np.ascontiguousarray(row['tokens'], np.int32).tobytes(), digest_size=4)
  digest.update(media_key(row))
  return int.from_bytes(digest.digest(), 'little')


def _chunk(settings: GenerationConfig) -> int:
  """Tokens made at a time where the caller waits for the end of the answer."""
  return STOP_CHUNK if settings.stop else settings.max_new_tokens


def _sizes(answers: Answers) -> str:
  rows, room = answers.tokens.shape
  return f'rows={rows} slots={answers.cache.info.segments.shape[1]} room={room}'
