"""The comparison of two evaluations as one HTML file: the table, and the examples that differ."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from molmo_jax.evaluation.cards import MediaLoader, comparison_card
from molmo_jax.evaluation.compare import Difference
from molmo_jax.evaluation.predictions import Prediction
from molmo_jax.evaluation.report import MAX_BYTES, cards_within
from molmo_jax.files import write_atomically
from molmo_jax.pages.render import render


def write_comparison(path: str | os.PathLike, found: Mapping[str, Difference],
                     pairs: Sequence[tuple[Prediction, Prediction]], names: tuple[str, str],
                     media_loader: MediaLoader, cards_per_task: int = 24) -> None:
  """Writes the page, at most `MAX_BYTES` large.

  Args:
    path: the HTML file.
    found: what `compare(pairs)` gave.
    pairs: the common examples of both evaluations.
    names: of the first and the second evaluation.
    media_loader: the pictures of an example; if it raises OSError or ValueError, the message is
      shown instead.
    cards_per_task: examples shown of a task, those where the second is worse first.
  """
  differing = {task: [(a, b) for a, b in pairs if a.task == task and a.score != b.score]
               for task in found}
  cards = cards_within(MAX_BYTES - 100_000, {
    task: sorted(group, key=lambda pair: pair[1].score - pair[0].score)[:cards_per_task]
    for task, group in differing.items()}, lambda pair: comparison_card(pair, names, media_loader))
  sections = [(task, cards[task], len(group), False) for task, group in differing.items()
              if cards[task]]
  overall = found.get('all examples') or next(iter(found.values()))
  write_atomically(path, render('comparison.html', title=f'{names[1]} against {names[0]}',
                                found=found, overall=overall, names=names, sections=sections))
