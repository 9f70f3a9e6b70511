"""The manifest: what a line may hold, what it becomes, and how errors are reported."""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from molmo_jax.data import manifest as manifest_lib
from molmo_jax.data.manifest import ManifestError, parse_record, read_manifest
from molmo_jax.data.record import KEYS
from molmo_jax.files import open_regular
from molmo_jax.preprocess.types import Example, Message, Subtitle

TURNS = [{'role': 'user', 'content': 'q'}, {'role': 'assistant', 'content': 'a'}]


def write(folder, *lines, name='m.jsonl'):
  path = folder / name
  path.write_text(''.join(line if isinstance(line, str) else json.dumps(line) + '\n'
                          for line in lines))
  return path


def test_a_clip_and_metadata_are_kept(tmp_path):
  record = {'video': 'v.mp4', 'clip': [1, 2.5], 'question': 'q',
            'metadata': {'count': 3, 'groups': ['a']}}
  example = read_manifest(write(tmp_path, record))[0]
  assert example.clip == (1.0, 2.5) and example.metadata == {'count': 3, 'groups': ['a']}
  assert parse_record({'question': 'q'}, 'm:1').metadata == {} and parse_record({'question': 'q'},
                                                                                'm:1').clip is None


@pytest.mark.parametrize('fields, words', [
  ({'clip': [0, 1]}, "'clip' belongs to 'video'"),
  ({'video': 'v', 'clip': [2, 1]}, 'must be \\[start, end\\] in seconds with 0 <= start < end'),
  ({'video': 'v', 'clip': [1]}, 'must be'),
  ({'video': 'v', 'clip': 3}, "'clip' is 3; it must be .start, end."),
  ({'metadata': [1]}, "'metadata' is .1.; it must be an object"),
])
def test_clips_and_metadata_of_another_form_are_errors(fields, words):
  with pytest.raises(ManifestError, match=words):
    parse_record({'question': 'q'} | fields, 'm:1')


def test_random_access_keeps_line_numbers_and_skips_blank_lines(tmp_path):
  path = write(tmp_path, {'question': 'ä'}, '\n', '   \n', {'question': 'b'},
               '{"question": "last, no newline"}')
  manifest = read_manifest(path)
  assert len(manifest) == 3
  assert [e.conversations[0][0].content for e in manifest] == ['ä', 'b', 'last, no newline']
  assert [manifest[i].source for i in (2, 0, -2)] == [f'{path}:5', f'{path}:1', f'{path}:4']
  for index in (3, -4):
    with pytest.raises(IndexError, match='has 3 records'):
      manifest[index]


def test_an_opened_manifest_pickles_and_still_reads(tmp_path):
  manifest = read_manifest(write(tmp_path, {'question': 'a'}, {'question': 'b'}))
  assert manifest[1].conversations
  assert pickle.loads(pickle.dumps(manifest))[1] == manifest[1]


def test_conversations_may_have_styles_of_their_own():
  record = {'conversations': [TURNS, TURNS], 'styles': ['long_caption', 'transcript']}
  assert parse_record(record, 'm.jsonl:1').styles == ('long_caption', 'transcript')


def test_threads_share_one_manifest(tmp_path):
  texts = [f'{i} ' * (i % 50 + 1) for i in range(400)]
  manifest = read_manifest(write(tmp_path, *({'question': text} for text in texts)))
  with ThreadPoolExecutor(8) as pool:
    assert [e.conversations[0][0].content
            for e in pool.map(manifest.__getitem__, range(400))] == texts


def test_a_bad_line_raises_only_when_it_is_accessed_and_names_its_place(tmp_path):
  path = write(tmp_path, {'question': 'a'}, '{"question": \n', {'question': 'c'})
  manifest = read_manifest(path)
  assert manifest[0].conversations and manifest[2].conversations
  with pytest.raises(ManifestError, match=re.escape(f'{path}:2: the line is not valid JSON')):
    manifest[1]


def test_bytes_that_are_not_utf8_are_a_manifest_error(tmp_path):
  path = tmp_path / 'm.jsonl'
  path.write_bytes(b'{"question": "\xff"}\n')
  with pytest.raises(ManifestError, match='UTF-8'):
    read_manifest(path)[0]


def test_a_missing_or_empty_file_is_reported_at_once(tmp_path):
  with pytest.raises(ManifestError, match='none.jsonl: cannot read'):
    read_manifest(tmp_path / 'none.jsonl')
  with pytest.raises(ManifestError, match='is empty'):
    read_manifest(write(tmp_path, '\n\n'))


