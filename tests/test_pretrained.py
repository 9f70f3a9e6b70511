"""The public face on a tiny checkpoint: batches, streams, meshes, saving, and input that does not
fit.
"""

from __future__ import annotations

import re
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors import safe_open

import molmo_jax
from molmo_jax.errors import CheckpointError
from molmo_jax.parallel.mesh import MeshConfig
from molmo_jax.parameters import count
from molmo_jax.preprocess.types import EncodingError, MediaError

FOLDER = Path(__file__).parent / 'golden/molmo2_olmo_hub'
NEW = 4


def user(text, *images, **video):
  parts = [{'type': 'image', 'image': image} for image in images] + ([{'type': 'video', **video}]
                                                                     if video else [])
  return [{'role': 'user', 'content': [*parts, {'type': 'text', 'text': text}]}]


def noise(*shape):
  return np.random.default_rng(list(shape)).integers(0, 256, (*shape, 3)).astype(np.uint8)


CONVERSATIONS = [
  user('What is in this image?', noise(150, 200)),
  user('Describe it briefly.'),
  user('Compare these images.', noise(90, 130), noise(140, 60)),
  user('Which animal appears in the video?', video=noise(3, 40, 60), fps=2.0),
]


@pytest.fixture(scope='module')
def molmo():
  return molmo_jax.from_pretrained(FOLDER, dtype='float32')


@pytest.fixture(scope='module')
def alone(molmo):
  """Scores and answers of every conversation on its own."""
  inputs = [molmo.processor(c) for c in CONVERSATIONS]
  return [(molmo.logits(i), molmo.generate_ids(i, NEW)) for i in inputs]


def test_a_printed_model_is_a_short_table(molmo):
  first, *rows = str(molmo).split('\n')
  assert first == "Molmo on the mesh {'data': 1, 'fsdp': 1, 'context': 1, 'tensor': 1}"
  numbers = {row.split()[0]: int(row.split()[1].replace(',', '')) for row in rows}
  assert numbers.pop('all') == sum(numbers.values()) == count(molmo.params)
  assert numbers.keys() == molmo.params.keys()
  assert all(row.endswith('parameters  float32') for row in rows)


@pytest.mark.parametrize('padding', ['left', 'right'])
def test_a_mixed_batch_gives_what_each_conversation_gives_alone(molmo, alone, padding):
  inputs = molmo.processor(CONVERSATIONS, padding=padding)
  scores, ids = molmo.logits(inputs), molmo.generate_ids(inputs, NEW)
  assert scores.shape == (*inputs['tokens'].shape, 512)
  for row, (alone_scores, alone_ids) in enumerate(alone):
    real = inputs['segments'][row] >= 0
    assert np.abs(scores[row][real] - alone_scores).max() < 2e-5
    assert ids[row][ids[row] >= 0].tolist() == alone_ids.tolist()


def test_generation_continues_with_the_best_score(molmo, alone):
  for scores, ids in alone:
    assert scores[-1][ids[0]] > scores[-1].max() - 1e-5   # the best up to rounding
    assert 1 <= len(ids) <= NEW


def test_answers_are_text_and_a_list_of_conversations_gives_a_list(molmo, alone):
  texts = molmo.generate(CONVERSATIONS[:2], NEW)
  assert texts == [molmo.text(ids) for _, ids in alone[:2]]
  assert molmo.generate(CONVERSATIONS[1], NEW) == texts[1]


def test_a_stream_adds_up_to_the_answer(molmo):
  pieces = list(molmo.stream(CONVERSATIONS[1], NEW))
  assert ''.join(pieces) == molmo.generate(CONVERSATIONS[1], NEW)


def test_the_end_token_ends_an_answer_and_is_not_part_of_the_text(molmo, alone):
  second = int(alone[1][1][1])
  processor = molmo.processor.__class__(molmo.processor.tokenizer, molmo.processor.config,
                                        template=molmo.processor.template, eos_ids=(second,))
  other = molmo_jax.Molmo(molmo.config, molmo.params, processor, molmo.mesh)
  ids = other.generate_ids(processor(CONVERSATIONS[1]), NEW)
  assert ids.tolist() == alone[1][1][:2].tolist()
  assert other.text(ids) == other.text(ids[:1])


