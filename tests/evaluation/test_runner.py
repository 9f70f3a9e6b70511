"""How an evaluation turns tokens into answers: the settings of generation hold for its batches."""

from __future__ import annotations

import numpy as np
import pytest

from molmo_jax.evaluation.runner import _generate, _text
from molmo_jax.inference.beam import beam_search
from molmo_jax.inference.generate import generate
from molmo_jax.inference.settings import GenerationConfig
from tests.model.tiny import batch, build, row

PROMPTS = batch(row(2, -2, 1, -2, 1), row(3), row(1, -3, 4, seed=1))
SEEDS = np.arange(3, dtype=np.uint32)


@pytest.fixture(scope='module')
def network():
  return build()


def answers(network, **settings):
  return np.asarray(_generate(*network, PROMPTS, SEEDS,
                              GenerationConfig(max_new_tokens=6, **settings), (2,)))


def test_the_default_is_greedy(network):
  assert (answers(network) == generate(*network, PROMPTS, max_new_tokens=6, eos_ids=(2,))).all()


def test_beams_are_searched(network):
  found = beam_search(*network, PROMPTS, beams=3, length_penalty=0.5, max_new_tokens=6,
                      eos_ids=(2,))
  assert (answers(network, beams=3, length_penalty=0.5) == found.tokens[:, 0]).all()


def test_drawn_tokens_depend_on_the_rows_own_seed(network):
  first, again, other = (answers(network, temperature=4.0, seed=seed) for seed in (0, 0, 1))
  assert (first == again).all() and (first != other).any()


class Letters:
  eos_id = 2

  @staticmethod
  def decode(ids):
    return ''.join(chr(i) for i in ids)


@pytest.mark.parametrize('stop, text', [((), 'a.b.'), (('.',), 'a'), (('b.', 'zz'), 'a.')])
def test_a_text_ends_before_its_end_token_and_the_first_stop_string(stop, text):
  ids = np.array([*map(ord, 'a.b.'), Letters.eos_id, -1, -1])
  assert _text(ids, Letters, GenerationConfig(stop=stop)) == text
