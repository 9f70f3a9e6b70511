"""Writes the scenes dataset: `python -m molmo_jax.tools.scenes --out data/scenes`."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from molmo_jax.scenes.config import ScenesConfig
from molmo_jax.scenes.generate import generate

EXAMPLE = """example:
  python -m molmo_jax.tools.scenes --out data/scenes                        the default dataset
  python -m molmo_jax.tools.scenes --out /tmp/few --train 200 --val 8       a few records to look at
"""


def main(arguments: list[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  config = ScenesConfig()
  records = sum(dataclasses.asdict(config.train).values())
  parser = argparse.ArgumentParser(
      prog='python -m molmo_jax.tools.scenes', formatter_class=argparse.RawDescriptionHelpFormatter,
      epilog=EXAMPLE,
      description='Writes a small synthetic dataset of images, image pairs and clips with '
      'questions about them.')
  parser.add_argument('--out', required=True, metavar='DIR', help='the folder to write; it must '
                      'not hold other files')
  parser.add_argument('--train', type=_positive, default=records, metavar='N',
                      help=f'training records of all kinds together (default {records})')
  parser.add_argument('--val', type=_positive, default=config.val_per_task, metavar='N',
                      help=f'validation questions of every task (default {config.val_per_task})')
  parser.add_argument('--seed', type=int, default=config.seed, help='random seed (default '
                      f'{config.seed})')
  options = parser.parse_args(arguments)
  counts = config.train if options.train == records else config.train.scaled(options.train)
  config = dataclasses.replace(config, seed=options.seed, train=counts, val_per_task=options.val)
  columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TextColumn('ETA'),
             TimeRemainingColumn())
  try:
    with Progress(*columns, transient=True) as progress:
      bar = progress.add_task('writing scenes', total=None)
      generate(config, options.out, lambda done,
               total: progress.update(bar, completed=done, total=total))
  except ValueError as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  print(f'{options.out}: train.jsonl, val.jsonl, images/, clips/, dataset.json')
  return 0


def _positive(text: str) -> int:
  value = int(text)
  if value < 1:
    raise argparse.ArgumentTypeError(f'{value} is not a positive number')
  return value


if __name__ == '__main__':
  sys.exit(main())
