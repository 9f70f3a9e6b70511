"""The command line of the benchmark."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags

from molmo_jax.lab.benchmark import decoding, images, small, training
from molmo_jax.lab.benchmark.environment import use_cores
from molmo_jax.lab.benchmark.peer import PeerError, import_peer
from molmo_jax.lab.benchmark.timing import Run, alternate

PEER = flags.DEFINE_bool('peer', False,
                         'time transformers as well, in turns with ours, and print the ratio')
BATCH = flags.DEFINE_list('batch', ['1', '16'],
                          'generate: rows of a batch, one comparison for each number')
PROMPT = flags.DEFINE_integer('prompt_tokens', None, 'tokens of a row; default: 512, for generate '
                              '1200, as many as a question about an image of 1920×1080 in 8 crops',
                              lower_bound=2)
NEW = flags.DEFINE_integer('new_tokens', 64, 'generate: tokens that are made for every row',
                           lower_bound=1)
SIZE = flags.DEFINE_list('size', ['1920', '1080'], 'preprocess: width,height of the image')
CROPS = flags.DEFINE_integer('max_crops', 8, 'preprocess: K, most crops beside the global view',
                             lower_bound=1)
THREADS = flags.DEFINE_integer(
  'threads', None, 'cores for either side; default: all, for preprocess 1', lower_bound=1)
BLOCKS = flags.DEFINE_integer('blocks', 4, 'turns of either side', lower_bound=1)
RUNS = flags.DEFINE_integer('runs', 3, 'timed runs in a turn', lower_bound=1)

def main(argv: Sequence[str]) -> None:
  kinds = {'generate': compare_decoding, 'preprocess': compare_images, 'train': compare_training}
  if len(argv) != 2 or argv[1] not in kinds:
    raise app.UsageError(f'one of {", ".join(kinds)} is needed, not '
      f'{" ".join(argv[1:]) or "nothing"}')
  jax.config.update('jax_platforms', 'cpu')
  threads = use_cores(THREADS.value or (1 if argv[1] == 'preprocess' else 0))
  try:
    peer = import_peer(threads) if PEER.value else None
  except PeerError as error:
    raise SystemExit(f'error: {error}') from None
  print(_conditions(argv[1], threads, peer), flush=True)
  kinds[argv[1]](peer)


def compare_decoding(peer: tuple[Any, Any] | None) -> None:
  model, params = small.make_model()
  their_model = small.peer_of(params, *peer) if peer else None
  for rows in map(int, BATCH.value):
    tokens = decoding.prompts(rows, PROMPT.value or 1200)
    sides = [decoding.ours(model, params, tokens, NEW.value)]
    if peer:
      sides.append(decoding.theirs(their_model, *peer, tokens, NEW.value))
    print(f'decode, batch {rows}, {tokens.shape[1]} tokens of prompt, {NEW.value} new tokens')
    _report([side.run for side in sides], rows * NEW.value, 'tokens/s')
    if peer:
      print('  ' + decoding.agreement(*(side.tokens['ids'] for side in sides)), flush=True)


def compare_images(peer: tuple[Any, Any] | None) -> None:
  width, height = map(int, SIZE.value)
  image = images.picture(width, height)
  for normalised in (False, True):
    print(f'preprocess, {width}×{height}, K = {CROPS.value}, ours ends with '
          + ('float32 crops as the peer' if normalised
             else 'uint8 crops (normalised on the device)'))
    _report([images.ours(image, CROPS.value, normalised)]
            + ([images.theirs(image, CROPS.value, *peer)] if peer else []), 1, 'images/s')


def compare_training(peer: tuple[Any, Any] | None) -> None:
  model, params = small.make_model()
  tokens = decoding.prompts(1, PROMPT.value or 512)
  print(f'train step (AdamW), one row of {tokens.size} text tokens')
  _report([training.ours(model, params, tokens)]
          + ([training.theirs(small.peer_of(params, *peer), peer[0], tokens)] if peer else []),
          tokens.size, 'tokens/s')


def _report(runs: list[Run], work: float, unit: str) -> None:
  timings = alternate(runs, BLOCKS.value, RUNS.value)
  for name, timing in zip(('ours', 'peer'), timings):
    print(f'  {name}: {timing.describe(work, unit)}')
  if len(timings) == 2:
    print(f'  ratio: {timings[1].median / timings[0].median:.2f}×', flush=True)


def _conditions(kind: str, threads: int, peer: tuple[Any, Any] | None) -> str:
  """Everything that the numbers depend on, in one paragraph."""
  versions = [f'jax {jax.__version__}', f'numpy {np.__version__}']
  if peer:
    versions += [f'torch {peer[0].__version__}', f'transformers {peer[1].__version__}',
                 'sdpa attention']
  return (f'{kind}: {time.strftime("%Y-%m-%d %H:%M")}, {platform.machine()}, {threads} core(s) for '
    f'either side, float32, {", ".join(versions)}, '
    f'GLIBC_TUNABLES={os.environ.get("GLIBC_TUNABLES", "not set")}, {BLOCKS.value} turns of '
    f'{RUNS.value} runs each in the order A B A B, medians')
