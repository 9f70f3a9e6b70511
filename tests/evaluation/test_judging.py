"""Scores by a language model, with answers that are written here."""

from __future__ import annotations

import json

import pytest

from molmo_jax import metrics
from molmo_jax.evaluation.judging import KINDS, judge, replies
from molmo_jax.evaluation.judging.rounds import read_answers
from molmo_jax.evaluation.predictions import Prediction, write_predictions
from molmo_jax.preprocess.types import Example, Message
from molmo_jax.tools.judge import main


def example(metric, question='What is it?', answers=(), options=(), images=(), **metadata):
  return Example(conversations=((Message('user', question),),), answers=answers, options=options,
                 images=images,
                 metadata=metadata, metric=metric, task='task', id='1')


def ask(pairs, replies):
  """Judges with a judge that gives `replies` by step; returns the result and the steps of every
  round.
  """
  answers, rounds = {}, []
  while True:
    judged = judge(pairs, answers)
    if not judged.requests:
      return judged, rounds
    rounds.append([request.id.split('/')[2] for request in judged.requests])
    answers |= {request.id: replies[request.id.split('/')[2]] for request in judged.requests}


CAPTION = example('judged_caption', statements=['1. A dog.', '2. It runs.', '3. It rains.'],
                  categories=['Object', 'Action', 'Lighting/Weather'],
                  reference='A dog runs in the rain.')


def test_a_caption_is_judged_in_two_rounds_by_recall_and_consistency():
  judged, rounds = ask([('A dog sits.', CAPTION)], {
    'recall': '1. Stated\n2. Not Sated\n3. Not Stated', 'consistency': '1. Stated\n2. Not Stated',
    'statements': '1. A dog is there | Object\n2. It sits | Posture'})
  assert rounds == [['recall', 'statements'], ['consistency']]
  scores = judged.scores[0]
  assert scores['recall'] == pytest.approx(0.5)   # 'Not Sated' says neither, and does not count
  assert scores['consistency'] == pytest.approx(0.5) and scores['f1'] == pytest.approx(0.5)
  assert scores['recall_Object'] == 1 and scores['recall_Lighting/Weather'] == 0 and scores[
    'consistency_Pose'] == 0
  assert next(iter(scores)) == 'f1'


def test_a_caption_without_statements_of_its_own_has_no_consistency():
  judged, rounds = ask([('', CAPTION)], {'recall': 'Not Stated\n' * 3, 'statements': ''})
  assert rounds == [['recall', 'statements']] and judged.scores[0]['f1'] == 0


def test_requests_hold_the_numbered_statements_and_the_text_they_are_compared_with():
  recall, statements = judge([('A dog sits.', CAPTION)], {}).requests
  assert '1. A dog.\n2. It runs.\n3. It rains.' in recall.prompt and 'A dog sits.' in recall.prompt
  assert recall.id.startswith('task/1/recall/') and statements.id.startswith('task/1/statements/')


def test_an_answer_belongs_to_its_prompt_alone():
  first = judge([('A dog sits.', CAPTION)], {}).requests
  answers = {request.id: 'Stated' for request in first}
  other = judge([('A cat sits.', CAPTION)], answers).requests
  assert len(other) == 2 and not {r.id for r in other} & set(answers)


def test_events_are_entailed_both_ways():
  item = example('judged_events', answers=('He runs and falls.',), events=['He runs.', 'He falls.'])
  judged, _ = ask([('He runs.', item)], {
    'recall': '{"events": [{"event": "He runs.", "relationship": "entailment"}, {"relationship": '
    '"neutral"}]}',
    'events': '```json\n{"events": ["He runs."]}\n```',
    'precision': '{"events": [{"event": "x", "relationship": "Entailment"}]}'})
  assert judged.scores[0] == {'f1': pytest.approx(2 / 3), 'recall': 0.5, 'consistency': 1.0}


def test_mlvu_has_two_marks_for_each_of_its_tasks():
  scene = example('judged_mlvu', answers=('He runs.',), task_type='sub_scene', scoring_points='run')
  summary = example('judged_mlvu', answers=('He runs.',), task_type='summary')
  judged, _ = ask([('x', scene), ('y', summary)], {
    'marks': "{'score_accuracy': 3.5, 'score_relevance': 5, 'score_completeness': 2, "
    "'score_reliability': 99}"})
  assert judged.scores[0] == {'total': 8.5, 'sub_scene_accuracy': 3.5, 'sub_scene_relevance': 5}
  assert judged.scores[1] == {'total': 7, 'summary_completeness': 2, 'summary_reliability': 5}
  assert judged.means()['sub_scene_accuracy'] == 3.5


@pytest.mark.parametrize('image, reference, overall', [
  ('correct', 'incorrect', 1), ('Mostly correct.', 'incorrect', 1),
  ('incorrect', 'mostly correct', 1),
  ('mostly incorrect', 'incorrect', 0), ('refuse to answer', 'correct', 1),
  ('refuse to answer', 'incorrect', 0),
  ('incorrect', 'unsure', 0), ('correct', 'refuse to answer', 1), ('no idea', 'no idea', 0),
])
def test_an_open_answer_is_right_against_the_picture_or_the_reference(image, reference, overall):
  item = example('judged_open_qa', answers=('A dog.',), images=('a.png',))
  judged, _ = ask([('A dog.', item)],
                  {'image': f'Because.\n{image}', 'reference': f'Because.\n{reference}'})
  assert judged.scores[0]['overall'] == overall


