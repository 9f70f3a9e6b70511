"""Scores and greedy answers are those of transformers, alone and in a mixed batch, in float32 and
bfloat16.
"""

from __future__ import annotations

import numpy as np
import pytest

import molmo_jax
from tests.oracle import reference
from tests.oracle.conversations import everyday

NEW = 8
TOLERANCE = 2e-5   # of scores whose standard deviation is about 1


@pytest.fixture(scope='module')
def theirs(pair):
  """Conversations by kind with transformers' scores [S,vocab] and answer to each alone."""
  out = {}
  for kind, conversation in everyday(pair.design).items():
    inputs = reference.prepare(pair.processor, conversation)
    out[kind] = (conversation, reference.logits(pair.theirs, inputs)[0],
                 reference.greedy(pair.theirs, inputs, NEW)[0])
  return out


def test_every_kind_of_conversation_alone(pair, theirs):
  grids = pair.ours.processor(theirs['images'][0])['image_grids']
  assert (grids[:, 2] > grids[:, 0]).all(), 'the images should have at least two rows of crops'
  for kind in ('images', 'text', 'video'):
    conversation, scores, answer = theirs[kind]
    inputs = pair.ours.processor(conversation)
    ours = pair.ours.logits(inputs)
    assert ours.shape == scores.shape and scores.std() > 0.3
    assert np.abs(ours - scores).max() <= TOLERANCE, kind
    if kind == 'images':
      assert pair.ours.generate_ids(inputs, NEW).tolist() == answer


def test_a_left_padded_batch_of_images_video_and_text(pair, theirs):
  inputs = pair.ours.processor([conversation for conversation, *_ in theirs.values()],
                               padding='left')
  ours, answers = pair.ours.logits(inputs), pair.ours.generate_ids(inputs, NEW)
  for row, (kind, (_, scores, answer)) in enumerate(theirs.items()):
    real = inputs['segments'][row] >= 0
    assert real[-1] and real.sum() == len(scores)
    assert np.abs(ours[row][real] - scores).max() <= TOLERANCE, kind
    assert answers[row][answers[row] >= 0].tolist() == answer, kind


def test_transformers_gives_the_same_in_a_batch_of_its_own(pair, theirs):
  kinds = [kind for kind in theirs if kind != 'video']   # it takes images or a video
  inputs = reference.prepare(pair.processor, *(theirs[kind][0] for kind in kinds))
  scores, answers = reference.logits(pair.theirs, inputs), reference.greedy(pair.theirs, inputs,
                                                                            NEW)
  for row, kind in enumerate(kinds):
    real = inputs['attention_mask'][row].bool().numpy()
    assert np.abs(scores[row][real] - theirs[kind][1]).max() <= TOLERANCE, kind
    assert answers[row] == theirs[kind][2], kind


def test_bfloat16_is_as_close_to_float32_as_that_of_transformers(pair, theirs):
  model, small = reference.load_model(pair.folder, 'bfloat16'), molmo_jax.from_pretrained(
    pair.folder, 'bfloat16')
  inputs = small.processor([conversation for conversation, *_ in theirs.values()])
  ours, distance = small.logits(inputs), {'ours': [], 'theirs': []}
  for row, (conversation, scores, _) in enumerate(theirs.values()):
    rounded = reference.logits(model, reference.prepare(pair.processor, conversation))[0]
    distance['ours'].append(np.abs(ours[row][inputs['segments'][row] >= 0] - scores).mean())
    distance['theirs'].append(np.abs(rounded - scores).mean())
  means = {side: float(np.mean(values)) for side, values in distance.items()}
  print(means)   # shown when it fails, and with -s
  assert 0 < means['ours'] <= means['theirs']
