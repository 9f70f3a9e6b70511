"""Every benchmark: built from small copies of its public files, loaded, encoded and scored."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from molmo_jax import metrics
from molmo_jax.data.formatting import Formatter, WordedManifest
from molmo_jax.data.manifest import read_manifest
from molmo_jax.datasets import (
  GROUPS,
  TASKS,
  TaskError,
  resolve_tasks,
  task_manifest,
  write_manifest,
)
from molmo_jax.datasets.files import Files
from molmo_jax.datasets.page import with_tables
from molmo_jax.datasets.tables import TableError
from molmo_jax.datasets.video_benchmarks import lvbench_question
from molmo_jax.preprocess.encode import encode
from molmo_jax.preprocess.points import format_points
from molmo_jax.preprocess.reading import image_size
from molmo_jax.preprocess.tokenizer import Tokenizer, train_tokenizer
from molmo_jax.preprocess.tracks import ObjectPoint, format_tracks
from molmo_jax.preprocess.types import ImageConfig, PreprocessConfig, TextConfig, VideoConfig
from tests.datasets.builders import BUILDERS, parquet, picture, save_picture

CONFIG = PreprocessConfig(
  image=ImageConfig(crop_size=28, overlap_margins=(0, 0), mode='resize', max_images_eval=20),
  video=VideoConfig(max_frames_eval=4),
  text=TextConfig(style_prefix='demo_or_style_v2', max_sequence_length_eval=64_000))
UNSCORED = {'predictions_only', 'judged_caption', 'judged_events', 'judged_mlvu', 'judged_open_qa'}


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  path = tmp_path_factory.mktemp('tokenizer') / 'tokenizer.json'
  train_tokenizer(['what is this? a red square'], 280, path)
  return Tokenizer.from_file(path, base_vocab_size=300)


@pytest.fixture(scope='module')
def datasets(tmp_path_factory):
  """The root of all datasets; one is written when it is first asked for."""
  root = tmp_path_factory.mktemp('data')

  def of(task):
    if not (root / task.folder).exists():
      BUILDERS[task.folder](root / task.folder)
    return root / task.folder
  return of


def build(task, datasets, folder):
  write_manifest(task, datasets(task), folder / f'{task.name}.jsonl')
  manifest = WordedManifest(read_manifest(folder / f'{task.name}.jsonl'), Formatter())
  return [manifest[i] for i in range(len(manifest))]


def right_answer(example):
  """A text that the example's metric must take for right."""
  data = example.metadata
  match example.metric:
    case 'point_count':
      return format_points({1: [(0.01 * i, 0.5) for i in range(data['count'])]}, 'thing')
    case 'video_point_count':
      return f'Counting shows a total of {data["count"]}.'
    case 'pointing':
      return format_points({1: [(x / data['width'], y / data['height'])
                                for x, y in data['references']]}, 'thing')
    case 'point_in_box':
      x0, y0, x1, y1 = data['box']
      return format_points({1: [((x0 + x1) / 2 / data['width'], (y0 + y1) / 2 / data['height'])]},
                           'thing')
    case 'point_bench':
      return format_points({1: [(0.5, 0.5)]}, 'thing')
    case 'video_pointing':
      return format_points({float(t): [(x / data['width'], y / data['height'])]
                            for t, x, y in data['references']}, 'thing')
    case 'tracking':
      return format_tracks([(int(frame) / data['fps'],
                             {name: ObjectPoint(x / data['width'], y / data['height'])
                              for name, (x, y) in objects.items()})
                            for frame, objects in data['tracks'].items()], 'thing')
    case 'tap_vid':
      return format_tracks([(frame / data['fps'],
                             {'a': ObjectPoint(x / data['width'], y / data['height'])})
                            for frame, (x, y) in enumerate(data['track'])
                            if not data['occluded'][frame]], 'point')
    case 'clock' | 'clock_training':
      half = 'PM' if data['hour'] > 12 else ''
      return f'{data["hour"] % 12}:{data["minute"]:02d}:{max(data["second"], 0):02d} {half}'
    case 'qv_highlights':
      return ', '.join(f'{start}-{end}' for start, end in data['windows'])
    case 'math_vista' if example.options:
      return 'AB'[example.options.index(example.answers[0])]
    case 'mme_videoocr' if not example.options:
      return example.answers[0].replace(';', ' and ')
    case 'android_control':
      return f'Action: {example.answers[0]}'
  return example.answers[0]


