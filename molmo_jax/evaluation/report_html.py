"""The pieces of the evaluation report as HTML text. Every text that comes from data passes through
`escape`.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from molmo_jax import metrics
from molmo_jax.evaluation.media import PICTURE_SIDE, STRIP_SIDE, Picture, data_uri, thumbnail
from molmo_jax.evaluation.predictions import Prediction
from molmo_jax.evaluation.report_style import CSS, SCRIPT
from molmo_jax.preprocess.points import parse_frame_points, parse_points

MAX_PICTURES = 8                                # of one example; evenly chosen from more
# a tall picture is shown no higher than this, CSS pixels
MAX_HEIGHT = 320
MAX_TEXT = 3000                                 # characters of a question or an answer
MAX_ANSWERS = 12
# a point is drawn on the nearest frame if it is this near, seconds
NEAR_FRAME = 0.5


Points = Sequence[tuple[float, float]]

_NOTHING = '<i>nothing</i>'


def escape(text: Any) -> str:
  """`text` for the inside of an element or of a quoted attribute; very long texts are cut."""
  text = str(text)
  return html.escape(text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + ' …')


def percent(fraction: float) -> str:
  return f'{100 * fraction:.1f}'


def page(title: str, body: Sequence[str]) -> str:
  return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
          '<meta name="viewport" content="width=device-width,initial-scale=1">'
          f'<title>{escape(title)}</title><style>{CSS}</style></head><body>\n'
          f'{"".join(body)}\n<script>{SCRIPT}</script></body></html>\n')


def header(title: str, summary: dict[str, Any]) -> str:
  row, tasks = summary['overall'], len(summary['tasks'])
  return (f'<h1>{escape(title)}</h1><p class="lead"><b>{percent(row["accuracy"])}\u00a0%</b> of '
    f'{row["n"]} examples in {tasks} {"task" if tasks == 1 else "tasks"}; chance '
    f'{percent(row["chance"])}\u00a0%</p>')


def task_table(summary: dict[str, Any]) -> str:
  """One line per task: bar of the accuracy, whiskers of its interval, a dashed line at chance."""
  interval = f'{100 * summary.get("confidence", 0.95):g} % interval'
  body = ''.join(_task_row(task, row, interval) for task, row in summary['tasks'].items())
  foot = ''
  if len(summary['tasks']) > 1:
    foot = f'<tfoot>{_task_row("all examples", summary["overall"], interval)}</tfoot>'
  return ('<div class="panel"><table class="tasks"><thead><tr><th>task</th><th class="plot">0 – '
    '100 '
    f'%</th><th>accuracy</th><th>{interval}</th><th>chance</th><th>n</th></tr></thead><tbody>{body}</tbody>{foot}</table><p '
    f'class="key"><i class="fill"></i>accuracy<i class="interval"></i>{interval}<i '
    'class="chance"></i>chance</p></div>')


def _task_row(task: str, row: dict[str, Any], interval: str) -> str:
  accuracy, low, high, chance = (percent(row[name])
                                 for name in ('accuracy', 'low', 'high', 'chance'))
  width = 100 * (row['high'] - row['low'])
  return (f'<tr><td>{escape(task)}</td><td class="plot"><div class="bar" role="img" '
    f'aria-label="{accuracy} %"><span class="fill" style="width:{accuracy}%"></span><span '
    f'class="interval" style="left:{low}%;width:{width:.1f}%"></span><span class="chance" '
    f'style="left:{chance}%"></span></div></td><td class="accuracy">{accuracy}</td><td '
    f'data-label="{interval}">{low} – {high}</td><td data-label="chance">{chance}</td><td '
    f'data-label="n">{row["n"]}</td></tr>')


def filters(tasks: Sequence[str]) -> str:
  """The filter bar; hidden until the script runs, so that without scripts everything is shown and
  nothing is dead.
  """
  options = ''.join(f'<option value="{i}">{escape(task)}</option>' for i, task in enumerate(tasks))
  return ('<div class="filters" hidden><label>Task <select><option '
    f'value="">all</option>{options}</select></label><label><input type="checkbox"> wrong '
    'only</label><output></output></div>')


def section(number: int, task: str, cards: Sequence[str], total: int, with_points: bool) -> str:
  return (f'<section data-task="{number}"><h2>{escape(task)}<small>{len(cards)} of {total} '
    f'shown</small></h2>{_LEGEND if with_points else ""}<div '
    f'class="cards">{"".join(cards)}</div></section>')


def settings_table(settings: dict[str, str]) -> str:
  rows = ''.join(f'<tr><td>{escape(key)}</td><td>{escape(value)}</td></tr>'
                 for key, value in settings.items())
  return f'<details class="panel"><summary>Settings</summary><table class="settings">{rows}</table></details>'


def card(record: Prediction, pictures: Sequence[Picture], problem: str = '') -> str:
  """One example.

  Args:
    record: what was asked, predicted and accepted.
    pictures: the image, the images, or frames of the video.
    problem: why pictures are missing; shown in their place.
  """
  right = is_right(record)
  rows = [_prediction('Predicted', record), ('Accepted', _accepted(record), '')]
  if record.options:
    rows.append(('Options', escape(' · '.join(record.options)), ''))
  if 0 < record.score < 1:
    rows.append(('Score', f'{record.score:.2f}', ''))
  return _card(record, 'right' if right else 'wrong', rows, pictures, problem)


def comparison_card(pair: tuple[Prediction, Prediction], names: tuple[str, str],
                    pictures: Sequence[Picture], problem: str = ''
                    ) -> str:
  """One example that two evaluations answered: wrong where the second scores less. The points are
  the second's.
  """
  rows = [_prediction(name, record) for name, record in zip(names, pair)]
  rows += [('Accepted', _accepted(pair[1]), ''),
           ('Scores', f'{pair[0].score:.2f} → {pair[1].score:.2f}', '')]
  return _card(pair[1], 'right' if pair[1].score > pair[0].score else 'wrong', rows, pictures,
               problem)


def _prediction(name: str, record: Prediction) -> tuple[str, str, str]:
  word, sign = ('right', '✓') if is_right(record) else ('wrong', '✗')
  # coordinates: small
  tagged = ' tagged' if '<point' in record.prediction or '<track' in record.prediction else ''
  mark = f'<span class="mark {word}" title="{word}">{sign}</span>'
  return escape(
    name), f'{mark}{escape(record.prediction) or _NOTHING}', f' class="prediction{tagged}"'


def _card(record: Prediction, kind: str, rows: Sequence[tuple[str, str, str]],
          pictures: Sequence[Picture], problem: str
          ) -> str:
  texts = ''.join(f'<dt>{name}</dt><dd{attribute}>{value}</dd>' for name, value, attribute in rows)
  missing = f'<div class="media"><p class="missing">{escape(problem)}</p></div>' if problem else ''
  source = escape(' · '.join(dict.fromkeys(t for t in (record.id, record.source) if t)))
  return (f'<article class="card {kind}">{_media(record, pictures)}{missing}'
          f'<div class="text"><p class="question">{escape(record.question)}</p><dl>{texts}</dl>'
          f'<p class="source">{source}</p></div></article>')


def is_right(record: Prediction) -> bool:
  return record.score >= 0.5


def has_points(record: Prediction) -> bool:
  """Whether points are drawn over the pictures of this example."""
  return bool(record.metric == 'points' or record.points or parse_frame_points(record.prediction))


def has_tracks(record: Prediction) -> bool:
  """Whether the prediction follows objects through a video; they are then drawn into the frames."""
  return bool(record.times) and '<tracks' in record.prediction


def _accepted(record: Prediction) -> str:
  if record.answers:
    more = len(record.answers) - MAX_ANSWERS
    return escape(' · '.join(record.answers[:MAX_ANSWERS])
                  + (f' · {more} more' if more > 0 else ''))
  if record.metric == 'points':
    count = len(record.points)
    places = ', '.join(f'({x:.2f}, {y:.2f})' for x, y in record.points[:MAX_ANSWERS])
    return f'{count} {"point" if count == 1 else "points"}{": " if count else ""}{places}'
  return _NOTHING


def _media(record: Prediction, pictures: Sequence[Picture]) -> str:
  shown = _evenly(len(pictures))
  if not shown:
    return ''
  figures = ''.join(_figure(record, pictures, shown, number) for number in shown)
  left_out = len(pictures) - len(shown)
  note = f'<p class="missing">{len(shown)} of {len(pictures)} pictures are shown</p>' if left_out else ''
  return f'<div class="media{"" if len(pictures) == 1 else " strip"}">{figures}{note}</div>'


def _evenly(count: int) -> list[int]:
  """At most `MAX_PICTURES` of 0…count−1, the first and the last among them."""
  if count <= MAX_PICTURES:
    return list(range(count))
  return [round(i * (count - 1) / (MAX_PICTURES - 1)) for i in range(MAX_PICTURES)]


def _figure(record: Prediction, pictures: Sequence[Picture], shown: Sequence[int], number: int) -> str:
  picture, alone = pictures[number], len(pictures) == 1
  image, tiny = thumbnail(picture.pixels, PICTURE_SIDE if alone else STRIP_SIDE)
  height, width = picture.pixels.shape[:2]
  marks = _marks(*_points_of(record, pictures, shown, number), height / width,
                 1.0 if alone else 1.8)
  label = picture.label or (f'{picture.time:.1f} s' if picture.time is not None else '' if alone
                            else f'{number + 1}')
  caption = f'<figcaption>{escape(label)}</figcaption>' if label else ''
  return (f'<figure style="max-width:{MAX_HEIGHT * width / height:.0f}px"><div class="picture">'
          f'<img{" class=tiny" if tiny else ""} width="{image.width}" height="{image.height}" '
          f'alt="{escape(f"picture {label}".strip())}" src="{data_uri(image, lossless=tiny)}">'
          f'{marks}</div>{caption}</figure>')


def _points_of(record: Prediction, pictures: Sequence[Picture], shown: Sequence[int],
               number: int) -> tuple[Points, Points]:
  """Reference and predicted points, fractions of the sides, that belong on picture `number`.

  Reference points name no picture: they are drawn on the first image, and on every frame of a
  video. A point of a video is drawn on the nearest of the frames that are shown.
  """
  picture = pictures[number]
  reference = record.points if number == 0 or picture.time is not None else ()
  if len(pictures) == 1 and picture.time is None:
    return reference, parse_points(record.prediction, 1.0, 1.0, old_forms=record.metric == 'points')
  predicted: list[tuple[float, float]] = []
  if has_tracks(record):
    return reference, predicted
  for point in parse_frame_points(record.prediction):
    if picture.time is None:
      belongs = float(point.frame) == number + 1
    else:
      distances = {i: abs(float(point.frame) - pictures[i].time) for i in shown}
      belongs = distances[number] == min(distances.values()) <= NEAR_FRAME
    if belongs:
      predicted.append((point.x, point.y))
  return reference, predicted


def _marks(reference: Points, predicted: Points, aspect: float, scale: float) -> str:
  """Circles and crosses in an SVG over the picture; its user unit is one hundredth of the picture's
  width.
  """
  if not reference and not predicted:
    return ''
  marks = []
  for x, y in reference:
    cx, cy = f'{100 * x:.1f}', f'{100 * aspect * y:.1f}'
    radius = 100 * metrics.POINT_TOLERANCE
    marks.append(f'<ellipse class="tolerance" cx="{cx}" cy="{cy}" rx="{radius:g}" '
      f'ry="{radius * aspect:.1f}"/>')
    marks += [f'<circle class="{c}" cx="{cx}" cy="{cy}" r="{2.6 * scale:g}"/>'
              for c in ('halo', 'reference')]
  for x, y in predicted:
    cross = _cross(100 * x, 100 * aspect * y, 2.2 * scale)
    marks += [f'<path class="{c}" d="{cross}"/>' for c in ('halo', 'predicted')]
  return f'<svg class="marks" viewBox="0 0 100 {100 * aspect:.2f}" aria-hidden="true">{"".join(marks)}</svg>'


def _cross(x: float, y: float, arm: float) -> str:
  left, right, top, bottom = x - arm, x + arm, y - arm, y + arm
  return f'M{left:.1f} {top:.1f}L{right:.1f} {bottom:.1f}M{left:.1f} {bottom:.1f}L{right:.1f} {top:.1f}'


def _legend_sign(shape: str) -> str:
  return f'<svg class="marks" viewBox="0 0 18 18" aria-hidden="true">{shape}</svg>'


_CIRCLE = ''.join(f'<circle class="{c}" cx="9" cy="9" r="5"/>' for c in ('halo', 'reference'))
_CROSS = ''.join(f'<path class="{c}" d="{_cross(9, 9, 4.5)}"/>' for c in ('halo', 'predicted'))
_RING = '<circle class="tolerance" cx="9" cy="9" r="7.5"/>'

_LEGEND = (f'<p class="legend"><span>{_legend_sign(_CIRCLE)}reference '
  f'point</span><span>{_legend_sign(_RING)}tolerance</span><span>{_legend_sign(_CROSS)}predicted '
  'point</span></p>')
