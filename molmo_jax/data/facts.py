"""What a record says before it has words: facts, which `data.formatting` turns into conversations.

A manifest record may hold 'facts' in the place of its messages: a list of objects, one for each
conversation about the same media. Their keys are explained in docs/data.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from molmo_jax.data.forms import (
  POINTS,
  Form,
  ManifestError,
  amount,
  anything,
  list_of,
  number,
  object_of,
  one_of,
  pair_of,
  string,
  strings,
  whole,
  wrong,
)

Fact = Mapping[str, Any]

# in an answer: where the next of its 'inline' points go
POINTS_HERE = '<|POINT|>'
TRACKING_STYLES = ('video_point_track_per_frame', 'video_point_ground_start_end',
                   'video_single_point_track_per_frame')


def weight(value: Any, where: str) -> float | dict[str, Any]:
  """The loss weight of a conversation: a number, or an object of single terms of it."""
  terms: dict[str, Form] = dict(weight=amount, root_length=anything, root_subsegments=anything)
  return (object_of(terms, where, value) if isinstance(value, Mapping) else
          float(amount(value, where)))


def _objects(value: Any, where: str) -> dict[str, Any]:
  """Objects of a moment: {name: [x, y] or [x, y, whether it is hidden]}."""
  if not isinstance(value, Mapping):
    wrong(where, value, 'an object {name: [x, y], …}')
  for name, point in value.items():
    POINTS([point[:2] if isinstance(point, list | tuple) else point], f'{where}.{name}')
  return dict(value)


_NAMED = list_of(whole('{"name": …, "label": …, "points": [[x, y], …]}', name=string, label=string,
                       points=POINTS), 'a list of images with points')
_INLINE = list_of(whole('{"label": …, "alt": …, "points": [[x, y], …]}', label=string, alt=string,
                        points=POINTS), 'a list of labels with points')
# what an answer is made of: at most one of these
CONTENTS: dict[str, Form] = {
  'messages': strings, 'options': strings, 'answers': strings, 'texts': strings,
  'points': list_of(pair_of(number, POINTS, '[frame, [[x, y], …]]'), 'a list of frames'),
  'images': _NAMED,
  'tracks': list_of(pair_of(number, _objects, '[seconds, {name: [x, y]}]'), 'a list of moments')}
KEYS: dict[str, Form] = CONTENTS | {
  'style': string, 'styles': strings, 'weight': weight, 'question': string, 'questions': strings,
  'asks': string, 'label': string, 'right': anything, 'order': one_of('given', 'any', 'insert'),
  'unlabelled': anything, 'pick': one_of('usual', 'any'), 'explanation': string, 'inline': _INLINE,
  'no_pointing': anything, 'object': string, 'fps': number}


def fact(value: Any, where: str) -> Fact:
  """One of the facts of a record.

  Raises:
    ManifestError: not an object, an unknown key, no style, two kinds of content, or content of
      another form than docs/data.md says.
  """
  found = {key: x for key, x in object_of(KEYS, where, value).items()
           if x != () or key in ('points', 'images', 'tracks')}   # there is nothing to point at
  contents = [key for key in CONTENTS if key in found]
  options, right = found.get('options', ()), found.get('right', 0)
  inline = len(found.get('inline', ()))
  faults = (
    (('style' in found) == ('styles' in found), "needs 'style', or 'styles' to draw one of"),
    (len(contents) > 1, f'has {" and ".join(contents)}; an answer is made of one of them'),
    (len(found.get('messages', ())) % 2, "must have as many answers as questions in 'messages'"),
    (options and (type(right) is not int or not 0 <= right < len(options)),
     f"has 'right' {right!r}; it must be the number of an option, from 0"),
    (options and not {'question', 'asks'} & found.keys(), "has options, but no 'question'"),
    (inline and any(text.count(POINTS_HERE) != inline for text in found.get('answers', [''])),
     f"needs 'answers' with {POINTS_HERE} once for each of 'inline'"),
    ('tracks' in found and not {'label', 'fps'} <= found.keys(),
     "has tracks, but no 'label' or no 'fps'"))
  for is_wrong, problem in faults:
    if is_wrong:
      raise ManifestError(f"'{where}' {problem}")
  return {key: x for key, x in value.items() if key in found}
