"""Small files with the columns of the public ones become manifests."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from molmo_jax.data.adapters import ADAPTERS
from molmo_jax.data.adapters.adapter import write_urls
from molmo_jax.data.adapters.media import url_name
from molmo_jax.data.tables import TableError
from molmo_jax.preprocess.points import parse_points
from tests.data.public_tables import CASES, LABELS, cell, prepare, talk, write_table

URL = 'https://example.org/{}.jpg'


def image_files(*numbers):
  return [f'images/{url_name(URL.format(n))}' for n in numbers]


# ---- PixMo and CoSyn -----------------------------------------------------------------------------

CAPTIONS = [{'image_url': URL.format(i), 'caption': f' A long caption {i}. ',
             'transcripts': ['so um', 'I see']}
            for i in range(3)]


def test_captions_have_a_question_and_images_by_the_hash_of_their_url(tmp_path):
  examples, counts = prepare(tmp_path, 'pixmo_cap', 'data/train-00000-of-00001.parquet', CAPTIONS,
                             image_files(0, 2))
  assert [talk(e)[0][1] for e in examples] == ['A long caption 0.', 'A long caption 2.']
  assert all(talk(e)[0][0] and e.style == 'long_caption' for e in examples)
  assert examples[0].images[0].endswith(url_name(URL.format(0)))
  assert (counts.rows, counts.records, counts.missing) == (3, 2, 1)
  assert URL.format(1) in counts.first_missing


def test_pretraining_asks_with_the_style_alone_and_adds_a_transcript(tmp_path):
  examples, _ = prepare(tmp_path, 'pixmo_cap_with_transcripts', 'data/train-0.parquet', CAPTIONS,
                        image_files(0),
                        prompts='none')
  (caption, transcript), = [talk(e) for e in examples]
  assert caption == ('', 'A long caption 0.')
  assert transcript[0] == '' and transcript[1] in ('so um', 'I see')
  assert examples[0].styles == ('long_caption', 'transcript')


def test_the_same_seed_writes_the_same_file(tmp_path):
  texts = []
  for run, seed in enumerate((1, 1, 2)):
    prepare(tmp_path / str(run), 'pixmo_cap', 'data/train-0.parquet', CAPTIONS * 9, image_files(0),
            seed=seed)
    texts.append((tmp_path / str(run) / 'out' / 'pixmo_cap.jsonl').read_text())
  assert texts[0] == texts[1] != texts[2]


def test_dialogues_of_cap_qa_become_turns_of_a_tree(tmp_path):
  rows = [{'image_url': URL.format(0), 'question': '[USER] What? [ASSISTANT] ', 'answer': 'A cat.'},
          {'image_url': URL.format(0),
           'question': '[USER] a [ASSISTANT] b\n[USER] c\nd [ASSISTANT]', 'answer': 'e'}]
  examples, _ = prepare(tmp_path, 'pixmo_cap_qa_as_user_qa', 'data/train-0.parquet', rows,
                        image_files(0))
  assert [talk(e) for e in examples] == [[('What?', 'A cat.'), ('a', 'b', 'c\nd', 'e')]]


def points_row(number, label, count, method='pointing'):
  points = [{'x': 10.0 + i, 'y': 50.0} for i in range(count)]
  return {'image_url': URL.format(number), 'image_sha256': '', 'points': points, 'count': count,
          'label': label,
          'collection_method': method}


def test_points_become_trees_in_both_modes(tmp_path):
  rows = [points_row(0, 'Cats', 2), points_row(0, 'dogs', 0), points_row(1, 'birds', 1, 'counting')]
  examples, _ = prepare(tmp_path, 'pixmo_points', 'data/train-0.parquet', rows, image_files(0, 1))
  assert [e.style for e in examples] == ['point_count', 'pointing']
  counted, pointed = talk(examples[0]), talk(examples[1])
  tag = '<points coords="1 1 100 500 2 110 500">cats</points>'
  assert [a for _, a in counted] == [f'Counting the {tag} shows a total of 2.', 'There are none.']
  assert [a for _, a in pointed] == [tag, 'There are none.']
  high, _ = prepare(tmp_path, 'pixmo_points_high_freq', 'data/train-0.parquet', rows,
                    prompts='none', points='html-v1')
  assert talk(high[1]) == [('birds', '<points coords="1 1 100 500">birds</points>')]


def test_no_record_points_at_more_than_60_places(tmp_path):
  rows = [points_row(0, f'label {i}', n) for i, n in enumerate((40, 30, 20, 61))]
  examples, _ = prepare(tmp_path, 'pixmo_points', 'data/train-0.parquet', rows, image_files(0))
  assert [[len(parse_points(a, 1, 1)) for _, a in talk(e)]
          for e in examples] == [[40], [40], [30, 20], [30, 20]]


@pytest.mark.parametrize('points', [{'x': [10.0, 20.0], 'y': [5.0, 10.0]},
                                    [{'x': 10.0, 'y': 5.0}, {'x': 20.0, 'y': 10.0}]])
def test_points_of_counts_are_pixels(tmp_path, points):
  rows = [{'image_url': URL.format(0), 'image_sha256': '', 'count': 2, 'points': points,
           'label': 'car'}]
  # 40 × 20 pixels
  examples, _ = prepare(tmp_path, 'pixmo_count', 'data/train-0.parquet', rows, image_files(0))
  assert '1 1 250 250 2 500 500' in talk(examples[0])[0][1]


def test_points_over_several_images_number_the_images(tmp_path):
  rows = [{'image_urls': [URL.format(i) for i in range(3)], 'image_sha256s': ['', '', ''],
           'counts': [1, 0, 1],
           'points': [[{'x': 10.0, 'y': 20.0}], [], [{'x': 30.0, 'y': 40.0}]],
           'labels': ['Cup', 'cup', 'cups'],
           'collection_method': ['pointing'] * 3}]
  examples, _ = prepare(tmp_path, 'pixmo_multi_points', 'parquet/train-0.parquet', rows,
                        image_files(0, 1, 2))
  assert talk(examples[0])[0][1] == '<points coords="1 1 100 200;3 2 300 400">cup</points>'
  assert len(examples[0].images) == 3
  assert [e.style for e in examples] == ['multi_image_pointing', 'multi_image_point_then_count']


@pytest.mark.parametrize('name, images', [('cosyn_chart_exp', {'image': cell()}),
                                          ('cosyn_multidoc_chart_exp',
                                           {'images': [cell(1), cell(2)]})])
def test_cosyn_gives_the_reasoning_before_the_answer_and_unpacks_images(tmp_path, name, images):
  rows = [images | {'id': '7', 'qa_pairs': {'question': ['How many?'], 'explanation': ['One, two.'],
                                            'answer': ['2']}}]
  examples, _ = prepare(tmp_path, name, 'chart/train-00000-of-00002.parquet', rows)
  (question, answer), = talk(examples[0])
  assert question.startswith('How many? ') and answer == 'One, two. Answer: 2'
  colours = [np.asarray(Image.open(path))[0, 0, 0] for path in examples[0].images]
  assert colours == ([0] if 'image' in images else [1, 2])


def test_cosyn_points_are_percent(tmp_path):
  rows = [{'id': '1', 'image': cell(), 'questions': ['Click it'],
           'answer_points': [{'x': [10.0], 'y': [20.0]}],
           'names': ['Button']}]
  examples, _ = prepare(tmp_path, 'cosyn_point', 'data/train-0.parquet', rows)
  assert talk(examples[0]) == [('Click it', '<points coords="1 1 100 200">button</points>')]


# ---- Molmo2's videos and text --------------------------------------------------------------------

def test_videos_are_found_by_name_or_by_their_folder(tmp_path):
  rows = [{'video_id': 'abc', 'question': ' q? ', 'answer': 'a'},
          {'video_id': 'abc', 'question': 'r?', 'answer': ' '},
          {'video_id': 'def', 'question': 's?', 'answer': 'b'},
          {'video_id': 'lost', 'question': 's?', 'answer': 'b'}]
  examples, counts = prepare(tmp_path, 'molmo2_human_qa', 'data/HumanQA-0.parquet', rows,
                             ['videos/abc.mp4', 'youtube/def/any name.mp4'])
  assert [talk(e) for e in examples] == [[('q?', 'a')], [('s?', 'b')]]
  assert [e.video.rsplit('/', 1)[1] for e in examples] == ['abc.mp4', 'any name.mp4']
  assert counts.missing == 1


def test_synthetic_questions_hide_the_answer_among_the_others(tmp_path):
  rows = 20 * [{'video_id': 'v', 'Question': 'What?', 'Answer': 'right',
                'NegativeAnswers': ['x', 'y'], 'Category': ''}]
  examples, _ = prepare(tmp_path, 'molmo2_syn_captions_qa', 'data/CapQA-0.parquet', rows, ['v.mp4'])
  assert [len(e.conversations) for e in examples] == [10, 10]
  answers = {a for e in examples for _, a in talk(e)}
  assert answers == {'A. right', 'B. right', 'C. right'}
  assert talk(examples[0])[0][0].startswith('What?\nOnly return the correct answer option.\nA. ')


def test_subtitles_go_with_their_questions(tmp_path):
  rows = [{'video_id': 'v', 'Question': 'What?', 'Answer': 'r', 'NegativeAnswers': ['x'],
           'Category': '',
           'subtitle': [{'start': 0.0, 'end': 1.5, 'text': 'Hi'},
                        {'start': 3.0, 'end': 2.0, 'text': 'wrong'}]}]
  examples, _ = prepare(tmp_path, 'molmo2_syn_captions_subtitle_qa', 'data/SubtitleQA-0.parquet',
                        rows, ['v.mp4'])
  assert [(s.start, s.end, s.text) for s in examples[0].subtitles] == [(0.0, 1.5, 'Hi')]


def test_only_good_video_captions_are_taken(tmp_path):
  row = {'video_id': 'v', 'merged_caption': 'm', 'video_caption': None,
         'video_frame_merged_caption': 'f'}
  rows = [row | {'annotation_score': score} for score in (3, 2, None)]
  examples, _ = prepare(tmp_path, 'molmo2_captions_min_3', 'data/train-0.parquet', rows, ['v.mp4'])
  assert [[a for _, a in talk(e)] for e in examples] == [['m', 'f']]
  assert examples[0].styles == ('video_merged_caption', 'video_long_caption')


def video_points(times, count, duration=30.0, clip=(None, None), unsure=False):
  return {'video_id': 'v', 'video_source': 'youtube', 'video_duration': duration,
          'clip_start': clip[0],
          'clip_end': clip[1], 'label': 'Dogs', 'question': 'How many?', 'count': count,
          'category': 'animal',
          'two_fps_timestamps': times, 'points': [[{'x': 50.0, 'y': 25.0}]] * len(times),
          'annotator_unsure': unsure}


def test_video_points_count_from_the_start_of_the_clip(tmp_path):
  rows = [video_points([0.5, 2.0], 2), video_points([70.5], 1, 200.0, (70.0, 130.0)),
          video_points([70.5], 1, 200.0), video_points([1.0], 1, unsure=True),
          video_points([1.0] * 9, 9)]
  examples, _ = prepare(tmp_path, 'molmo2_video_points_0_5', 'animal/train-0.parquet', rows,
                        ['v.mp4'])
  assert [e.clip for e in examples] == [None, (70.0, 130.0)]
  assert [any('0.5 1 500 250' in a for _, a in talk(e)) for e in examples] == [True, True]
  assert '2.0 2 500 250' in talk(examples[0])[0][1]


def test_text_is_filtered_and_starts_with_the_system_message(tmp_path):
  good = {'id': '1', 'category': 'general', 'source': 's', 'first_message_qwen3_tokens': 9,
          'empty_messages': False,
          'has_special_token': False,
          'messages': [{'role': 'system', 'content': 'Be kind.'}, {'role': 'user', 'content': 'Hi'},
                       {'role': 'assistant', 'content': 'Hello'}]}
  chat = good | {'messages': good['messages'][1:] + [{'role': 'user', 'content': 'Bye'}]}
  rows = [good, chat, good | {'category': 'code'}, good | {'first_message_qwen3_tokens': 3000},
          good | {'source': 'allenai/dino-hardcodes'}, good | {'has_special_token': True}]
  examples, _ = prepare(tmp_path, 'tulu4_max_2304', 'data/train-0.parquet', rows)
  assert [talk(e) for e in examples] == [[('System: Be kind.\nHi', 'Hello')], [('Hi', 'Hello')]]
  assert not examples[0].images and examples[0].video is None
  assert len(prepare(tmp_path, 'tulu4', 'data/train-0.parquet', rows)[0]) == 3


# ---- tracks --------------------------------------------------------------------------------------

def trajectory(frame, *points):
  return {'frame': frame, 'time': frame / 6, 'points': [
    {'id': i, 'point': [x, y], 'occluded': hidden} for i, x, y, hidden in points]}


TRACK = {'id': '1', 'video': 'clip', 'expression': 'The Ball', 'fps': 6, 'sampling_fps': 2,
         'width': 100, 'height': 50,
         'n_frames': 12, 'mask_id': ['10', '11'], 'obj_id': [10, 11], 'qid': '0', 'anno_id': ['1'],
         'frame_trajectories': [
           trajectory(0, (10, 10.0, 10.0, False), (11, 50.0, 25.0, True)),
           trajectory(1, (10, 99.0, 10.0, False)),
           trajectory(3, (10, 20.0, 10.0, False), (11, 60.0, 25.0, False)),
           trajectory(6, (11, 70.0, 25.0, False))]}


@pytest.mark.parametrize('task, style, answer', [
  ('track', 'video_point_track_per_frame',
   '<tracks coords="0.0 1 100 200;0.5 1 200 200 2 600 500;1.0 2 700 500">'),
  ('ground', 'video_point_ground_start_end',
   '<tracks coords="0.0 1 100 200;0.5 1 200 200;1.0 2 700 500">')])
def test_tracks_are_thinned_to_their_rate(tmp_path, task, style, answer):
  examples, _ = prepare(tmp_path, f'mevis_{task}', f'{task}/train-0.parquet', [TRACK],
                        ['videos/clip.mp4'])
  (question, text), = talk(examples[0])
  assert text == f'{answer}the ball</tracks>'
  assert 'the ball' in question and ('2' in question) == (task == 'track')
  assert examples[0].style == style


def test_a_single_track_follows_the_point_of_the_question(tmp_path):
  examples, _ = prepare(tmp_path, 'mevis_single_point_track', 'single_point_track/train-0.parquet',
                        [TRACK] * 30,
                        ['clip.mp4'])
  talks = [talk(e)[0] for e in examples if 'coords="0.0 1 100 200"' in talk(e)[0][0]]
  assert len(talks) > 20       # the first visible frame, but for one in five
  assert {a for _, a in talks} == {'<tracks coords="0.5 1 200 200">the ball</tracks>'}


def test_a_rate_that_does_not_divide_is_left_out(tmp_path):
  rows = [TRACK | {'sampling_fps': 4}]
  examples, counts = prepare(tmp_path, 'lasot_single_object_track', 'lasot/train-0.parquet', rows)
  assert not examples and not counts.missing


def test_molmo2_tracks_have_a_point_a_frame(tmp_path):
  rows = [{'id': 1, 'video': 'long', 'clip': 'long_0_3', 'video_dataset': 'mose', 'exp': 'Dancer',
           'obj_id': ['1'],
           'mask_id': ['0'], 'points': [
             {'object_id': '0', 'points': [[10.0, 10.0], [20.0, 10.0], [30.0, 10.0]]}],
           'segments': [], 'start_frame': 0, 'end_frame': 2, 'w': 100, 'h': 50, 'n_frames': 3,
           'fps': 4}]
  examples, _ = prepare(tmp_path, 'molmo2_video_track', 'data/mose/point_tracks.parquet', rows,
                        ['mose/long_0_3.mp4'])
  assert talk(examples[0])[0][1] == '<tracks coords="0.0 1 100 200;0.5 1 300 200">dancer</tracks>'


# ---- academic questions --------------------------------------------------------------------------

@pytest.mark.parametrize('name', CASES)
def test_questions_of_academic_sets(tmp_path, name):
  file, rows, media, expected = CASES[name]
  examples, _ = prepare(tmp_path, name, file, rows, media)
  assert [talk(e) for e in examples] == expected


def test_a_part_of_a_video_is_shown_where_the_question_is_about_one(tmp_path):
  file, rows, media, _ = CASES['star']
  examples, _ = prepare(tmp_path, 'star', file, rows, media)
  assert examples[0].clip == (1.5, 4.0)


def test_subtitles_may_be_plain_text(tmp_path):
  file, rows, media, _ = CASES['cinepile_with_sub']
  examples, _ = prepare(tmp_path, 'cinepile_with_sub', file, rows, media)
  assert examples[0].subtitles == 'Hi'


@pytest.mark.parametrize('name, file, rows, right, wrong', [
  ('how2qa', 'how2QA_train_release.csv', 'v,[1.5:3.0],x,y,z,"q, q?",right\n', 'right',
   {'x', 'y', 'z'}),
  ('paxion', 'ego4d/train.jsonl',
   [{'video_uid': 'v', 'clip_start': 1.5, 'clip_end': 3.0, 'clip_text': '#C C opens it',
     'action_antonym_clip_text': '#C C closes it'}], 'C opens it',
   {'C closes it', 'Not sure'})])
def test_the_right_answer_is_put_among_the_wrong_ones_about_a_clip(tmp_path, name, file, rows,
                                                                   right, wrong):
  examples, _ = prepare(tmp_path, name, file, rows, ['v.mp4'])
  (question, answer), = talk(examples[0])
  assert {line[3:] for line in question.split('\n')[2:]} == wrong | {right} and answer[3:] == right
  assert examples[0].clip == (1.5, 3.0)


def test_both_parts_of_chart_questions_weigh_the_same(tmp_path):
  rows = [{'image': cell(i), 'query': 'q?', 'label': ['a'], 'human_or_machine': i}
          for i in range(2)]
  examples, _ = prepare(tmp_path, 'chart_qa_weighted', 'data/train-0.parquet', rows)
  assert [round(e.weights[0], 3) for e in examples] == [1.477, 0.523]


@pytest.mark.parametrize('name', LABELS)
def test_labels_and_moments_become_answers(tmp_path, name):
  file, rows, video, clip, answer = LABELS[name]
  examples, _ = prepare(tmp_path, name, file, rows, [video])
  assert [(e.clip, [a for _, a in talk(e)]) for e in examples] == [(clip, [answer])]


# ---- faults --------------------------------------------------------------------------------------

def test_other_columns_than_expected_are_named(tmp_path):
  with pytest.raises(TableError, match="pixmo_cap: row 1 lacks the column 'image_url'.*checked "
                     "against: card"):
    prepare(tmp_path, 'pixmo_cap', 'data/train-0.parquet', [{'url': 'x', 'caption': 'y'}])
  assert not list((tmp_path / 'out').iterdir())


def test_a_folder_without_the_files_is_named(tmp_path):
  with pytest.raises(TableError, match='root: holds no file STAR_train.json; see docs/datasets.md'):
    prepare(tmp_path, 'star', 'train.json', [])


def test_rows_without_an_answer_are_counted(tmp_path):
  _, counts = prepare(tmp_path, 'molmo2_human_qa', 'data/HumanQA-0.parquet', [
    {'video_id': 'v', 'question': 'q', 'answer': ''}], ['v.mp4'])
  assert counts.unusable == 1 and not counts.records


def test_the_images_to_download_are_listed_once(tmp_path):
  write_table(tmp_path / 'data/train-0.parquet', CAPTIONS[:2] * 2)
  assert write_urls(ADAPTERS['pixmo_cap'], tmp_path, tmp_path / 'urls.tsv') == 2
  line = (tmp_path / 'urls.tsv').read_text().splitlines()[1]
  assert line == f'{URL.format(1)}\t{image_files(1)[0]}'
