"""Runs ablation studies, arms × seeds through train.py, and writes their report.

Every run has its folder <out>/runs/<flags>-seed<seed>-<hash>, with flags.json and log.txt. After an
interruption start the sweep again with the same command: finished runs stay, others resume from
their checkpoint. Writes report.html, report.md, results.csv and results.json into <out>.

Examples:
  molmo-jax sweep --study=pooling                       # configs/ablations.py → runs/ablations
  molmo-jax sweep --study=all --list                    # arms, flags, runs, time
  molmo-jax sweep --study=pooling,columns --seeds=2 --config.training.steps=300 --out=runs/quick
  molmo-jax sweep --config=mine.py --study=all --out=runs/mine
  molmo-jax sweep --report_only --out=runs/ablations    # the report again, from the folders
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import jax
from absl import logging

from molmo_jax.command_line import add_config, make_parser, one_line_errors, positive, read_config
from molmo_jax.lab.sweep import listing, markdown, tables
from molmo_jax.lab.sweep.record import is_done
from molmo_jax.lab.sweep.report import write_report
from molmo_jax.lab.sweep.resources import backend, shares
from molmo_jax.lab.sweep.results import MEAN, StudyResult, read_results, write_plan
from molmo_jax.lab.sweep.scheduler import PROGRAM, Scheduler
from molmo_jax.lab.sweep.study import RUNS, Plan, choose, plan, read_studies
from molmo_jax.scenes.prepare import prepare
from molmo_jax.terminal import Terminal
from molmo_jax.visible import say

DEFAULT_CONFIG = 'configs/ablations.py'


@one_line_errors
def main(arguments: list[str] | None = None) -> int:
  """Runs the command; returns its exit status: 0 if all runs are finished."""
  args, rest = _parser().parse_known_args(arguments)
  logging.set_verbosity(logging.WARNING)
  jax.config.update('jax_platforms', 'cpu')     # of this process; accelerators are for the runs
  console, out = Terminal(), Path(args.out).resolve()
  if args.report_only:
    make_report(out, args.study, args.insert, console)
    return 0
  given = read_config(args.config, rest)
  path, colon, options = given.file.partition(':')
  studies = read_studies(path)
  planned = plan(given.config, given.overrides, choose(studies, args.study), args.seeds, out)
  config_file = str(Path(path).resolve()) + colon + options
  if args.dry_run:
    for run in planned.runs.values():
      folder = out / RUNS / run.name
      if not is_done(folder):
        say(shlex.join([sys.executable, str(PROGRAM), *run.arguments(config_file, folder)]))
    return 0
  places = shares(args.processes, backend())
  if args.list:
    say('\n'.join(listing.lines(planned, out, len(places))))
    return 0
  write_plan(out, planned, args.seeds)
  prepare_data(planned, console)
  outcome = Scheduler(list(planned.runs.values()), out, config_file, places, console).work()
  if outcome.stopped:
    console.print('stopped; the same command resumes it')
    return outcome.stopped.status
  if any(is_done(out / RUNS / name) for name in planned.runs):
    make_report(out, None, args.insert, console)
  if outcome.failed:
    console.print(f'{len(outcome.failed)} of {len(planned.runs)} runs failed: '
      f'{", ".join(outcome.failed)}. Their folders are in {out / RUNS}; the same command tries '
      'them again', style='red')
  return 1 if outcome.failed else 0


def _parser() -> argparse.ArgumentParser:
  parser = make_parser('sweep', __doc__)
  add_config(parser, DEFAULT_CONFIG)
  parser.add_argument('--study', metavar='NAMES', help='studies, as in pooling,layers; or all')
  parser.add_argument('--seeds', type=positive, default=5, metavar='N',
                      help='runs of every arm; default: %(default)s')
  parser.add_argument('--out', default='runs/ablations', metavar='DIR',
                      help='folder of the sweep; default: %(default)s')
  parser.add_argument('--processes', type=positive, metavar='N',
                      help='runs at the same time; default: one per core on a CPU, else one')
  for flag, text in (('--list', 'show what would be run, and how long it takes'),
                     ('--dry_run', 'print the commands of the runs that are not finished'),
                     ('--report_only', 'make the report from what is finished, and run nothing')):
    parser.add_argument(flag, action='store_true', help=text)
  parser.add_argument('--insert', metavar='FILE',
                      help='a Markdown file with marks that the tables are put between, too')
  return parser


def prepare_data(planned: Plan, console: Terminal) -> None:
  """Generates the scenes of every data setting, once, before the runs that read them."""
  settings = {run.experiment.data.scenes_root: run.experiment for run in planned.runs.values()}
  for run in settings.values():
    if run.scenes is not None:
      prepare(run.data, run.scenes, run.model.llm.first_extra_id, console)


def make_report(out: Path, study: str | None, insert: str | None, console: Terminal) -> None:
  """Writes the report of `study` (names with commas; None: all) and prints its main numbers.

  `insert`: a Markdown file that gets the tables, too.
  """
  names = None if study in (None, 'all') else study.split(',')
  studies = read_results(out, names)
  for study in studies:
    show(study, console)
  paths = write_report(studies, out)
  console.print(f'written: {", ".join([str(paths[0]), *(path.name for path in paths[1:])])}',
                soft_wrap=True)
  if insert:
    done = markdown.insert(Path(insert), studies)
    console.print(f'put into {insert}: {", ".join(done)}')


def show(study: StudyResult, console: Terminal) -> None:
  """The main outcome of one study, a line per arm."""
  console.print(f'{study.name}: {", ".join(study.tasks)}', style='bold')
  for arm in study.arms:
    line = f'  {arm.name}: not finished'
    if arm.runs:
      found = tables.accuracy_cell(arm.mean(MEAN))
      line = f'  {arm.name}: {found.text} {found.small} (n = {len(arm.runs)})'
    if arm in study.compared:
      found = study.difference(arm)
      line += (f'; difference {tables.difference_cell(found).text}, {tables.p_phrase(found.p)}'
               f'{tables.mark(found.p)}')
    console.print(line)
