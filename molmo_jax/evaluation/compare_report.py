"""The comparison of two evaluations as one HTML file: the table, and every example that one of them
answers better.
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence

from molmo_jax.evaluation import report_html
from molmo_jax.evaluation.compare import Difference
from molmo_jax.evaluation.predictions import Prediction
from molmo_jax.evaluation.report import MAX_BYTES, MediaLoader, with_tracks
from molmo_jax.files import write_atomically

_HEADS = ('difference', '95 % interval', 'p', 'better', 'worse', 'n')


def write_comparison(path: str | os.PathLike, found: Mapping[str, Difference],
                     pairs: Sequence[tuple[Prediction, Prediction]],
                     names: tuple[str, str], media_loader: MediaLoader,
                     cards_per_task: int = 24) -> None:
  """Writes the page, at most `MAX_BYTES` large.

  Args:
    found: what `compare(pairs)` gave.
    names: of the first and the second evaluation.
    media_loader: the pictures of a record; if it raises OSError or ValueError, the message is shown
      instead.
    cards_per_task: examples shown of a task, those where the second is worse first.
  """
  title = f'{names[1]} against {names[0]}'
  head = [f'<h1>{report_html.escape(title)}</h1>', f'<p class="lead">{_lead(found, names)}</p>',
          _table(found, names)]
  tasks = [task for task in found if any(a.task == task for a, _ in pairs)]
  room, sections = MAX_BYTES - 100_000, []
  for number, task in enumerate(tasks):
    differing = [(a, b) for a, b in pairs if a.task == task and a.score != b.score]
    cards = []
    for a, b in sorted(differing, key=lambda pair: pair[1].score - pair[0].score)[:cards_per_task]:
      made = _card(a, b, names, media_loader)
      room -= len(made.encode())
      if room < 0:
        break
      cards.append(made)
    if cards:
      sections.append(report_html.section(number, task, cards, len(differing), False))
  body = [*head, report_html.filters(tasks), *sections] if sections else head
  write_atomically(path, report_html.page(title, body))


def _lead(found: Mapping[str, Difference], names: tuple[str, str]) -> str:
  d = found.get('all examples') or next(iter(found.values()))
  verdict = 'no difference that chance does not explain' if d.p >= 0.05 else \
    f'{report_html.escape(names[1] if d.mean > 0 else names[0])} is better'
  return (f'{d.n} common examples; difference <b>{100 * d.mean:+.1f}</b> points '
          f'({100 * d.low:+.1f} … {100 * d.high:+.1f}), p = {d.p:.4f}: {verdict}')


def _table(found: Mapping[str, Difference], names: tuple[str, str]) -> str:
  rows = []
  for task, d in found.items():
    cells = (f'{100 * d.first:.1f}', f'{100 * d.second:.1f}', f'{100 * d.mean:+.1f}',
             f'{100 * d.low:+.1f} … {100 * d.high:+.1f}', f'{d.p:.4f}', d.better, d.worse, d.n)
    kind = ' class="accuracy"' if d.p < 0.05 else ''
    labels = (*names, *_HEADS)
    rows.append(f'<tr><td>{report_html.escape(task)}</td>' + ''.join(
      f'<td{kind if label in ("difference", "p") else ""} '
      f'data-label="{html.escape(label)}">{cell}</td>'
      for label, cell in zip(labels, cells, strict=True)) + '</tr>')
  head = ''.join(f'<th>{report_html.escape(name)}</th>' for name in ('task', *names, *_HEADS))
  return ('<div class="panel"><table '
    f'class="tasks"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table><p '
    'class="key">Paired over the same examples. Interval: bootstrap. p: two-sided sign-flip test; '
    'bold below 0.05.</p></div>')


def _card(a: Prediction, b: Prediction, names: tuple[str, str], media_loader: MediaLoader) -> str:
  try:
    pictures, problem = with_tracks(b, list(media_loader(b))), ''
  except (OSError, ValueError) as error:
    pictures, problem = [], f'picture not available: {error}'
  return report_html.comparison_card((a, b), names, pictures, problem)
