"""Writes the manifest of a public training dataset from its files on this machine.

docs/datasets.md says where each dataset is; --list prints that table.
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

from rich.console import Console

from molmo_jax.command_line import make_parser
from molmo_jax.data.adapters import ADAPTERS
from molmo_jax.data.adapters.adapter import Counts, convert, write_urls
from molmo_jax.data.recipes import SFT, STAGES, Entry
from molmo_jax.data.tables import TableError
from molmo_jax.progress import Display

EXAMPLES = """
  # the images to download: lines of URL, tab, images/<sha256 of the URL>
  molmo-jax prepare_dataset pixmo_points --root=pixmo --urls=pixmo/urls.tsv
  # fine-tuning
  molmo-jax prepare_dataset pixmo_points --root=pixmo --out=data/sft/pixmo_points.jsonl
  # pre-training: the style is the prompt
  molmo-jax prepare_dataset pixmo_points --root=pixmo --out=data/pretrain/pixmo_points.jsonl \\
    --stage=pretrain
  # what there is
  molmo-jax prepare_dataset --list
"""
# stage → how a caption or a label is asked for, and how points are written (docs/training.md §1.1)
WRITING = {'pretrain': ('none', 'html-v1'), 'sft': ('templates', 'html-v2')}
NOT_WRITTEN = 'none yet: write the manifest yourself'
CHECKED = {'card': 'card on the Hub', 'loader': 'released loader', 'reader': 'another reader',
           'memory': '**not checked**'}


def main(arguments: list[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = make_parser('prepare_dataset', __doc__, EXAMPLES)
  parser.add_argument('name', nargs='?', help='the dataset: a name of docs/datasets.md')
  parser.add_argument('--root', type=Path, help='the folder with its files')
  parser.add_argument('--out', type=Path, help='the manifest, ….jsonl')
  parser.add_argument('--urls', type=Path, help='write the URLs of its images and the names that '
                      'they should get')
  parser.add_argument('--files', help='a pattern below --root instead of the usual ones')
  parser.add_argument('--stage', choices=sorted(WRITING), default='sft', help='how it is worded '
                      '(default: %(default)s)')
  parser.add_argument('--seed', type=int, default=0, help='for the choice of prompts (default: '
                      '%(default)s)')
  parser.add_argument('--limit', type=int, help='read at most this many rows')
  parser.add_argument('--list', action='store_true', help='print the table of docs/datasets.md')
  options = parser.parse_args(arguments)
  if options.list:
    print(table(), end='')
    return 0
  if not (options.name and options.root and (options.out or options.urls)):
    parser.error('name, --root and --out (or --urls) are needed, or --list')
  if options.name not in ADAPTERS:
    close = difflib.get_close_matches(options.name, ADAPTERS, n=3, cutoff=0.0)
    parser.error(f'there is no adapter {options.name!r}; the closest are: {", ".join(close)}')
  console = Console(stderr=True)
  prompts, points = WRITING[options.stage]
  try:
    if options.urls:
      urls = write_urls(ADAPTERS[options.name], options.root, options.urls, options.files)
      console.print(f'{options.urls}: {urls:,} URLs', highlight=False)
    if not options.out:
      return 0
    with Display(console, f'preparing {options.name}', 1) as display:
      def show(done: int, total: int, text: str) -> None:
        display.of(done, total)
        display.update(done, text)
      counts = convert(options.name, ADAPTERS[options.name], options.root, options.out,
                       prompts=prompts, points=points,
                       seed=options.seed, files=options.files, limit=options.limit, progress=show)
  except TableError as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  return _report(counts, options.out, console)


def _report(counts: Counts, out: Path, console: Console) -> int:
  console.print(f'{out}: {counts.records:,} records from {counts.rows:,} rows; {counts.missing:,} '
    f'skipped for missing media, {counts.unusable:,} unusable', highlight=False)
  for kind, first in (('missing', counts.first_missing), ('unusable', counts.first_unusable)):
    if first:
      console.print(f'  the first {kind}: {first}', highlight=False, markup=False)
  if not counts.records:
    print('error: no record was written', file=sys.stderr)
    return 1
  return 0


def table() -> str:
  """docs/datasets.md: the datasets of all stages."""
  lines = [INTRODUCTION.strip(), '']
  for stage, groups in STAGES.items():
    if stage != 'sft' and groups is SFT:
      lines += [f'## {stage}', '',
                'The datasets and rates of `sft`, with longer rows and more frames.', '']
      continue
    lines += [f'## {stage}', '']
    total = sum(group.rate for group in groups.values())
    for name, group in groups.items():
      lines += [f'### {name}: rate {group.rate:g}, {group.rate / total:.2%} of all draws', '',
                '| dataset | media | style | size, factor | extras | where | licence | columns '
                'checked against |',
                '| --- | --- | --- | --- | --- | --- | --- | --- |']
      lines += [_line(entry) for entry in group.entries]
      lines.append('')
  named = {entry.name for groups in STAGES.values() for group in groups.values()
           for entry in group.entries}
  others = sorted(set(ADAPTERS) - named)
  lines += ['## Adapters for datasets outside these stages', '',
            ', '.join(f'`{name}`' for name in others), '']
  return '\n'.join(lines)


def _line(entry: Entry) -> str:
  size = '√records' if entry.size is None else '1' if entry.size == 1 else f'√{entry.size:,.0f}'
  extras = [f'weight {entry.message_weight:g}'] if entry.message_weight is not None else []
  extras += [f'24 crops in {entry.p_high_res:.0%}'] if entry.p_high_res else []
  adapter = ADAPTERS.get(entry.name)
  where = entry.source if '://' not in entry.source else entry.source.split('://')[1]
  cells = (f'`{entry.name}`', entry.kind, entry.style,
           size + (f' · {entry.rate:g}' if entry.rate != 1 else ''),
           ', '.join(extras), f'[{where}]({entry.url})', entry.licence,
           CHECKED[adapter.schema] if adapter else NOT_WRITTEN)
  return f'| {" | ".join(cells)} |'


INTRODUCTION = """
# Datasets of the released training stages

