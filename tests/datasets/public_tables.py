"""Tables with the columns of public datasets, and the facts that are read from them."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image

from molmo_jax.data.formatting import Formatter
from molmo_jax.data.manifest import read_manifest
from molmo_jax.datasets import TRAINING
from molmo_jax.datasets.training import convert


def png(value=0, size=(40, 20)):
  file = io.BytesIO()
  Image.new('RGB', size, (value, 0, 0)).save(file, 'PNG')
  return file.getvalue()


def cell(value=0):
  return {'bytes': png(value), 'path': None}


def write_table(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.suffix == '.parquet':
    pyarrow = pytest.importorskip('pyarrow', reason='parquet tables need pyarrow: pip install '
                                  'pyarrow')
    from pyarrow import parquet
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
  elif path.suffix == '.jsonl' and not isinstance(rows, str):
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  else:
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows))


def prepare(tmp_path, name, file, rows, media=(), prompts=None, **options):
  """The examples of the manifest, and the counts; `media` are names of small files below the root;
  with `prompts`, conversations in the words of these in the place of facts.
  """
  root = tmp_path / 'root'
  write_table(root / file, rows)
  for path in media:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(png())
  out = tmp_path / 'out' / f'{name}.jsonl'
  counts = convert(TRAINING[name], root, out, formatter=Formatter(prompts) if prompts else None,
                   **options)
  return ([*read_manifest(out)] if counts.records else []), counts


def talk(example):
  return [tuple(m.content for m in conversation) for conversation in example.conversations]


def said(example):
  """What the facts of an example ask and answer: a question with options gives these and the number
  of the right one, another one its accepted answers.
  """
  return [_said(fact) for fact in example.facts]


def _said(fact):
  asked = fact.get('question', fact.get('label', ''))
  if 'options' in fact:
    return (asked, *fact['options'], fact['right'])
  return (asked, *(fact.get('answers') or fact.get('texts') or ()))


QUESTION = {'question': 'q?', 'answers': ['a', 'b', 'b'], 'question_id': 1}
TWO_QUESTIONS = {'image': 'images/i.jpg', 'message_list': [QUESTION, QUESTION | {'question': 'r?'}]}
BOTH_ASKED = [('q?', 'a', 'b', 'b'), ('r?', 'a', 'b', 'b')]
FIVE = {f'a{i}': f'option {i}' for i in range(5)}
IMAGE_ROW = {'image': 'images/i.jpg'}
CASES = {   # name → file, rows, media, what the facts of each record say
  'coco_2014_vqa_multi': ('train/train-0.parquet', [TWO_QUESTIONS], ['images/i.jpg'],
                          [BOTH_ASKED]),
  'text_vqa': ('train/train-0.parquet', [TWO_QUESTIONS], ['images/i.jpg'], [BOTH_ASKED]),
  'tally_qa': ('train/train-0.parquet', [IMAGE_ROW | {'message_list': [{'question': 'n?', 'answer': '3'}]}],
               ['images/i.jpg'], [[('n?', '3')]]),
  'okvqa': ('train/train-0.parquet', [IMAGE_ROW | {'image_id': 1, 'qas': [
    {'question': 'q?', 'question_id': 1, 'answers': [{'raw_answer': 'x'}]}]}], ['images/i.jpg'], [[('q?', 'x')]]),
  'a_okvqa_mc': ('train/train-0.parquet', [IMAGE_ROW | {'message_list': [
    {'question': 'q?', 'question_id': '1', 'choices': ['cat', 'dog'], 'answer_idx': 1, 'direct_answers': ['dog']}]}],
    ['images/i.jpg'], [[('q?', 'cat', 'dog', 1)]]),
  'science_qa_img': ('data/train-0.parquet', [
    {'image': cell(), 'question': 'q?', 'hint': 'h', 'choices': ['x', 'y'], 'answer': 0},
    {'image': None, 'question': 'q?', 'hint': '', 'choices': ['x', 'y'], 'answer': 0}], [],
    [[('h\nq?', 'x', 'y', 0)]]),
  'doc_qa': ('train_v1.0_withQT.json', {'data': [
    {'question': f'q{i}?', 'image': 'documents/i.png', 'answers': ['a'], 'questionId': i, 'data_split': 'train'}
    for i in range(2)]}, ['documents/i.png'], [[('q0?', 'a')], [('q1?', 'a')]]),
  'info_qa': ('infographicsVQA_train_v1.0.json', {'data': [
    {'question': 'q?', 'image_local_name': '1.jpeg', 'answers': ['a'], 'questionId': 1}]}, ['images/1.jpeg'],
    [[('q?', 'a')]]),
  'ai2_diagram_v2_mix_transparent': ('data/train-0.parquet', [
    {'image': cell(), 'question': 'q?', 'answer_texts': ['x', 'y'], 'correct_answer': 1, 'abc_label': label,
     'option_is_abc': [False, False], 'has_transparent_box': False} for label in (True, False)], [],
    2 * [[('q?', 'x', 'y', 1)]]),
  'nextqa_mc': ('train.csv', 'video,frame_count,width,height,question,answer,qid,type,' + ','.join(FIVE) +
                '\n123,9,4,4,why,2,0,CW,' + ','.join(FIVE.values()) + '\n', ['NExTVideo/0001/123.mp4'],
                [[('why', *FIVE.values(), 2)]]),
  'tgif': ('Train_action_question.csv', 'gif_name\tquestion\ta1\ta2\ta3\ta4\ta5\tanswer\tvid_id\tkey\n'
           'g\twhat?\tp\tq\tr\ts\tt\t1\tv\t0\n', ['gifs/g.gif'],
           [[('what?', 'p', 'q', 'r', 's', 't', 1), ('what?', 'q')]]),
  'perception_test': ('all_train.json', {'video_1': {'metadata': {}, 'mc_question': [
    {'id': 0, 'question': 'q?', 'options': ['x', 'y', 'z'], 'answer_id': 2}]}}, ['videos/video_1.mp4'],
    [[('q?', 'x', 'y', 'z', 2)]]),
  'clevrer': ('train.json', [{'scene_index': 0, 'video_filename': 'video_00000.mp4', 'questions': [
    {'question_id': 0, 'question': 'colour?', 'answer': 'red', 'program': []},
    {'question_id': 1, 'question': 'which?', 'choices': [{'choice_id': 0, 'choice': 'x', 'answer': 'wrong'},
                                                         {'choice_id': 1, 'choice': 'y', 'answer': 'correct'}]},
    {'question_id': 2, 'question': 'all?', 'choices': [{'choice_id': i, 'choice': 'x', 'answer': 'correct'}
                                                       for i in range(2)]}]}],
    ['train/video_00000.mp4'],
    [[('colour?', 'red'), ('which?', 'x', 'y', 1)]]),
  'star': ('STAR_train.json', [
    {'question_id': '1', 'question': 'q?', 'video_id': 'V', 'start': 1.5, 'end': 4.0, 'answer': 'y',
     'choices': [{'choice_id': 0, 'choice': 'x'}, {'choice_id': 1, 'choice': 'y'}]}], ['V.mp4'],
           [[('q?', 'y'), ('q?', 'x', 'y', 1)]]),
  'funqa': ('FunQA_train.json', [{'visual_input': 'H_1.mp4', 'instruction': 'q?', 'output': 'a', 'task': task}
                                 for task in ('H2', 'H1')], ['train_humor/H_1.mp4'], [[('q?', 'a')]]),
  'tvqa_with_sub': ('tvqa_train.jsonl', [
    {'qid': 1, 'q': 'q?', 'ts': '1.5-4', 'vid_name': 'v', 'answer_idx': 1, **FIVE}], ['bbt/v.mp4'],
    [[('q?', *FIVE.values(), 1)]]),
  'social_iq2': ('qa/qa_train.json',
                 '{"qid": "1", "q": "q?", "vid_name": "v", "answer_idx": 0, "a0": "x", "a1": "y"}\n' * 2,
                 ['video/v.mp4'], [[('q?', 'x', 'y', 0)] * 2]),
  'news_video_qa': ('new_train.json', [{'uni_clipped_id': 'v', 'question': 'q?', 'answer': a} for a in ('', 'a')],
                    ['v.mp4'], [[('q?', 'a')]]),
  'sutd_trafficqa': ('R2_train.jsonl', '["record_id", "vid_filename", "q_body", "option0", "option1", "option2", '
                     '"option3", "answer"]\n[1, "v.mp4", "q?", "", "x", "y", "", 2]\n', ['v.mp4'],
                     [[('q?', 'x', 'y', 1)]]),
  'sportsqa_oe': ('meta-data/train.json', [{'video': 'a/v', 'question': 'q?', 'answer': 'a'}], ['a/v.avi'],
                  [[('q?', 'a')]]),
  'road_text_vqa': ('train.json', {'data': [{'video': 'v.mp4', 'question': 'q?', 'answer': ['a'], 'questionId': 1}]},
                    ['videos/v.mp4'], [[('q?', 'a')]]),
  'video_localized_narratives': ('qa_text_output.json', {'annotations': [{'video_name': 'v', 'qa_pairs': [
    {'raw_question': 'q?', 'raw_answer': 'a', 'question_id': 1}]}]}, ['v.mp4'], [[('q?', 'a')]]),
  'cinepile_with_sub': ('v2/train-0.parquet', [
    {'videoID': 'v', 'question': 'q?', 'choices': ['x', 'y'], 'answer_key': 'y', 'answer_key_position': 1,
     'subtitles': '<subtitle> Hi'}], ['v.mp4'],
                        [[('q?', 'x', 'y', 1)]]),
  'llava_video_oe_academic': ('0_30_s_nextqa/0_30_s_nextqa_oe_qa_processed.json', [
    {'id': '1', 'data_source': '0_30_s_nextqa', 'video': 'NextQA/1.mp4', 'conversations': [
      {'from': 'human', 'value': '<image>\nq?'}, {'from': 'gpt', 'value': ' a '}]}], ['0_30_s_nextqa/NextQA/1.mp4'],
    [[('q?', 'a')]]),
}

SEGMENTS = {'segment': [1.0, 2.5], 'label': 'cut', 'id': '1'}
LABELS = {   # name → file, rows, video, clip, what the facts of the first record say
  'coin': ('COIN.json', {'database': {'v': {'subset': 'training', 'annotation': [SEGMENTS]},
                                      'w': {'subset': 'testing', 'annotation': [SEGMENTS]}}}, 'v.mp4', (1.0, 2.5),
           ('', 'cut')),
  'youcook2': ('youcookii_annotations_trainval.json', {'database': {'v': {'subset': 'training', 'annotations': [
    {'segment': [1, 3], 'sentence': 'boil it', 'id': 0}, {'segment': [3, 3], 'sentence': 'x', 'id': 1}]}}}, 'v.mp4',
    (1.0, 3.0), ('', 'boil it.')),
  'activitynet': ('activity_net.v1-3.min.json', {'database': {'v': {'subset': 'training', 'annotations': [SEGMENTS]}}},
                  'v.mp4', (1.0, 2.5), ('', 'cut')),
  'epic_kitchens': ('EPIC_100_train.csv', 'narration_id,video_id,start_timestamp,stop_timestamp,narration\n'
                    'x,P01,00:01:02.50,00:01:03.00,open door\n', 'P01.MP4', (62.5, 63.0), ('', 'open door')),
  'charades_sta': ('charades_sta_train.txt', 'AO8RW 0.0 6.9##a person sits.\n', 'AO8RW.mp4', (0.0, 6.9),
                   ('', 'a person sits.')),
  'moments_in_time': ('trainingSet.csv', 'opening/v.mp4,opening,3,0\nx/w.mp4,child+singing,3,0\n', 'opening/v.mp4',
                      None, ('', 'opening')),
  'ego4d_all': ('nlq_train.json', {'videos': [{'video_uid': 'u', 'clips': [{'clip_uid': 'v', 'annotations': [
    {'language_queries': [{'query': 'Where?', 'clip_start_sec': 1.0, 'clip_end_sec': 2.0}, {'query': None}]}]}]}]},
    'v.mp4', None, ('Where?', 'Start: 1.00, end: 2.00')),
  'qv_highlights': ('highlight_train_release.jsonl', [{'qid': 1, 'query': 'A dog.', 'vid': 'v', 'duration': 150,
                                                       'relevant_windows': [[2, 4], [6, 8]]}], 'v.mp4', None,
                    ('Here is a query: A dog. Where are all the segments for the query? Report the segments in '
                     'seconds.', 'Segments: [2-4], [6-8]')),
  'motionbench_train': ('train.jsonl', [{'video_path': 'v.mp4', 'motion_caption': 'It falls.'}], 'v.mp4', None,
                        ('', 'It falls.')),
  'video_localized_narratives_caption': ('oops_train.jsonl', [{'vidln_id': 1, 'video_id': 'v', 'actor_narratives': [
    {'actor_name': 'Dog', 'caption': 'It runs.'}]}], 'v.mp4', None, ('', 'It runs.')),
}