def wrong_answer(example):
  if example.options and len(example.answers[0]) == 1:
    return next(letter for letter in 'AB' if letter != example.answers[0])
  if example.metric in ('video_hallucer', 'temp_compass') and example.options == ('yes', 'no'):
    return {'yes': 'no', 'no': 'yes'}[example.answers[0]]
  if example.metric == 'temp_compass':
    return next(letter for letter in 'AB' if letter != example.answers[0][0])
  if example.metric == 'math_vista' and example.options:
    return 'BA'[example.options.index(example.answers[0])]
  if example.metric in ('starts_with_answer', 'lvbench'):
    return next(letter for letter in 'AB' if letter != example.answers[0][0])
  if example.metric in ('vinoground', 'temporal_bench'):
    return next(letter for letter in 'AB' if letter != example.answers[0])
  return 'nothing of the kind'


@pytest.mark.parametrize('name', TASKS)
def test_a_task_is_built_from_its_public_files_loaded_encoded_and_scored(name, datasets, tokenizer,
                                                                         tmp_path):
  task = TASKS[name]
  examples = build(task, datasets, tmp_path)
  config = task.preprocess(CONFIG)
  for example in examples:
    assert example.task == name and example.style
    assert bool(example.video) != bool(example.images)
    assert not task.video or example.video
    encoded = encode(example, config, tokenizer, training=False)
    assert len(encoded.crops) and (encoded.tokens == tokenizer.special['<im_patch>']).any()
    if example.metric in UNSCORED:
      assert metrics.score('anything', example, example.metric) == 0
    else:
      assert metrics.score(right_answer(example), example,
                           example.metric) == pytest.approx(1), right_answer(example)
      assert metrics.score(wrong_answer(example), example, example.metric) == 0
  scored = [(right_answer(e), e) for e in examples if e.metric not in UNSCORED]
  if scored:
    numbers = metrics.published(task.metric, scored)
    assert numbers and max(value for value in numbers.values()
                           if not np.isnan(value)) == pytest.approx(1)
  assert {e.metric for e in examples} <= {task.metric, 'predictions_only'}


def test_every_dataset_of_the_table_has_a_small_copy():
  assert {task.folder for task in TASKS.values()} == set(BUILDERS)


def prompts(name, datasets, folder):
  return [e.conversations[0][0].content for e in build(resolve_tasks(name)[0], datasets, folder)]


@pytest.mark.parametrize('option, line', [
  ('(A) x', 'A. x'), ('A) x', 'A. x'), ('A.x', 'A. x'), ('A) . y', 'A. . y'), ('A).x', 'A. x'),
  ('() x', '. x'), ('A.', '1. A.'), ('A)x', '1. A)x'), ('_. x', '1. _. x'),
  ('(ABC) x', '1. (ABC) x'), ('x', '1. x')])
def test_options_of_lvbench_keep_their_label_or_get_a_number(option, line):
  lines = lvbench_question({'question': f' Q?\r\n\n{option} '}).split('\n')
  assert lines[:-1] == ['Q?', line]


def test_a_counting_question_of_the_conversational_set_asks_for_no_points(tmp_path):
  root = tmp_path / 'pixmo_ask_model_anything'
  row = {'image_url': 'http://x', 'image_sha256': 'abc', 'answer': '3'}
  BUILDERS['pixmo_ask_model_anything'](root)
  parquet(root / 'validation.parquet', row | {'question': 'How many dogs?'},
          row | {'question': 'What is it?'})
  write_manifest(TASKS['pixmo_ask_model_anything'], root, tmp_path / 'out.jsonl')
  counting, other = read_manifest(tmp_path / 'out.jsonl')
  assert counting.facts == ({'style': 'user_qa', 'question': 'How many dogs?',
                             'no_pointing': True},)
  assert not other.facts


