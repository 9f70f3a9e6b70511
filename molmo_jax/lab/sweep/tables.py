"""The tables of a report as rows of texts, which Markdown and HTML only dress."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from molmo_jax.lab.sweep.results import MEAN, StudyResult
from molmo_jax.lab.sweep.statistics import STRONG, WEAK, Mean, Paired


@dataclasses.dataclass(frozen=True)
class Cell:
  """A text, more of it in small print, and whether it stands out."""
  text: str
  small: str = ''
  strong: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
  """The first column names the row; all others are numbers."""
  head: list[str]
  rows: list[list[Cell]]


def overview(studies: Sequence[StudyResult]) -> Table:
  """One row per arm that is compared: the main outcome of every study."""
  head = ['study', 'arm', 'tasks', 'n', 'baseline', 'this arm', 'difference', 'p']
  rows = []
  for study in studies:
    for arm in study.compared:
      found = study.difference(arm)
      before, after = (Cell(percent(side.mean(MEAN).mean), side.name)
                       for side in (study.baseline, arm))
      rows.append([Cell(study.name), Cell(arm.name), Cell(', '.join(study.tasks)),
                   Cell(str(found.n)), before,
                   Cell(after.text), difference_cell(found), p_cell(found.p)])
  return Table(head, rows)


def arms(study: StudyResult) -> Table:
  """What every arm reaches, and what it takes."""
  head = ['arm', *study.columns, 'n', 'parameters', 'MFLOP/step', 'ms/step']
  rows = []
  for arm in study.arms:
    if arm.runs:
      baseline = ' (baseline)' if arm is study.baseline else ''
      rows.append([Cell(arm.name + baseline),
                   *(accuracy_cell(arm.mean(task)) for task in study.columns),
                   Cell(str(len(arm.runs))), Cell(f'{arm.typical("parameters"):,.0f}'),
                   Cell(f'{arm.typical("flops") / 1e6:,.0f}'),
                   Cell(f'{1e3 * arm.typical("step_seconds"):,.1f}')])
  return Table(head, rows)


def differences(study: StudyResult) -> Table:
  """Every arm against the baseline; the last column is the test over the examples of all tasks."""
  head = ['against the baseline', *study.columns, 'n', 'p over examples']
  rows = []
  for arm in study.compared:
    found = [study.difference(arm, task) for task in study.columns]
    cells = [Cell(f'{difference_cell(d).text}{mark(d.p)}',
                  f'{difference_cell(d).small}, {p_phrase(d.p)}', d.p < STRONG) for d in found]
    rows.append([Cell(arm.name), *cells, Cell(str(found[-1].n)),
                 Cell(p_text(study.p_over_examples(arm)))])
  return Table(head, rows)


def verdict(study: StudyResult) -> str:
  """One sentence: which arms differ from the baseline in the main outcome."""
  tested = [(arm, study.difference(arm)) for arm in study.compared]
  if not tested or tested[0][1].n < 2:
    return 'Too few finished seeds for a test.'
  said = [f'{arm.name} {signed(d.mean)} points ({p_phrase(d.p)})' for arm, d in tested
          if d.p < STRONG]
  what = study.tasks[0] if len(study.tasks) == 1 else f'the mean of {", ".join(study.tasks)}'
  if not said:
    return f'No arm differs from the baseline in {what} with p < {STRONG:g}.'
  return f'Against the baseline, in {what}, with p < {STRONG:g}: {"; ".join(said)}.'


def notes(studies: Sequence[StudyResult]) -> list[str]:
  """How to read the tables."""
  seeds = sorted({len(arm.runs) for study in studies for arm in study.arms if arm.runs})
  n = str(seeds[0]) if len(seeds) == 1 else f'{seeds[0]} to {seeds[-1]}'
  compared = sum(len(study.compared) for study in studies)
  lines = [
    f'Accuracy in % of the validation questions, answered by generation; n = {n} seeds. ± and '
    'brackets: 95 % t-interval over the seeds.',
    'Differences to the baseline in points, paired by seed: both arms of a seed share the order '
    'of the data and the initial values of what both have. p: two-sided paired t-test over the '
    f'seeds; ‡ p < {STRONG:g}, † p < {WEAK:g}, not corrected for the number of comparisons '
    f'({compared} here).',
    'p over examples: two-sided sign-flip test over the validation questions, each with its mean '
    'over the seeds.',
    'MFLOP/step: matrix products of one training step, forward and backward, padding not counted. '
    'ms/step: median, while other runs used the other cores.',
  ]
  missing = {study.name: study.missing for study in studies if study.missing}
  if missing:
    lines.append('Runs that are not finished and not counted: '
                 + ', '.join(f'{name} {count}' for name, count in missing.items()) + '.')
  return lines


def accuracy_cell(found: Mean) -> Cell:
  """Mean accuracy in %, with half of its interval."""
  return Cell(percent(found.mean), '' if math.isnan(found.half) else f'± {percent(found.half)}')


def difference_cell(found: Paired) -> Cell:
  """Difference to the baseline in points, with its interval."""
  interval = '' if math.isnan(found.low) else f'{signed(found.low)} … {signed(found.high)}'
  return Cell(signed(found.mean), interval, found.p < STRONG)


def p_cell(p: float) -> Cell:
  """A p-value with its mark of significance."""
  return Cell(p_text(p) + mark(p), strong=p < STRONG)


def p_text(p: float) -> str:
  """A p-value with as many digits as it deserves; – where there is none."""
  if math.isnan(p):
    return '–'
  return '< 0.0001' if p < 1e-4 else f'{p:.4f}' if p < 0.1 else f'{p:.2f}'


def p_phrase(p: float) -> str:
  """A p-value in a sentence: 'p = 0.03', 'p < 0.0001'."""
  return f'p {p_text(p)}' if p < 1e-4 else f'p = {p_text(p)}'


def mark(p: float) -> str:
  """‡ below 0.01, † below 0.05."""
  return ' ‡' if p < STRONG else ' †' if p < WEAK else ''


def percent(fraction: float) -> str:
  """A fraction in %, with one decimal."""
  return f'{100 * fraction:.1f}'


def signed(fraction: float) -> str:
  """A difference of fractions in points, with its sign."""
  return f'{100 * fraction:+.1f}'.replace('-', '−')


def flags_text(flags: Mapping[str, Any]) -> str:
  """As they are typed on the command line of train.py."""
  return ' '.join(f'--config.{key}={value}' for key, value in flags.items()) or 'none'
