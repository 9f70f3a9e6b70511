"""The evaluation report: one HTML file with the numbers, the pictures and the settings, that needs
nothing else.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from molmo_jax.evaluation import curves as training_curves
from molmo_jax.evaluation import report_html
from molmo_jax.evaluation.drawing import draw_tracks
from molmo_jax.evaluation.media import Picture
from molmo_jax.evaluation.predictions import Prediction
from molmo_jax.files import write_atomically
from molmo_jax.preprocess.tracks import parse_tracks

MAX_BYTES = 9_500_000                           # of the whole file

MediaLoader = Callable[[Prediction], Sequence[Picture]]


def write_report(
    path: str | os.PathLike,
    summary: Mapping[str, Any],
    records: Sequence[Prediction],
    media_loader: MediaLoader,
    title: str,
    settings: Mapping[str, Any],
    *,
    pictures_per_task: int = 24,
    curves: Sequence[Mapping[str, Any]] | None = None,
) -> None:
  """Writes the report of one evaluation.

  Args:
    path: the HTML file, at most `MAX_BYTES` large: examples beyond that are left out, evenly over
      the tasks.
    summary: what `summary.summarise(records)` gave.
    records: all examples; of every task, `choose_examples` picks the ones that are shown.
    media_loader: the pictures of a record, e.g. `media.load_media`. If it raises `OSError` or
      `ValueError` (a file that cannot be read) the example is shown with the message instead.
    title: heading of the page.
    settings: what was run, e.g. the configuration and the checkpoint's step; nested mappings and
      dataclasses are shown with dotted keys, in a section that is closed at first.
    pictures_per_task: how many examples of a task are shown, at most.
    curves: rows of a metrics JSONL, for training curves (`curves.curves_svg`).

  Raises:
    ValueError: records of a task that `summary` does not have.
  """
  tasks = list(summary['tasks'])
  by_task = {task: [r for r in records if r.task == task] for task in tasks}
  strangers = sorted({r.task for r in records} - set(tasks))
  if strangers:
    raise ValueError(f'the summary lacks tasks of the records: {", ".join(strangers)}; it has: '
      f'{", ".join(tasks)}')
  head = [report_html.header(title, summary), report_html.task_table(summary)]
  if curves:
    head.append(f'<h2>Training</h2><div class="panel">{training_curves.curves_svg(curves)}</div>')
  tail = [report_html.settings_table(flatten(settings))]
  chosen = {task: choose_examples(by_task[task], pictures_per_task) for task in tasks}
  room = MAX_BYTES - len(report_html.page(title, head + tail).encode()) - 1000 * (1 + len(tasks))
  cards = _make_cards(chosen, media_loader, room)
  sections = [
    report_html.section(i, task, cards[task], len(by_task[task]),
                        any(report_html.has_points(r) for r in chosen[task][:len(cards[task])]))
    for i, task in enumerate(tasks) if by_task[task]
  ]
  write_atomically(path, report_html.page(title,
                                          [*head, report_html.filters(tasks), *sections, *tail]))


def choose_examples(records: Sequence[Prediction], limit: int) -> list[Prediction]:
  """At most `limit` records: wrong and right ones in turn, as long as there are both, each kind in
  its order.
  """
  wrong = [r for r in records if not report_html.is_right(r)]
  right = [r for r in records if report_html.is_right(r)]
  turns = itertools.chain.from_iterable(itertools.zip_longest(wrong, right))
  return list(itertools.islice((r for r in turns if r is not None), limit))


def flatten(settings: Mapping[str, Any], prefix: str = '') -> dict[str, str]:
  """Nested settings as one level: `{'model.llm.layers': '24'}`. Mappings are what has `items()`."""
  flat: dict[str, str] = {}
  for key, value in settings.items():
    name = f'{prefix}{key}'
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
      value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if hasattr(value, 'items') and value:
      flat.update(flatten(value, f'{name}.'))
    else:
      flat[name] = str(value)
  return flat


def _make_cards(chosen: Mapping[str, Sequence[Prediction]], media_loader: MediaLoader,
                room: int) -> dict[str, list[str]]:
  """The cards of every task that fit into `room` bytes, the first of every task before the second
  of any.
  """
  cards: dict[str, list[str]] = {task: [] for task in chosen}
  for turn in itertools.zip_longest(*chosen.values()):
    for task, record in zip(chosen, turn, strict=True):
      if record is None:
        continue
      made = _make_card(record, media_loader)
      room -= len(made.encode())
      if room < 0:
        return cards
      cards[task].append(made)
  return cards


def _make_card(record: Prediction, media_loader: MediaLoader) -> str:
  try:
    pictures, problem = with_tracks(record, list(media_loader(record))), ''
  except (OSError, ValueError) as error:        # MediaError is a ValueError
    pictures, problem = [], f'picture not available: {error}'
  return report_html.card(record, pictures, problem)


def with_tracks(record: Prediction, pictures: Sequence[Picture]) -> Sequence[Picture]:
  """The frames of a video with the tracks of the prediction on them, every object in its colour
  with its id.
  """
  if not report_html.has_tracks(record):
    return pictures
  height, width = pictures[0].pixels.shape[:2]
  drawn = draw_tracks([p.pixels for p in pictures], [p.time or 0.0 for p in pictures],
                      parse_tracks(record.prediction, width, height, fps=1.0))
  return [dataclasses.replace(p, pixels=pixels) for p, pixels in zip(pictures, drawn, strict=True)]
