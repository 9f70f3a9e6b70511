"""Small copies of the public datasets: the columns and folders of the real ones, with two questions
at most.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

from molmo_jax.metrics.masks import encode_mask
from molmo_jax.scenes.drawing import save_clip

WIDTH, HEIGHT = 40, 30
MASK = np.zeros((HEIGHT, WIDTH), bool)
MASK[10:20, 10:30] = True
POINT = [20.0, 15.0]                            # in the mask
SPLITS = {'mevis': 'valid_u', 'ref_yt_vos': 'valid', 'ref_davis17': 'valid', 'reasonvos': 'test'}


def pixels() -> np.ndarray:
  return np.full((HEIGHT, WIDTH, 3), 200, np.uint8)


def picture() -> dict[str, Any]:
  """A picture as the parquet files of the Hub hold it."""
  buffer = io.BytesIO()
  Image.fromarray(pixels()).save(buffer, 'PNG')
  return {'bytes': buffer.getvalue(), 'path': None}


def save_picture(path: Path, array: np.ndarray | None = None) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels() if array is None else array).save(path)


def save_video(path: Path) -> None:
  """Two seconds at 6 frames a second."""
  path.parent.mkdir(parents=True, exist_ok=True)
  save_clip(path, np.stack([pixels()] * 12), 6)


def parquet(path: Path, *rows: dict[str, Any]) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)


def text(path: Path, value: Any) -> None:
  """A JSON file, or for a list of strings their lines."""
  path.parent.mkdir(parents=True, exist_ok=True)
  lines = isinstance(value, list) and value and isinstance(value[0], str)
  path.write_text('\n'.join(value) + '\n' if lines else json.dumps(value))


def lines(path: Path, *rows: Any) -> None:
  text(path, [json.dumps(row) for row in rows])


def hub(root: Path, name: str, **row: Any) -> None:
  parquet(root / f'data/{name}-00000-of-00001.parquet', row)


def vqa2(root: Path) -> None:
  message = {'question': 'What is it?', 'answers': ['dog'] * 10, 'question_id': 7}
  parquet(root / 'validation/train-00000.parquet',
          {'image': 'images/coco/val2014/a.jpg', 'message_list': [message]})
  save_picture(root / 'val2014/a.jpg')
  text(root / 'v2_OpenEnded_mscoco_test2015_questions.json',
       {'questions': [{'image_id': 1, 'question': 'What?', 'question_id': 10}]})
  save_picture(root / 'test2015/COCO_test2015_000000000001.jpg')


def text_vqa(root: Path) -> None:
  message = {'question': 'What word?', 'answers': ['stop'] * 10, 'question_id': 7}
  parquet(root / 'validation/train-00000.parquet',
          {'image': 'train_images/a.jpg', 'message_list': [message]})
  save_picture(root / 'train_images/a.jpg')


def okvqa(root: Path) -> None:
  question = {'question': 'Which sport?', 'question_id': 3,
              'answers': [{'raw_answer': 'tennis'}] * 5}
  parquet(root / 'val/train-00000.parquet', {'image': 'a.jpg', 'image_id': 1, 'qas': [question]})
  save_picture(root / 'a.jpg')


def chart_qa(root: Path) -> None:
  rows = [{'image': picture(), 'query': 'How much?', 'label': ['14'], 'human_or_machine': i}
          for i in (0, 1)]
  parquet(root / 'data/val-00000-of-00001.parquet', *rows)


def doc_qa(root: Path) -> None:
  text(root / 'val_v1.0_withQT.json', {'data': [{
    'questionId': 1, 'question': 'Which year?', 'image': 'documents/a.png', 'docId': 1,
    'data_split': 'val',
    'answers': ['1999', 'year 1999']}]})
  text(root / 'test_v1.0.json',
       {'data': [{'questionId': 2, 'question': 'Who?', 'image': 'documents/a.png'}]})
  save_picture(root / 'documents/a.png')


def info_qa(root: Path) -> None:
  text(root / 'infographicsVQA_val_v1.0_withQT.json', {'data': [{
    'questionId': 1, 'question': 'How many?', 'image_local_name': 'a.jpeg',
    'answers': ['12 million']}]})
  save_picture(root / 'images/a.jpeg')


def st_qa(root: Path) -> None:
  text(root / 'train_task_3.json',
       {'data': [{'question_id': 1, 'question': 'Which shop?', 'file_path': 'coco/a.jpg',
                  'answers': ['bakery']}]})
  save_picture(root / 'coco/a.jpg')


def ai2d(root: Path) -> None:
  text(root / 'questions/1.png.json', {'imageName': '1.png', 'questions': {
    'Which part is the leaf?': {'abcLabel': True, 'answerTexts': ['a', 'b', 'c', 'd'],
                                'correctAnswer': 1,
                                'questionId': '1.png-0'},
    'What eats grass?': {'abcLabel': False, 'answerTexts': ['cow', 'sun', 'owl', 'sea'],
                         'correctAnswer': 0,
                         'questionId': '1.png-1'}}})
  text(root / 'questions/2.png.json', {'imageName': '2.png', 'questions': {}})
  text(root / 'ai2d_validation_ids.csv', ['1'])
  for folder in ('images', 'abc_images', 'abc_images_transparent'):
    save_picture(root / folder / '1.png')


def mmmu(root: Path) -> None:
  images = {f'image_{i}': picture() if i == 1 else None for i in range(1, 8)}
  parquet(root / 'Art/validation-00000-of-00001.parquet',
          {'id': 'validation_Art_1', 'question': 'See <image 1>. Which?',
           'options': "['oil', 'ink']", 'answer': 'B',
           'question_type': 'multiple-choice'} | images,
          {'id': 'validation_Art_2', 'question': 'How long?', 'options': '[]', 'answer': '12',
           'question_type': 'open'}
          | images)


def real_world_qa(root: Path) -> None:
  parquet(root / 'data/test-00000-of-00001.parquet', {
    'image': picture(), 'answer': 'B', 'question': 'Which?\nA. x\nB. y\nPlease answer directly '
    'with only the letter of the correct option and nothing else.'}, {
      'image': picture(), 'answer': 'Two', 'question':
      'How many?\nPlease answer directly with a single word or number.'})


def math_vista(root: Path) -> None:
  parquet(root / 'data/testmini-00000-of-00001.parquet', {
    'pid': '1', 'question': 'Hint: Say the letter.\nQuestion: Which is larger?',
    'decoded_image': picture(),
    'choices': ['left', 'right'], 'answer': 'right', 'question_type': 'multi_choice',
    'answer_type': 'text',
    'precision': None}, {
      'pid': '2', 'question': 'Question: How many?\nHint: an integer', 'decoded_image': picture(),
      'choices': None,
      'answer': '14', 'question_type': 'free_form', 'answer_type': 'integer', 'precision': None})


def a_okvqa(root: Path) -> None:
  message = {'question': 'Why?', 'question_id': 'q1', 'choices': ['rain', 'sun', 'snow', 'fog'],
             'answer_idx': 2,
             'direct_answers': ['snow'] * 10, 'difficult_direct_answer': False}
  hard = message | {'difficult_direct_answer': True, 'question_id': 'q2'}
  parquet(root / 'val/train-00000.parquet',
          {'image': 'coco/val2017/a.jpg', 'message_list': [message, hard]})
  save_picture(root / 'val2017/a.jpg')


def science_qa(root: Path) -> None:
  base = {'question': 'Which is it?', 'choices': ['a rock', 'a plant'], 'answer': 1,
          'hint': 'Look.'}
  parquet(root / 'data/test-00000-of-00001.parquet', base | {'image': picture()},
          base | {'image': None})


def tally_qa(root: Path) -> None:
  message = {'question': 'How many cats?', 'answer': '3', 'question_id': 1}
  parquet(root / 'test/train-00000.parquet',
          {'image': 'vg/VG_100K/a.jpg', 'message_list': [message]})
  save_picture(root / 'vg/VG_100K/a.jpg')


def gqa(root: Path) -> None:
  text(root / 'testdev_balanced_questions.json',
       {'201': {'imageId': 'n1', 'question': 'Is it red?', 'answer': 'yes'}})
  save_picture(root / 'images/n1.jpg')


def clock_bench(root: Path) -> None:
  text(root / 'coco.csv', ['image,hour,minute,image_id', 'a.jpg,12,15,5'])
  save_picture(root / 'a.jpg')


def pixmo_clocks(root: Path) -> None:
  hub(root, 'validation', image=picture(), hour=15, minute=16, second=31)


def pixmo_ask_model_anything(root: Path) -> None:
  parquet(root / 'validation.parquet',
          {'image_url': 'http://x', 'image_sha256': 'abc', 'question': 'What is it? ',
           'answer': 'A dog.'})
  save_picture(root / 'images/abc.png')


def with_pictures(name: str, **row: Any) -> Callable[[Path], None]:
  """A table of one row about the picture a.png."""
  def write(root: Path) -> None:
    lines(root / name, {'image': 'a.png'} | row)
    save_picture(root / 'a.png')
  return write


def muir_bench(root: Path) -> None:
  hub(root, 'test', idx='1', task='Counting', image_relation='x', image_type='y',
      counterpart_idx='2',
      question='Compare <image> and <image>. Which fits <image>?',
      options=['the first', '<image>', 'none'], answer='B',
      image_list=[picture()] * 4)


def mmiu(root: Path) -> None:
  paths = [f'./Low-level-semantic/task/{i}.png' for i in range(12)]
  parquet(root / 'all.parquet', {'task': 't', 'question': 'Which?', 'options': 'A: first\nB: '
                                 'second\nC: third',
                                 'context': '', 'output': 'C', 'input_image_path': paths})
  for path in paths:
    save_picture(root / path)


def blink(root: Path) -> None:
  rows = [{'idx': f'val_{n}', 'sub_task': 'Counting', 'prompt': 'How many?\nSelect one.\n(A) '
           '1\n(B) 2',
           'choices': ['1', '2'], 'answer': '(B)'}
          | {f'image_{i}': picture() if i <= n else None for i in range(1, 5)}
          for n in (1, 2)]
  parquet(root / 'Counting/val-00000-of-00001.parquet', *rows)


def mantis_eval(root: Path) -> None:
  rows = [{'id': kind, 'question_type': kind, 'question': 'See <image> and <image>. Same?',
           'images': [picture()] * 2,
           'options': options, 'answer': answer, 'category': 'c', 'data_source': 's'}
          for kind, options, answer in (('multi-choice', ['(A) yes', '(B) no'], 'B'),
                                        ('short-answer', [], 'Two'))]
  parquet(root / 'mantis_eval/test-00000-of-00001.parquet', *rows)


def mmsi_bench(root: Path) -> None:
  parquet(root / 'MMSI_Bench.parquet', {
    'id': 1, 'images': [picture()] * 2, 'question_type': 'Motion', 'answer': 'B', 'thought': '',
    'question': 'Where?\nOptions: A: left, B: right, C: up, D: down'})


def mulset(root: Path) -> None:
  hub(root, 'test', id='1', task='distance', images=[picture()] * 2, question='<image> or <image>?',
      options=['near', 'far'], answer='A')


def ego3d_bench(root: Path) -> None:
  views = ['Front', 'Front_Left', 'Side_Left', 'Front_Right', 'Side_Right']
  row = {'source': 'waymo', 'images': {view: f'w/{view}.jpg' for view in views}}
  question = 'Front view: <image>\nFront Left view: <image>\nHow far?'
  parquet(root / 'data/test-00000.parquet',
          row | {'category': 'Localization', 'question': question, 'options': ['A. near', 'B. far'],
                 'answer': 'B'},
          row | {'category': 'Ego_Centric_Absolute_Distance', 'question': question, 'options': None,
                 'answer': '10'})
  for view in views:
    save_picture(root / f'images/w/{view}.jpg')


def vsi_bench(root: Path) -> None:
  row = {'dataset': 'arkitscenes', 'scene_name': '4', 'question': 'Which?'}
  lines(root / 'test.jsonl',
        row | {'id': 1, 'question_type': 'object_rel_distance', 'options': ['A. sofa', 'B. bed'],
               'ground_truth': 'B'},
        row | {'id': 2, 'question_type': 'object_counting', 'options': None, 'ground_truth': '10'})
  save_video(root / 'arkitscenes/4.mp4')


def mvbench(root: Path) -> None:
  question = {'question': 'What?', 'candidates': ['sit', 'run'], 'answer': 'run'}
  text(root / 'json/action_antonym.json', [question | {'video': '1.webm'}])
  text(root / 'json/action_sequence.json',
       [question | {'video': 'a.mp4', 'start': 0.5, 'end': 1.5}])
  text(root / 'json/episodic_reasoning.json',
       [question | {'video': 'show', 'start': 0, 'end': 1.0}])
  save_video(root / 'video/ssv2_video/1.mp4')
  save_video(root / 'video/star/Charades_v1_480/a.mp4')
  save_video(root / 'video/tvqa/frames_fps3_hq/show/video.mp4')


def tomato(root: Path) -> None:
  text(root / 'data/count.json',
       {'0': {'question': 'How many?', 'options': ['one', 'two', 'three'], 'answer': 1,
              'key': '0001', 'demonstration_type': 'human', 'motion_type': 'm'}})
  save_video(root / 'videos/human/0001.mp4')


def motionbench(root: Path) -> None:
  question = 'Which?\nA. up\nB. down\nPlease provide your answer by stating the letter'
  lines(root / 'MotionBench/video_info.meta.jsonl', {
    'key': 'k', 'video_path': 'a.mp4', 'question_type': 'Motion', 'qa': [
      {'uid': '1', 'question': question, 'answer': 'B'},
      {'uid': '2', 'question': question, 'answer': 'NA'}]})
  save_video(root / 'public-dataset/a.mp4')


def temp_compass(root: Path) -> None:
  def write(task: str, question: str, answer: str) -> None:
    parquet(root / task / 'test-00000-of-00001.parquet',
            {'video_id': '1', 'question': question, 'answer': answer, 'dim': 'speed'})
  write('multi-choice', 'How fast?\nA. slow\nB. fast', 'B. fast')
  write('yes_no', 'Is it fast?', 'yes')
  write('caption_matching', 'Which fits?\nOption 1: It runs.\nOption 2: It stands.',
        'Option 1: It runs.')
  write('captioning', 'Describe. Generated Caption:', 'It runs.')
  save_video(root / 'videos/1.mp4')


def perception_test(root: Path) -> None:
  parquet(root / 'mc_question_val/validation-00000-of-00001.parquet',
          {'video_name': 'v', 'question': 'Which?', 'options': ['x', 'y', 'z'], 'answer_id': '2',
           'area': 'memory',
           'reasoning': 'descriptive', 'question_id': '1'})
  save_video(root / 'videos/v.mp4')


def egoschema(root: Path) -> None:
  row = {'question_idx': '1', 'video_idx': 'v', 'question': 'Why?',
         'option': [f'{c}. because {c}' for c in 'ABCDE']}
  parquet(root / 'Subset/test-00000-of-00001.parquet', row | {'answer': '3'})
  parquet(root / 'MC/test-00000-of-00001.parquet', row | {'answer': None})
  save_video(root / 'videos/v.mp4')


def nextqa(root: Path) -> None:
  parquet(root / 'MC/test-00000-of-00001.parquet',
          {'video': 5, 'question': 'why did he run', 'type': 'CW', 'answer': 4}
          | {f'a{i}': f'option {i}' for i in range(5)})
  save_video(root / 'NExTVideo/5.mp4')


def video_mme(root: Path) -> None:
  parquet(root / 'videomme/test-00000-of-00001.parquet', {
    'video_id': '001', 'videoID': 'abc', 'question_id': '001-1', 'question': 'Which?',
    'duration': 'short',
    'options': ['A. x', 'B. y', 'C. z', 'D. w'], 'answer': 'C', 'domain': 'Knowledge',
    'sub_category': 'Law',
    'task_type': 'OCR Problems'})
  text(root / 'subtitles.json', {'abc': {'0': {'start': 0.0, 'end': 1.0, 'text': 'Hello.'}}})
  save_video(root / 'data/abc.mp4')


def long_video_bench(root: Path) -> None:
  row = {'video_id': 'v', 'video_path': 'v.mp4', 'question': 'Which?', 'candidates': ['x', 'y'],
         'id': 'v_0',
         'level': 'L1', 'question_category': 'S2E', 'duration_group': 15, 'duration': 2.0,
         'topic_category': 'T',
         'starting_timestamp_for_subtitles': 100, 'subtitle_path': 'v.json'}
  text(root / 'lvb_val.json', [row | {'correct_choice': 1}])
  text(root / 'lvb_test_wo_gt.json', [row])
  text(root / 'lvb_test_caption.json',
       {'0': row | {'caption': 'A dog runs.', 'statements': ['A dog.', 'It runs.']}})
  text(root / 'subtitles/v.json', [
    {'start': '00:01:39.500', 'end': '00:01:41.000', 'line': 'Early.'},
    {'start': '00:10:00.000', 'end': '00:10:01.000', 'line': 'Too late.'}])
  save_video(root / 'videos/v.mp4')


def lvbench(root: Path) -> None:
  lines(root / 'video_info.meta.jsonl', {'key': 'v', 'type': 'sport', 'qa': [
    {'uid': '1', 'question': 'Who?\n(A) he\n(B) she', 'answer': 'B', 'question_type': ['reasoning'],
     'time_reference': '0-1'}]})
  save_video(root / 'v.mp4')


def mlvu(root: Path) -> None:
  choice = {'video': 'a.mp4', 'duration': 2, 'question': 'Which?', 'candidates': ['x', 'y'],
            'answer': 'y'}
  text(root / 'MLVU/json/1_plotQA.json', [choice])
  text(root / 'MLVU/json/8_sub_scene.json',
       [{'video': 'a.mp4', 'duration': 2, 'question': 'What happens?',
         'answer': 'He runs.', 'scoring_points': 'run'}])
  text(root / 'MLVU/json/9_summary.json',
       [{'video': 'a.mp4', 'duration': 2, 'question': 'Summarise.',
         'answer': 'He runs.'}])
  for folder in ('1_plotQA', '8_sub_scene', '9_summary'):
    save_video(root / 'video' / folder / 'a.mp4')


def video_eval_pro(root: Path) -> None:
  hub(root, 'test', video='a.mp4', question='Which?', options=['A. x', 'B. y'], answer='B',
      answer_text='y',
      source='s', qa_type='Local', qa_subtype='Recall')
  save_video(root / 'videos_filtered/a.mp4')


def molmo2_cap_eval(root: Path) -> None:
  hub(root, 'test', video_id='9', source='vimeo', video_start=None, video_end=None, duration=2.0,
      atomic_statements=['1. A dog runs.'], statement_categories=['Action'],
      aggregated_caption='A dog runs.')
  save_video(root / 'vimeo/9.mp4')


def dream1k(root: Path) -> None:
  text(root / 'json/metadata.json',
       [{'idx': 'DREAM-1K_0', 'description': 'A dog runs.', 'events': ['A dog runs.']}])
  save_video(root / 'video/DREAM-1K_0.mp4')


def mme_videoocr(root: Path) -> None:
  row = {'video_index': 'v', 'question': 'Which word?', 'task_type': 'Text_Recognition',
         'task': 'text_recognition'}
  text(root / 'dataset.json', [
    row | {'index': 1, 'option': ['STOP', 'GO'], 'answer': 'B', 'eval_method': 'multiple_choice'},
    row | {'index': 2, 'option': [], 'answer': 'stop;go', 'eval_method': 'containment_match'}])
  save_video(root / 'Video/v.mp4')


def vinoground(root: Path) -> None:
  for kind in ('textscore', 'videoscore'):
    text(root / f'vinoground_{kind}.json', [
      {'idx': f'0_{side}', 'video_name': f'videos/0_{side}.mp4', 'question': 'Which?\nA. x\nB. y',
       'GT': letter}
      for side, letter in (('pos', 'A'), ('neg', 'B'))])
  for side in ('pos', 'neg'):
    save_video(root / f'videos/0_{side}.mp4')


def video_hallucer(root: Path) -> None:
  text(root / 'temporal/temporal.json', [{
    'type': 'short', 'basic': {'video': 'a.mp4', 'question': 'Is it?', 'answer': 'yes'},
    'hallucination': {'video': 'a.mp4', 'question': 'Is it not?', 'answer': 'no'}}])
  save_video(root / 'temporal/videos/a.mp4')


def temporal_bench(root: Path) -> None:
  for kind in ('long', 'short'):
    text(root / f'temporalbench_{kind}_qa.json', [{
      'idx': f'{kind}_0', 'video_name': 'clips/a.mp4', 'GT': 'A',
      'question': "Which is right?\nA. It rises.\nB. It falls.\nAnswer with the option's letter "
      "from the given choices directly."}])
  save_video(root / 'clips/a.mp4')


def qv_highlights(root: Path) -> None:
  row = {'qid': 1, 'query': 'A dog runs.', 'duration': 150, 'vid': 'v', 'relevant_clip_ids': [0],
         'saliency_scores': [[3]]}
  lines(root / 'highlight_val_release.jsonl', row | {'relevant_windows': [[0, 10], [20, 30]]},
        row | {'qid': 2, 'relevant_windows': [[i, i + 1] for i in range(6)]})
  save_video(root / 'videos/v.mp4')


def countbench_qa(root: Path) -> None:
  hub(root, 'test', image=picture(), text='three dogs', number=3, question='How many dogs?')


def pixmo_count(root: Path) -> None:
  hub(root, 'validation', image_url='http://x', image_sha256='abc', count=2, label='Dogs',
      points=None)
  save_picture(root / 'images/abc.jpg')


def pixmo_points_eval(root: Path) -> None:
  hub(root, 'test', image_url='http://x', image_sha256='abc', label='Dog',
      points=[{'x': 50.0, 'y': 50.0}],
      masks=[MASK.tolist()])
  save_picture(root / 'images/abc.png')


def point_bench(root: Path) -> None:
  text(root / 'data.json', [
    {'image_filename': 'a.png', 'category': 'counting', 'mask_filename': 'm.png',
     'user_input': 'Point to the dog.'},
    {'image_filename': 'b.png', 'category': 'counting', 'user_input': 'Without a mask'}])
  save_picture(root / 'selected_images/counting/a.png')
  save_picture(root / 'selected_masks/counting/m.png', MASK.astype(np.uint8) * 255)


def screen_spot_v2(root: Path) -> None:
  for kind in ('web', 'mobile', 'desktop'):
    text(root / f'screenspot_{kind}_v2.json', [{
      'img_filename': 'a.png', 'bbox': [10, 10, 20, 10], 'instruction': 'the button',
      'data_type': 'icon',
      'data_source': 'x'}])
  save_picture(root / 'screenspotv2_image/a.png')


def screen_spot_pro(root: Path) -> None:
  text(root / 'annotations/blender_windows.json', [{
    'img_filename': 'blender/a.png', 'bbox': [10, 10, 30, 20], 'instruction': 'the button',
    'id': 'x_0',
    'application': 'blender', 'platform': 'windows', 'ui_type': 'icon', 'group': 'Creative'}])
  save_picture(root / 'images/blender/a.png')


def os_worldg(root: Path) -> None:
  hub(root, 'test', id='1', image=picture(), instruction='Open it', box_type='bbox',
      box_coordinates=[10, 10, 20, 10])


def molmo2_video_count(root: Path) -> None:
  hub(root, 'val', video_id='v', video_source='youtube', clip_start=0.5, clip_end=1.5, count=2,
      label='dog',
      category='animal', question='How many dogs?', video_duration=2.0)
  save_video(root / 'youtube-cc-exist-2fps/v_2fps.mp4')


def molmo2_video_point(root: Path) -> None:
  hub(root, 'val', video_id='made/v', video_source='generated', width=WIDTH, height=HEIGHT,
      video_duration=2.0,
      label='dog', two_fps_timestamps=[0.5], points=[{'x': POINT[0], 'y': POINT[1]}],
      masks=[[{'frame_id': 1, 'rle': encode_mask(MASK)}]])
  save_video(root / 'generated_videos/made-2fps/v_2fps.mp4')


def tracks(name: str) -> Callable[[Path], None]:
  """An academic dataset of tracking: trajectories in the table, masks in its own files."""
  def write(root: Path) -> None:
    split = SPLITS[name]
    moments = [{'frame': frame, 'time': f'00:0{frame // 6}.00', 'points': [
      {'id': '7', 'point': POINT, 'occluded': False}]} for frame in (0, 6)]
    row = {'id': 'v_0', 'video': 'v', 'qid': '0', 'expression': 'the dog', 'fps': 6, 'width': WIDTH,
           'height': HEIGHT,
           'mask_id': ['7'], 'obj_id': [3], 'anno_id': ['source_v_3'],
           'frame_trajectories': moments}
    parquet(root / f'track/{split}-00000-of-00001.parquet', row | {'sampling_fps': 1},
            row | {'sampling_fps': 2})
    if name == 'mevis':
      text(root / split / 'mask_dict.json', {'source_v_3': [encode_mask(MASK)] * 11 + [None]})
    else:
      folder = {'ref_yt_vos': 'valid/Annotations/v/0', 'ref_davis17': 'DAVIS/Annotations/480p/v',
                'reasonvos': 'ReasonVOS/Annotations/source_v_3'}[name]
      for frame in range(12):
        save_picture(root / folder / f'{frame:05d}.png',
                     MASK.astype(np.uint8) * (3 if name == 'ref_davis17' else 255))
    save_video(root / ('videos' if name == 'reasonvos' else f'{split}/videos') / 'v.mp4')
  return write


def molmo2_video_track(root: Path) -> None:
  hub(root, 'test', id='1', video='long', clip='v', video_dataset='sav', exp='the dog', fps=6,
      w=WIDTH, h=HEIGHT,
      start_frame=0, end_frame=11, mask_id=['a'],
      points=[{'object_id': 'a', 'points': [POINT] * 12}],
      masks=[{'object_id': 'a', 'masks': [encode_mask(MASK)] * 12}])
  save_video(root / 'videos/v.mp4')


def tapvid_davis(root: Path) -> None:
  points = np.tile(np.array([[0.5, 0.5], [0.2, 0.8]])[:, None], (1, 4, 1))
  occluded = np.array([[True, False, False, False], [True] * 4])
  root.mkdir(parents=True, exist_ok=True)
  (root / 'tapvid_davis.pkl').write_bytes(pickle.dumps({'dog': {
    'video': np.stack([pixels()] * 4), 'points': points, 'occluded': occluded}}))


# By the name of the dataset's folder.
BUILDERS: dict[str, Callable[[Path], None]] = {function.__name__: function for function in (
  vqa2, text_vqa, okvqa, chart_qa, doc_qa, info_qa, st_qa, ai2d, mmmu, real_world_qa, math_vista,
  a_okvqa, science_qa,
  tally_qa, gqa, clock_bench, pixmo_clocks, pixmo_ask_model_anything, muir_bench, mmiu, blink,
  mantis_eval, mmsi_bench,
  mulset, ego3d_bench, vsi_bench, mvbench, tomato, motionbench, temp_compass, perception_test,
  egoschema, nextqa,
  video_mme, long_video_bench, lvbench, mlvu, video_eval_pro, molmo2_cap_eval, dream1k,
  mme_videoocr, vinoground,
  video_hallucer, temporal_bench, qv_highlights, countbench_qa, pixmo_count, pixmo_points_eval,
  point_bench,
  screen_spot_v2, screen_spot_pro, os_worldg, molmo2_video_count, molmo2_video_point,
  molmo2_video_track, tapvid_davis)
} | {name: tracks(name) for name in SPLITS} | {
  'dense_caption_eval': with_pictures('test.jsonl'),
  'user_qa': with_pictures('test.jsonl', question='What is it?'),
  'android_control': with_pictures('test.jsonl', ll_instruction='Tap OK', hl_instruction='Agree',
                                   target_action='click 50.0 50.0', target_box='[40.0, 40.0, 60.0, '
                                   '60.0]'),
}
