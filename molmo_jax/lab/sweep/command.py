"""Runs studies, arms × seeds through train.py, and makes their report: tables with intervals and
p-values, and plots.

  python -m molmo_jax.tools.sweep --study=pooling                       # configs/ablations.py → runs/ablations
  python -m molmo_jax.tools.sweep --study=all --list                    # arms, flags, runs, time; --dry_run: commands
  python -m molmo_jax.tools.sweep --study=pooling,columns --seeds=2 --config.training.steps=300 --out=runs/quick
  python -m molmo_jax.tools.sweep --config=mine.py --study=all --out=runs/mine
  python -m molmo_jax.tools.sweep --report_only --out=runs/ablations    # the report again, from the folders

Every run has its folder <out>/runs/<flags>-seed<seed>-<hash>, with flags.json and log.txt. After an
interruption start the sweep again with the same command: finished runs stay, others go on from
their checkpoint. Writes report.html, report.md, results.csv and results.json into <out>. Exit
status: 0 if all runs are finished.
"""

import shlex
import sys
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import config_flags
from rich.console import Console

from molmo_jax import command_line
from molmo_jax.configuration import ConfigError
from molmo_jax.data.manifest import ManifestError
from molmo_jax.data.prepare import prepare
from molmo_jax.lab.sweep import listing, markdown, tables
from molmo_jax.lab.sweep.record import is_done
from molmo_jax.lab.sweep.report import write_report
from molmo_jax.lab.sweep.resources import backend, shares
from molmo_jax.lab.sweep.results import MEAN, StudyResult, read_results, write_plan
from molmo_jax.lab.sweep.scheduler import PROGRAM, Scheduler
from molmo_jax.lab.sweep.study import RUNS, Plan, choose, plan, read_studies
from molmo_jax.scenes.generate import ScenesError

CONFIG = command_line.define_config(PROGRAM.parent / 'configs/ablations.py',
                                      'a file with get_config and STUDIES; override with '
                                      '--config.a.b=c')
STUDY = flags.DEFINE_string('study', None, 'names of studies, as in pooling,layers; or all')
SEEDS = flags.DEFINE_integer('seeds', 5, 'runs of every arm', lower_bound=1)
OUT = flags.DEFINE_string('out', 'runs/ablations', 'folder of the sweep')
PROCESSES = flags.DEFINE_integer('processes', None,
                                 'runs at the same time; default: one per core on a CPU, else one',
                                 lower_bound=1)
LIST = flags.DEFINE_bool('list', False, 'show what would be run, and how long it takes')
DRY_RUN = flags.DEFINE_bool('dry_run', False,
                            'print the commands of the runs that are not finished')
REPORT_ONLY = flags.DEFINE_bool('report_only', False,
                                'make the report from what is finished, and run nothing')
INSERT = flags.DEFINE_string('insert', None,
                             'a Markdown file with marks that the tables are put between, too')


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise app.UsageError(f'unknown arguments: {argv[1:]}; flags look like --study=pooling')
  jax.config.update('jax_platforms', 'cpu')     # of this process; accelerators are for the runs
  console, out = Console(), Path(OUT.value).resolve()
  if REPORT_ONLY.value:
    make_report(out, console)
    return 0
  file = config_flags.get_config_filename(flags.FLAGS['config'])
  path, colon, arguments = file.partition(':')
  studies = read_studies(path)
  given = config_flags.get_override_values(flags.FLAGS['config'])
  planned = plan(CONFIG.value, given, choose(studies, STUDY.value or _missing(studies)),
                 SEEDS.value, out)
  config_file = str(Path(path).resolve()) + colon + arguments
  if DRY_RUN.value:
    for run in planned.runs.values():
      folder = out / RUNS / run.name
      if not is_done(folder):
        print(shlex.join([sys.executable, str(PROGRAM), *run.arguments(config_file, folder)]))
    return 0
  places = shares(PROCESSES.value, backend())
  if LIST.value:
    print(*listing.lines(planned, out, len(places)), sep='\n')
    return 0
  write_plan(out, planned, SEEDS.value)
  prepare_data(planned, console)
  outcome = Scheduler(list(planned.runs.values()), out, config_file, places, console).work()
  if outcome.stopped:
    console.print('stopped; the same command goes on from there', highlight=False)
    return 1
  if any(is_done(out / RUNS / name) for name in planned.runs):
    make_report(out, console)
  if outcome.failed:
    console.print(f'{len(outcome.failed)} of {len(planned.runs)} runs failed: '
      f'{", ".join(outcome.failed)}. Their folders are in {out / RUNS}; the same command tries '
      'them again', style='red', highlight=False)
  return 1 if outcome.failed else 0


def prepare_data(planned: Plan, console: Console) -> None:
  """Generates the scenes of every data setting, once, before the runs that read them."""
  prepared: set[str] = set()
  for run in (run.experiment for run in planned.runs.values()):
    if run.scenes is not None and run.data.scenes_root not in prepared:
      prepared.add(run.data.scenes_root)
      prepare(run.data, run.scenes, run.model.llm.first_extra_id, console)


def make_report(out: Path, console: Console) -> None:
  """Writes the report of all studies in `out` (or those of --study), and shows its main numbers."""
  names = None if STUDY.value in (None, 'all') or not REPORT_ONLY.value else STUDY.value.split(',')
  studies = read_results(out, names)
  for study in studies:
    show(study, console)
  paths = write_report(studies, out)
  console.print(f'written: {", ".join([str(paths[0]), *(path.name for path in paths[1:])])}',
                highlight=False,
                soft_wrap=True)
  if INSERT.value:
    done = markdown.insert(Path(INSERT.value), studies)
    console.print(f'put into {INSERT.value}: {", ".join(done)}', highlight=False)


def show(study: StudyResult, console: Console) -> None:
  """The main outcome of one study, a line per arm."""
  console.print(f'[bold]{study.name}[/bold]: {", ".join(study.tasks)}', highlight=False)
  for arm in study.arms:
    line = f'  {arm.name}: not finished'
    if arm.runs:
      found = tables.accuracy_cell(arm.mean(MEAN))
      line = f'  {arm.name}: {found.text} {found.small} (n = {len(arm.runs)})'
    if arm in study.compared:
      found = study.difference(arm)
      line += f'; difference {tables.difference_cell(found).text}, {tables.p_phrase(found.p)}{tables.mark(found.p)}'
    console.print(line, highlight=False, markup=False)


def _missing(studies: dict) -> str:
  raise ConfigError(f'--study is missing; there are: {", ".join(studies)}, all')


def run_main() -> None:
  """Faults of the user's input end with one line instead of a traceback."""
  logging.set_verbosity(logging.WARNING)
  try:
    app.run(main, flags_parser=command_line.parse_flags)
  except (ConfigError, ManifestError, ScenesError) as error:
    raise SystemExit(f'error: {error}') from None