def test_questions_are_asked_in_the_words_of_the_published_evaluation(datasets, tmp_path):
  def first(name):
    return prompts(name, datasets, tmp_path)[0]
  assert (first(
    'a_okvqa_mc') == 'Why?\nOnly return the correct answer option.\nA. rain\nB. sun\nC. snow\nD. '
          'fog')
  assert first('mvbench') == ('What?\nA. sit\nB. run\nPlease respond with only the letter of the '
    'correct answer.')
  assert first('ego_schema').endswith("\nE. because E\nAnswer with the option's letter from the "
    "given choices directly.")
  assert first('video_mme').startswith('Select the best answer to the following multiple-choice '
    'question')
  assert first('video_mme').endswith('Which?\nA. x\nB. y\nC. z\nD. w\nThe best answer is:')
  assert first(
    'lvbench') == 'Who?\nA. he\nB. she\nPlease respond with only the letter of the correct answer.'
  assert first('chart_qa') == 'How much?'
  assert first(
    'math_vista') == 'Which is larger?\nOnly return the correct answer option.\nA. left\nB. right'
  assert first('vixmo_points_point_eval') == 'How many "dog" are there in the video?'
  assert first('muir_bench').startswith('Compare Image 1 and Image 2. Which fits Image 3?\nOnly '
    'return')
  assert 'B. Image 4' in first('muir_bench')
  assert first('ego3d_bench').startswith('Front view: Image 1\nFront Left view: Image 2\nHow '
    'far?\nOnly return')
  assert prompts('real_world_qa', datasets, tmp_path)[1] == 'How many?'
  assert prompts('temp_compass', datasets, tmp_path) == [
    'Which fits?\nOnly return the correct answer option.\nA. It runs.\nB. It stands.',
    'How fast?\nA. slow\nB. fast\nPlease directly give the best option:',
    'Is it fast?\nPlease answer yes or no:']


def test_letters_of_a_diagram_are_its_options_and_other_options_get_letters(datasets, tmp_path):
  letters, transparent, texts = build(resolve_tasks('ai2d')[0], datasets, tmp_path)
  assert letters.conversations[0][0].content.endswith('Only return the correct answer '
    'option.\nA\nB\nC\nD')
  assert (letters.style == transparent.style == 'ai2_diagram_no_letter'
          and texts.style == 'ai2_diagram')
  assert 'abc_images/' in letters.images[0] and 'abc_images_transparent/' in transparent.images[0]
  assert metrics.published('ai2d', [('B', letters), ('A', transparent), ('A', texts)]) == {
    'mc_ai2d_opaque': 1.0, 'mc_ai2d_transparent': 0.5}


def test_v1_is_asked_as_v1_was(datasets, tmp_path):
  task = resolve_tasks('a_okvqa_mc', version='v1')[0]
  example = build(task, datasets, tmp_path)[0]
  assert example.conversations[0][0].content == 'Why?\nA: rain\nB: sun\nC: snow\nD: fog\n'
  assert example.metadata['version'] == 'v1' and task.max_new_tokens == 12 and task.max_crops == 36
  assert resolve_tasks('countbench_qa', version='v1')[0].max_new_tokens == 192


def test_a_task_raises_the_limits_of_the_configuration_and_never_lowers_them():
  few = dataclasses.replace(
    CONFIG, image=dataclasses.replace(CONFIG.image, max_crops_eval=8, max_images_eval=5),
    text=dataclasses.replace(CONFIG.text, max_sequence_length_eval=4096))
  config = TASKS['chart_qa'].preprocess(few)
  assert (config.image.max_crops_eval, config.image.max_images_eval) == (24, 20)
  assert config.text.max_sequence_length_eval == 64_000 and config.video == few.video
  many = dataclasses.replace(
    CONFIG, image=dataclasses.replace(CONFIG.image, max_crops_eval=48, max_images_eval=30),
    text=dataclasses.replace(CONFIG.text, max_sequence_length_eval=None))
  config = TASKS['chart_qa'].preprocess(many)
  assert (config.image.max_crops_eval, config.image.max_images_eval) == (48, 30)
  assert config.text.max_sequence_length_eval is None


