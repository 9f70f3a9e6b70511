"""The tables of a report as rows of texts, which Markdown and HTML only dress."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from molmo_jax.lab.sweep.results import MEAN, StudyResult
from molmo_jax.lab.sweep.statistics import STRONG, WEAK, Mean, Paired
from molmo_jax.lab.sweep.study import flag_texts
from molmo_jax.pages.render import percent

NOTES = Path(__file__).with_name('notes.txt').read_text(encoding='utf-8')


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
      before, after = (percent(side.mean(MEAN).mean) for side in (study.baseline, arm))
      texts = study.name, arm.name, ', '.join(study.tasks), str(found.n)
      rows.append([*map(Cell, texts), Cell(before, study.baseline.name), Cell(after),
                   difference_cell(found),
                   Cell(p_text(found.p) + mark(found.p), strong=found.strong)])
  return Table(head, rows)


def arms(study: StudyResult) -> Table:
  """What every arm reaches, and what it takes."""
  head = ['arm', *study.columns, 'n', 'parameters', 'MFLOP/step', 'ms/step']
  rows = []
  for arm in filter(lambda arm: arm.runs, study.arms):
    numbers = (f'{len(arm.runs)}', f'{arm.typical("parameters"):,.0f}',
               f'{arm.typical("flops") / 1e6:,.0f}', f'{1e3 * arm.typical("step_seconds"):,.1f}')
    rows.append([Cell(arm.name + ' (baseline)' * (arm is study.baseline)),
                 *(accuracy_cell(arm.mean(task)) for task in study.columns), *map(Cell, numbers)])
  return Table(head, rows)


def differences(study: StudyResult) -> Table:
  """Every arm against the baseline; the last column is the test over the examples of all tasks."""
  head = ['against the baseline', *study.columns, 'n', 'p over examples']
  rows = []
  for arm in study.compared:
    found = [study.difference(arm, task) for task in study.columns]
    cells = [Cell(cell.text + mark(d.p), f'{cell.small}, {p_phrase(d.p)}', cell.strong)
             for d, cell in zip(found, map(difference_cell, found))]
    rows.append([Cell(arm.name), *cells, Cell(str(found[-1].n)),
                 Cell(p_text(study.p_over_examples(arm)))])
  return Table(head, rows)


def verdict(study: StudyResult) -> str:
  """One sentence: which arms differ from the baseline in the main outcome."""
  tested = [(arm, study.difference(arm)) for arm in study.compared]
  if not tested or tested[0][1].n < 2:
    return 'Too few finished seeds for a test.'
  said = [f'{arm.name} {signed(d.mean)} points ({p_phrase(d.p)})' for arm, d in tested if d.strong]
  what = study.tasks[0] if len(study.tasks) == 1 else f'the mean of {", ".join(study.tasks)}'
  if not said:
    return f'No arm differs from the baseline in {what} with p < {STRONG:g}.'
  return f'Against the baseline, in {what}, with p < {STRONG:g}: {"; ".join(said)}.'


def notes(studies: Sequence[StudyResult]) -> list[str]:
  """How to read the tables."""
  seeds = sorted({len(arm.runs) for study in studies for arm in study.arms if arm.runs})
  n = str(seeds[0]) if len(seeds) == 1 else f'{seeds[0]} to {seeds[-1]}'
  compared = sum(len(study.compared) for study in studies)
  lines = NOTES.format(n=n, strong=STRONG, weak=WEAK, compared=compared).splitlines()
  missing = [f'{study.name} {study.missing}' for study in studies if study.missing]
  if missing:
    lines.append(f'Runs that are not finished and not counted: {", ".join(missing)}.')
  return lines


def accuracy_cell(found: Mean) -> Cell:
  """Mean accuracy in %, with half of its interval."""
  return Cell(percent(found.mean), '' if math.isnan(found.half) else f'± {percent(found.half)}')


def difference_cell(found: Paired) -> Cell:
  """Difference to the baseline in points, with its interval."""
  interval = '' if math.isnan(found.low) else f'{signed(found.low)} … {signed(found.high)}'
  return Cell(signed(found.mean), interval, found.strong)


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


def signed(fraction: float) -> str:
  """A difference of fractions in points, with its sign."""
  return f'{100 * fraction:+.1f}'.replace('-', '−')


def flags_text(flags: Mapping[str, Any]) -> str:
  """As they are typed on the command line of train.py."""
  return ' '.join(flag_texts(flags)) or 'none'
