"""Records that cannot be used: any fault of one is one named error, and the others are used."""

from __future__ import annotations

import json

import pytest
from absl import flags

from molmo_jax.data import pipeline
from molmo_jax.data.manifest import read_manifest
from molmo_jax.data.unusable import BadRecordError, SkippedRecords, record_at
from tests.data.records import numbers, skipped, training_data, write_records

flags.FLAGS.mark_as_parsed()   # Grain's workers read flags

# one line of a manifest each, and what is said about it
FAULTS = {
  'deep': ('[' * 1000 + ']' * 1000, 'recursion depth'),
  'deep_weights': (f'{{"question": "q", "weights": {"[" * 900 + "]" * 900}}}', ''),
  'digits': (f'{{"question": "q", "weights": [1{"0" * 400}]}}', "'weights[0]' is 1"),
  'many_digits': (f'{{"question": "q", "weights": [1{"0" * 5000}]}}', 'digits'),
  'float32': ('{"question": "q", "answer": "a", "weights": [1e39]}', "'weights[0]' is 1e+39"),
  'clip': ('{"video": "v.mp4", "clip": [0, 1e400], "question": "q"}', "'clip[1]' is Inf"),
  'nul': ('{"image": "0.png\\u0000.evil", "question": "q", "answer": "a"}', 'no NUL character'),
  'half_path': ('{"image": "\\ud800.png", "question": "q", "answer": "a"}', '.png'),
  'twice': ('{"image": "0.png", "image": "1.png", "question": "q"}', '"image" stands twice'),
  'twice_inside': ('{"messages": [{"role": "user", "content": "a", "content": "b"}]}',
                   'the key "content" stands twice'),
  'nan': ('{"image": NaN, "question": "q", "answer": "a"}', 'NaN is not JSON'),
  'latin1': ('{"question": "caf\udce9", "answer": "a"}', 'not valid JSON in UTF-8'),
  'label': ('{"facts": [{"style": "pointing", "points": [[1, [[0.1, 0.2]]]]}]}', "'label'"),
  'rate': ('{"facts": [{"style": "video_point_track_per_frame", "label": "x", "fps": 0, '
           '"tracks": [[1e30, {"a": [0, 0]}]]}], "video": "v.mp4"}', ''),
  'asks': ('{"facts": [{"style": "s", "question": "q", "asks": "no such kind"}]}', 'missing'),
  'points': ('{"image": "0.png", "facts": [{"style": "pointing", "label": "x", "points": '
             '[[1e30, [[1e30, 0.2]]]]}]}', ''),
}


def with_faults(folder, *names):
  """Four good records, and a bad one for each name after them."""
  manifest = write_records(folder, 4)
  lines = [FAULTS[name][0].encode('utf-8', 'surrogateescape') for name in names]
  manifest.write_bytes(manifest.read_bytes() + b''.join(line + b'\n' for line in lines))
  return manifest


def entries(path):
  return [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()]


@pytest.mark.parametrize('name', FAULTS)
def test_any_fault_of_one_record_is_an_error_with_its_line(tmp_path, name):
  data = training_data(with_faults(tmp_path, name), on_error='raise')
  with pytest.raises(BadRecordError) as caught:
    for _ in range(4):
      next(data)
  message = str(caught.value)
  assert message.startswith(f'{tmp_path}/train.jsonl:5: ') and FAULTS[name][1] in message
  assert len(message) < 4100 and message.isprintable()


@pytest.mark.parametrize('workers', [0, 2])
def test_bad_records_are_skipped_and_written_down_once_over_epochs_and_resumes(tmp_path, workers):
  manifest = with_faults(tmp_path, *FAULTS)
  path, settings = tmp_path / 'skipped_records.jsonl', dict(workers=workers, batch_size=1)
  data = training_data(manifest, skipped_file=path, **settings)
  drawn = [numbers(next(data))[0] for _ in range(12)]
  assert set(drawn) == {0, 1, 2, 3}                       # three epochs
  position, count = data.position(), skipped(data)
  data.close()
  again = training_data(manifest, skipped_file=path, **settings)
  again.iterator.set_state(position)
  assert skipped(again) == count
  drawn = [numbers(next(again))[0] for _ in range(8)]
  assert set(drawn) == {0, 1, 2, 3} and skipped(again) == len(FAULTS)
  again.close()
  found = entries(path)
  assert sorted(e['line'] for e in found) == list(range(5, 5 + len(FAULTS)))
  assert {e['file'] for e in found} == {str(manifest)}
  for entry in found:
    assert list(FAULTS.values())[entry['line'] - 5][1] in entry['reason']


@pytest.mark.parametrize('error', [
  RuntimeError('of a decoder'), AttributeError('None'), OverflowError('too large'), EOFError(),
  UnicodeDecodeError('utf-8', b'\xe9', 0, 1, 'bad'), IndexError(), RecursionError()])
def test_no_list_of_types_says_what_may_go_wrong_in_a_record(tmp_path, monkeypatch, error):
  def fail(*args, **options):
    raise error
  monkeypatch.setattr(pipeline, 'encode', fail)
  with pytest.raises(BadRecordError, match=r'train\.jsonl:\d: ') as caught:
    next(training_data(write_records(tmp_path, 2), on_error='raise'))
  assert isinstance(error, ValueError) or type(error).__name__ in str(caught.value)


@pytest.mark.parametrize('error', [MemoryError, KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_is_not_a_fault_of_a_record(error):
  with pytest.raises(error), record_at('m.jsonl:1'):
    raise error


def test_half_a_surrogate_pair_in_a_text_is_replaced(tmp_path):
  path = tmp_path / 'm.jsonl'
  path.write_text('{"question": "a\\ud800", "answer": "\\udc00b", "id": "\\uD83D\\uDE00", '
                  '"answers": ["\\ud83d"]}\n')
  example, = read_manifest(path)
  question, answer = example.conversations[0]
  assert (question.content, answer.content) == ('a\ufffd', '\ufffdb')
  assert example.id == '\U0001f600' and example.answers == ('\ufffd',)


def test_the_list_of_skipped_records_holds_any_name_and_survives_damage(tmp_path):
  path = tmp_path / 'skipped_records.jsonl'
  path.write_text('no json\n{"file": 1}\n[]\n{"file": "a.jsonl", "line": 1, "reason": "r"}\n')
  names = SkippedRecords(path)
  for source in ('a.jsonl:1', 'a:b\udce9\u202e.jsonl:2', 'a:b\udce9\u202e.jsonl:2'):
    names.add(source, f'{source}: why')
  lines = path.read_text(encoding='utf-8').split('\n')
  assert len(lines) == 6 and json.loads(lines[4])['file'] == 'a:b\ufffd\u202e.jsonl'