def test_clips_and_subtitles_reach_the_manifest(datasets, tmp_path):
  clips = {e.video.split('/')[-1]: e.clip for e in build(TASKS['mvbench'], datasets, tmp_path)}
  assert clips == {'1.mp4': None, 'a.mp4': (0.5, 1.5), 'video.mp4': (0.0, 1.0)}
  (line,) = build(TASKS['long_video_bench_w_subtitle'], datasets, tmp_path)[0].subtitles
  assert (line.start, line.end, line.text) == (0.0, 1.0, 'Early.')


def test_a_test_split_has_no_references_and_is_only_predicted(datasets, tmp_path):
  for name in ('ego_schema:test', 'doc_qa:test', 'long_video_bench_no_subtitle:test'):
    task = resolve_tasks(name)[0]
    (example,) = build(task, datasets, tmp_path)
    assert example.metric == 'predictions_only' and not example.answers
    assert example.task == task.label == name.replace(':', '_')


def test_groups_of_a_summary_come_from_the_rows(datasets, tmp_path):
  examples = build(TASKS['mmiu'], datasets, tmp_path)
  numbers = metrics.published('letter', [('C', e) for e in examples])
  assert numbers == {'score': 1.0, 'group_Low-level-semantic': 1.0, 'group_num_images<=20': 1.0}
  spots = build(TASKS['screen_spot_v2'], datasets, tmp_path)
  assert set(metrics.published('point_in_box', [('', e) for e in spots])) == {
    'accuracy', 'group_web', 'group_web-icon', 'group_mobile', 'group_mobile-icon', 'group_desktop',
    'group_desktop-icon'}


def test_names_groups_and_splits_are_resolved_in_order_and_once():
  assert [t.name for t in resolve_tasks('mvbench, chart_qa,mvbench')] == ['mvbench', 'chart_qa']
  assert [t.name for t in resolve_tasks('image_pointing')] == list(GROUPS['image_pointing'])
  assert [t.label for t in resolve_tasks('chart_qa,chart_qa:test')] == ['chart_qa', 'chart_qa_test']
  assert resolve_tasks('temp_compass_internal')[0].name == 'temp_compass'
  assert len(resolve_tasks('all')) == len(TASKS)
  assert [t.label for t in resolve_tasks('ego_schema_test,ego_schema:test')] == ['ego_schema_test']
  assert [t.asked_split for t in resolve_tasks('test_video')] == ['test'] * 5
  assert {'single_image', 'multi_image', 'short_video', 'long_video', 'image_pointing',
          'video_pointing',
          'tracking'} <= set(GROUPS)


@pytest.mark.parametrize('names, words', [
  ('chartqa', "no task 'chartqa'; did you mean 'chart_qa'"),
  ('mvbench,short_vidoe', "did you mean 'short_video'"),
  ('chart_qa:tset', "no split 'tset'; its splits are: validation, test"),
  (' , ', 'no task is named'),
])
def test_an_unknown_name_is_an_error_that_names_the_closest(names, words):
  with pytest.raises(TaskError, match=words):
    resolve_tasks(names)


def test_a_dataset_that_is_not_there_says_where_to_get_it(tmp_path):
  with pytest.raises(TaskError, match='no such folder; task chart_qa comes from '
                     'huggingface.co/datasets/HuggingFaceM4'):
    write_manifest(TASKS['chart_qa'], tmp_path / 'nowhere', tmp_path / 'a.jsonl')
  with pytest.raises(TableError, match='there is no table .*val-'):
    write_manifest(TASKS['chart_qa'], tmp_path, tmp_path / 'a.jsonl')


def test_a_table_of_another_form_names_the_column_and_those_that_there_are(tmp_path):
  (tmp_path / 'test.jsonl').write_text('{"picture": "a.png"}\n')
  with pytest.raises(TaskError, match="test.jsonl:1: there is no column 'image'; the columns are: "
                     "picture"):
    write_manifest(TASKS['user_qa'], tmp_path, tmp_path / 'a.jsonl')
  assert not (tmp_path / 'a.jsonl').exists()