def test_media_paths_start_at_the_folder_of_the_manifest(tmp_path):
  path = write(tmp_path, {'images': ['a.png', '/b/c.png'], 'question': 'q'},
               {'video': 'v/x.mp4', 'question': 'q'},
               {'image': 'é.png', 'question': 'q'})
  manifest = read_manifest(path)
  assert manifest[0].images == (str(tmp_path / 'a.png'), '/b/c.png')
  assert manifest[1].video == str(tmp_path / 'v/x.mp4')
  assert manifest[2].images == (str(tmp_path / 'é.png'),)


def test_every_key_reaches_its_field():
  record = {'video': 'v.mp4', 'subtitles': [{'start': 0, 'end': 1.5, 'text': 't'}],
            'conversations': [TURNS, TURNS[:1]],
            'weights': [2, None], 'style': 's', 'task': 'k', 'metric': 'points',
            'answers': ['x', 'y'],
            'options': ['x', 'y', 'z'], 'points': [[0, 0.25]], 'id': 'i'}
  user, assistant = Message('user', 'q'), Message('assistant', 'a')
  assert parse_record(record, 'f:1') == Example(
      video='v.mp4', subtitles=(Subtitle(0.0, 1.5, 't'),),
      conversations=((user, assistant), (user,)),
      weights=(2.0, None), style='s', task='k', metric='points', answers=('x', 'y'),
      options=('x', 'y', 'z'),
      points=((0.0, 0.25),), id='i', source='f:1')


def test_shorthand_equals_messages_and_its_answer_is_accepted():
  short = parse_record({'question': 'q', 'answer': 'a'}, 'f:1')
  assert short.conversations == parse_record({'messages': TURNS}, 'f:1').conversations
  assert short.answers == ('a',)
  assert parse_record({'question': 'q', 'answer': 'a', 'answers': ['b']}, 'f:1').answers == ('b',)
  assert parse_record({'question': 'q'}, 'f:1').conversations == ((Message('user', 'q'),),)
  assert parse_record({'video': 'v', 'subtitles': 'plain', 'question': 'q'},
                      'f:1').subtitles == 'plain'


BAD = [
  ([1, 2], 'a record is [1, 2]; it must be an object'),
  ({'question': 'q', 'imags': ['a']}, 'unknown key "imags"; did you mean "images"?'),
  ({'image': 'a', 'video': 'b', 'question': 'q'}, 'not image and video'),
  ({'image': 'a', 'images': ['b'], 'question': 'q'}, 'not image and images'),
  ({'image': 'a'}, 'exactly one of messages, conversations, question, facts, not none'),
  ({'question': 'q', 'messages': TURNS}, 'not messages and question'),
  ({'messages': TURNS, 'answer': 'a'}, "'answer' belongs to 'question'"),
  ({'image': 'a', 'subtitles': 't', 'question': 'q'}, "'subtitles' belongs to 'video'"),
  ({'video': 'a', 'subtitles': {'0': 't'}, 'question': 'q'},
   'it must be a string or a list'),
  ({'video': 'a', 'subtitles': [{'start': 2, 'end': 1, 'text': ''}], 'question': 'q'},
   'in order: 0 <= start <= end'),
  ({'video': 'a', 'subtitles': [{'start': 2, 'text': ''}], 'question': 'q'},
   "'subtitles[0]' is {"),
  ({'image': 7, 'question': 'q'}, "'image' is 7; it must be a string"),
  ({'image': '', 'question': 'q'}, "'image' is \"\"; it must be a path"),
  ({'images': 'a.png', 'question': 'q'}, "'images' is \"a.png\"; it must be a list of strings"),
  ({'images': ['a', None], 'question': 'q'}, "'images[1]' is null; it must be a string"),
  ({'messages': []}, 'not none of them'),
  ({'conversations': [[]]}, "'conversations[0]' is []; it must be a list with at least"),
  ({'conversations': TURNS}, "'conversations[0]' is {"),
  ({'messages': TURNS[::-1]}, "'messages[0].role' is \"assistant\"; it must be \"user\""),
  ({'conversations': [TURNS, [TURNS[0], TURNS[0]]]},
   "'conversations[1][1].role' is \"user\"; it must be \"assistant\""),
  ({'messages': [{'role': 'user', 'content': ['x']}]},
   "'messages[0].content' is [\"x\"]; it must be a string"),
  ({'messages': [{'role': 'user', 'text': 'x'}]}, 'it must be {"role": …, "content": …}'),
  ({'messages': ['hello']}, "'messages[0]' is \"hello\"; it must be {"),
  ({'messages': TURNS, 'weights': [1, 2]}, "'weights' has length 2"),
  ({'messages': TURNS, 'styles': ['a', 'b']}, "'styles' has length 2; it needs a value for every"),
  ({'messages': TURNS, 'styles': ['a'], 'style': 'b'}, "'style' and 'styles' are both there"),
  ({'messages': TURNS, 'weights': [-1]}, "'weights[0]' is -1; it must be a finite number"),
  ({'messages': TURNS, 'weights': [True]}, "'weights[0]' is true; it must be a finite number"),
  ({'messages': TURNS, 'weights': [math.nan]}, "'weights[0]' is NaN; it must be a finite number"),
  ({'question': 'q', 'points': [[320, 200]]}, 'divide pixels by the width'),
  ({'question': 'q', 'points': [0.5, 0.5]}, "'points[0]' is 0.5; it must be a pair"),
  ({'question': 'q', 'answers': 'a'}, "'answers' is \"a\"; it must be a list of strings"),
  ({'question': 'q', 'options': [1]}, "'options[0]' is 1; it must be a string"),
  ({'question': 'q', 'task': 7}, "'task' is 7; it must be a string"),
]


