"""Measures the speed of this library, and with --peer that of transformers with the same weights.

generate: tokens/s of greedy decoding after the prompt. preprocess: images/s from pixels in memory
to crops and pooling windows. train: tokens/s of an AdamW step on text. The model has 111 M random
parameters in float32 and runs on the CPU. With --peer the two sides run in turns.

Examples:
  molmo-jax benchmark generate --peer
  molmo-jax benchmark preprocess --peer --size=1920,1080 --max_crops=8
  molmo-jax benchmark train --peer
"""

from __future__ import annotations

import argparse
import os
import platform
import time

import jax
import numpy as np

from molmo_jax.command_line import make_parser, one_line_errors, positive
from molmo_jax.lab.benchmark import decoding, images, small, training
from molmo_jax.lab.benchmark.environment import use_cores
from molmo_jax.lab.benchmark.peer import Peer, import_peer
from molmo_jax.lab.benchmark.timing import Run, alternate


@one_line_errors
def main(arguments: list[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  kinds = {'generate': compare_decoding, 'preprocess': compare_images, 'train': compare_training}
  parser = make_parser('benchmark', __doc__)
  parser.add_argument('kind', choices=kinds, help='what is measured')
  parser.add_argument('--peer', action='store_true',
                      help='measure transformers, too, and print the ratio')
  parser.add_argument('--batch', type=_numbers, default='1,16', metavar='N,N', help='generate: '
                      'rows of a batch, one comparison for each number; default: %(default)s')
  parser.add_argument('--prompt_tokens', type=positive, metavar='N',
                      help='tokens of a row; default: 512; for generate 1200, as many as a '
                      'question about an image of 1920×1080 in 8 crops has')
  for flag, default, text in (('--new_tokens', 64, 'generate: tokens generated for every row'),
                              ('--max_crops', 8, 'preprocess: K, crops besides the global view'),
                              ('--blocks', 4, 'turns of each side'),
                              ('--runs', 3, 'timed runs in a turn')):
    parser.add_argument(flag, type=positive, default=default, metavar='N',
                        help=f'{text}; default: {default}')
  parser.add_argument('--size', type=_numbers, default='1920,1080', metavar='W,H',
                      help='preprocess: width,height of the image; default: %(default)s')
  parser.add_argument('--threads', type=positive, metavar='N',
                      help='cores for each side; default: all, for preprocess 1')
  args = parser.parse_args(arguments)
  jax.config.update('jax_platforms', 'cpu')
  threads = use_cores(args.threads or (1 if args.kind == 'preprocess' else 0))
  peer = import_peer(threads) if args.peer else None
  print(_conditions(args, threads, peer), flush=True)
  kinds[args.kind](args, peer)
  return 0


def _numbers(text: str) -> list[int]:
  return [positive(number) for number in text.split(',')]


def compare_decoding(args: argparse.Namespace, peer: Peer | None) -> None:
  """`molmo-jax benchmark generate`."""
  model, params = small.make_model()
  their_model = peer and small.peer_model(params, peer)
  for rows in args.batch:
    tokens = decoding.prompts(rows, args.prompt_tokens or 1200)
    sides = [decoding.ours(model, params, tokens, args.new_tokens)]
    if peer:
      sides.append(decoding.theirs(their_model, peer, tokens, args.new_tokens))
    print(f'decode, batch {rows}, {tokens.shape[1]} prompt tokens, {args.new_tokens} new tokens')
    _report(args, [side.run for side in sides], rows * args.new_tokens, 'tokens/s')
    if peer:
      print('  ' + decoding.agreement(*(side.tokens['ids'] for side in sides)), flush=True)


def compare_images(args: argparse.Namespace, peer: Peer | None) -> None:
  """`molmo-jax benchmark preprocess`."""
  width, height = args.size
  image = images.picture(width, height)
  theirs = [images.theirs(image, args.max_crops, peer)] if peer else []
  for normalised, output in ((False, 'uint8 crops (normalised on the device)'),
                             (True, 'float32 crops, as the peer')):
    print(f'preprocess, {width}×{height}, K = {args.max_crops}, our output: {output}')
    _report(args, [images.ours(image, args.max_crops, normalised), *theirs], 1, 'images/s')


def compare_training(args: argparse.Namespace, peer: Peer | None) -> None:
  """`molmo-jax benchmark train`."""
  model, params = small.make_model()
  tokens = decoding.prompts(1, args.prompt_tokens or 512)
  theirs = [training.theirs(small.peer_model(params, peer), peer, tokens)] if peer else []
  print(f'train step (AdamW), one row of {tokens.size} text tokens')
  _report(args, [training.ours(model, params, tokens), *theirs], tokens.size, 'tokens/s')


def _report(args: argparse.Namespace, runs: list[Run], work: float, unit: str) -> None:
  timings = alternate(runs, args.blocks, args.runs)
  for name, timing in zip(('ours', 'peer'), timings):
    print(f'  {name}: {timing.describe(work, unit)}')
  if len(timings) == 2:
    print(f'  ratio: {timings[1].median / timings[0].median:.2f}×', flush=True)


def _conditions(args: argparse.Namespace, threads: int, peer: Peer | None) -> str:
  """Everything that the numbers depend on, in one paragraph."""
  versions = [f'jax {jax.__version__}', f'numpy {np.__version__}', *(peer.versions if peer else ())]
  return (f'{args.kind}: {time.strftime("%Y-%m-%d %H:%M")}, {platform.machine()}, {threads} '
          f'core(s) for each side, float32, {", ".join(versions)}, '
          f'GLIBC_TUNABLES={os.environ.get("GLIBC_TUNABLES", "not set")}, {args.blocks} turns of '
          f'{args.runs} runs each in the order A B A B, medians')
