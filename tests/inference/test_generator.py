"""The Generator: batches and meshes change no answer, shapes are few, pictures are looked at once.
"""

from __future__ import annotations

import jax
import numpy as np
import pytest

from molmo_jax.inference import vision
from molmo_jax.inference.beam import search_from
from molmo_jax.inference.generate import begin, extend
from molmo_jax.inference.generator import Generator, trim
from molmo_jax.inference.sampling import row_keys, rules_of
from molmo_jax.inference.settings import GenerationConfig
from molmo_jax.inference.unstack import unstack_blocks
from molmo_jax.parallel.mesh import MeshConfig, make_mesh
from molmo_jax.parallel.sharding import shardings_of
from tests.inference.test_generate import PROMPTS, generate
from tests.model.tiny import batch, build, config, row

EOS = (7,)
NEW = 6
SMALLEST = (8, 1, 4)
PLAIN = GenerationConfig(max_new_tokens=NEW)
DRAWN = GenerationConfig(max_new_tokens=NEW, temperature=1.0, top_p=0.95, seed=3)


@pytest.fixture(scope='module')
def tiny():
  return build()


@pytest.fixture(scope='module')
def generator(tiny):
  return Generator(*tiny, EOS, smallest=SMALLEST,
                   decode=lambda ids: ''.join(chr(97 + i) for i in ids))


@pytest.fixture(scope='module')
def greedy(generator):
  return generator.generate(PROMPTS, PLAIN)


def equal(first, second):
  return [x.tolist() for x in first] == [x.tolist() for x in second]


def test_answers_are_those_of_the_plain_loop(tiny, greedy):
  expected = np.asarray(generate(*tiny, batch(*PROMPTS), max_new_tokens=NEW, eos_ids=EOS))
  assert equal(greedy, [ids[ids >= 0] for ids in expected])


@pytest.mark.parametrize('settings', [PLAIN, DRAWN])
def test_a_prompt_has_the_same_answer_alone_and_in_a_batch(generator, settings):
  together = generator.generate(PROMPTS, settings)
  assert equal(together[:1], generator.generate(PROMPTS[:1], settings))
  assert equal(together[::-1], generator.generate(PROMPTS[::-1], settings))


def test_draws_repeat_with_the_seed_and_differ_with_another(generator):
  first = generator.generate(PROMPTS, DRAWN)
  assert equal(first, generator.generate(PROMPTS, DRAWN))
  other = GenerationConfig(max_new_tokens=NEW, temperature=1.0, top_p=0.95, seed=4)
  assert not equal(first, generator.generate(PROMPTS, other))
  assert not equal(first, generator.generate(PROMPTS, DRAWN, seeds=[1, 2, 3]))


def test_equal_questions_about_different_pictures_have_draws_of_their_own(generator):
  rows = [row(2, -2, 1, seed=s) | dict(tokens=row(2, -2, 1)['tokens']) for s in range(8)]
  # nearly uniform: the scores hardly matter
  settings = GenerationConfig(max_new_tokens=1, temperature=50.0)
  assert len({ids[0] for ids in generator.generate(rows, settings)}) > 3
  assert len({ids[0] for ids in generator.generate(rows[:1] * 8, settings)}) == 1


def test_drawing_without_keys_is_an_error(tiny):
  with pytest.raises(ValueError, match='give the batch `seeds`, one per row'):
    Generator(*tiny, EOS).answer(batch(*PROMPTS), DRAWN)
  with pytest.raises(ValueError, match='2 seeds for 3 rows'):
    Generator(*tiny, EOS, smallest=SMALLEST).generate(PROMPTS, DRAWN, seeds=[1, 2])


def test_beams_are_those_of_the_plain_search(tiny, generator):
  settings = GenerationConfig(max_new_tokens=4, beams=3, length_penalty=1.0, no_repeat_ngram=2,
                              min_new_tokens=2)
  found = generator.generate(PROMPTS, settings)
  plain = search_from(*tiny, begin(*tiny, batch(*PROMPTS), 4), rules_of(settings), beams=3,
                      max_new_tokens=4, eos_ids=EOS)
  assert equal(found, [ids[ids >= 0] for ids in np.asarray(plain.tokens[:, 0])])
  assert all(EOS[0] not in ids[:2] for ids in found)


def test_few_programs_are_compiled_and_all_of_them_are_counted():
  # no other test has compiled it
  made = Generator(*build(config(llm=dict(rope_theta=2e4))), EOS, smallest=SMALLEST)
  compiled = lambda: sum(f._cache_size() for f in (begin, extend, vision._visual_features))
  before = compiled()
  made.generate(PROMPTS[:1], PLAIN)
  assert made.compilations == 3
  assert [p.split()[0] for p in made.programs] == ['vision', 'prefill', 'decode']
  # the same shapes, another prompt
  made.generate([row(1, -2, 2, -2, 1)], PLAIN)
  # the loop's end is an argument
  made.generate(PROMPTS[:1], GenerationConfig(max_new_tokens=NEW - 1))
  assert made.compilations == 3
  for temperature in (0.5, 0.7):
    made.generate(PROMPTS[:1], GenerationConfig(max_new_tokens=NEW, temperature=temperature))
  assert made.compilations == 4 == compiled() - before
  assert made.programs[-1].endswith('temperature')


