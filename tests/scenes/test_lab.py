"""The scenes for ablations: answers that agree with the pixels, balanced validation, the default
dataset as it was.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from molmo_jax.data.manifest import read_manifest
from molmo_jax.preprocess.types import VideoConfig
from molmo_jax.preprocess.video import read_video
from molmo_jax.scenes.config import LAB_TASKS, TASKS, LabConfig, SceneCounts, ScenesConfig
from molmo_jax.scenes.generate import generate
from molmo_jax.scenes.tasks import balanced_targets
from tests.scenes.test_scenes import components, nearest_colour

NO_DEFAULTS = dict(objects=0, reading=0, comparison=0, motion=0, order=0)
CONFIG = ScenesConfig(train=SceneCounts(**NO_DEFAULTS, **dict.fromkeys(LAB_TASKS, 10)),
                      val_per_task=60,
                      lab=LabConfig(tile_grids=((2, 3), (3, 2), (1, 4)), blink_objects=2,
                                    blink_most=4))
ALL_FRAMES = dict(blinks=8, when=5, events=6, missing=4)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  folder = tmp_path_factory.mktemp('lab') / 'data'
  generate(CONFIG, folder)
  return folder


@pytest.fixture(scope='module')
def records(dataset):
  """Records by task, of training and validation together."""
  found = collections.defaultdict(list)
  for split in ('train', 'val'):
    for example in read_manifest(dataset / f'{split}.jsonl'):
      found[example.task].append(example)
  return found


def asked(examples):
  """(example, question, answer) of every conversation."""
  return [(e, c[0].content, c[1].content) for e in examples for c in e.conversations]


def pixels(path):
  return np.asarray(Image.open(path)).astype(int)


def moments(example):
  """Frames and their times, as a reader of all frames sees them."""
  frames, times = read_video(example.video, ALL_FRAMES[example.task], VideoConfig())
  return frames.astype(int), times


def distance(image):
  """How far every pixel is from the background, the most common colour."""
  values, counts = np.unique(image.reshape(-1, 3) // 8, axis=0, return_counts=True)
  return np.abs(image - (values[counts.argmax()] * 8 + 4)).sum(-1)


def things(image):
  """{colour: mask} of the separate objects of a picture, edges included; a colour is that of an
  object's core.
  """
  far, found = distance(image), {}
  for region in components(far > 90):
    core = region & (far > 0.9 * far[region].max())
    found[nearest_colour(np.median(image[core], axis=0))] = region
  return found


def only_colour(image):
  """The colour of the one object of a frame; None where it is empty."""
  found = list(things(image))
  assert len(found) <= 1
  return found[0] if found else None


def colours_of_cells(image, side=24):
  """The colours in the cells of a picture; objects of neighbouring cells may touch in a compressed
  frame.
  """
  far, found = distance(image), []
  for cell in np.ndindex(*(extent // side for extent in image.shape[:2])):
    inner = tuple(slice(side * i + 4, side * (i + 1) - 4) for i in cell)
    if far[inner].max() > 90:
      found.append(nearest_colour(
        np.median(image[inner][far[inner] > 0.9 * far[inner].max()], axis=0)))
  assert len(found) == len(set(found))
  return set(found)


def shape_of(mask):
  rows, columns = np.where(mask)
  box = mask[rows.min():rows.max() + 1, columns.min():columns.max() + 1]
  if not box[box.shape[0] // 2 - 1:box.shape[0] // 2 + 2,
             box.shape[1] // 2 - 1:box.shape[1] // 2 + 2].any():
    return 'ring'
  if box.mean() > 0.85:
    return 'square'
  return 'cross' if abs(box[:3].sum() - box[-3:].sum()) < 0.3 * box[-3:].sum() else 'triangle'


def test_every_kind_is_asked_in_training_and_validation(records):
  assert set(records) == set(LAB_TASKS)
  assert {task: len(found) for task, found in records.items()} == dict.fromkeys(LAB_TASKS, 70)


def test_the_gap_of_a_ring_is_where_the_answer_says(records):
  steps = {'left': (0, -1), 'right': (0, 1), 'above': (-1, 0), 'below': (1, 0)}
  for e, question, answer in asked(records['detail']):
    image = pixels(e.images[0])
    assert image.shape == (72, 120, 3)
    rings = things(image)
    y, x = np.where(rings[question.split()[-2]])
    centre = (y.min() + y.max()) / 2, (x.min() + x.max()) / 2
    far = distance(image)
    inked = {side: far[round(centre[0] + 3.5 * dy), round(centre[1] + 3.5 * dx)]
             for side, (dy, dx) in steps.items()}
    assert len(rings) == 3 and min(inked, key=inked.get) == answer, (e.id, question)


def test_the_outline_is_in_the_size_of_a_plain_picture_alone(records):
  outlines = set()
  for e, question, answer in asked(records['aspect']):
    image = pixels(e.images[0])
    height, width = image.shape[:2]
    assert len(np.unique(image.reshape(-1, 3), axis=0)) == 1
    if 'wide' in question:
      assert answer == ('square' if height == width else 'wide' if width > height else 'tall')
      outlines.add(answer)
    else:
      assert answer == str(round(max(height, width) / min(height, width)))
  assert outlines == {'wide', 'tall', 'square'}


def test_tiles_have_the_colour_of_the_answer_and_mosaics_as_many_questions_as_configured(records,
                                                                                         dataset):
  for e, question, answer in asked(records['tiles']):
    row, column = (int(w.rstrip(',?')) for w in question.split() if w.rstrip(',?').isdigit())
    assert nearest_colour(pixels(e.images[0])[12 * row - 6, 12 * column - 6]) == answer
  train = read_manifest(dataset / 'train.jsonl')
  sizes = {len(e.conversations) for e in train if e.task == 'tiles'}
  assert sizes <= {4, 6} and 6 in sizes       # all of a 1×4 mosaic


def test_two_images_share_the_colour_of_the_answer_and_its_shapes_are_right(records):
  for e, question, answer in asked(records['match']):
    first, second = (things(pixels(path)) for path in e.images)
    common, = first.keys() & second.keys()
    assert len(first) == len(second) == 3
    if 'shape' in question:
      assert shape_of((first if 'first' in question else second)[common]) == answer
    else:
      assert common == answer


def test_an_object_is_seen_as_often_as_the_answer_says(records):
  for e, question, answer in asked(records['blinks']):
    frames, _ = moments(e)
    assert [only_colour(f) for f in frames].count(question.split()[-3]) == int(answer)


def test_an_object_appears_at_the_second_of_the_answer_whatever_the_speed(records):
  spacings = set()
  for e, question, answer in asked(records['when']):
    frames, times = moments(e)
    assert len(frames) == 5 and np.allclose(times, np.rint(times))
    spacings.add(round(times[1]))
    seen = [only_colour(f) for f in frames]
    assert seen[0] is None and seen[-1] is None and times[seen.index(question.split()[-3])] == int(
      answer)
  assert spacings == {1, 2, 3}


def test_colours_follow_each_other_as_the_answer_says(records):
  for e, question, answer in asked(records['events']):
    frames, _ = moments(e)
    order = [c for c in map(only_colour, frames) if c]
    assert len(frames) == 6 and len(order) == 4
    here = order.index(question.split()[-1][:-1])
    assert order[here + (1 if 'after' in question else -1)] == answer


def test_the_colour_that_is_gone_was_in_the_first_frame_and_is_not_in_the_last(records):
  for e, _, answer in asked(records['missing']):
    frames, _ = moments(e)
    seen = [colours_of_cells(f) for f in frames]
    assert len(seen[0]) == 4 and seen[0] - seen[-1] == {answer} and seen[-1] < seen[0]
    assert seen == sorted(seen, key=len, reverse=True)


def test_fewer_frames_show_fewer_moments(records):
  for e in records['blinks'][:5]:
    all_frames, _ = moments(e)
    for kept, shown in ((4, [0, 2, 5, 7]), (2, [0, 7])):
      frames, _ = read_video(e.video, kept, VideoConfig())
      assert np.array_equal(frames, all_frames[shown])


@pytest.mark.parametrize('task', LAB_TASKS)
def test_a_blind_guess_is_right_as_often_as_chance_says(task, tmp_path):
  config = dataclasses.replace(CONFIG,
                               train=dataclasses.replace(SceneCounts(**NO_DEFAULTS), **{task: 1}))
  config = dataclasses.replace(config, val_per_task=len(balanced_targets(task, config)))
  generate(config, tmp_path / 'd')
  forms = collections.defaultdict(list)
  for e in read_manifest(tmp_path / 'd/val.jsonl'):
    forms[e.conversations[0][0].content].append(e)
  for form, members in forms.items():
    options = members[0].options
    assert all(e.options == options and e.metric == 'exact_match' for e in members)
    assert collections.Counter(e.answers for e in members) == {(option,): 1
                                                               for option in options}, form


def test_training_answers_are_spread_over_all_options(records):
  for task in LAB_TASKS:
    counts = collections.Counter(answer for e in records[task] for c in e.conversations
                                 for answer in (c[1].content,))
    assert max(counts.values()) < 0.6 * sum(counts.values()), task


def test_a_kind_without_training_records_is_not_asked_and_does_not_show_in_the_description(
  tmp_path):
  config = ScenesConfig(train=SceneCounts(2, 0, 0, 0, 0), val_per_task=1)
  generate(config, tmp_path / 'd')
  assert {e.task for e in read_manifest(tmp_path / 'd/val.jsonl')} == set(TASKS[:5])
  description = json.loads((tmp_path / 'd/dataset.json').read_text())['config']
  assert 'lab' not in description and list(description['train']) == list(NO_DEFAULTS)
  generate(config, tmp_path / 'd')            # still the same dataset


def test_kinds_for_ablations_leave_the_records_of_the_others_as_they_were(tmp_path):
  few = ScenesConfig(train=SceneCounts(2, 1, 1, 1, 1), val_per_task=2)
  generate(few, tmp_path / 'a')
  generate(dataclasses.replace(few, train=dataclasses.replace(few.train, detail=2, when=1)),
           tmp_path / 'b')
  a, b = ({json.loads(line)['id']: line for split in ('train', 'val')
           for line in (tmp_path / f'{name}/{split}.jsonl').read_text().splitlines()}
          for name in 'ab')
  assert a.items() <= b.items() and len(b) == len(a) + 3 + 4
  text = '\n'.join(sorted(a.values()))
  assert hashlib.sha256(text.encode()).hexdigest() == RECORDS_OF_DEFAULT_KINDS


RECORDS_OF_DEFAULT_KINDS = '576654f6d995763d928e2b6a2cb061548793817b86d3e69f60175b3dfb8f1afc'


@pytest.mark.parametrize('change, message', [
    ({'frame_size': 35}, 'even sides'), ({'rings': 7}, 'rings=7'),
    ({'ring_size': 11.0}, 'does not fit into'),
    ({'match_objects': 4}, '1…3'), ({'blink_most': 5}, 'blink_frames=8'),
    ({'when_spacings': (4,)}, 'one digit'),
    ({'event_objects': 7}, 'event_frames=6'), ({'missing_frames': 1}, 'missing_frames=1'),
    ({'aspect_grids': ((2, 3),)}, 'whole multiple'), ({'aspect_scale': (0.0, 1.0)}, 'positive')])
def test_impossible_sizes_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(CONFIG.lab, **change)
