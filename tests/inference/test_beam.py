"""Beam search: a case worked by hand, and the model's cache under it."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from molmo_jax.inference.beam import search, search_from
from molmo_jax.inference.generate import begin
from molmo_jax.inference.sampling import GREEDY, next_tokens, rules_of
from molmo_jax.inference.settings import GenerationConfig
from tests.inference.test_generate import PROMPTS, continued, generate
from tests.model.tiny import batch, build, logits

END = 5
CHAIN = np.zeros((6, 6))       # what follows the token of the line, with which probability
for line, following in {0: {1: .4, 2: .3, 3: .2, 4: .1}, 1: {2: .9, 3: .05, END: .05},
                        2: {1: .5, 3: .4, END: .1},
                        3: {4: .7, 1: .1, 2: .1, END: .1}, 4: {END: 1}, END: {0: 1}}.items():
  CHAIN[line, list(following)] = list(following.values())
with np.errstate(divide='ignore'):
  LOG = jnp.asarray(np.log(CHAIN), jnp.float32)


def beam_search(model, params, prompts, *, max_new_tokens, **options):
  return search_from(model, params, begin(model, params, prompts, max_new_tokens), GREEDY,
                     max_new_tokens=max_new_tokens, **options)


def follow(beams, length_penalty=0.0, min_new_tokens=0, **options):
  """The best walks from 0, and their scores."""
  step = lambda tokens, done, length, state: (LOG[tokens], state)
  settings = GenerationConfig(beams=max(beams, 2), length_penalty=length_penalty,
                              min_new_tokens=min_new_tokens)
  options = dict(max_new_tokens=6, eos_ids=(END,), rules=rules_of(settings)) | options
  found = jax.jit(lambda: search(step, LOG[:1], None, beams=beams, **options))()
  words = [[int(t) for t in walk if t >= 0] for walk in found.tokens[0]]
  return words, [round(float(s), 4) for s in found.scores[0]]


def test_one_beam_is_greedy():
  assert follow(1) == ([[1, 2, 1, 2, 1, 2]], [-2.6187])


def test_three_beams_find_what_greedy_does_not():
  assert follow(3) == ([[3, 4, 5], [1, 2, 3, 4, 5], [1, 2, 1, 2, 1, 2]],
                       [-1.9661, -2.2946, -2.6187])


def test_a_length_penalty_divides_by_a_power_of_the_length_with_the_end():
  assert follow(3, length_penalty=1.0) == ([[1, 2, 1, 2, 1, 2], [1, 2, 3, 4, 5], [3, 4, 5]],
                                           [-0.4364, -0.4589, -0.6554])


def test_no_walk_ends_before_the_least_length():
  walks, _ = follow(3, min_new_tokens=4)
  assert all(END not in walk[:4] for walk in walks)
  assert any(END in walk for walk in walks)


@pytest.mark.parametrize('settings, walk, score', [
  (dict(no_repeat_ngram=1), [1, 2, 3, 4, 5], -2.2946),
  (dict(no_repeat_ngram=2), [1, 2, 1, 3, 4, 5], -5.0672),
  (dict(repetition_penalty=1.5), [1, 2, 3, 4, 5], -2.2946),
  (dict(frequency_penalty=1.0), [1, 2, 3, 4, 5], -2.2946)])
def test_rules_change_the_greedy_walk_and_leave_it_deterministic(settings, walk, score):
  rules = rules_of(GenerationConfig(**settings))
  assert follow(1, rules=rules) == ([walk], [score])
  tokens, last = np.full((1, 6), -1, np.int32), 0       # the same without beams
  for length in range(len(walk)):
    last = int(next_tokens(LOG[last:last + 1], jnp.asarray(tokens), jnp.int32(length), rules,
                           (END,))[0])
    tokens[0, length] = last
  assert tokens[0, :len(walk)].tolist() == walk


def test_every_beam_is_held_to_the_rules_by_its_own_tokens():
  walks, _ = follow(3, rules=rules_of(GenerationConfig(no_repeat_ngram=1)))
  assert all(len(set(walk)) == len(walk) for walk in walks)
  # without the rule the third is 1 2 1 2 1 2
  assert walks == [[3, 4, 5], [1, 2, 3, 4, 5], [1, 2, 5]]


def test_prompts_that_only_fill_a_batch_get_no_walk():
  found = search(lambda tokens, done, length, state: (LOG[tokens], state),
                 jnp.tile(LOG[:1], (2, 1)), None, beams=2,
                 max_new_tokens=6, eos_ids=(END,), done=jnp.array([False, True]))
  assert (np.asarray(found.tokens[1]) == -1).all() and (np.asarray(found.tokens[0, :, 0])
                                                        >= 0).all()


def test_a_search_refuses_to_draw():
  with pytest.raises(ValueError, match='temperature must be 0'):
    follow(2, rules=rules_of(GenerationConfig(temperature=1.0)))


def test_any_of_several_tokens_ends_a_walk():
  assert follow(3, eos_ids=(END, 4))[0] == [[3, 4], [1, 2, 3, 4], [1, 2, 1, 2, 1, 2]]


def test_the_search_stops_when_every_beam_has_ended():
  calls = []

  def step(tokens, done, length, state):
    jax.debug.callback(lambda: calls.append(1))
    return jnp.broadcast_to(jnp.log(jnp.eye(6)[END]), (tokens.shape[0], 6)), state
  found = search(step, LOG[:1], None, beams=2, max_new_tokens=50, eos_ids=(END,))
  jax.block_until_ready(found)
  jax.effects_barrier()
  assert len(calls) == 1
  assert found.tokens.shape == (1, 2, 50)
  assert (np.asarray(found.tokens[..., 2:]) == -1).all()


@pytest.mark.parametrize('options, message',
                         [(dict(beams=0), 'beams=0 must be from 1'), (dict(beams=7), 'beams=7'),
                          (dict(beams=2, eos_ids=()), 'eos_ids is empty')])
def test_impossible_searches_are_errors(options, message):
  with pytest.raises(ValueError, match=message):
    follow(**options)


@pytest.fixture(scope='module')
def tiny():
  return build()


def test_one_beam_of_the_model_is_its_greedy_answer(tiny):
  options = dict(max_new_tokens=5, eos_ids=(-7,))
  greedy = generate(*tiny, batch(*PROMPTS), **options)
  assert np.array_equal(beam_search(*tiny, batch(*PROMPTS), beams=1, **options).tokens[:, 0],
                        greedy)


def test_scores_are_those_of_full_forward_passes(tiny):
  found = beam_search(*tiny, batch(*PROMPTS, extra=1), beams=4, max_new_tokens=3, eos_ids=(11,))
  assert len({tuple(beam) for beam in found.tokens[0].tolist()}) == 4
  assert (np.diff(found.scores) <= 0).all()
  for prompt, beams, scores in zip(PROMPTS, np.asarray(found.tokens), found.scores, strict=True):
    rows = [continued(prompt, np.maximum(tokens, 0)) for tokens in beams]
    log_p = np.asarray(jax.nn.log_softmax(logits(*tiny, batch(*rows))))
    start = len(prompt['tokens']) - 1
    sums = [sum(p[start + i, t] for i, t in enumerate(tokens) if t >= 0)
            for p, tokens in zip(log_p, beams, strict=True)]
    assert np.allclose(sums, scores, atol=1e-4)


def test_as_many_beams_as_there_are_answers_find_the_best_of_all(tiny):
  vocab, prompt = tiny[0].config.llm.vocab, PROMPTS[1]
  found = beam_search(*tiny, batch(prompt), beams=vocab, max_new_tokens=2, eos_ids=(vocab - 1,))
  first = jax.nn.log_softmax(logits(*tiny, batch(prompt)))[0, len(prompt['tokens']) - 1]
  rows = [continued(prompt, np.array([t])) for t in range(vocab)]
  second = jax.nn.log_softmax(logits(*tiny, batch(*rows)))[:, len(prompt['tokens'])]
  answers = {(a, b): float(first[a] + second[a, b])
             for a, b in itertools.product(range(vocab - 1), range(vocab))}
  answers[(vocab - 1, -1)] = float(first[-1])
  best = sorted(answers, key=answers.get, reverse=True)[:3]
  assert [tuple(beam) for beam in found.tokens[0, :3].tolist()] == best

