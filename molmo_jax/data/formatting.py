"""From facts to conversations: style, wording, layout of options and order, drawn for every
example.

A manifest keeps what is known (label, points, options, captions, …); this stage between a dataset
and its encoding says it in words with the example's own random numbers, anew in every epoch.
Source: allenai/molmo2 f3cb108 olmo/preprocessing/data_formatter.py; docs/training.md §4.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from molmo_jax.data.choices import drawn_choice, plain_choice
from molmo_jax.data.facts import POINTS_HERE, TRACKING_STYLES, Fact, FactError
from molmo_jax.data.manifest import Manifest
from molmo_jax.data.wordings import Wordings, about_video, draw, read_wordings
from molmo_jax.preprocess.points import format_points, format_points_v1
from molmo_jax.preprocess.tracks import Moments, ObjectPoint, format_tracks
from molmo_jax.preprocess.types import Example, Message

# 'molmo2': fine-tuning. 'style_only': pre-training, where the style's tag is the prompt.
# 'molmo_v1'.
Prompts = Literal['molmo2', 'style_only', 'molmo_v1']
Times = Callable[[], np.ndarray]            # seconds of the frames that the example shows

# style → kind of wording, where a dataset has no question of its own
CAPTIONS = {'long_caption': 'long_caption', 'short_caption': 'short_caption',
            'video_long_caption': 'long_caption', 'video_short_caption': 'short_caption',
            'video_transcript': 'transcript', 'video_motion_caption': 'video_motion_caption',
            'video_object_caption': 'video_object_caption'}
POINTS = {'pointing': 'pointing', 'point_count': 'point_count', 'video_point': 'pointing',
          'video_point_count': 'point_count', 'video_count': 'only_count',
          'video_count_point': 'count_then_point'}
MODES = {'pointing': 'point', 'point_count': 'point_count', 'cosyn_point': 'point',
         'video_point': 'point', 'video_point_count': 'point_count', 'video_count': 'count',
         'video_count_point': 'count_then_point', 'multi_image_pointing': 'point',
         'multi_image_point_then_count': 'point_count'}
TRACKS = dict(zip(TRACKING_STYLES, ('track', 'ground', 'initial')))

ALL_IMAGES = 0.5                            # questions about several images that ask about all
LATER_QUERY = 0.2                           # single tracks whose query may be any visible point
WITHOUT_RATE = 0.5                          # tracks at the usual rate that do not name it
USUAL_RATE = 2
SAME_MOMENT = 1e-2                          # seconds between an annotation and the frame it is of
# of the media that records about nothing get: one image, a video, two to five images, none
BACKDROPS = (0.25, 0.25, 0.15, 0.35)


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
    return values[self.rng.integers(len(values))]


@dataclasses.dataclass(frozen=True)
class Formatter:
  """Facts → conversations, as a stage of training words them."""
  prompts: Prompts = 'molmo2'
  wordings: str = ''                        # a file that replaces wordings; '': the project's own

  @property
  def content(self) -> tuple[Prompts, Wordings]:
    """What prompts depend on: the stage, and the wordings themselves wherever they were read."""
    return self.prompts, read_wordings(self.wordings)

  def __call__(self, example: Example, rng: np.random.Generator, *, training: bool = True,
               times: Times | None = None) -> Example:
    """`example` with conversations in the place of its facts; one without facts stays as it is.

    Args:
      rng: of this example in this epoch.
      training: False gives the question alone, in the layout of evaluation.
      times: of the frames that will be shown, for tracks; None: every annotated moment is seen.

    Raises:
      FactError: facts that lack what their style needs.
    """
    if not example.facts:
      return example
    drawing = Drawing(rng, read_wordings(self.wordings), self.prompts, training, times)
    try:
      talks = [conversation(fact, drawing) for fact in example.facts]
    except KeyError as error:
      raise FactError(f'facts from which no conversation can be made: {error} is missing') from None
    weights = [fact.get('weight') for fact in example.facts]
    if training and len(talks) > 1 and example.dialogue and rng.random() < example.dialogue:
      talks = [([text for messages, _ in talks for text in messages], talks[0][1])]
      weights = weights[:1]
    return dataclasses.replace(
      example, facts=(), dialogue=0.0, backdrop='', **_media(example, rng),
      conversations=tuple(tuple(Message(('user', 'assistant')[i % 2], text)
                                for i, text in enumerate(messages)) for messages, _ in talks),
      styles=tuple(style for _, style in talks) if len(talks) > 1 else (), style=talks[0][1],
      weights=tuple(weights) if any(w is not None for w in weights) else None)


class WordedManifest:
  """A manifest whose records are formatted for evaluation, each with random numbers of its own."""

  def __init__(self, manifest: Manifest, formatter: Formatter):
    self._manifest, self.formatter, self.path = manifest, formatter, manifest.path

  def __len__(self) -> int:
    return len(self._manifest)

  def __getitem__(self, index: int) -> Example:
    return self.formatter(self._manifest[index], np.random.default_rng(index), training=False)

  def __iter__(self) -> Iterator[Example]:
    return (self[index] for index in range(len(self)))


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
          or style == 'video_short_answer'
          or style.endswith('_exp')
          or 'question' not in fact and (style in CAPTIONS or style in POINTS))


def _question(fact: Fact, style: str, drawing: Drawing) -> str:
  text = _asked(fact, drawing)
  if fact.get('no_pointing'):
    text = _without_points(text, drawing)
  if style in POINTS and (text is None or style == 'video_point'):
    label = fact['label'] if style.startswith('video_') else fact['label'].lower()
    return label if drawing.prompts == 'style_only' else drawing.wording(POINTS[style], style,
                                                                         label=label)
  if drawing.prompts == 'style_only':
    return text or ''
  if text is None:
    return (drawing.wording(CAPTIONS[style], style, object=fact.get('object', ''))
            if style in CAPTIONS else '')
  if style == 'video_short_answer':
    return drawing.wording('short_answer', style, question=text)
  return drawing.wording('chain_of_thought', question=text) if '_exp' in style else text


def _asked(fact: Fact, drawing: Drawing) -> str | None:
  if 'asks' in fact:
    return drawing.wording(fact['asks'])
  return drawing.one(fact['questions']) if 'questions' in fact else fact.get('question')


def _without_points(question: str, drawing: Drawing) -> str:
  """A counting question whose answer has no points asks for none."""
  return drawing.wording('no_pointing') + question


def _answer(fact: Fact, style: str, drawing: Drawing) -> str | None:
  if 'points' in fact:
    label = fact['label'] if style.startswith('video_') else fact['label'].lower()
    points = {frame: [tuple(point) for point in points] for frame, points in fact['points']}
    return _points_text(points, label, MODES[style], drawing)
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


def _points_text(points: dict, label: str, mode: str, drawing: Drawing) -> str:
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
  return question, _points_text(points, label, MODES[style], drawing)


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
    moments = _near(moments, _grid(moments, fact['fps']))
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


def _grid(moments: Moments, fps: float) -> np.ndarray:
  """Multiples of 1/fps from the first moment to the last."""
  if not moments:
    return np.zeros(0)
  first = np.ceil(moments[0][0] * fps) / fps
  return np.arange(first, moments[-1][0] + 1e-6, 1 / fps)


def _media(example: Example, rng: np.random.Generator) -> dict[str, Any]:
  """Images or a video of the folder `example.backdrop`, for a record that is about nothing it
  shows.
  """
  if not example.backdrop:
    return {}
  images, videos = _backdrops(example.backdrop)
  kinds = np.array(BACKDROPS) * [bool(images), bool(videos), bool(images), True]
  kind = rng.choice(len(kinds), p=kinds / kinds.sum())
  if kind == 1:
    return {'video': videos[rng.integers(len(videos))]}
  count = (1, 0, int(rng.integers(2, 6)), 0)[kind]
  return {'images': tuple(images[i]
                          for i in rng.integers(len(images), size=count))} if count else {}


@functools.cache
def _backdrops(folder: str) -> tuple[list[str], list[str]]:
  found = [str(path) for path in sorted(Path(folder).rglob('*')) if path.is_file()]
  videos = [path for path in found if Path(path).suffix.lower() in VIDEO_SUFFIXES]
  return [path for path in found if path not in set(videos)], videos


VIDEO_SUFFIXES = ('.mp4', '.mkv', '.webm', '.mov', '.avi')
