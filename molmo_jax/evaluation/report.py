"""The evaluation report: one HTML file with the numbers, the pictures and the settings."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from molmo_jax.configuration import flatten
from molmo_jax.evaluation.cards import MediaLoader, card, has_points
from molmo_jax.evaluation.predictions import Prediction
from molmo_jax.files import write_atomically
from molmo_jax.pages.curves import curve_panels
from molmo_jax.pages.render import render

T = TypeVar('T')

MAX_BYTES = 9_500_000                           # of the whole file


def write_report(
    path: str | os.PathLike,
    summary: Mapping[str, Any],
    predictions: Sequence[Prediction],
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
    summary: what `summary.summarise(predictions)` gave.
    predictions: all examples; of every task, `choose_examples` picks the ones that are shown.
    media_loader: the pictures of an example, e.g. `media.load_media`. If it raises `OSError` or
      `ValueError` (a file that cannot be read) the example is shown with the message instead.
    title: heading of the page.
    settings: what was run, e.g. the configuration and the checkpoint's step; nested mappings are
      shown with dotted keys, in a section that is closed at first.
    pictures_per_task: how many examples of a task are shown, at most.
    curves: lines of a metrics JSONL, for training curves (`curves.curve_panels`).

  Raises:
    ValueError: predictions of a task that `summary` does not have.
  """
  by_task = {task: [p for p in predictions if p.task == task] for task in summary['tasks']}
  strangers = sorted({p.task for p in predictions} - set(by_task))
  if strangers:
    raise ValueError(f'the summary lacks tasks of the predictions: {", ".join(strangers)}; it has: '
                     f'{", ".join(by_task)}')

  def page(sections: list) -> str:
    return render('report.html', title=title, summary=summary, sections=sections,
                  curves=curve_panels(curves) if curves else None, settings=flatten(settings))

  chosen = {task: choose_examples(group, pictures_per_task) for task, group in by_task.items()}
  empty = page([(task, [], 0, True) for task in chosen])
  cards = cards_within(MAX_BYTES - len(empty.encode()), chosen,
                       lambda example: card(example, media_loader))
  write_atomically(path, page([
    (task, cards[task], len(group), any(map(has_points, chosen[task][:len(cards[task])])))
    for task, group in by_task.items() if group]))


def choose_examples(predictions: Sequence[Prediction], limit: int) -> list[Prediction]:
  """At most `limit` examples: wrong and right ones in turn, each kind in its order."""
  wrong = [p for p in predictions if not p.is_right]
  right = [p for p in predictions if p.is_right]
  turns = itertools.chain.from_iterable(itertools.zip_longest(wrong, right))
  return list(itertools.islice((p for p in turns if p is not None), limit))


def cards_within(room: int, examples: Mapping[str, Sequence[T]], card: Callable[[T], str]
                 ) -> dict[str, list[str]]:
  """The cards of every task that fit into `room` bytes, the first of every task before the second
  of any.
  """
  cards: dict[str, list[str]] = {task: [] for task in examples}
  for turn in itertools.zip_longest(*examples.values()):
    for task, example in zip(examples, turn):
      if example is not None:
        made = card(example)
        room -= len(made.encode())
        if room < 0:
          return cards
        cards[task].append(made)
  return cards
