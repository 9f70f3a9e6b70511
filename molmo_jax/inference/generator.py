"""Answers for any prompts: a small set of padded shapes, visual features that are kept, rows spread
over the mesh.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from molmo_jax.data.batching import RowShape, bucket
from molmo_jax.inference.beam import check_beams, search_from
from molmo_jax.inference.generate import PADDING as NO_TOKEN
from molmo_jax.inference.generate import Answers, begin, extend
from molmo_jax.inference.sampling import Rules, row_keys, rules_of
from molmo_jax.inference.settings import GenerationConfig
from molmo_jax.inference.stop import Decode, find_stop
from molmo_jax.inference.unstack import unstack_blocks
from molmo_jax.inference.vision import Vision, media_key
from molmo_jax.model.molmo import Molmo
from molmo_jax.parallel.sharding import BATCH
from molmo_jax.preprocess.types import PADDING

Row = Mapping[str, np.ndarray]
TEXT_FIELDS = ('tokens', 'positions', 'segments', 'visual', 'feature_index')
SMALLEST = (64, 2, 16)       # of a row: tokens, crops, visual tokens
SMALLEST_ROOM = 16           # of new tokens
STOP_CHUNK = 16              # tokens between two looks for stop strings


class Generator:
  """One model that answers batches of prompts.

  Every array is padded to a bucketed size before anything is compiled (docs/generation.md has the
  sizes), so that a stream of different prompts needs few programs; `programs` names those that were
  needed so far.

  A row is one prompt: the arrays of `Processor` or `encode` without the batch axis. Rows of a batch
  do not influence each other: an answer is the same alone and in any batch, drawn tokens included.
  """

  def __init__(self, model: Molmo, params: Any, eos_ids: Sequence[int], *, mesh: Mesh | None = None,
               decode: Decode | None = None, smallest: tuple[int, int, int] = SMALLEST,
               kept_media: int = 4):
    """
    Args:
      model, params: the network and its weights, on the mesh.
      eos_ids: tokens that end an answer.
      mesh: rows are spread over its axes data and fsdp; None: one device.
      decode: the text of ids; needed for stop strings.
      smallest: sizes that are not undercut: tokens, crops, visual tokens.
      kept_media: number of prompts' images or of videos whose visual features are kept for later
        questions.
    """
    self.model, self.params, self.eos_ids = model, params, tuple(int(i) for i in eos_ids)
    self._mesh, self._decode, self._smallest = mesh, decode, smallest
    self._layers = unstack_blocks(params)
    self._programs: OrderedDict[str, None] = OrderedDict()
    self._vision = Vision(model, params, smallest, kept_media, self._place, self._note)

  @property
  def programs(self) -> tuple[str, ...]:
    """A line for every program that was compiled (or taken from the persistent cache), in this
    order.
    """
    return tuple(self._programs)

  @property
  def compilations(self) -> int:
    return len(self._programs)

  def generate(self, rows: Sequence[Row], settings: GenerationConfig | None = None,
               seeds: Sequence[int] | None = None) -> list[np.ndarray]:
    """The answer to every row: int32 [n], the end token included.

    Args:
      seeds: a number from 0 to 2³² − 1 for every row, which with `settings.seed` makes the key of
        its draws. None: it is computed from the row's tokens and media. Equal rows then get equal
        answers.

    Raises:
      ValueError: settings that contradict each other or the model, or stop strings without
        `decode`.
    """
    settings = settings or GenerationConfig()
    chunk = STOP_CHUNK if settings.stop else settings.max_new_tokens
    ids = np.concatenate(list(self.stream(rows, settings, chunk, seeds)), axis=1)
    return [row[row >= 0] for row in ids]

  def stream(self, rows: Sequence[Row], settings: GenerationConfig | None = None, chunk: int = 1,
             seeds: Sequence[int] | None = None) -> Iterator[np.ndarray]:
    """Like `generate`, `chunk` tokens at a time as they are made: int32 [B, ≤ chunk], −1 after the
    end of a row.

    A beam search gives everything at its end.
    """
    settings = settings or GenerationConfig()
    if settings.stop and self._decode is None:
      raise ValueError('stop strings are found in the text: give the Generator `decode`')
    rules = rules_of(settings)
    if settings.beams > 1:
      check_beams(settings.beams, self.model.config.llm.vocab, self.eos_ids, rules)
    rows = [trim(row) for row in rows]
    with self._context():
      answers = self._prefill(rows, settings)
    if settings.beams > 1:
      yield self._search(answers, settings, rules)[:len(rows)]
      return
    keys = self._keys(rows, settings, seeds, len(answers.done)) if rules.draws else None
    ids: list[list[int]] = [[] for _ in rows]
    for start in range(0, settings.max_new_tokens, chunk):
      end = min(start + chunk, settings.max_new_tokens)
      with self._context():
        answers = self._extend(answers, end, rules, keys)
        piece, done = self._fetch(answers.tokens)[:len(rows), start:end].copy(), self._fetch(
          answers.done).copy()
      if settings.stop and self._end_at_stop(ids, piece, done, settings):
        answers = dataclasses.replace(answers, done=self._place(done))
      yield piece
      if done.all():
        return

  def _prefill(self, rows: Sequence[Row], settings: GenerationConfig) -> Answers:
    shape = bucket(RowShape(max(len(r['tokens']) for r in rows), 0, 0, 0), self._smallest)
    count = self._rows(len(rows))
    batch = {name: np.full((count, shape.sequence), PADDING[name], np.int32)
             for name in TEXT_FIELDS}
    for i, row in enumerate(rows):
      for name in TEXT_FIELDS:
        batch[name][i, :len(row['tokens'])] = row[name]
    features = self._vision.features(rows, count)
    room = bucket(RowShape(settings.max_new_tokens, 0, 0, 0), (SMALLEST_ROOM, 1, 1)).sequence
    self._note(f'prefill rows={count} tokens={shape.sequence} visual={features.shape[1]} '
      f'room={room}'
      + (f' cache={settings.cache_dtype}' if settings.cache_dtype else ''))
    return begin(self.model, self.params, {k: self._place(v) for k, v in batch.items()}, room,
                 features,
                 settings.cache_dtype)

  def _extend(self, answers: Answers, end: int, rules: Rules, keys: Array | None) -> Answers:
    kind = ' '.join([*sorted(rules.numbers), *([f'top_k={rules.top_k}'] if rules.top_k else []),
                     *([f'no_repeat_ngram={rules.no_repeat_ngram}'] if rules.no_repeat_ngram
                       else [])]) or 'greedy'
    self._note(f'decode {_sizes(answers)} {kind}')
    return extend(self.model, self._layers, answers, np.int32(end), self.eos_ids, rules, keys)

  def _search(self, answers: Answers, settings: GenerationConfig, rules: Rules) -> np.ndarray:
    """The best beam of every row, int32 [B, n]."""
    self._note(f'beams {_sizes(answers)} beams={settings.beams} '
      f'max_new_tokens={settings.max_new_tokens} '
      + ' '.join(sorted(rules.numbers)))
    with self._context():
      found = search_from(self.model, self._layers, answers, np.float32(settings.length_penalty),
                          rules,
                          beams=settings.beams, max_new_tokens=settings.max_new_tokens,
                          eos_ids=self.eos_ids)
      return self._fetch(found.tokens)[:, 0]

  def _keys(self, rows: Sequence[Row], settings: GenerationConfig, seeds: Sequence[int] | None,
            count: int) -> Array:
    seeds = [content_seed(row) for row in rows] if seeds is None else list(seeds)
    if len(seeds) != len(rows):
      raise ValueError(f'{len(seeds)} seeds for {len(rows)} rows; every row needs one')
    keys = row_keys(settings.seed, np.array(seeds + [0] * (count - len(seeds)), np.uint32))
    return jax.random.wrap_key_data(self._place(np.asarray(jax.random.key_data(keys))))

  def _end_at_stop(self, ids: list[list[int]], piece: np.ndarray, done: np.ndarray,
                   settings: GenerationConfig) -> bool:
    """Adds `piece` to `ids`, cuts both where a stop string is complete, and marks those rows as
    done.
    """
    found = False
    for i, new in enumerate(piece):
      seen = len(ids[i])
      ids[i] += [int(t) for t in new if t >= 0 and t not in self.eos_ids]
      end = find_stop(ids[i], self._decode, settings.stop, max(seen + 1, settings.min_new_tokens))
      if end is not None:
        piece[i, end - seen:], done[i], found = NO_TOKEN, True, True
    return found

  def _rows(self, count: int) -> int:
    """Rows of the batch: a power of two, and a multiple of what the mesh spreads rows over."""
    spread = 1 if self._mesh is None else self._mesh.shape['data'] * self._mesh.shape['fsdp']
    count = 1 << (count - 1).bit_length()
    return -(-count // spread) * spread

  def _place(self, x: np.ndarray) -> Array:
    """Onto the mesh: rows are spread where their number allows, else every device has all."""
    if self._mesh is None:
      return jnp.asarray(x)
    spread = self._mesh.shape['data'] * self._mesh.shape['fsdp']
    return jax.device_put(x, NamedSharding(self._mesh, BATCH if len(x) % spread == 0 else P()))

  def _fetch(self, x: Array) -> np.ndarray:
    return np.asarray(x if x.is_fully_addressable
                      else multihost_utils.process_allgather(x, tiled=True))

  def _note(self, program: str) -> None:
    self._programs.setdefault(program)

  @contextlib.contextmanager
  def _context(self) -> Iterator[None]:
    """The mesh; and float32 means float32 on accelerators too, whose default is less."""
    precision = 'highest' if self.model.config.dtype == 'float32' else None
    with contextlib.ExitStack() as stack:
      if self._mesh is not None:
        stack.enter_context(jax.set_mesh(self._mesh))
      stack.enter_context(jax.default_matmul_precision(precision))
      yield


def trim(row: Row) -> dict[str, np.ndarray]:
  """A row without the padding that it had in a batch, on either side of its tokens."""
  if row['tokens'].ndim != 1:
    raise ValueError(f'a row is one prompt, but its tokens have shape {row["tokens"].shape}')
  real = np.flatnonzero(row['segments'] >= 0)
  if not len(real):
    raise ValueError('a prompt has no tokens')
  kept = slice(real[0], real[-1] + 1)
  return {name: x[kept] if name in TEXT_FIELDS else x for name, x in row.items()}


def content_seed(row: Row) -> int:
  """A number from 0 to 2³² − 1 from what is asked: the tokens, and the media that they are about.
  """
  digest = hashlib.blake2b(np.ascontiguousarray(row['tokens'], np.int32).tobytes(), digest_size=4)
  digest.update(media_key(row))
  return int.from_bytes(digest.digest(), 'little')


def _sizes(answers: Answers) -> str:
  rows, room = answers.tokens.shape
  return f'rows={rows} slots={answers.cache.info.segments.shape[1]} room={room}'
