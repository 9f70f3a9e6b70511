"""The conversation that a fact becomes: wording, layout of options and order, drawn for every
example.

Source: allenai/molmo2 f3cb108 olmo/preprocessing/data_formatter.py; docs/training.md §4.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from molmo_jax.data.choices import drawn_choice, plain_choice
from molmo_jax.data.facts import POINTS_HERE, TRACKING_STYLES, Fact
from molmo_jax.data.wordings import Wordings, about_video, draw
from molmo_jax.preprocess.points import format_points, format_points_v1
from molmo_jax.preprocess.tracks import Moments, ObjectPoint, format_tracks

# 'molmo2': fine-tuning. 'style_only': pre-training, where the style's tag is the prompt.
# 'molmo_v1'.
Prompts = Literal['molmo2', 'style_only', 'molmo_v1']
Times = Callable[[], np.ndarray]            # seconds of the frames that the example shows

# style → kind of wording that asks for it, and the form of its points
STYLES: dict[str, dict[str, str]] = tomllib.loads(
  Path(__file__).with_name('styles.toml').read_text(encoding='utf-8'))
TRACKS = dict(zip(TRACKING_STYLES, ('track', 'ground', 'initial')))

ALL_IMAGES = 0.5                            # questions about several images that ask about all
LATER_QUERY = 0.2                           # single tracks whose query may be any visible point
WITHOUT_RATE = 0.5                          # tracks at the usual rate that do not name it
USUAL_RATE = 2
SAME_MOMENT = 1e-2                          # seconds between an annotation and the frame it is of


@dataclasses.dataclass(frozen=True)
class Drawing:
  """What a conversation depends on besides its facts."""
  rng: np.random.Generator
  wordings: Wordings
  prompts: Prompts
  training: bool
  times: Times | None = None

  def wording(self, kind: str, style: str = '', **fields: object) -> str:
    """One wording of a kind, about a video where the style is."""
    texts = self.wordings[kind]
    if style.startswith('video_') and not kind.startswith('video_'):
      texts = about_video(texts)
    return draw(texts, self.rng, **fields)

  def one(self, values: Sequence[Any]) -> Any:
    """One of the values, each with the same probability."""
    return values[int(self.rng.integers(len(values)))]


def conversation(fact: Fact, drawing: Drawing) -> tuple[list[str], str]:
  """The messages of one conversation and its style; a prompt alone where nothing is known to
  answer.
  """
  style = fact['style'] if 'style' in fact else drawing.one(fact['styles'])
  if 'messages' in fact:
    return [_without_points(text, drawing) if fact.get('no_pointing') and i in fact['no_pointing']
            else text for i, text in enumerate(fact['messages'])], style
  if style in TRACKS:
    question, answer = _tracked(fact, style, drawing)
  elif 'images' in fact:
    question, answer = _several_images(fact, style, drawing)
  elif 'options' in fact:
    question, answer = _choice(fact, drawing)
  else:
    question, answer = _question(fact, style, drawing), _answer(fact, style, drawing)
  return [question] if answer is None or not drawing.training else [question, answer], style


def is_drawn(fact: Fact) -> bool:
  """Whether the prompt of an evaluation is drawn from wordings."""
  style = fact['style']
  return (style in TRACKS and 'label' in fact or bool(fact.get('no_pointing'))
          or style == 'video_short_answer' or style.endswith('_exp')
          or 'question' not in fact and 'asks' in STYLES.get(style, {}))


def _question(fact: Fact, style: str, drawing: Drawing) -> str:
  text, how = _asked(fact, drawing), STYLES.get(style, {})
  if fact.get('no_pointing'):
    text = _without_points(text, drawing)
  if how.keys() == {'asks', 'points'} and (text is None or style == 'video_point'):
    label = _label(fact, style)
    return (label if drawing.prompts == 'style_only' else
            drawing.wording(how['asks'], style, label=label))
  if drawing.prompts == 'style_only':
    return text or ''
  if text is None:
    return drawing.wording(how['asks'], style, object=fact.get('object', '')) if how else ''
  if style == 'video_short_answer':
    return drawing.wording('short_answer', style, question=text)
  return drawing.wording('chain_of_thought', question=text) if '_exp' in style else text


def _label(fact: Fact, style: str) -> str:
  """What is pointed at: as it is written in videos, in small letters in images."""
  return fact['label'] if style.startswith('video_') else fact['label'].lower()


def _asked(fact: Fact, drawing: Drawing) -> str | None:
  if 'asks' in fact:
    return drawing.wording(fact['asks'])
  return drawing.one(fact['questions']) if 'questions' in fact else fact.get('question')


def _without_points(question: str, drawing: Drawing) -> str:
  """A counting question whose answer has no points asks for none."""
  return drawing.wording('no_pointing') + question


def _answer(fact: Fact, style: str, drawing: Drawing) -> str | None:
  if 'points' in fact:
    points = {frame: [tuple(point) for point in points] for frame, points in fact['points']}
    return _points_text(points, _label(fact, style), style, drawing)
  if 'texts' in fact:
    return drawing.one(fact['texts'])
  if 'answers' not in fact:
    return None
  answers = fact['answers']
  if fact.get('pick', 'usual') == 'usual':    # the most frequent one, ties drawn
    counts = Counter(answers).most_common()
    answers = [text for text, count in counts if count == counts[0][1]]
  answer = drawing.one(answers)
  for part in fact.get('inline', ()):
    answer = answer.replace(POINTS_HERE, _inline(part, drawing), 1)
  return f'{fact["explanation"]} Answer: {answer}' if 'explanation' in fact else answer


def _points_text(points: dict, label: str, style: str, drawing: Drawing) -> str:
  mode = STYLES[style]['points']
  if drawing.prompts == 'molmo_v1':
    return format_points_v1(points.get(1, []), label, mode=mode)
  version = 'html-v1' if drawing.prompts == 'style_only' else 'html-v2'
  return format_points(points, label, mode=mode, version=version)


def _inline(part: Fact, drawing: Drawing) -> str:
  """Points inside of a sentence, which the label is a part of."""
  if drawing.prompts == 'molmo_v1':
    return format_points_v1([tuple(p) for p in part['points']], part['label'], alt=part['alt'])
  inside = np.clip(part['points'], 0, 1).tolist()
  return format_points({1: [tuple(p) for p in inside]}, part['label'], alt=part['alt'])


def _choice(fact: Fact, drawing: Drawing) -> tuple[str, str | None]:
  question = _asked(fact, drawing)
  options, right, unlabelled = fact['options'], fact.get('right'), fact.get('unlabelled', False)
  if drawing.training and fact.get('order', 'given') != 'given':
    options, right = _reordered(options, right, fact['order'], drawing.rng)
  if drawing.prompts == 'molmo_v1':
    letters = options if unlabelled else [chr(ord('A') + i) for i in range(len(options))]
    lines = options if unlabelled else [f'{x}: {o}' for x, o in zip(letters, options)]
    asked, answers = '\n'.join([question, *lines, '']), letters
  elif drawing.prompts == 'style_only':
    _, answers = plain_choice(question, options, unlabelled)
    asked = '\n'.join([question, *answers, ''])
  elif drawing.training:
    blank = right is not None and not unlabelled and not options[right].strip()
    asked, answers = drawn_choice(question, options, drawing.rng, drawing.wordings,
                                  unlabelled=unlabelled, must_label=blank)
  else:
    asked, answers = plain_choice(question, options, unlabelled)
  return asked, None if right is None else answers[right]


def _reordered(options: Sequence[str], right: int, order: str, rng: np.random.Generator
               ) -> tuple[list[str], int]:
  """'any' order; or 'insert': the right option anywhere, the others in the order they have."""
  if order == 'any':
    places = rng.permutation(len(options)).tolist()
  else:
    places = [i for i in range(len(options)) if i != right]
    places.insert(int(rng.integers(len(options))), right)
  return [options[i] for i in places], places.index(right)


def _several_images(fact: Fact, style: str, drawing: Drawing) -> tuple[str, str]:
  """One of the labels in all images or in some of them, in any order; elsewhere there are none."""
  images, rng = fact['images'], drawing.rng
  name = drawing.one(sorted({image['name'] for image in images}))
  label = next(image['label'] for image in images if image['name'] == name)
  if len(images) == 1 or rng.random() < ALL_IMAGES:
    chosen, said = list(range(len(images))), 'all images'
  else:
    chosen = rng.permutation(len(images))[:rng.integers(1, len(images) + 1)].tolist()
    said = ', '.join(f'image_{i + 1}' for i in chosen)
  if said == 'all images' and style == 'multi_image_pointing' and rng.random() < 0.5:
    question = drawing.wording('pointing', label=label)
  else:
    question = drawing.wording(style, selected_images=said, selected_label=label)
  points = {i + 1: [tuple(p) for p in images[i]['points']] for i in chosen
            if images[i]['name'] == name and images[i]['points']}
  return question, _points_text(points, label, style, drawing)


def _tracked(fact: Fact, style: str, drawing: Drawing) -> tuple[str, str | None]:
  """Tracks at the moments that the video shows, thinned to the rate that the question names."""
  fields = {'label': fact['label'], 'fps': int(fact['fps'])}
  annotated = [(time, {name: ObjectPoint(*point) for name, point in objects.items()})
               for time, objects in fact.get('tracks', ())]
  moments = annotated if drawing.times is None else _near(annotated, drawing.times())
  query: tuple[Any, float] | None = None
  if TRACKS[style] == 'initial' and annotated:
    query, fields['input_points'] = _query(moments, annotated, fact['label'], drawing)
  if TRACKS[style] != 'ground':
    moments = _on_grid(moments, fact['fps'])
  unnamed = style == 'video_point_track_per_frame' and fact['fps'] == USUAL_RATE
  if annotated or not drawing.training:
    unnamed = unnamed and drawing.rng.random() < WITHOUT_RATE
    answer = format_tracks(moments, fact['label'], mode=TRACKS[style], only_queried=True,
                           queries=None if query is None else [query]) if annotated else None
  else:
    unnamed, answer = False, 'There are none.'
  return drawing.wording(f'{style}_default_fps' if unnamed else style, **fields), answer


def _query(moments: Moments, annotated: Moments, label: str, drawing: Drawing
           ) -> tuple[tuple[Any, float], str]:
  """The object that a single track follows and where it is given, and the tag that says so."""
  seen = _visible(moments) or _visible(annotated)
  later = drawing.training and drawing.rng.random() < LATER_QUERY
  name, time, point = drawing.one(seen) if later else seen[0]
  return (name, time), format_points({float(time): [(point.x, point.y)]}, label)


def _visible(moments: Moments) -> list[tuple[Any, float, ObjectPoint]]:
  return [(name, time, point) for time, objects in moments for name, point in objects.items()
          if not point.occluded]


def _near(moments: Moments, times: np.ndarray) -> Moments:
  """The moments at one of the times."""
  return [(time, objects) for time, objects in moments
          if len(times) and np.abs(times - time).min() < SAME_MOMENT]


def _on_grid(moments: Moments, fps: float) -> Moments:
  """The moments at multiples of 1/fps, from the first moment to the last."""
  times = np.array([time for time, _ in moments])
  if not len(times):
    return []
  first = np.ceil(times[0] * fps)
  number = np.clip(np.rint(times * fps), first, np.floor((times[-1] + 1e-6) * fps))
  kept = (number >= first) & (np.abs(number / fps - times) < SAME_MOMENT)
  return [moment for moment, is_kept in zip(moments, kept) if is_kept]
