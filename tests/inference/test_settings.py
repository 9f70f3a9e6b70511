"""Settings of generation: impossible and contradicting ones are errors that name them."""

from __future__ import annotations

import dataclasses

import pytest

from molmo_jax.inference.sampling import GREEDY, rules_of
from molmo_jax.inference.settings import GenerationConfig


@pytest.mark.parametrize('settings, message', [
  (dict(max_new_tokens=0), 'max_new_tokens is 0; it must be of type int from 1 to'),
  (dict(max_new_tokens=4, min_new_tokens=5), 'min_new_tokens=5 must be at most max_new_tokens=4'),
  (dict(temperature=-0.1), 'temperature is -0.1'),
  (dict(temperature=float('nan')), 'temperature is nan'),
  (dict(temperature=1, top_p=0), 'top_p is 0'), (dict(temperature=1, top_p=1.1), 'top_p is 1.1'),
  (dict(temperature=1, top_k=-1), 'top_k is -1'), (dict(seed=-1), 'seed is -1'),
  (dict(beams=0), 'beams is 0'),
  (dict(no_repeat_ngram=-1), 'no_repeat_ngram is -1'),
  (dict(repetition_penalty=0), 'repetition_penalty is 0'),
  (dict(stop=('',)), 'stop='), (dict(cache_dtype='int8'), "cache_dtype is 'int8'"),
  (dict(length_penalty=float('inf')), 'length_penalty is inf'),
])
def test_impossible_values_are_named(settings, message):
  with pytest.raises(ValueError, match=message.replace('(', r'\(')):
    GenerationConfig(**settings)


@pytest.mark.parametrize('settings', [dict(top_p=0.9), dict(top_k=5)])
def test_choosing_among_draws_without_a_temperature_is_an_error_not_a_draw(settings):
  with pytest.raises(ValueError, match='temperature=0 samples nothing'):
    GenerationConfig(**settings)


@pytest.mark.parametrize('settings', [dict(temperature=0.5), dict(stop=('x',))])
def test_a_beam_search_refuses_what_it_cannot_do(settings):
  with pytest.raises(ValueError, match='does not go with beams=2'):
    GenerationConfig(beams=2, **settings)


@pytest.mark.parametrize(
  'settings', [dict(no_repeat_ngram=2), dict(repetition_penalty=1.2), dict(min_new_tokens=3),
               dict(frequency_penalty=0.5), dict(beams=4)])
def test_nothing_but_a_temperature_turns_sampling_on(settings):
  assert not rules_of(GenerationConfig(**settings)).samples
  assert rules_of(GenerationConfig(temperature=0.1)).samples


def test_the_defaults_are_greedy_and_one_stop_string_may_stand_alone():
  assert rules_of(GenerationConfig()) == GREEDY
  assert GenerationConfig(stop='\n').stop == ('\n',)
  assert dataclasses.replace(GenerationConfig(), stop=['a', 'b']).stop == ('a', 'b')
