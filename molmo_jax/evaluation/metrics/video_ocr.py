"""MME-VideoOCR: answers that must occur in the prediction (docs/training.md §5.2)."""

from __future__ import annotations


def contains_answer(answer: str, prediction: str) -> float:
  """1 if every part of the answer (separated by ';') occurs in the prediction, case and kind of
  apostrophe aside.

  Upstream first reduces the prediction to one of the letters ABCD, with which no text can be
  contained; that is not reproduced.
  """
  text = _plain(prediction)
  return float(all(part.strip() in text for part in _plain(answer).split(';')))


def _plain(text: str) -> str:
  return text.replace('\u2019', "'").lower()
