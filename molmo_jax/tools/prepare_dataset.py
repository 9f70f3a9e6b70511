"""Writes the manifest of a public training dataset from its files on this machine.

docs/datasets.md says where each dataset is; --list prints that page.

Examples:
  # the images to download: lines of URL, tab, images/<sha256 of the URL>
  molmo-jax prepare_dataset pixmo_cap --root=pixmo --urls=pixmo/urls.tsv
  # facts, which every stage words in its own way, anew in every epoch
  molmo-jax prepare_dataset pixmo_cap --root=pixmo --out=data/pixmo_cap.jsonl
  # finished conversations, worded once
  molmo-jax prepare_dataset pixmo_cap --root=pixmo --out=cap.jsonl --stage=pretrain
  # what there is
  molmo-jax prepare_dataset --list
"""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

from molmo_jax.command_line import make_parser, one_line_errors
from molmo_jax.data.conversations import Prompts
from molmo_jax.data.formatting import Formatter
from molmo_jax.datasets import TRAINING
from molmo_jax.datasets.page import training_page
from molmo_jax.datasets.training import convert, write_urls
from molmo_jax.progress import Display
from molmo_jax.terminal import Terminal
from molmo_jax.visible import say

STAGES: dict[str, Prompts] = {'pretrain': 'style_only', 'sft': 'molmo2', 'v1': 'molmo_v1'}


@one_line_errors
def main(arguments: list[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = make_parser('prepare_dataset', __doc__)
  parser.add_argument('name', nargs='?', help='the dataset: a name of docs/datasets.md')
  parser.add_argument('--root', type=Path, help='the folder with its files')
  parser.add_argument('--out', type=Path, help='the manifest, ….jsonl')
  parser.add_argument('--urls', type=Path,
                      help='write the URLs of its images and the names that they should get')
  parser.add_argument('--files', default='',
                      help='a pattern below --root instead of the usual ones')
  parser.add_argument('--stage', choices=sorted(STAGES), help='write finished conversations as '
                      'this stage words them, drawn once, instead of facts')
  parser.add_argument('--seed', type=int, default=0,
                      help='for the wordings of --stage (default: %(default)s)')
  parser.add_argument('--limit', type=int, help='read at most this many rows')
  parser.add_argument('--list', action='store_true', help='print docs/datasets.md')
  options = parser.parse_args(arguments)
  if options.list:
    print(training_page(), end='')
    return 0
  if not (options.name and options.root and (options.out or options.urls)):
    parser.error('name, --root and --out (or --urls) are needed, or --list')
  if options.name not in TRAINING:
    close = difflib.get_close_matches(options.name, TRAINING, n=3, cutoff=0.0)
    parser.error(f'there is no dataset {options.name!r}; the closest are: {", ".join(close)}')
  if options.urls:
    urls = write_urls(TRAINING[options.name], options.root, options.urls, options.files)
    say(f'{options.urls}: {urls:,} URLs', file=sys.stderr)
  return _prepare(options) if options.out else 0


def _prepare(options: argparse.Namespace) -> int:
  formatter = Formatter(STAGES[options.stage]) if options.stage else None
  with Display(Terminal(stderr=True), f'preparing {options.name}', 1) as display:
    counts = convert(
      TRAINING[options.name], options.root, options.out, files=options.files, limit=options.limit,
      formatter=formatter, seed=options.seed, progress=lambda counts: display.update(0, (
        f'{counts.rows:,} rows, {counts.records:,} records, {counts.missing:,} missing')))
  say(f'{options.out}: {counts.records:,} records from {counts.rows:,} rows; {counts.missing:,} '
        f'skipped for missing media, {counts.unusable:,} unusable', file=sys.stderr)
  for kind, first in (('missing', counts.first_missing), ('unusable', counts.first_unusable)):
    if first:
      say(f'  the first {kind}: {first}', file=sys.stderr)
  if not counts.records:
    raise ValueError('no record was written')
  return 0


if __name__ == '__main__':
  sys.exit(main())