Written by `molmo-jax prepare_dataset --list`; the data are in `molmo_jax/data/recipes.py`, the adapters
in `molmo_jax/data/adapters/`. How a mixture is drawn: [data.md](data.md#mixtures).

```bash
pip install pyarrow                         # for parquet files
molmo-jax prepare_dataset pixmo_points --root=pixmo --urls=pixmo/urls.tsv     # what to download
molmo-jax prepare_dataset pixmo_points --root=pixmo --out=data/sft/pixmo_points.jsonl
```

*Size, factor*: within its group a dataset counts with this root times the factor. *Weight*: loss weight of every token
of its answers, instead of the stage's formula. *Columns checked against* says how sure the adapter is of the files: the
dataset's card on the Hub, the loader that was released with the models (in public copies of it), another public reader
of the same files, or nothing (written from memory: look at the first records of the manifest). Where nothing is
written yet, a manifest of your own under the same name does ([data.md](data.md)). No dataset was downloaded to write
this table; pages outside the Hub were not opened, and licences are those of the annotations as far as known: read the
source's terms, media have their own.

Media: images that a dataset names by URL are expected in `ROOT/images/`, each called by the SHA-256 of its URL in hex
(any image suffix or none); `--urls` lists them with these names. Images inside a table are unpacked beside the
manifest. Videos are found anywhere below `ROOT` by file name or, where each has a folder of its own, by the folder's
name. What is missing is skipped and counted.

Differences from the released data: the wordings of prompts are this project's own and are drawn once per record;
multiple-choice questions use the layout of evaluation only; questions that ask for a count without pointing get no
extra instruction; a caption's transcript is drawn once; questions of TVQA come without subtitles, which lie in a file
of their own; of Ego4D only the language queries are taken; tracks keep the sampling rate of their row in the prompt,
but frames are sampled as `preprocess.video` says.
"""


if __name__ == '__main__':
  sys.exit(main())
