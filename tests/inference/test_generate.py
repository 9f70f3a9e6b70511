"""Greedy generation: the cache equals a full forward pass, rows do not disturb each other, and
answers end.
"""

from __future__ import annotations

import jax
import numpy as np
import pytest

from molmo_jax.inference.generate import NO_TOKEN
from molmo_jax.inference.generator import Generator
from molmo_jax.inference.settings import GenerationConfig
from molmo_jax.preprocess.types import SEQUENCE_FIELDS
from tests.model.tiny import batch, build, close, config, logits, row

PROMPTS = [row(2, -2, 1, -2, 1), row(3), row(1, -3, 4, seed=1)]
NEW = 5
NEVER = -7   # an end token that is never made


AHEAD = 1e-4                 # of scores; rounding is a hundredth of it


def generate(model, params, prompts, *, max_new_tokens, eos_ids):
  """int32 [B, max_new_tokens]: the greedy answers to a batch, −1 after their ends."""
  settings = GenerationConfig(max_new_tokens=max_new_tokens)
  ids = Generator(model, params, eos_ids).answer(prompts, settings)
  return np.pad(ids, ((0, 0), (0, max_new_tokens - ids.shape[1])), constant_values=NO_TOKEN)


@pytest.fixture(scope='module')
def tiny():
  return build()


@pytest.fixture(scope='module')
def made(tiny):
  """The prompts generated together, padded on the right."""
  return np.asarray(generate(*tiny, batch(*PROMPTS, extra=1), max_new_tokens=NEW, eos_ids=(NEVER,)))


def continued(prompt, tokens):
  """The prompt with more text tokens behind it, as a training row would have them."""
  n = len(tokens)
  fill = dict(tokens=tokens, targets=np.zeros(n), visual=np.zeros(n), feature_index=np.full(n, -1),
              loss_weights=np.zeros(n), segments=np.full(n, prompt['segments'][-1]),
              positions=prompt['positions'][-1] + 1 + np.arange(n))
  return prompt | {name: np.concatenate([prompt[name], x]).astype(prompt[name].dtype)
                   for name, x in fill.items()}


def test_every_token_is_the_best_of_a_full_forward_pass(tiny, made):
  rows = [continued(prompt, tokens[:-1]) for prompt, tokens in zip(PROMPTS, made, strict=True)]
  scores = np.asarray(logits(*tiny, batch(*rows)))
  for prompt, tokens, row_scores in zip(PROMPTS, made, scores, strict=True):
    start = len(prompt['tokens']) - 1
    assert row_scores[start:start + NEW].argmax(-1).tolist() == tokens.tolist()
    # Far enough ahead that rounding, which depends on the processor, decides nothing: all tests of
    # this file that compare tokens rest on it.
    second, best = np.sort(row_scores[start:start + NEW])[:, -2:].T
    assert (best - second).min() > AHEAD


def test_scores_from_the_cache_equal_those_of_a_full_forward_pass(tiny, made):
  model, params = tiny
  variables = {'params': params}
  prefill = jax.jit(lambda b: model.apply(variables, b, 2, method='prefill'))
  decode = jax.jit(lambda *args: model.apply(variables, *args, method='decode'))
  prompts = batch(*PROMPTS, extra=1)
  first, cache = prefill(prompts)
  ends = np.array([len(p['tokens']) for p in PROMPTS])
  segments = np.zeros(3, np.int32)
  second, cache = decode(made[:, 0], ends, segments, cache)
  third, cache = decode(made[:, 1], ends + 1, segments, cache)
  full = np.asarray(logits(model, params,
                           batch(*(continued(p, t[:2]) for p, t in zip(PROMPTS, made)))))
  for i, scores in enumerate((first, second, third)):
    assert close(scores, full[np.arange(3), ends - 1 + i])
  assert int(cache.length) == prompts['tokens'].shape[1] + 2


def test_a_padded_mixed_batch_gives_what_every_prompt_gives_alone(tiny, made):
  for prompt, tokens in zip(PROMPTS[:1], made, strict=False):
    alone = generate(*tiny, batch(prompt), max_new_tokens=NEW, eos_ids=(NEVER,))
    assert np.asarray(alone)[0].tolist() == tokens.tolist()


def test_answers_end_with_the_end_token_and_are_filled_with_minus_one(tiny, made):
  eos = int(made[0, 2])   # a token that the first row makes in time
  found = np.asarray(generate(*tiny, batch(*PROMPTS, extra=1), max_new_tokens=NEW, eos_ids=(eos,)))
  for before, after in zip(made.tolist(), found.tolist(), strict=True):
    length = before.index(eos) + 1 if eos in before else NEW
    assert after == before[:length] + [NO_TOKEN] * (NEW - length)
  assert found[0, 3] == NO_TOKEN


def test_extra_tokens_are_never_generated(tiny, made):
  assert made.min() >= 0
  assert made.max() < tiny[0].config.llm.vocab


def test_the_last_branch_of_packed_segments_is_the_one_that_goes_on(tiny):
  prefix, prompt = row(2, -2, 2, segment=10_000), row(2, -2, 2)
  prefix['segments'][-2:] = 3   # branch 3 of a message tree
  found, plain = (generate(*tiny, batch(p), max_new_tokens=3, eos_ids=(NEVER,))
                  for p in (prefix, prompt))
  assert np.array_equal(found, plain)


@pytest.mark.parametrize('implementation', ['short'])
def test_every_attention_generates_the_same(tiny, made, implementation):
  model, params = build(config(attention=implementation))
  found = generate(model, params, batch(*PROMPTS, extra=1), max_new_tokens=NEW, eos_ids=(NEVER,))
  assert np.array_equal(found, made)


@pytest.mark.parametrize('chunk', [1, 2, NEW + 3])
def test_a_stream_gives_the_same_tokens_piece_by_piece(tiny, made, chunk):
  settings = GenerationConfig(max_new_tokens=NEW)
  pieces = list(Generator(*tiny, (NEVER,)).stream(PROMPTS, settings, chunk))
  assert [p.shape[1] for p in pieces[:-1]] == [chunk] * (len(pieces) - 1)
  assert np.array_equal(np.concatenate(pieces, axis=1), made)


def test_a_stream_stops_when_all_answers_have_ended(tiny, made):
  eos = tuple(made[:, 1].tolist())   # every row has ended after two tokens
  pieces = Generator(*tiny, eos).stream(PROMPTS, GenerationConfig(max_new_tokens=NEW))
  assert sum(p.shape[1] for p in pieces) <= 2


def test_prompts_padded_on_the_left_give_the_same_answers(tiny, made):
  longest = max(len(p['tokens']) for p in PROMPTS)
  rows = batch(*PROMPTS)
  for i, prompt in enumerate(PROMPTS):
    for name in SEQUENCE_FIELDS:
      rows[name][i] = np.roll(rows[name][i], longest - len(prompt['tokens']))
  assert np.array_equal(generate(*tiny, rows, max_new_tokens=NEW, eos_ids=(NEVER,)), made)