def test_only_the_question_about_the_picture_brings_the_picture_and_counting_is_left_out():
  item = example('judged_open_qa', answers=('A dog.',), images=('a.png',))
  image, reference = judge([('A dog.', item)], {}).requests
  assert image.images == ('a.png',) and reference.images == ()
  counting = example('judged_open_qa', 'How many dogs are there?', answers=('2',),
                     images=('a.png',))
  judged, rounds = ask([('2', counting)], {})
  assert rounds == [] and judged.scores == {0: {}} and judged.means() == {}


def test_math_vista_asks_only_where_the_response_is_no_answer_yet():
  integer = example('math_vista', answers=('14',), question_type='free_form', answer_type='integer',
                    query='How many?')
  judged, rounds = ask([('14', integer), ('There are 14.', integer)], {'extraction': '14'})
  assert rounds == [['extraction']] and [judged.scores[i]['score'] for i in (0, 1)] == [1, 1]
  choice = example('math_vista', answers=('right',), options=('left', 'right'),
                   question_type='multi_choice',
                   answer_type='text')
  judged, _ = ask([('I think it is the second', choice)], {'extraction': 'B'})
  assert judged.scores[0]['score'] == 1


def test_temp_compass_asks_only_about_texts_that_name_no_option():
  item = example('temp_compass', answers=('B. fast',), options=('A. slow', 'B. fast'),
                 task='multi-choice')
  judged, rounds = ask([('B', item), ('A. slow', item), ('It is fast', item)],
                       {'verdict': 'Correct.'})
  assert [len(r) for r in rounds] == [1] and [judged.scores[i]['score'] for i in range(3)] == [1, 0,
                                                                                               1]


def test_translations_are_judged_and_everything_else_is_not():
  item = example('mme_videoocr', answers=('停',), eval_method='gpt_assisted_scoring')
  judged, _ = ask([('Stop', item)], {'verdict': 'wrong'})
  assert judged.scores[0]['score'] == 0
  judged, rounds = ask([('Stop', example('mme_videoocr', answers=('stop',),
                                         eval_method='containment_match'))], {})
  assert rounds == [] and judged.scores[0]['score'] == 1


def test_metrics_say_which_need_a_judge():
  assert [name for name in metrics.METRICS if metrics.is_judged(name)] == [
    'judged_caption', 'judged_events', 'judged_mlvu', 'judged_open_qa']
  assert set(KINDS) >= {name for name in metrics.METRICS if metrics.is_judged(name)}
  with pytest.raises(ValueError, match="metric 'exact_match' needs no judge"):
    judge([('x', example('exact_match', answers=('x',)))], {})


@pytest.mark.parametrize(
  'reply', ['', '{' * 10_000, '[1, 2]', '{"events": 3}', '{"events": [1, null]}', '|' * 10_000,
            '1. ' * 10_000, 'x' * 100_000, '\n' * 10_000, '{"events": ' + '[' * 100_000,
            'score_accuracy: ' + '9' * 100_000])
def test_no_reply_is_an_error(reply):
  for item in (CAPTION, example('judged_events', answers=('x',), events=['y']),
               example('judged_mlvu', answers=('x',), task_type='summary'),
               example('judged_open_qa', answers=('x',))):
    steps = ('recall', 'statements', 'consistency', 'events', 'precision', 'marks', 'image',
             'reference')
    judged, _ = ask([('text', item)], dict.fromkeys(steps, reply))
    assert all(0 <= value <= 10 for value in judged.scores[0].values()), item.metric
  assert replies.verdict(reply) is None


def test_answers_that_are_no_answers_name_their_line(tmp_path):
  path = tmp_path / 'answers.jsonl'
  assert read_answers(path) == {}
  path.write_text('{"id": "a", "answer": "x"}\n\n{"id": "a", "answer": "y"}\n')
  assert read_answers(path) == {'a': 'y'}
  for line, words in (('{', 'Expecting'), ('[]', 'an answer is'), ('{"id": 3, "answer": '
    '"x"}', 'both strings')):
    path.write_text(f'{line}\n')
    with pytest.raises(ValueError, match=f'answers.jsonl:1: .*{words}'):
      read_answers(path)


def test_the_command_goes_from_requests_to_scores(tmp_path, capsys):
  manifest = tmp_path / 'm.jsonl'
  manifest.write_text(json.dumps(
    {'id': '7', 'question': 'Describe this.', 'metric': 'judged_caption', 'metadata': {
      'statements': ['A dog.'], 'reference': 'A dog.'}}) + '\n')
  record = Prediction(task='t', id='7', question='Describe this.', prediction='A dog.', score=0.0,
                  metric='judged_caption')
  write_predictions(tmp_path / 'predictions.jsonl', [record])
  command = [f'--predictions={tmp_path}/predictions.jsonl', f'--manifest={manifest}',
             f'--folder={tmp_path}/judge']
  said = {'recall': 'Stated', 'statements': 'A dog | Object', 'consistency': 'Stated'}
  answers = tmp_path / 'judge/answers.jsonl'
  for expected in (2, 1):
    assert main(command) == 3
    requests = [json.loads(line)
                for line in (tmp_path / 'judge/requests.jsonl').read_text().splitlines()]
    assert len(requests) == expected and set(requests[0]) == {'id', 'prompt', 'images'}
    with answers.open('a') as file:
      file.writelines(json.dumps({'id': r['id'], 'answer': said[r['id'].split('/')[2]]}) + '\n'
                      for r in requests)
  assert main(command) == 0
  judged = json.loads((tmp_path / 'judge/judged.json').read_text())
  assert judged['means']['f1'] == 1 and judged['examples'][0]['id'] == '7'
  assert main([*command[:1], f'--manifest={tmp_path}/none.jsonl', command[2]]) == 2
