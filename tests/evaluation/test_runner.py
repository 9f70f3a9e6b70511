"""How an evaluation turns tokens into answers: the settings of generation hold for its batches."""

from __future__ import annotations

import numpy as np
import pytest

from molmo_jax.inference.beam import search_from
from molmo_jax.inference.generate import begin
from molmo_jax.inference.generator import Generator
from molmo_jax.inference.loaded import LoadedModel
from molmo_jax.inference.sampling import rules_of
from molmo_jax.inference.settings import GenerationConfig
from molmo_jax.inference.stop import find_stop
from tests.inference.test_generate import generate
from tests.model.tiny import batch, build, row

PROMPTS = batch(row(2, -2, 1, -2, 1), row(3), row(1, -3, 4, seed=1))
SEEDS = np.arange(3, dtype=np.uint32)
NEW = 6


@pytest.fixture(scope='module')
def network():
  return build()


def answers(network, **settings):
  ids = Generator(*network, (2,)).answer(PROMPTS | {'seeds': SEEDS},
                                         GenerationConfig(max_new_tokens=NEW, **settings))
  return np.pad(ids, ((0, 0), (0, NEW - ids.shape[1])), constant_values=-1)


def test_the_default_is_greedy(network):
  assert (answers(network) == generate(*network, PROMPTS, max_new_tokens=NEW, eos_ids=(2,))).all()


def test_beams_are_searched(network):
  rules = rules_of(GenerationConfig(beams=3, length_penalty=0.5))
  found = search_from(*network, begin(*network, PROMPTS, NEW), rules, beams=3, max_new_tokens=NEW,
                      eos_ids=(2,))
  assert (answers(network, beams=3, length_penalty=0.5) == found.tokens[:, 0]).all()


def test_drawn_tokens_depend_on_the_rows_own_seed(network):
  first, again, other = (answers(network, temperature=4.0, seed=seed) for seed in (0, 0, 1))
  assert (first == again).all() and (first != other).any()


class Letters:
  eos_ids = (2,)

  @staticmethod
  def decode(ids):
    return ''.join(chr(i) for i in ids)


@pytest.mark.parametrize('stop, text', [((), 'a.b.'), (('.',), 'a'), (('b.', 'zz'), 'a.')])
def test_a_text_ends_before_its_end_token_and_the_first_stop_string(stop, text):
  ids = [*map(ord, 'a.b.')]
  ids = ids[:find_stop(ids, Letters.decode, stop)]   # as the Generator ends an answer
  ids = np.array([*ids, *Letters.eos_ids, -1, -1])
  assert LoadedModel(None, None, Letters, None).text(ids, stop) == text