def test_a_mesh_of_eight_devices_gives_the_same(alone):
  spread = molmo_jax.from_pretrained(FOLDER, dtype='float32', mesh=MeshConfig(fsdp=4, tensor=2))
  kernel = spread.params['decoder']['blocks']['mlp']['up']['kernel']
  assert kernel.sharding.shard_shape(kernel.shape) == (kernel.shape[0], kernel.shape[1] // 4,
                                                       kernel.shape[2] // 2)
  scores = spread.logits(spread.processor(CONVERSATIONS[0]))
  assert np.abs(scores - alone[0][0]).max() < 2e-5


def test_bfloat16_weights_stay_close(alone):
  small = molmo_jax.from_pretrained(FOLDER)
  assert {x.dtype for x in jax.tree.leaves(small.params)} == {jax.numpy.bfloat16.dtype}
  scores = small.logits(small.processor(CONVERSATIONS[0]))
  assert scores.dtype == np.float32
  assert 0 < np.abs(scores - alone[0][0]).mean() < 0.03


def tensors(folder):
  with safe_open(folder / 'model.safetensors', 'np') as file:
    return {name: file.get_tensor(name) for name in file.keys()}


def test_saving_gives_back_every_tensor_and_file(molmo, tmp_path):
  molmo.save_pretrained(tmp_path / 'saved')
  before, after = tensors(FOLDER), tensors(tmp_path / 'saved')
  assert before.keys() == after.keys()
  assert all(before[name].tobytes() == after[name].tobytes() for name in before)
  for name in ('tokenizer.json', 'processor_config.json', 'chat_template.jinja'):
    assert (tmp_path / 'saved' / name).read_bytes() == (FOLDER / name).read_bytes()


def test_a_saved_model_answers_the_same_in_either_layout(molmo, alone, tmp_path):
  molmo.save_pretrained(tmp_path / 'native', layout='native')
  again = molmo_jax.from_pretrained(tmp_path / 'native', dtype='float32')
  assert np.abs(again.logits(again.processor(CONVERSATIONS[0])) - alone[0][0]).max() < 1e-6


def test_a_failed_save_leaves_nothing(molmo, tmp_path):
  (tmp_path / 'full').mkdir()
  (tmp_path / 'full/mine.txt').write_text('keep')
  with pytest.raises(CheckpointError, match='exists already'):
    molmo.save_pretrained(tmp_path / 'full')
  extra = molmo_jax.Molmo(molmo.config, molmo.params | {'connector': molmo.params['connector'] | {
    'layout': {'row': np.zeros((4, 64), np.float32)}}}, molmo.processor, molmo.mesh)
  with pytest.raises(CheckpointError, match='connector/layout/row'):
    extra.save_pretrained(tmp_path / 'new')
  assert sorted(p.name for p in tmp_path.iterdir()) == ['full']
  assert [p.name for p in (tmp_path / 'full').iterdir()] == ['mine.txt']


def test_names_that_lead_nowhere_and_unknown_dtypes_are_named(tmp_path, monkeypatch):
  monkeypatch.setenv('HF_HUB_OFFLINE', '1')
  with pytest.raises(ValueError, match='no such folder'):
    molmo_jax.from_pretrained(tmp_path / 'missing')
  with pytest.raises(ValueError, match="dtype='float16'"):
    molmo_jax.from_pretrained(FOLDER, dtype='float16')


def spoilt(inputs, **changes):
  return {**inputs, **changes}


@pytest.mark.parametrize(('change', 'message'), [
  (lambda i: {k: v for k, v in i.items() if k != 'pool_index'}, 'lack pool_index'),
  (lambda i: spoilt(i, tokens=np.where(i['tokens'] == 514, 5, i['tokens'])),
   '<im_patch> tokens, but'),
  (lambda i: spoilt(i, pool_index=i['pool_index'][:-1]), '<im_patch> tokens, but'),
  (lambda i: spoilt(i, tokens=i['tokens'] + 600), 'the model has 0 to 639'),
  (lambda i: spoilt(i, crops=i['crops'][:, :100]), 'crops of 126×126×3'),
  (lambda i: spoilt(i, pool_index=i['pool_index'] + 10_000), 'pool_index reaches patch'),
  (lambda i: spoilt(i, tokens=i['tokens'][:0]), 'at least one token'),
])
def test_inputs_that_do_not_fit_are_refused_before_anything_is_compiled(molmo, change, message,
                                                                        monkeypatch):
  monkeypatch.setattr('molmo_jax.pretrained._logits', None)
  with pytest.raises(EncodingError, match=re.escape(message)):
    molmo.logits(change(molmo.processor(CONVERSATIONS[0])))


@pytest.mark.parametrize(('messages', 'error', 'message'), [
  (user('What is in <|image|> here?'), EncodingError, '<|image|>'),
  (user('Look.', video='absent.mp4'), MediaError, 'absent.mp4'),
  (user('Look.', Path('absent.png')), MediaError, 'absent.png'),
  ([], EncodingError, 'at least one message'),
])
def test_conversations_that_cannot_be_answered_are_refused(molmo, messages, error, message):
  with pytest.raises(error, match=re.escape(message)):
    molmo.generate(messages)
