"""The report as one HTML file that needs nothing else: tables and plots of every study."""

from __future__ import annotations

from collections.abc import Sequence

from molmo_jax.evaluation.report_html import escape, page
from molmo_jax.lab.sweep import plots, tables
from molmo_jax.lab.sweep.results import StudyResult
from molmo_jax.lab.sweep.tables import Cell, Table

CSS = """
.tasks td small{display:block;color:var(--muted);font-size:.78rem;font-weight:400}
.tasks td.strong{font-weight:600}
.tasks.all td:nth-child(-n+3),.tasks.all th:nth-child(-n+3){text-align:left;white-space:normal}
.panel+.panel{margin-top:14px}
.panel h3{font-size:.95rem;margin:0 0 8px}
.panel ul{margin:0;padding-left:1.2em;color:var(--muted);font-size:.85rem}
.panel ul code{font-size:.95em}
.scroll{overflow-x:auto}
.says{margin:0 0 12px}
.contents{display:flex;flex-wrap:wrap;gap:4px 14px;margin:0 0 18px}
.contents a,.tasks a{color:var(--bar)}
@media(max-width:700px){.tasks td small{display:inline;margin-left:.5em}.tasks td:first-child{flex:0 0 100%}}
"""


def report(studies: Sequence[StudyResult], title: str = 'Ablations') -> str:
  """The whole page."""
  arms = sum(len(study.arms) for study in studies)
  runs = len({run.folder for study in studies for arm in study.arms for run in arm.runs.values()})
  links = ''.join(f'<a href="#{escape(study.name)}">{escape(study.name)}</a>' for study in studies)
  notes = ''.join(f'<p class="key">{escape(note)}</p>' for note in tables.notes(studies))
  body = [f'<style>{CSS}{plots.CSS}</style><h1>{escape(title)}</h1>',
          f'<p class="lead"><b>{len(studies)}</b> {"study" if len(studies) == 1 else "studies"}, '
          f'<b>{arms}</b> arms, <b>{runs}</b> finished runs</p><nav class="contents">{links}</nav>',
          '<div class="panel"><div '
          f'class="scroll">{_table(tables.overview(studies), "tasks all")}</div>{notes}</div>',
          *(_study(study) for study in studies)]
  return page(title, body)


def _study(study: StudyResult) -> str:
  flags = ''.join(f'<li>{escape(arm.name)}: '
    f'<code>{escape(tables.flags_text(arm.flags))}</code></li>'
    for arm in study.arms if arm.flags)
  difference = ''
  if study.compared:
    difference = f'<div class="panel scroll">{_table(tables.differences(study), "tasks")}</div>'
  return ('<h2 '
    f'id="{escape(study.name)}">{escape(study.name)}<small>{escape(study.claim)}</small></h2><p '
    f'class="says">{escape(tables.verdict(study))}</p><div class="panel '
    f'scroll">{_table(tables.arms(study), "tasks")}</div>{difference}<div '
    f'class="panel"><h3>Accuracy</h3>{plots.accuracy_plots(study)}</div><div '
    'class="panel"><h3>Learning '
    f'curves</h3>{plots.legend(study)}{plots.curve_plots(study)}</div><div '
    f'class="panel"><h3>Flags</h3><ul>{flags}</ul></div>')


def _table(table: Table, kind: str) -> str:
  head = ''.join(f'<th>{escape(name)}</th>' for name in table.head)
  rows = ''.join(
    f'<tr>{"".join(_cell(cell, name, i == 0) for i, (cell, name) in enumerate(zip(row, table.head)))}</tr>'
    for row in table.rows)
  return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _cell(cell: Cell, name: str, first: bool) -> str:
  label = '' if first else f' data-label="{escape(name)}"'
  strong = ' class="strong"' if cell.strong else ''
  small = f'<small>{escape(cell.small)}</small>' if cell.small else ''
  return f'<td{strong}{label}>{escape(cell.text)}{small}</td>'
