"""Small files with the columns of the public ones become manifests."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from molmo_jax.data.formatting import Formatter
from molmo_jax.datasets import TRAINING
from molmo_jax.datasets.files import url_name
from molmo_jax.datasets.tables import TableError
from molmo_jax.datasets.training import write_urls
from tests.datasets.public_tables import CASES, LABELS, cell, prepare, said, talk, write_table

URL = 'https://example.org/{}.jpg'


def image_files(*numbers):
  return [f'images/{url_name(URL.format(n))}' for n in numbers]


# ---- PixMo and CoSyn -----------------------------------------------------------------------------

CAPTIONS = [{'image_url': URL.format(i), 'caption': f' A long caption {i}. ',
             'transcripts': ['so um', 'I see']}
            for i in range(3)]


def test_captions_are_facts_and_images_go_by_the_hash_of_their_url(tmp_path):
  examples, counts = prepare(tmp_path, 'pixmo_cap', 'data/train-00000-of-00001.parquet', CAPTIONS,
                             image_files(0, 2))
  assert [e.facts for e in examples] == [
    ({'style': 'long_caption', 'texts': [f' A long caption {i}. ']},) for i in (0, 2)]
  assert examples[0].images[0].endswith(url_name(URL.format(0)))
  assert (counts.rows, counts.records, counts.missing) == (3, 2, 1)
  assert URL.format(1) in counts.first_missing


def test_pretraining_asks_with_the_style_alone_and_adds_a_transcript(tmp_path):
  examples, _ = prepare(tmp_path, 'pixmo_cap_with_transcripts', 'data/train-0.parquet', CAPTIONS,
                        image_files(0),
                        prompts='style_only')
  (caption, transcript), = [talk(e) for e in examples]
  assert caption == ('', ' A long caption 0. ')
  assert transcript[0] == '' and transcript[1] in ('so um', 'I see')
  assert examples[0].styles == ('long_caption', 'transcript')


def test_the_same_seed_writes_the_same_file(tmp_path):
  texts = []
  for run, seed in enumerate((1, 1, 2)):
    prepare(tmp_path / str(run), 'pixmo_cap', 'data/train-0.parquet', CAPTIONS * 9, image_files(0),
            'molmo2', seed=seed)
    texts.append((tmp_path / str(run) / 'out' / 'pixmo_cap.jsonl').read_text())
  assert texts[0] == texts[1] != texts[2]


def test_dialogues_of_cap_qa_become_turns_of_a_tree(tmp_path):
  rows = [{'image_url': URL.format(0), 'question': '[USER] What? [ASSISTANT] ', 'answer': 'A cat.'},
          {'image_url': URL.format(0),
           'question': '[USER] a [ASSISTANT] b\n[USER] c\nd [ASSISTANT]', 'answer': 'e'}]
  examples, _ = prepare(tmp_path, 'pixmo_cap_qa_as_user_qa', 'data/train-0.parquet', rows,
                        image_files(0))
  assert [[fact['messages'] for fact in e.facts] for e in examples] == [
    [['What?', 'A cat.'], ['a', 'b', 'c\nd', 'e']]]


def points_row(number, label, count, method='pointing'):
  points = [{'x': 10.0 + i, 'y': 50.0} for i in range(count)]
  return {'image_url': URL.format(number), 'image_sha256': '', 'points': points, 'count': count,
          'label': label, 'collection_method': method}


def points(tmp_path, name, rows, numbers=(0,), held_out=(), **options):
  write_table(tmp_path / 'root/pixmo-points-eval/test-0.parquet',
              [{'image_url': URL.format(n)} for n in held_out] or [{'image_url': 'other'}])
  return prepare(tmp_path, name, 'data/train-0.parquet', rows, image_files(*numbers), **options)[0]


def test_points_become_trees_in_both_modes(tmp_path):
  rows = [points_row(0, 'Cats', 2), points_row(0, 'dogs', 0), points_row(1, 'birds', 1, 'counting')]
  examples = points(tmp_path, 'pixmo_points', rows, (0, 1), prompts='molmo2')
  tag = '<points coords="1 1 100 500 2 110 500">cats</points>'
  trees = [e for e in examples if len(e.conversations) == 2]
  answers = {e.styles[0]: [a for _, a in talk(e)] for e in trees}
  assert answers.keys() == {'point_count', 'pointing'}
  assert answers['pointing'] == [tag, 'There are none.']
  assert answers['point_count'] == [f'Counting the {tag} shows a total of 2.', 'There are none.']


def test_an_empty_label_is_asked_for_and_none_is_left_out(tmp_path):
  rows = [points_row(0, label, 1) for label in ('cats', '', None)]
  examples = points(tmp_path, 'pixmo_points', rows)
  assert {tuple(f['label'] for f in e.facts) for e in examples} == {('cats', '')}


def test_images_of_the_pointing_benchmark_are_held_out(tmp_path):
  rows = [points_row(0, 'cats', 1), points_row(1, 'dogs', 1)]
  examples = points(tmp_path, 'pixmo_points', rows, (0, 1), held_out=[0])
  assert {e.images[0].rsplit('/', 1)[1] for e in examples} == {url_name(URL.format(1))}
  with pytest.raises(TableError, match='allenai/pixmo-points-eval there; its images are left out'):
    prepare(tmp_path / 'other', 'pixmo_points', 'data/train-0.parquet', rows, image_files(0, 1))


def test_no_record_points_at_more_than_60_places(tmp_path):
  rows = [points_row(0, f'label {i}', n) for i, n in enumerate((40, 30, 20, 61))]
  examples = points(tmp_path, 'pixmo_points', rows)
  assert sorted(sum(len(f['points'][0][1]) for f in e.facts) for e in examples) == [40, 40, 50, 50]


@pytest.mark.parametrize('given', [{'x': [10.0, 20.0], 'y': [5.0, 10.0]},
                                   [{'x': 10.0, 'y': 5.0}, {'x': 20.0, 'y': 10.0}]])
def test_points_of_counts_are_pixels(tmp_path, given):
  rows = [{'image_url': URL.format(0), 'image_sha256': '', 'count': 2, 'points': given,
           'label': 'car'}]
  # 40 × 20 pixels
  examples = points(tmp_path, 'pixmo_count', rows, prompts='molmo2')
  assert '1 1 250 250 2 500 500' in talk(examples[0])[0][1]


def test_points_over_several_images_number_the_images(tmp_path):
  rows = [{'image_urls': [URL.format(i) for i in range(3)], 'image_sha256s': ['', '', ''],
           'counts': [1, 0, 1],
           'points': [[{'x': 10.0, 'y': 20.0}], [], [{'x': 30.0, 'y': 40.0}]],
           'labels': ['Cup', 'cup', 'cups'], 'normalized_labels': ['cup', 'cup', 'cup'],
           'collection_method': ['pointing'] * 3}]
  examples, _ = prepare(tmp_path, 'pixmo_multi_points', 'parquet/train-0.parquet', rows,
                        image_files(0, 1, 2), 'molmo2')
  assert '1 1 100 200;3 2 300 400' in talk(examples[0])[0][1]
  assert len(examples[0].images) == 3
  assert {e.style for e in examples} <= {'multi_image_pointing', 'multi_image_point_then_count'}


@pytest.mark.parametrize('name, images', [('cosyn_chart_exp', {'image': cell()}),
                                          ('cosyn_multidoc_chart_exp',
                                           {'images': [cell(1), cell(2)]})])
def test_cosyn_gives_the_reasoning_before_the_answer_and_unpacks_images(tmp_path, name, images):
  rows = [images | {'id': '7', 'qa_pairs': {'question': ['How many?'], 'explanation': ['One, two.'],
                                            'answer': ['2']}}]
  examples, _ = prepare(tmp_path, name, 'chart/train-00000-of-00002.parquet', rows)
  (fact,) = examples[0].facts
  assert (fact['question'], fact['explanation'], fact['answers']) == ('How many?', 'One, two.',
                                                                      ['2'])
  colours = [np.asarray(Image.open(path))[0, 0, 0] for path in examples[0].images]
  assert colours == ([0] if 'image' in images else [1, 2])


def test_cosyn_points_are_percent(tmp_path):
  rows = [{'id': '1', 'image': cell(), 'questions': ['Click it'],
           'answer_points': [{'x': [10.0], 'y': [20.0]}], 'names': ['Button']}]
  examples, _ = prepare(tmp_path, 'cosyn_point', 'data/train-0.parquet', rows, (), 'molmo2')
  assert [a for _, a in talk(examples[0])] == ['<points coords="1 1 100 200">button</points>']


# ---- Molmo2's videos and text --------------------------------------------------------------------

def test_videos_are_found_by_name_or_by_their_folder(tmp_path):
  rows = [{'video_id': 'abc', 'question': ' q? ', 'answer': 'a'},
          {'video_id': 'abc', 'question': 'r?', 'answer': ' '},
          {'video_id': 'def', 'question': 's?', 'answer': 'b'},
          {'video_id': 'lost', 'question': 's?', 'answer': 'b'}]
  examples, counts = prepare(tmp_path, 'molmo2_human_qa', 'data/HumanQA-0.parquet', rows,
                             ['videos/abc.mp4', 'youtube/def/any name.mp4'])
  assert [said(e) for e in examples] == [[('q?', 'a')], [('s?', 'b')]]
  assert [e.video.rsplit('/', 1)[1] for e in examples] == ['abc.mp4', 'any name.mp4']
  assert counts.missing == 1


def test_synthetic_questions_hide_the_answer_among_the_others(tmp_path):
  rows = 20 * [{'video_id': 'v', 'Question': 'What?', 'Answer': 'right',
                'NegativeAnswers': ['x', 'y'], 'Category': ''}]
  (example,), _ = prepare(tmp_path, 'molmo2_syn_captions_qa', 'data/CapQA-0.parquet', rows,
                          ['v.mp4'])
  assert example.facts == 20 * ({'style': 'video_multiple_choice', 'question': 'What?', 'right': 0,
                                 'options': ['right', 'x', 'y'], 'order': 'insert'},)


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
  rows.append(row | {'annotation_score': 5, 'video_id': 'a_'})    # a damaged video
  examples, _ = prepare(tmp_path, 'molmo2_captions_min_3', 'data/train-0.parquet', rows, ['v.mp4'])
  assert [[(f['style'], *f['texts']) for f in e.facts] for e in examples] == [
    [('video_merged_caption', 'm'), ('video_long_caption', 'f')]]


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
  # an unsure annotator's rows stay; those without a clip in a long video, or with many points, go
  assert [e.clip for e in examples] == [(0.0, 30.0), (70.0, 130.0)]
  at = [[0.5, [[0.5, 0.25]]], [2.0, [[0.5, 0.25]]]]
  assert [e.facts[0]['points'] for e in examples] == [at, at[:1]]
  assert all(f['styles'] == ['video_point_count', 'video_point'] for e in examples for f in e.facts)


def test_long_videos_are_told_apart_and_their_questions_follow_each_other(tmp_path):
  rows = [video_points([time], 1, 200.0, (0.0, 60.0)) | {'video_id': name}
          for name, time in (('v', 1.0), ('w', 2.0), ('v', 3.0))]
  examples, _ = prepare(tmp_path, 'molmo2_video_points_0_5', 'animal/train-0.parquet', rows,
                        ['v.mp4', 'w.mp4'])
  assert [[f['points'][0][0] for f in e.facts] for e in examples] == [[1.0], [3.0], [2.0]]


def test_turns_with_the_same_id_make_one_tree(tmp_path):
  file, (row,), media, _ = CASES['llava_video_oe_academic']
  examples, _ = prepare(tmp_path, 'llava_video_oe_academic', file,
                        [row, row | {'id': '2'}, row], media)
  assert [len(e.facts) for e in examples] == [2, 1]


@pytest.mark.parametrize('name, file', [
  ('dv_qa', 'train_qa.json'), ('figure_qa', 'train1/qa_pairs.json'),
  ('plot_qa', 'train/qa_pairs_V2.json')])
def test_questions_about_plots_may_be_lists_by_picture(tmp_path, name, file):
  rows = [{'image': 'a.png', 'questions': {'question': ['p?', 'q?'], 'answer': [1, 'x']}}]
  examples, _ = prepare(tmp_path, name, file, rows if name == 'dv_qa' else {'qa_pairs': rows},
                        ['a.png'])
  assert [[(f['question'], f['answers']) for f in e.facts] for e in examples] == [
    [('p?', ['1']), ('q?', ['x'])]]


def test_what_is_said_goes_with_the_questions_of_tvqa(tmp_path):
  file, rows, media, _ = CASES['tvqa_with_sub']              # from 1.5 s to 4 s
  lines = [{'start': 0.0, 'end': 1.5, 'text': 'before'}, {'start': 1.0, 'end': 2.0, 'text': 'a'},
           {'start': 3.0, 'end': 5.0, 'text': 'b'}]
  write_table(tmp_path / 'root/tvqa_preprocessed_subtitles.jsonl',
              [{'vid_name': 'v', 'sub': lines}])
  (example,), _ = prepare(tmp_path, 'tvqa_with_sub', file, rows, media)
  assert [(s.start, s.end, s.text) for s in example.subtitles] == [(0.0, 0.5, 'a'), (1.5, 3.5, 'b')]
  assert example.facts[0]['style'] == 'video_multiple_choice_w_subtitle'


def test_clips_of_ego4d_bring_their_questions(tmp_path):
  questions = [{'question': 'Label it.', 'answer': 'eat', 'style': 'ego4d_mq_label_clip'}]
  rows = [{'clip': name, 'corrupt': corrupt, 'message_list': questions}
          for name, corrupt in (('v.mp4', False), ('w.mp4', True))]
  examples, _ = prepare(tmp_path, 'ego4d_all', 'ego4d_cached_train_metadata.parquet', rows,
                        ['v.mp4', 'w.mp4'])
  assert [e.facts for e in examples] == [
    ({'style': 'ego4d_mq_label_clip', 'question': 'Label it.', 'answers': ['eat']},)]


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
  assert [f['messages'] for e in examples for f in e.facts] == [['System: Be kind.\nHi', 'Hello'],
                                                                ['Hi', 'Hello']]
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


@pytest.mark.parametrize('task, style', [
  ('track', 'video_point_track_per_frame'), ('ground', 'video_point_ground_start_end'),
  ('single_point_track', 'video_single_point_track_per_frame')])
def test_tracks_keep_every_annotated_moment_and_the_rates_that_fit(tmp_path, task, style):
  (example,), _ = prepare(tmp_path, f'mevis_{task}', f'{task}/train-0.parquet', [TRACK],
                          ['videos/clip.mp4'])
  (fact,) = example.facts
  assert (fact['style'], fact['label'], fact['fps']) == (style, 'The Ball', 2)
  assert fact['tracks'][2] == [0.5, {'0': [0.2, 0.2], '1': [0.6, 0.5]}]
  assert fact['tracks'][0] == [0.0, {'0': [0.1, 0.2], '1': [0.5, 0.5, True]}]   # True: hidden
  assert example.sampling == {'frame_sample_mode': 'fps', 'candidate_fps': [1, 2, 3, 6]}


@pytest.mark.parametrize('task, answer', [
  ('track', '0.0 1 100 200;0.5 1 200 200 2 600 500;1.0 2 700 500'),
  ('ground', '0.0 1 100 200;0.5 1 200 200;1.0 2 700 500')])
def test_tracks_are_told_at_the_moments_that_are_shown(tmp_path, task, answer):
  (example,), _ = prepare(tmp_path, f'mevis_{task}', f'{task}/train-0.parquet', [TRACK],
                          ['videos/clip.mp4'])
  worded = Formatter()(example, np.random.default_rng(0), times=lambda: np.array([0.0, 0.5, 1.0]))
  (question, text), = talk(worded)
  assert text == f'<tracks coords="{answer}">The Ball</tracks>' and 'the ball' in question.lower()


def test_a_rate_that_does_not_divide_is_left_out(tmp_path):
  rows = [TRACK | {'sampling_fps': 4}]
  examples, counts = prepare(tmp_path, 'lasot_single_object_track', 'lasot/train-0.parquet', rows)
  assert not examples and not counts.missing


# ---- academic questions --------------------------------------------------------------------------

@pytest.mark.parametrize('name', CASES)
def test_questions_of_academic_sets(tmp_path, name):
  file, rows, media, expected = CASES[name]
  examples, _ = prepare(tmp_path, name, file, rows, media)
  assert [said(e) for e in examples] == expected


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
  (fact,) = examples[0].facts
  assert fact['options'][fact['right']] == right and fact['order'] != 'given'
  assert set(fact['options']) == wrong | {right}
  assert examples[0].clip == (1.5, 3.0)


def test_both_parts_of_chart_questions_weigh_the_same(tmp_path):
  rows = [{'image': cell(i), 'query': 'q?', 'label': ['a'], 'human_or_machine': i}
          for i in range(2)]
  examples, _ = prepare(tmp_path, 'chart_qa_weighted', 'data/train-0.parquet', rows)
  assert [round(e.facts[0]['weight']['weight'], 3) for e in examples] == [1.477, 0.523]


@pytest.mark.parametrize('name', LABELS)
def test_labels_and_moments_become_answers(tmp_path, name):
  file, rows, video, clip, answer = LABELS[name]
  examples, _ = prepare(tmp_path, name, file, rows, [video])
  assert (examples[0].clip, said(examples[0])) == (clip, [answer])


# ---- faults --------------------------------------------------------------------------------------

def test_other_columns_than_expected_are_named(tmp_path):
  with pytest.raises(TableError, match="pixmo_cap: row 1 .*there is no column 'image_url'.*checked "
                     "against: card"):
    prepare(tmp_path, 'pixmo_cap', 'data/train-0.parquet', [{'url': 'x', 'caption': 'y'}])
  assert not list((tmp_path / 'out').iterdir())


def test_a_folder_without_the_files_is_named(tmp_path):
  with pytest.raises(TableError,
                     match='root: there is no table STAR_train.json .*docs/datasets.md'):
    prepare(tmp_path, 'star', 'train.json', [])


def test_rows_without_an_answer_are_counted(tmp_path):
  _, counts = prepare(tmp_path, 'molmo2_human_qa', 'data/HumanQA-0.parquet', [
    {'video_id': 'v', 'question': 'q', 'answer': ''}], ['v.mp4'])
  assert counts.unusable == 1 and not counts.records


def test_the_images_to_download_are_listed_once(tmp_path):
  write_table(tmp_path / 'data/train-0.parquet', CAPTIONS[:2] * 2)
  assert write_urls(TRAINING['pixmo_cap'], tmp_path, tmp_path / 'urls.tsv') == 2
  line = (tmp_path / 'urls.tsv').read_text().splitlines()[1]
  assert line == f'{URL.format(1)}\t{image_files(1)[0]}'


def test_repetitions_are_asked_about_in_the_questions_of_their_class(tmp_path):
  root = tmp_path / 'root'
  root.mkdir()
  (root / 'class_to_question.json').write_text('{"squat": ["How often?", "How many times?"]}')
  examples, _ = prepare(tmp_path, 'countix_oe', 'countix_train_mapped.csv',
                        'video_path,class,count\nv.mp4,squat,5\n', ['v.mp4'])
  assert examples[0].facts == ({'style': 'video_short_answer', 'answers': ['5'],
                                'questions': ['How often?', 'How many times?']},)


# ---- Molmo v1 ------------------------------------------------------------------------------------

def test_points_stand_inside_of_explanations_and_an_image_has_two_trees(tmp_path):
  row = {'image_url': URL.format(0), 'parsed_response': 'Look at <|POINT|> and <|POINT|>.',
         'inline_text': ['This', 'those'], 'alt_text': ['a Cup', 'cats'],
         'points': [[[10.0, 20.0]], [[50.0, 60.04], [30.0, 101.0]]]}
  rows = [row | {'question': f'Why {i}?'} for i in range(3)]
  rows += [rows[0] | {'parsed_response': text} for text in (None, 'Only <|POINT|>.')]
  v1, _ = prepare(tmp_path / 'v1', 'pixmo_pointing_explanations', 'data/train-0.parquet', rows,
                  image_files(0), 'molmo_v1')
  assert [[question for question, _ in talk(e)] for e in v1] == [['Why 0?', 'Why 1?'], ['Why 2?']]
  assert set(v1[0].styles) == {'point_qa'} and talk(v1[0])[0][1] == (
    'Look at <point x="10.0" y="20.0" alt="a Cup">This</point> and '
    '<points x1="30.0" y1="101.0" x2="50.0" y2="60.0" alt="cats">those</points>.')
  molmo2, _ = prepare(tmp_path / '2', 'pixmo_pointing_explanations', 'data/train-0.parquet', rows,
                      image_files(0), 'molmo2')
  assert talk(molmo2[0])[0][1] == (
    'Look at <points alt="a Cup" coords="1 1 100 200">This</points> and '
    '<points alt="cats" coords="1 1 300 1000 2 500 600">those</points>.')


def test_a_step_on_a_phone_is_asked_for_in_four_ways(tmp_path):
  rows = [{'image': cell(), 'll_instruction': 'tap Mail', 'hl_instruction': 'read it',
           'target_action': 'Click(10.0, 20.5)', 'target_box': ''}]
  (example,), _ = prepare(tmp_path, 'android_control', 'train.parquet', rows, (), 'molmo_v1')
  assert set(example.styles) == {'android_control'} and sorted(talk(example)) == sorted([
    ('low_level: tap Mail', 'Click(10.0, 20.5)'),
    ('high_level: read it low_level: tap Mail', 'Click(10.0, 20.5)'),
    ('high_level: read it', 'Click(10.0, 20.5)'),
    ('high_level_cot: read it', 'Plan: tap Mail Action: Click(10.0, 20.5)')])


# ---- sets of the fine-tuning stage with a form of their own --------------------------------------

OWN_FORM = {   # name → file, rows, video, what the facts of the first record say
  'camerabench_qa': ('camerabench_qa.parquet', [{'video_path': 'v.mp4', 'mc_qa_list': [
    {'Question': 'q?', 'Answer': 'pan', 'NegativeAnswers': ['tilt', 'zoom']}]}],
                     {'pan', 'tilt', 'zoom'}, 'pan'),
  'funqa': ('Funqa_mcqa_v1.json', [{'visual_input': 'v.mp4', 'gt': '2', 'instruction':
            "Watch.\nThe Question is: q?\nThe Options are: ['Options 1: x', 'Options 2: y']"}],
            {'x', 'y'}, 'y')}


@pytest.mark.parametrize('name', OWN_FORM)
def test_choices_of_further_video_sets(tmp_path, name):
  file, rows, options, right = OWN_FORM[name]
  (example,), _ = prepare(tmp_path, name, file, rows, ['v.mp4'])
  (fact,) = example.facts
  assert fact['question'] == 'q?' and set(fact['options']) == options
  assert fact['options'][fact['right']] == right


def test_questions_about_intent_are_asked_with_options_and_without(tmp_path):
  rows = ('video_id,question,answer,a0,a1,a2,a3,a4\nv,why,2,p,q,r,s,t\n')
  (example,), _ = prepare(tmp_path, 'intent_qa', 'train.csv', rows, ['v.mp4'])
  assert said(example) == [('why', 'r'), ('why', 'p', 'q', 'r', 's', 't', 2)]


def test_academic_points_count_from_the_start_of_their_clip(tmp_path):
  rows = [{'video_name': 'v.mp4', 'category': 'Dog', 'count': 1, 'clip_start_time': 2.0,
           'clip_end_time': 6.0, 'timestamps': [3.0], 'points': [[{'x': 10.0, 'y': 20.0}]]}]
  (example,), _ = prepare(tmp_path, 'academic_points', 'data/train-0.parquet', rows, ['v.mp4'])
  assert example.clip == (2.0, 6.0) and example.facts[0]['label'] == 'dog'
  assert example.facts[0]['points'] == [[1.0, [[0.1, 0.2]]]]


def test_hardcodes_are_shown_with_media_of_other_sets(tmp_path):
  rows = [{'questions': ['Who are you?'], 'images': None, 'response': 'A model.'}]
  (example,), _ = prepare(tmp_path, 'molmo2_hardcodes', 'data/train-0.parquet', rows,
                          ['context/a.png', 'context/v.mp4'])
  drawn = [Formatter()(example, np.random.default_rng(i)) for i in range(400)]
  shown = [('video' if e.video else len(e.images)) for e in drawn]
  assert set(shown) == {'video', 0, 1, 2, 3, 4, 5}
  assert np.mean([s == 1 for s in shown]) == pytest.approx(0.25, abs=0.07)
