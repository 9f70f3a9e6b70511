"""Writes the synthetic dataset of configs/scenes.py: images, image pairs and clips with questions
about them.
"""

from __future__ import annotations

import dataclasses
import sys

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from molmo_jax.command_line import make_parser, one_line_errors, positive
from molmo_jax.scenes.config import ScenesConfig
from molmo_jax.scenes.generate import generate

EXAMPLES = """
  molmo-jax scenes --out data/scenes                        the default dataset
  molmo-jax scenes --out /tmp/few --train 200 --val 8       a few records to look at
"""


@one_line_errors
def main(arguments: list[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  config = ScenesConfig()
  records = sum(dataclasses.asdict(config.train).values())
  parser = make_parser('scenes', __doc__, EXAMPLES)
  parser.add_argument('--out', required=True, metavar='DIR', help='the folder to write; it must '
                      'not hold other files')
  parser.add_argument('--train', type=positive, default=records, metavar='N',
                      help=f'training records of all kinds together (default {records})')
  parser.add_argument('--val', type=positive, default=config.val_per_task, metavar='N',
                      help=f'validation questions of every task (default {config.val_per_task})')
  parser.add_argument('--seed', type=int, default=config.seed, help='random seed (default '
                      f'{config.seed})')
  options = parser.parse_args(arguments)
  counts = config.train if options.train == records else config.train.scaled(options.train)
  config = dataclasses.replace(config, seed=options.seed, train=counts, val_per_task=options.val)
  columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TextColumn('ETA'),
             TimeRemainingColumn())
  with Progress(*columns, transient=True) as progress:
    bar = progress.add_task('writing scenes', total=None)
    generate(config, options.out,
             lambda done, total: progress.update(bar, completed=done, total=total))
  print(f'{options.out}: train.jsonl, val.jsonl, images/, clips/, dataset.json')
  return 0


if __name__ == '__main__':
  sys.exit(main())
