"""The synthetic dataset: its files, its balance, and answers that agree with the pixels."""

from __future__ import annotations

import collections
import dataclasses
import json
import re
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

from molmo_jax.data.manifest import read_manifest
from molmo_jax.scenes import generate as generate_module
from molmo_jax.scenes.config import TASKS, QuestionLimits, SceneCounts, ScenesConfig
from molmo_jax.scenes.drawing import COLOURS, GLYPHS, SHAPES, Thing, draw_number, draw_things
from molmo_jax.scenes.generate import ScenesError, all_text, generate
from molmo_jax.tools.scenes import main

CONFIG = ScenesConfig(train=SceneCounts(objects=40, reading=6, comparison=6, motion=8, order=8),
                      val_per_task=48,
                      max_pointing_objects=4, questions=QuestionLimits(position=4, pointing=4))
TINY = dataclasses.replace(CONFIG, train=SceneCounts(2, 2, 2, 2, 2), val_per_task=2)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  folder = tmp_path_factory.mktemp('scenes') / 'data'
  generate(CONFIG, folder)
  return folder


@pytest.fixture(scope='module')
def train(dataset):
  return list(read_manifest(dataset / 'train.jsonl'))


@pytest.fixture(scope='module')
def val(dataset):
  return list(read_manifest(dataset / 'val.jsonl'))


def pixels(path):
  return np.asarray(Image.open(path)).astype(int)


def frames(path):
  with av.open(path) as container:
    return [f.to_ndarray(format='rgb24').astype(int) for f in container.decode(video=0)]


def foreground(image):
  """Where the image differs clearly from its corner."""
  return np.abs(image - image[0, 0]).sum(-1) > 60


def nearest_colour(rgb):
  return min(COLOURS, key=lambda name: np.abs(np.array(COLOURS[name]) - rgb).sum())


def components(mask):
  """Masks of the connected regions of a boolean image."""
  mask, found = mask.copy(), []
  while mask.any():
    todo, region = [tuple(np.argwhere(mask)[0])], np.zeros_like(mask)
    while todo:
      y, x = todo.pop()
      if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x]:
        mask[y, x], region[y, x] = False, True
        todo += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    found.append(region)
  return found


def questions(examples, task_text):
  """(example, question, answer) of every branch whose question begins with `task_text`."""
  return [(e, c[0].content, c[1].content) for e in examples for c in e.conversations
          if c[0].content.startswith(task_text)]


def bytes_of(folder):
  """All files but the clips: an encoder may give other bytes for the same frames."""
  return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob('*')
          if p.is_file() and p.suffix != '.mp4'}


def clips_look_the_same(a, b):
  names = sorted(p.name for p in (a / 'clips').iterdir())
  return names and all(np.abs(np.subtract(frames(a / 'clips' / n), frames(b / 'clips' / n))).mean()
                       < 2 for n in names)


def test_the_same_configuration_gives_the_same_bytes_and_another_seed_does_not(tmp_path):
  generate(TINY, tmp_path / 'a')
  generate(TINY, tmp_path / 'b')
  generate(dataclasses.replace(TINY, seed=1), tmp_path / 'c')
  a, b, c = (bytes_of(tmp_path / name) for name in 'abc')
  assert a == b
  assert clips_look_the_same(tmp_path / 'a', tmp_path / 'b')
  assert not clips_look_the_same(tmp_path / 'a', tmp_path / 'c')
  assert a.keys() == c.keys()
  assert all(a[name] != c[name] for name in a)


def test_a_record_does_not_depend_on_how_many_there_are(tmp_path):
  generate(TINY, tmp_path / 'a')
  generate(dataclasses.replace(TINY, train=SceneCounts(3, 3, 3, 3, 3)), tmp_path / 'b')
  a, b = (bytes_of(tmp_path / name) for name in 'ab')
  media = [name for name in a if name.endswith('.png')]
  assert media and all(a[name] == b[name] for name in media)
  assert clips_look_the_same(tmp_path / 'a', tmp_path / 'b')


def test_a_finished_dataset_is_left_alone_and_another_one_is_refused(tmp_path, monkeypatch):
  folder = tmp_path / 'data'
  folder.mkdir()                              # empty: may be filled
  generate(TINY, folder)
  with monkeypatch.context() as patch:
    patch.setattr(generate_module, '_write', lambda *_: pytest.fail('written again'))
    generate(TINY, folder)
  with pytest.raises(ScenesError, match=r'config.seed: 0 there, 5 wanted.*choose another folder'):
    generate(dataclasses.replace(TINY, seed=5), folder)
  other = tmp_path / 'other'
  other.mkdir()
  (other / 'thesis.tex').write_text('precious')
  with pytest.raises(ScenesError, match='not a scenes dataset'):
    generate(TINY, other)
  assert (other / 'thesis.tex').read_text() == 'precious'