def test_a_picture_is_looked_at_once_for_several_questions(tiny, monkeypatch):
  looks = []
  monkeypatch.setattr('molmo_jax.inference.vision._visual_features', lambda model, params,
                      b: looks.append(1) or
                      jax.jit(lambda p, x: model.apply({'params': p}, x, method='visual_features'))(
                        params, b))
  picture = row(2, -2, 1)
  questions = [picture | dict(
    tokens=np.where(picture['feature_index'] < 0, picture['tokens'] % 9 + t + 10,
                    picture['tokens'])) for t in range(3)]
  made = Generator(*tiny, EOS, smallest=SMALLEST)
  together = made.generate(questions, PLAIN)
  assert len(looks) == 1
  assert equal(together[1:2], made.generate(questions[1:2], PLAIN)) and len(looks) == 1
  made.generate([row(2, -2, 1, seed=9)], PLAIN)
  assert len(looks) == 2
  assert equal(together, Generator(*tiny, EOS, smallest=SMALLEST).generate(questions, PLAIN))


def test_a_stop_string_ends_a_row_whatever_the_chunk_and_leaves_the_others(generator, greedy):
  letters = ''.join(chr(97 + i) for i in greedy[0][1:3])     # two tokens of the first answer
  settings = GenerationConfig(max_new_tokens=NEW, stop=(letters,))
  found = generator.generate(PROMPTS, settings)
  assert found[0].tolist() == greedy[0][:3].tolist()
  for chunk in (1, 2):
    ids = np.concatenate(list(generator.stream(PROMPTS, settings, chunk)), axis=1)
    assert equal(found, [x[x >= 0] for x in ids])
  with pytest.raises(ValueError, match='decode'):
    next(Generator(generator.model, generator.params, EOS).stream(PROMPTS, settings))


def test_padding_on_either_side_is_cut_off(generator, greedy):
  padded = batch(*PROMPTS, extra=2)
  rows = [{k: v[i] for k, v in padded.items()} for i in range(3)]
  rolled = [r | {k: np.roll(r[k], 2)
                 for k in ('tokens', 'positions', 'segments', 'visual', 'feature_index')}
            for r in rows if r['segments'][-2:].max() < 0]
  assert len(rolled) == 3
  assert equal(greedy, generator.generate(rolled, PLAIN))
  with pytest.raises(ValueError, match='no tokens'):
    trim(rows[0] | dict(segments=np.full_like(rows[0]['segments'], -1)))


def test_eight_devices_give_what_one_gives(tiny, greedy):
  model, params = tiny
  mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
  spread = jax.device_put(params, shardings_of(params, mesh))
  made = Generator(model, spread, EOS, mesh=mesh, smallest=SMALLEST)
  assert equal(greedy, made.generate(PROMPTS, PLAIN))
  assert equal(Generator(model, params, EOS, smallest=SMALLEST).generate(PROMPTS, DRAWN),
               made.generate(PROMPTS, DRAWN))


def test_a_bfloat16_cache_is_half_the_size_and_close(tiny, generator):
  model, params = tiny
  prefill = jax.jit(lambda dtype: model.apply({'params': params}, batch(*PROMPTS), 2, None, dtype,
                                              method='prefill'),
                    static_argnums=0)
  (scores, plain), (same, small) = prefill(None), prefill('bfloat16')
  # the prompt is read without the cache; two programs may round differently
  assert np.allclose(scores, same, atol=1e-5)
  assert plain.keys[0].dtype == np.float32 and small.keys[0].nbytes * 2 == plain.keys[0].nbytes
  step = jax.jit(lambda cache: model.apply({'params': params}, np.array([5, 5, 5]),
                                           np.array([8, 3, 8]),
                                           np.zeros(3, np.int32), cache, method='decode')[0])
  assert 0 < np.abs(step(plain) - step(small)).max() < 0.05
  assert generator.generate(
    PROMPTS, GenerationConfig(max_new_tokens=2, cache_dtype='bfloat16'))[0].size <= 2


def test_layers_are_views_of_the_stack(tiny):
  params = tiny[1]
  layers = unstack_blocks(params)['decoder']['blocks']
  stack = params['decoder']['blocks']['mlp']['up']['kernel']
  assert len(layers) == len(stack)
  assert np.array_equal(layers[1]['mlp']['up']['kernel'], stack[1])
  wide = jax.numpy.zeros((2, 64, 64))     # tiny arrays are not aligned, and copied
  views = unstack_blocks({'decoder': {'blocks': {'w': wide}}})['decoder']['blocks']
  assert views[1]['w'].unsafe_buffer_pointer() == wide.unsafe_buffer_pointer() + wide[0].nbytes


def test_row_keys_are_the_same_wherever_a_row_lies():
  keys = lambda *rows: jax.random.key_data(row_keys(5, np.array(rows)))
  assert np.array_equal(keys(1, 2, 3)[2], keys(3, 1)[0])
