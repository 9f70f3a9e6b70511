"""`from_pretrained(…).generate` with settings: keywords, stop strings, batches, features that are
kept.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import molmo_jax

FOLDER = Path(__file__).parents[1] / 'golden/molmo2_olmo_hub'
NEW = 8


@pytest.fixture(scope='module')
def molmo():
  return molmo_jax.from_pretrained(FOLDER, dtype='float32')


def ask(text, image=None):
  picture = [] if image is None else [{'type': 'image', 'image': image}]
  return [{'role': 'user', 'content': [*picture, {'type': 'text', 'text': text}]}]


def test_settings_are_keywords_and_wrong_ones_are_errors(molmo):
  prompt = ask('Describe it briefly.')
  drawn = [molmo.generate(prompt, NEW, temperature=5.0, seed=s) for s in (1, 1, 2)]
  assert drawn[0] == drawn[1] != drawn[2]
  with pytest.raises(ValueError, match='temperature is -1'):
    molmo.generate(prompt, NEW, temperature=-1)
  with pytest.raises(TypeError, match='temprature'):
    molmo.generate(prompt, NEW, temprature=1)


def test_an_answer_ends_before_a_stop_string_streamed_or_not(molmo):
  prompt = ask('Describe it briefly.')
  whole = molmo.generate(prompt, NEW)
  stop = whole[len(whole) // 2:][:2]
  expected = whole[:whole.index(stop)]
  assert molmo.generate(prompt, NEW, stop=[stop]) == expected
  pieces = list(molmo.stream(prompt, NEW, stop=[stop]))
  assert ''.join(pieces) == expected
  assert molmo.generate([prompt, ask('Which one?')], NEW, stop=[stop])[0] == expected


def test_several_questions_about_one_picture_look_at_it_once(molmo):
  picture = np.random.default_rng(0).integers(0, 256, (90, 130, 3)).astype(np.uint8)
  seen = len(molmo.generator._vision._memory)
  molmo.generate([ask('What is this?', picture), ask('Where is it?', picture)], 2)
  molmo.generate(ask('Who?', picture), 2)
  assert len(molmo.generator._vision._memory) == seen + 1
  assert molmo.generator.compilations == len(set(molmo.generator.programs))