def test_what_a_killed_process_left_is_written_anew(tmp_path):
  """Killed while it wrote its records: its folder and its lock stay."""
  folder = tmp_path / 'new' / 'data'
  program = ('import os, sys\nfrom molmo_jax.scenes import generate\n'
             'from tests.scenes.test_scenes import TINY\n'
             'generate.generate(TINY, sys.argv[1], lambda done, of: done == 3 and os.kill(os.getpid'
             '(), 9))\n')
  killed = subprocess.run([sys.executable, '-c', program, str(folder)], check=False)
  assert killed.returncode == -9 and len(list(folder.parent.iterdir())) == 2
  generate(TINY, folder)
  assert [path.name for path in folder.parent.iterdir()] == ['data']
  generate(TINY, tmp_path / 'straight')
  assert bytes_of(folder) == bytes_of(tmp_path / 'straight')


def test_processes_at_the_same_time_write_one_dataset(tmp_path):
  program = ('import sys\nfrom molmo_jax.scenes.generate import generate\n'
             'from tests.scenes.test_scenes import TINY\ngenerate(TINY, sys.argv[1])\n')
  both = [subprocess.Popen([sys.executable, '-c', program, str(tmp_path / 'data')])
          for _ in range(2)]
  assert [process.wait() for process in both] == [0, 0]
  assert [path.name for path in tmp_path.iterdir()] == ['data']
  generate(TINY, tmp_path / 'data')


def test_a_failure_leaves_nothing_behind(tmp_path):
  crowded = dataclasses.replace(TINY, min_digit_height=60.0, max_digit_height=60.0)
  with pytest.raises(ValueError, match='do not fit'):
    generate(crowded, tmp_path / 'data')
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('change, message', [
    ({'clip_size': 47}, 'even'), ({'clip_fps': 5}, 'multiple'),
    ({'clip_fps': 2}, 'larger than sample_fps'),
    ({'max_objects': 1}, 'two objects'), ({'comparisons': ('size',)}, 'same_colour'),
    ({'clip_frames': 3}, 'at least 4'), ({'max_object_size': 60.0}, 'not fit'),
    ({'tile_size': 20}, 'larger than tile_size'),
    ({'cell_size': 30}, 'three times'),
    ({'min_digit_height': 50.0}, 'min_digit_height')])