def test_pictures_are_found_without_their_folders_and_suffixes_and_written_once(tmp_path):
  save_picture(tmp_path / 'data/val2014/a.jpg')
  reader = Files(tmp_path / 'data', 'validation', tmp_path / 'media')
  assert reader.picture('images/coco/val2014/a.jpg', 'x') == str(tmp_path / 'data/val2014/a.jpg')
  assert reader.picture('val2014/a', 'x') == str(tmp_path / 'data/val2014/a.jpg')
  written = reader.picture(picture(), 'x')
  assert written == str(tmp_path / 'media/x.png') and image_size(written) == (40, 30)
  with pytest.raises(TaskError, match='a picture is a path or bytes, not int'):
    reader.picture(3, 'x')


def test_a_pickle_that_is_more_than_arrays_is_refused(tmp_path):
  (tmp_path / 'tapvid_davis.pkl').write_bytes(b"cos\nsystem\n(S'true'\ntR.")
  with pytest.raises(TaskError, match='os.system|posix.system'):
    write_manifest(TASKS['tap_davis'], tmp_path, tmp_path / 'a.jsonl')


def test_the_command_writes_manifests_of_all_named_tasks(datasets, tmp_path):
  root = datasets(TASKS['chart_qa']).parent
  datasets(TASKS['tomato'])
  run = subprocess.run([sys.executable, '-m', 'molmo_jax.tools.prepare_task', 'chart_qa,tomato',
                        f'--data_root={root}',
                        f'--out={tmp_path}'], capture_output=True, text=True, timeout=120)
  assert run.returncode == 0, run.stderr
  assert [json.loads(line)['question']
          for line in (tmp_path / 'chart_qa.jsonl').open()] == ['How much?'] * 2
  assert (tmp_path / 'tomato.jsonl').exists()
  run = subprocess.run([sys.executable, '-m', 'molmo_jax.tools.prepare_task', 'chartqa',
                        f'--data_root={root}',
                        f'--out={tmp_path}'], capture_output=True, text=True, timeout=120)
  assert run.returncode and run.stderr.startswith("error: there is no task 'chartqa'")


def test_the_page_of_the_tasks_is_up_to_date():
  page = (Path(__file__).parents[2] / 'docs/evaluation.md').read_text(encoding='utf-8')
  assert with_tables(
    page) == page, 'run: python -m molmo_jax.datasets --write docs/evaluation.md'
  for task in TASKS.values():
    assert f'| `{task.name}` | `{task.folder}/` |' in page


def test_a_page_without_markers_is_an_error():
  with pytest.raises(ValueError, match='needs the lines'):
    with_tables('# Page\n')


def test_manifests_are_made_once_and_have_names_of_their_own(datasets, tmp_path):
  root = datasets(TASKS['tomato']).parent
  path = task_manifest(TASKS['tomato'], root, tmp_path)
  assert path == tmp_path / 'tomato.jsonl' and len(read_manifest(path)) == 1
  path.write_text('{"question": "kept"}\n')
  assert task_manifest(TASKS['tomato'], root, tmp_path).read_text() == '{"question": "kept"}\n'
  datasets(TASKS['a_okvqa_mc'])
  v1 = task_manifest(resolve_tasks('a_okvqa_mc', 'v1')[0], root, tmp_path)
  assert v1 == tmp_path / 'a_okvqa_mc_v1.jsonl' and v1.exists()


def test_ids_are_unique_where_a_dataset_repeats_them(tmp_path):
  rows = [{'image': 'a.png', 'question': q} for q in ('one', 'two')]
  (tmp_path / 'test.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  save_picture(tmp_path / 'a.png')
  same = dataclasses.replace(TASKS['user_qa'], files='test.jsonl', id='image')
  write_manifest(same, tmp_path, tmp_path / 'm.jsonl')
  assert [e.id for e in (read_manifest(tmp_path / 'm.jsonl')[i] for i in (0, 1))] == ['a.png',
                                                                                      'a.png#2']
