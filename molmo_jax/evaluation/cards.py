"""Cards of examples: pictures with reference and predicted points, the question and the answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from molmo_jax import metrics
from molmo_jax.evaluation.drawing import draw_tracks
from molmo_jax.evaluation.media import PICTURE_SIDE, STRIP_SIDE, Picture, data_uri, thumbnail
from molmo_jax.evaluation.predictions import Prediction
from molmo_jax.pages.render import macro
from molmo_jax.preprocess.points import parse_frame_points, parse_points
from molmo_jax.preprocess.tracks import parse_tracks

MAX_PICTURES = 8                                # of one example; evenly chosen from more
NEAR_FRAME = 0.5                                # seconds: farther points are on no frame

Points = Sequence[tuple[float, float]]
MediaLoader = Callable[[Prediction], Sequence[Picture]]


def card(example: Prediction, media_loader: MediaLoader) -> str:
  """One example as HTML.

  Args:
    example: what was asked, predicted and accepted.
    media_loader: gives the pictures of an example; an OSError or ValueError of it is shown in
      their place.
  """
  scores = f'{example.score:.2f}' if 0 < example.score < 1 else ''
  return _card(example, example.is_right, [('Predicted', example)], scores, media_loader)


def comparison_card(pair: tuple[Prediction, Prediction], names: tuple[str, str],
                    media_loader: MediaLoader) -> str:
  """One example that two evaluations answered: wrong where the second scores less.

  The points are those of the second.
  """
  first, second = pair
  scores = f'{first.score:.2f} → {second.score:.2f}'
  return _card(dataclasses.replace(second, options=()), second.score > first.score,
               list(zip(names, pair)), scores, media_loader)


def _card(example: Prediction, right: bool, predictions: list[tuple[str, Prediction]], scores: str,
          media_loader: MediaLoader) -> str:
  try:
    pictures, problem = with_tracks(example, list(media_loader(example))), ''
  except (OSError, ValueError) as error:        # MediaError is a ValueError
    pictures, problem = [], f'picture not available: {error}'
  last, most = len(pictures) - 1, MAX_PICTURES - 1
  shown = [round(i * last / most) for i in range(most + 1)] if last > most else range(last + 1)
  figures = [_figure(example, pictures, shown, number) for number in shown]
  return macro('cards.html', 'card')(example, right, predictions, scores, figures, len(pictures),
                                     problem)


def with_tracks(example: Prediction, pictures: Sequence[Picture]) -> Sequence[Picture]:
  """The frames of a video with the predicted tracks, every object in its colour with its id."""
  if not _has_tracks(example):
    return pictures
  height, width = pictures[0].pixels.shape[:2]
  drawn = draw_tracks([p.pixels for p in pictures], [p.time or 0.0 for p in pictures],
                      parse_tracks(example.prediction, width, height, fps=1.0))
  return [dataclasses.replace(p, pixels=pixels) for p, pixels in zip(pictures, drawn, strict=True)]


def has_points(example: Prediction) -> bool:
  """Whether points are drawn over the pictures of this example."""
  return bool(example.metric == 'points' or example.points
              or parse_frame_points(example.prediction))


def _has_tracks(example: Prediction) -> bool:
  return bool(example.times) and '<tracks' in example.prediction


def _figure(example: Prediction, pictures: Sequence[Picture], shown: Sequence[int], number: int
            ) -> dict[str, Any]:
  """What cards.html shows of one picture."""
  picture, alone = pictures[number], len(pictures) == 1
  image, tiny = thumbnail(picture.pixels, PICTURE_SIDE if alone else STRIP_SIDE)
  reference, predicted = _points_of(example, pictures, shown, number)
  time = '' if picture.time is None else f'{picture.time:.1f} s'
  return dict(image=image, tiny=tiny, uri=data_uri(image, lossless=tiny), reference=reference,
              predicted=predicted, aspect=picture.pixels.shape[0] / picture.pixels.shape[1],
              tolerance=100 * metrics.POINT_TOLERANCE, scale=1.0 if alone else 1.8,
              label=picture.label or time or ('' if alone else str(number + 1)))


def _points_of(example: Prediction, pictures: Sequence[Picture], shown: Sequence[int], number: int
               ) -> tuple[Points, Points]:
  """Reference and predicted points (x, y) of one picture, as fractions of its width and height."""
  picture = pictures[number]
  reference = example.points if number == 0 or picture.time is not None else ()
  if _has_tracks(example):
    return reference, []
  if len(pictures) == 1 and picture.time is None:
    old_forms = example.metric == 'points'
    return reference, parse_points(example.prediction, 1.0, 1.0, old_forms=old_forms)

  def belongs(frame: float) -> bool:
    if picture.time is None:                    # several images: the number of one, from 1
      return frame == number + 1
    distances = {i: abs(frame - (pictures[i].time or 0.0)) for i in shown}
    return distances[number] == min(distances.values()) <= NEAR_FRAME

  points = parse_frame_points(example.prediction)
  return reference, [(p.x, p.y) for p in points if belongs(float(p.frame))]