def test_an_impossible_configuration_is_refused(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(CONFIG, **change)


def test_every_record_is_valid_and_its_files_exist(dataset, train, val):
  assert len(train) == 68 and len(val) == 48 * len(TASKS)
  used = {path for e in train + val for path in (*e.images, e.video) if path}
  assert used == {str(p) for folder in ('images', 'clips') for p in (dataset / folder).iterdir()}
  assert len({e.id for e in train + val}) == len(train) + len(val)
  assert collections.Counter(e.task for e in train) == +collections.Counter(
    dataclasses.asdict(CONFIG.train))
  assert collections.Counter(e.task for e in val) == dict.fromkeys(TASKS, 48)
  assert json.loads((dataset / 'dataset.json').read_text())['config']['val_per_task'] == 48


def test_sizes_of_images(train):
  sizes = collections.defaultdict(set)
  for e in train:
    sizes[e.task].add((len(e.images), *(Image.open(p).size for p in e.images)))
  assert sizes == {'objects': {(1, (72, 72))}, 'reading': {(1, (72, 72))},
                   'comparison': {(2, (48, 48), (48, 48))},
                   'motion': {(0,)}, 'order': {(0,)}}


def test_validation_media_do_not_occur_in_training(train, val):
  def contents(examples):
    return {pixels(path).tobytes() for e in examples for path in e.images}
  assert contents(val).isdisjoint(contents(train))


def test_a_validation_scene_that_equals_a_training_scene_is_replaced(tmp_path, monkeypatch):
  stream = generate_module._stream
  monkeypatch.setattr(generate_module, '_stream', lambda config, split, name, index: (
      np.random.default_rng(7) if (name, index) == ('reading', 0)
      else stream(config, split, name, index)))
  generate(TINY, tmp_path / 'data')
  a, b = (pixels(tmp_path / f'data/images/{split}-reading-00000.png') for split in ('train', 'val'))
  assert not np.array_equal(a, b)


def test_validation_answers_are_balanced_for_every_wording(val):
  groups = collections.defaultdict(list)
  for e in val:
    assert len(e.conversations) == 1 and len(e.conversations[0]) == 2
    # Positions name their object, which does not change the form.
    form = 'position' if e.task == 'position' else e.conversations[0][0].content
    if e.options:
      groups[form].append(e)
  assert len(groups) == 4 + 6 + 1 + 1 + 7 + 1 + 2
  for form, members in groups.items():
    counts = collections.Counter(e.answers for e in members)
    assert counts == {(option,): len(members) // len(members[0].options)
                      for option in members[0].options}, form


def test_validation_records_carry_what_their_metric_needs(val):
  for e in val:
    reply = e.conversations[0][1].content
    if e.task == 'pointing':
      (x, y), = e.points
      written = [int(v) / 1000 for v in re.search(r'1 1 (\d{3}) (\d{3})"', reply).groups()]
      # one pixel of jitter
      assert e.metric == 'points' and np.allclose(written, (x, y), atol=1.0 / 72 + 1e-3)
      assert all(v in (0.167, 0.5, 0.833) for v in written)
    else:
      assert e.metric == 'exact_match' and e.answers == (reply,) and re.fullmatch(r'[a-z]+|\d+',
                                                                                  reply)
      assert (reply in e.options) == (e.task != 'reading')


def test_pointing_is_asked_only_where_there_are_few_objects(tmp_path):
  config = dataclasses.replace(TINY, train=SceneCounts(20, 1, 1, 1, 1), max_pointing_objects=2)
  generate(config, tmp_path / 'few')
  asked = {}
  for e in read_manifest(tmp_path / 'few/train.jsonl'):
    for _, _, count in questions([e], 'How many objects'):
      asked.setdefault(int(count), set()).add(len(questions([e], 'Point to')))
  assert asked == {1: {1}, 2: {2}, 3: {0}, 4: {0}}


def test_points_may_be_the_objects_own(tmp_path):
  generate(dataclasses.replace(TINY, val_per_task=4, point_to_cells=False), tmp_path / 'own')
  for e in read_manifest(tmp_path / 'own/val.jsonl'):
    for x, y in e.points:
      assert f'1 1 {round(1000 * x):03d} {round(1000 * y):03d}' in e.conversations[0][1].content


def test_points_hit_an_object_of_their_colour(train, val):
  asked = questions(train, 'Point to') + questions(val, 'Point to')
  assert len(asked) > 60
  for e, question, answer in asked:
    x, y = (round(int(v) / 1000 * 72)
            for v in re.search(r'1 1 (\d{3,4}) (\d{3,4})"', answer).groups())
    image = pixels(e.images[0])
    near = np.s_[y - 8:y + 8, x - 8:x + 8]    # a ring has its hole in the middle
    assert nearest_colour(np.median(image[near][foreground(image)[near]],
                                    axis=0)) == question.split()[3]


def test_objects_are_separate_and_as_many_as_the_answer(train, val):
  asked = questions(train + val, 'How many objects')
  assert {answer for _, _, answer in asked} == {'1', '2', '3', '4'}
  for e, _, answer in asked:
    assert len(components(foreground(pixels(e.images[0])))) == int(answer)


def test_caption_points_relations_colours_and_shapes_agree(train):
  relations = 0
  for e in (e for e in train if e.task == 'objects'):
    places = {}
    for _, question, answer in questions([e], 'Point to'):
      places[question.split()[3]] = [int(v)
                                     for v in re.search(r'1 1 (\d+) (\d+)"', answer).groups()]
    (_, _, count), = questions([e], 'How many objects')
    (_, _, caption), = questions([e], 'What is in')
    things = [tuple(thing.split()) for thing in caption.split(', ')]
    assert len(places) == len(things) == int(count) and set(places) == {thing[0]
                                                                        for thing in things}
    cells = [(places[thing[0]][1] // 334, places[thing[0]][0] // 334) for thing in things]
    assert cells == sorted(cells)
    assert [(('top', 'middle', 'bottom')[row], ('left', 'centre', 'right')[column])
            for row, column in cells] == [
                thing[2:] for thing in things]
    for _, question, answer in questions([e], 'Relative to'):
      x, y = places[question.split()[-2]]
      assert answer == {(167, 500): 'left', (833, 500): 'right', (500, 167): 'above',
                        (500, 833): 'below'}[
                            tuple(min((167, 500, 833), key=lambda v, w=w: abs(v - w))
                                  for w in (x, y))]
      relations += 1
    for _, question, answer in questions([e], 'What colour'):
      assert [thing[0] for thing in things if thing[1] == question.split()[-1][:-1]] == [answer]
    for _, question, answer in questions([e], 'What shape'):
      assert (question.split()[4], answer) in {thing[:2] for thing in things}
  assert relations > 20


def test_comparisons_agree_with_the_colours_of_the_images(val):
  for e in (e for e in val if e.task == 'comparison'):
    colours = [nearest_colour(np.median(image[foreground(image)], axis=0))
               for image in map(pixels, e.images)]
    question, answer = (m.content for m in e.conversations[0])
    if 'same' in question:
      assert (colours[0] == colours[1]) == (answer == 'yes')
    else:
      assert colours[('first', 'second').index(
        answer)] == question.split()[4] and colours[0] != colours[1]


def test_clips_have_six_samples_at_two_per_second(train):
  for e in (e for e in train if e.video):
    with av.open(e.video) as container:
      stream = container.streams.video[0]
      assert (stream.frames, stream.average_rate, stream.duration * stream.time_base) == (10, 4,
                                                                                          2.5)
      assert (stream.width, stream.height, stream.pix_fmt) == (48, 48, 'yuv420p')
      assert stream.codec_context.name == 'h264'


def test_the_object_moves_as_the_answer_says(val):
  for e in (e for e in val if e.task == 'motion'):
    first, *_, last = (np.argwhere(foreground(f)).mean(0) for f in frames(e.video))
    dy, dx = last - first
    moved = ('left' if dx < 0 else 'right') if abs(dx) > abs(dy) else ('up' if dy < 0 else 'down')
    assert (moved,) == e.answers
    assert max(abs(dx), abs(dy)) > 10 > 2 > min(abs(dx), abs(dy))


def test_colours_appear_in_the_order_of_the_answer(val):
  for e in (e for e in val if e.task == 'order'):
    clip = frames(e.video)
    image = clip[0] if 'first' in e.conversations[0][0].content else clip[-1]
    assert nearest_colour(np.median(image[foreground(image)], axis=0)) == e.answers[0]


def test_subtitles_cover_some_clips_and_end_with_them(train, val):
  clips = [e for e in train + val if e.video]
  with_text = [e for e in clips if e.subtitles]
  assert 0 < len(with_text) < len(clips) / 3
  assert all(e.subtitles[0].start == 0.0 and e.subtitles[-1].end == 2.5 for e in with_text)


def test_numbers_look_different_and_stay_inside_the_image():
  assert len(set(GLYPHS)) == 10 and {(len(g), *map(len, g))
                                     for g in GLYPHS} == {(7, 5, 5, 5, 5, 5, 5, 5)}
  image = draw_number(80, (240, 240, 240), '47', 40.0, 38.0, 35.0, (0, 0, 0)).astype(int)
  rows, columns = np.where(foreground(image))
  assert np.allclose((rows.min(), rows.max() + 1, columns.min(), columns.max() + 1),
                     (20.5, 55.5, 12.5, 67.5), atol=1.5)
  # 4 has more ink than 7
  assert abs(foreground(image)[:, 12:40].sum() - foreground(image)[:, 40:68].sum()) > 10


def test_shapes_are_anti_aliased_and_centred():
  for shape in SHAPES:
    image = draw_things(48, (240, 240, 240),
                        [Thing('red', shape, 20.0, 28.0, 20.0, (0, 0, 0))]).astype(int)
    ink = 1 - image[..., 0] / 240
    y, x = np.indices(ink.shape) + 0.5
    centre = (ink * x).sum() / ink.sum(), (ink * y).sum() / ink.sum()
    assert np.allclose(centre, (20, 28), atol=1.0), shape
    assert 150 < ink.sum() < 350 and ink[28, 20] == (shape != 'ring'), shape
    if shape in ('ring', 'triangle'):
      assert ((ink > 0.1) & (ink < 0.9)).sum() > 8, shape


def test_all_text_holds_every_training_message_and_subtitle(dataset, train):
  text = list(all_text(dataset))
  assert len(text) == sum(2 * len(e.conversations) + len(e.subtitles or ()) for e in train)
  assert {'here it begins', 'What number is written?', 'How many objects are there?'} <= set(text)
  with pytest.raises(ScenesError, match='molmo-jax scenes'):
    next(all_text(dataset / 'none'))


def test_the_command_writes_about_the_number_of_records_asked_for(tmp_path, capsys):
  assert main(['--out', str(tmp_path / 'd'), '--train', '24', '--val', '1', '--seed', '3']) == 0
  assert abs(len(read_manifest(tmp_path / 'd/train.jsonl')) - 24) <= 2
  assert len(read_manifest(tmp_path / 'd/val.jsonl')) == len(TASKS)
  assert main(['--out', str(tmp_path / 'd'), '--train', '24', '--val', '2']) == 1
  assert 'config.seed: 3 there, 0 wanted' in capsys.readouterr().err


def test_noise_and_digits_are_settable(tmp_path):
  config = dataclasses.replace(TINY, noise=8.0, digits=3, min_digit_height=26.0,
                               max_digit_height=28.0)
  generate(config, tmp_path / 'd')
  reading = [e for e in read_manifest(tmp_path / 'd/val.jsonl') if e.task == 'reading']
  assert all(re.fullmatch(r'[1-9]\d\d', e.answers[0]) for e in reading)
  assert 4 < pixels(reading[0].images[0])[:8, :8].std(axis=(0, 1)).mean() < 12