@pytest.mark.parametrize('record, message', BAD, ids=[m for _, m in BAD])
def test_a_wrong_record_says_where_and_what_would_be_right(record, message):
  with pytest.raises(ManifestError) as caught:
    parse_record(record, 'm.jsonl:12')
  assert str(caught.value).startswith('m.jsonl:12: ')
  assert message in str(caught.value)


@pytest.mark.parametrize('nothing', [None, []])
@pytest.mark.parametrize('key', sorted(KEYS.keys() - {'question', 'answer'}))
def test_null_and_an_empty_list_are_absent(key, nothing):
  record = {'question': 'q', 'answer': 'a'}
  assert parse_record(record | {key: nothing}, 'f:1') == parse_record(record, 'f:1')


def test_what_tables_export_is_read():
  exported = dict.fromkeys(['image', 'video', 'clip', 'weights', 'style', 'answer', 'metadata'])
  turn = {'role': 'user', 'content': 'q', 'name': None}
  assert parse_record(exported | {'images': [], 'messages': [turn]}, 'f:1') == parse_record(
    {'messages': [{'role': 'user', 'content': 'q'}]}, 'f:1')
  fact = {'style': 'pointing', 'styles': None, 'label': 'Cup', 'points': [], 'answers': None}
  assert parse_record({'facts': [fact], 'images': ['a.png']}, 'f:1').facts == (
    {'style': 'pointing', 'label': 'Cup', 'points': []},)


def test_an_answer_that_is_absent_leaves_the_question():
  assert len(parse_record({'question': 'q', 'answer': None}, 'f:1').conversations[0]) == 1
  with pytest.raises(ManifestError, match='exactly one of .*, not none'):
    parse_record({'question': None, 'answer': 'a'}, 'f:1')


def test_the_examples_of_the_documentation_are_valid():
  text = (Path(__file__).parents[2] / 'docs' / 'data.md').read_text(encoding='utf-8')
  blocks = re.findall(r'```json\n(.*?)```', text, re.DOTALL)
  assert len(blocks) == 4
  for block in blocks:
    example = parse_record(json.loads(block), 'docs/data.md')
    assert example.conversations or example.facts


def test_the_last_reply_is_the_accepted_answer_where_none_is_named():
  talk = [{'role': 'user', 'content': 'q'}, {'role': 'assistant', 'content': 'a'}]
  assert parse_record({'messages': talk}, 'f:1').answers == ('a',)
  assert parse_record({'messages': talk, 'answers': ['b']}, 'f:1').answers == ('b',)
  assert parse_record({'messages': talk[:1]}, 'f:1').answers == ()
  assert parse_record({'conversations': [talk, talk]}, 'f:1').answers == ()


def test_threads_that_open_the_file_at_the_same_moment_both_read_it(tmp_path, monkeypatch):
  path = tmp_path / 'a.jsonl'
  path.write_text('{"question": "Q?", "answer": "A"}\n')
  shared, both = read_manifest(path), threading.Barrier(2)

  def open_together(path):
    file = open_regular(path)
    both.wait(20)
    return file

  def read_late(*arguments):
    time.sleep(0.1)                             # until the other thread has stored its file
    return pread(*arguments)

  pread = os.pread
  monkeypatch.setattr(manifest_lib, 'open_regular', open_together)
  monkeypatch.setattr(os, 'pread', read_late)
  with ThreadPoolExecutor(2) as pool:
    assert len(list(pool.map(lambda _: shared[0], range(2)))) == 2
