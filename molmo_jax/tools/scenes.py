"""Writes a small synthetic dataset of images, image pairs and clips with questions about them.

Examples:
  # the default dataset
  molmo-jax scenes --out data/scenes
  # a few records to look at
  molmo-jax scenes --out few --train 200 --val 8
"""

from __future__ import annotations

import dataclasses
import sys

from molmo_jax.command_line import make_parser, one_line_errors, positive
from molmo_jax.progress import Display
from molmo_jax.scenes.config import ScenesConfig
from molmo_jax.scenes.generate import generate
from molmo_jax.terminal import Terminal
from molmo_jax.visible import say


@one_line_errors
def main(arguments: list[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  config = ScenesConfig()
  records = sum(vars(config.train).values())
  parser = make_parser('scenes', __doc__)
  parser.add_argument('--out', required=True, metavar='DIR',
                      help='the folder to write; it must not hold other files')
  parser.add_argument('--train', type=positive, default=records, metavar='N',
                      help='training records of all kinds together; default: %(default)s')
  parser.add_argument('--val', type=positive, default=config.val_per_task, metavar='N',
                      help='validation questions of every task; default: %(default)s')
  parser.add_argument('--seed', type=int, default=config.seed,
                      help='random seed; default: %(default)s')
  args = parser.parse_args(arguments)
  counts = config.train if args.train == records else config.train.scaled(args.train)
  config = dataclasses.replace(config, seed=args.seed, train=counts, val_per_task=args.val)
  with Display(Terminal(), 'writing scenes', 1) as display:
    generate(config, args.out, display.of)
  say(f'{args.out}: train.jsonl, val.jsonl, images/, clips/, dataset.json')
  return 0


if __name__ == '__main__':
  sys.exit(main())
