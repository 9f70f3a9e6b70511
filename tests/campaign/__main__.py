"""Gives damaged and hostile inputs to the project and counts what becomes of them.

  python -m tests.campaign --minutes=5 --seed=1              # all areas, a minute each
  python -m tests.campaign --area=images --inputs=10000      # one area
  python -m tests.campaign --area=images --seed=1 --number=77   # one input again
  python -m tests.campaign --area=kills --kills=20           # signals at random moments
  python -m tests.campaign --area=kills --kills=20 --of=evaluation

Right is a value that holds what is known of it, or one clear error that names the file. Everything
else is bad: another exception, a hang, a crash, more than 2 GB, a connection, a process, a file
written elsewhere. The exit status is 1 if anything is bad; bad inputs are kept in --out.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from tests.campaign import kills
from tests.campaign.campaign import run_area, table
from tests.campaign.engine import AREAS

SHOWN = 40                       # kinds of fault of an area that are printed


def main() -> int:
  """Runs the command; returns its exit status."""
  args = _arguments()
  out = Path(args.out).absolute()
  areas = [args.area] if args.area else list(AREAS)
  if areas == ['kills']:
    return kills.run(args.kills, args.seed, args.minutes * 60, out, args.of)
  tallies = []
  for area in areas:
    numbers = [args.number] if args.number is not None else range(args.inputs or sys.maxsize)
    total = args.inputs or (1 if args.number is not None else None)
    tallies.append(run_area(area, args.seed, numbers, total, args.minutes * 60 / len(areas), out))
    for fault, count in tallies[-1].faults.most_common(SHOWN):
      first = tallies[-1].examples[fault]
      print(f'bad {area} × {count}, first --number={first.number} ({first.what[:80]!r}): '
            f'{first.reason}')
  print(table(tallies))
  bad = sum(tally.counts['bad'] for tally in tallies)
  if bad:
    print(f'bad inputs: {out}/bad')
  return int(bad > 0)


def _arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(prog='python -m tests.campaign', description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--minutes', type=float, default=math.inf,
                      help='at most, of all areas, without their preparation')
  parser.add_argument('--inputs', type=int, default=0, help='of every area; 0: the time decides')
  parser.add_argument('--seed', type=int, default=0, help='random seed')
  parser.add_argument('--area', choices=[*AREAS, 'kills'], help='default: all but kills')
  parser.add_argument('--number', type=int, help='only this input')
  parser.add_argument('--kills', type=int, default=10, help='signals of --area=kills')
  parser.add_argument('--of', choices=list(kills.JOBS), help='what is killed; default: all')
  parser.add_argument('--out', default='/tmp/molmo_campaign', help='where bad inputs are kept')
  args = parser.parse_args()
  if args.minutes == math.inf and not args.inputs and args.number is None and args.area != 'kills':
    parser.error('give --minutes or --inputs')
  return args


if __name__ == '__main__':
  sys.exit(main())
