"""Message strings as one sequence (docs/training.md §3.2–3.5)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from molmo_jax.preprocess.sequence import (
  LOSS_WEIGHTS,
  LossWeight,
  SequenceRules,
  build_sequence,
)
from molmo_jax.preprocess.types import EncodingError
from tests.golden.runners import messages as golden

FOLDER = Path(__file__).parents[1] / 'golden' / 'molmo2_masks_and_packing'
EXAMPLES = json.loads((FOLDER / 'cases.json').read_text())['examples']
MEDIA = np.array([901, 902])
EOS = 0


def words(text):
  """A token is a number in the text."""
  return [int(word) for word in text.split()]


def build(conversations, media=(), branch_weights=None, **rules):
  return build_sequence(conversations, media, tokenize=words, bos_id=EOS, eos_id=EOS,
                        rules=SequenceRules(**rules), branch_weights=branch_weights)


TREE = [['267', '298 299 307'], ['291 304', '300']]


@pytest.fixture(scope='module')
def golden_data():
  return golden.load(FOLDER)


@pytest.mark.parametrize('example', EXAMPLES, ids=lambda e: e['name'])
def test_golden(example, golden_data):
  assert golden.check_example(example, *golden_data) is None


def test_the_golden_runner_recognises_its_folder_and_reports_a_wrong_number(golden_data, tmp_path):
  assert golden.recognises(FOLDER) and not golden.recognises(tmp_path)
  cases, arrays = golden_data
  wrong = {**arrays, 'ex.tree2.target_tokens': arrays['ex.tree2.target_tokens'] + 1}
  example = next(e for e in cases['examples'] if e['name'] == 'tree2')
  assert 'targets[0]' in golden.check_example(example, cases, wrong)
  assert 'EncodingError' in golden.check_example({**example, 'messages': [[], []]}, cases, arrays)


def test_a_message_tree_of_the_specification():
  s = build(TREE, [MEDIA])
  assert s.tokens.tolist() == [0, 901, 902, 267, 298, 299, 307, 291, 304, 300]
  assert s.targets.tolist() == [901, 902, 267, 298, 299, 307, 0, 304, 300, 0]
  assert s.segments.tolist() == [10000] * 3 + [0] * 4 + [1] * 3
  assert s.positions.tolist() == [0, 1, 2, 3, 4, 5, 6, 3, 4, 5]
  assert s.loss_weights.tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 1, 1]
  assert [a.dtype for a in vars(s).values()] == [np.int32, np.int32, np.float32, np.int32, np.int32]


def test_in_a_tree_of_molmo_v1_eos_stays_between_branches_that_count_from_one():
  s = build([*TREE, ['7', '8']], [MEDIA], eos_between=True,
            loss_weight=LOSS_WEIGHTS['root_subsegments'])
  assert s.tokens.tolist() == [0, 901, 902, 267, 298, 299, 307, 0, 291, 304, 300, 0, 7, 8]
  assert s.targets.tolist() == [901, 902, 267, 298, 299, 307, 0, 291, 304, 300, 0, 7, 8, 0]
  assert s.segments.tolist() == [10000] * 3 + [1] * 5 + [2] * 4 + [3] * 2
  assert s.positions.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 3, 4, 5, 6, 3, 4]
  np.testing.assert_allclose(s.loss_weights, np.array([0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 0, 1, 1])
                             / 3 ** 0.5, rtol=1e-6)


def test_molmo_v1_differs_in_trees_only():
  for conversations in ([['1', '2', '3', '4']], [['1', '2', '3']]):
    ours, v1 = (build(conversations, [MEDIA], eos_between=v1) for v1 in (False, True))
    for field, value in vars(ours).items():
      np.testing.assert_array_equal(getattr(v1, field), value)


def test_limits_of_a_v1_tree_count_the_eos_between_branches():
  three = [*TREE, ['7', '8']]
  # Of Molmo v1 the second answer is token 10 of the sequence, counted from 0: one EOS stands before
  # it.
  for limit, segments in ((10, {10000, 1}), (11, {10000, 1, 2})):
    found = build(three, [MEDIA], max_sequence_length=limit, eos_between=True)
    assert set(found.segments) == segments


@pytest.mark.parametrize('weight, branches, first, second', [
  ('root_subsegments', None, 0.5 ** 0.5, 0.5 ** 0.5),
  ('root_subsegments_root_tokens', None, 0.816497, 1.414214),
  ('root_subsegments_root_tokens', [LossWeight(0.2), None], 0.2, 1.414214),
])
def test_weights_of_a_tree_count_loss_tokens_without_the_branch_eos(weight, branches, first,
                                                                    second):
  s = build(TREE, [MEDIA], loss_weight=LOSS_WEIGHTS[weight], branch_weights=branches)
  np.testing.assert_allclose(s.loss_weights, [0, 0, 0, *[first] * 4, 0, second, second], rtol=1e-6)


def test_weights_of_one_conversation_count_every_eos():
  s = build([['1', '2', '3', '4 5']], loss_weight=LOSS_WEIGHTS['root_subsegments_root_tokens'])
  np.testing.assert_allclose(s.loss_weights, np.array([0, 1, 1, 0, 1, 1, 1]) * 2 / np.sqrt(5),
                             rtol=1e-6)
  assert s.segments.tolist() == [0] * 7


def test_branches_after_the_first_that_reaches_max_text_tokens_are_dropped():
  three = [*TREE, ['7', '8']]
  assert set(build(three, [MEDIA], max_text_tokens=2).segments) == {10000, 0}
  # the first branch has four
  assert set(build(three, [MEDIA], max_text_tokens=4).segments) == {10000, 0}
  assert set(build(three, [MEDIA], max_text_tokens=5).segments) == {10000, 0, 1}
  assert set(build(three, [MEDIA], max_text_tokens=8).segments) == {10000, 0, 1, 2}


def test_a_branch_whose_answer_would_start_beyond_the_limit_is_dropped_with_all_later_ones():
  three = [*TREE, ['7', '8']]
  # The second answer is token 9 of the sequence, counted from 0.
  kept = build(three, [MEDIA], max_sequence_length=9, loss_weight=LOSS_WEIGHTS['root_subsegments'])
  assert set(kept.segments) == {10000, 0} and kept.loss_weights.max() == 1
  assert set(build(three, [MEDIA], max_sequence_length=10).segments) == {10000, 0, 1}


def test_a_long_answer_is_cut_and_the_rest_still_trains():
  s = build([['1', ' '.join('23456789')]], max_sequence_length=5)
  assert s.tokens.tolist() == [0, 1, 2, 3, 4] and s.targets.tolist() == [1, 2, 3, 4, 5]
  assert s.loss_weights.tolist() == [0, 1, 1, 1, 1]


def test_media_follows_bos_or_replaces_the_placeholders_in_order():
  assert build([['1', '2']], [MEDIA, MEDIA + 10]).tokens.tolist() == [0, 901, 902, 911, 912, 1, 2]
  placed = build([['1 <|image|> 2 <|image|> 3', '4']], [MEDIA, MEDIA + 10])
  assert placed.tokens.tolist() == [0, 1, 901, 902, 2, 911, 912, 3, 4]
  assert placed.positions.tolist() == list(range(9))


def test_what_stands_before_the_placeholder_of_a_branch_is_shared_by_all_branches():
  s = build([['1 <|image|> 2', '3'], ['<|image|> 4', '5']], [MEDIA])
  assert s.tokens.tolist() == [0, 1, 901, 902, 2, 3, 4, 5]
  assert s.segments.tolist() == [10000] * 4 + [0, 0, 1, 1]
  assert s.positions.tolist() == [0, 1, 2, 3, 4, 5, 4, 5]


def test_answers_can_be_silent_or_cut():
  s = build([['1', '2', '3', '4']], last_message_loss_only=True)
  assert s.loss_weights.tolist() == [0, 0, 0, 0, 1, 1]
  cut = build([['1', '2 3 4 5']], max_answer_length=2)
  # EOS was cut too: the model must not learn to stop here
  assert cut.targets.tolist() == [1, 2, 3]


def test_an_odd_number_of_messages_is_a_prompt_with_a_dummy_target():
  s = build([['1', '2', '3 4']], [MEDIA])
  assert s.tokens.tolist() == [0, 901, 902, 1, 2, 0, 3, 4]
  assert s.targets.tolist() == [901, 902, 1, 2, 0, 3, 4, 0]


@pytest.mark.parametrize('conversations, media, kwargs, message', [
  ([], [], {}, 'no conversation'),
  ([[]], [], {}, 'without messages'),
  ([['1 <|image|>', '2']], [], {}, '1 <|image|> for 0 images'),
  ([['1 <|image|>', '2']], [MEDIA, MEDIA], {}, '1 <|image|> for 2 images'),
  ([['1', '<|image|> 2']], [MEDIA], {}, 'in an answer'),
  ([['1 <|image|> 2', '3'], ['4', '5']], [MEDIA], {}, 'or in none'),
  ([['1', '3', '<|image|> 2', '3'], ['<|image|> 4', '5']], [MEDIA], {}, 'or in none'),
  ([['1 <|image|>', '2'], ['<|image|> 3', '4']], [MEDIA], {}, 'no words before its answer'),
  ([['1', '2'], ['3']], [MEDIA], {}, 'must end with an answer'),
  ([['1', '2']], [MEDIA], {'max_sequence_length': 2}, 'visual tokens end at token 3'),
  ([['1 2 3', '4']], [], {'max_sequence_length': 2}, 'no loss token'),
  ([['1', '2']], [], {'branch_weights': [LossWeight(0.0)]}, 'no loss token'),
  ([['1 2 3']], [], {'max_sequence_length': 3}, 'prompt has 4 tokens'),
])
def test_errors_say_what_is_wrong(conversations, media, kwargs, message):
  with pytest.raises(EncodingError) as error:
    build(conversations, media, **kwargs)
  assert message in str(error.value)
