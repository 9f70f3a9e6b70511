"""Molmo v1 through the public face: golden models in folders like the released ones, and a tiny
mixture of experts.
"""

from __future__ import annotations

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import molmo_jax
from molmo_jax.errors import CheckpointError
from molmo_jax.preprocess.types import EncodingError
from tests.checkpoint import v1_hub
from tests.golden.runners.visual import synthetic_image

FILES = ('config.json', 'tokenizer.json', 'tokenizer_config.json', 'preprocessor_config.json',
         'processor_config.json',
         'generation_config.json')


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  """All checkpoints by name; they are only read."""
  top = tmp_path_factory.mktemp('v1')
  return {case: v1_hub.write_case(top / case, case) for case in v1_hub.CASES} | {
    'experts': v1_hub.write_experts(top / 'experts')}


@pytest.fixture(scope='module')
def loaded(folders):
  return {name: molmo_jax.from_pretrained(folder, dtype='float32')
          for name, folder in folders.items()}


def prompt(molmo, case, examples, number):
  """The arrays of a golden row's image and words, which stand there without the leading blank."""
  given = v1_hub.meta(case)[examples][number]
  return molmo.processor.from_prompt('<|image|>' + ''.join(given['msg']),
                                     [synthetic_image(*given['img'])])


@pytest.mark.parametrize('case, number',
                         [('qwen2_openai', 0), ('qwen2_openai', 1), ('qwen2_siglip_pad', 0)])
def test_images_and_words_give_the_golden_scores(loaded, case, number):
  golden = v1_hub.arrays(case)
  real = golden['in.input_ids'][number] != -1
  inputs = prompt(loaded[case], case, 'examples', number)
  assert inputs['tokens'].tolist() == golden['in.input_ids'][number][real].tolist()
  # pixels of the reference are resized by other arithmetic: within 3e-5 (letterbox), rarely a level
  # off (stretch)
  assert np.abs(loaded[case].logits(inputs) - golden['logits'][number][real]).max() < 1e-3


def test_special_tokens_in_the_padding_of_the_table_are_read_there(loaded):
  molmo, golden = loaded['olmo_openai'], v1_hub.arrays('olmo_openai')
  assert (molmo.config.llm.vocab, molmo.config.llm.first_extra_id) == (176, 160)
  inputs, real = prompt(molmo, 'olmo_openai', 'gen_examples', 0), golden['gen.input_ids'][0] != -1
  assert inputs['tokens'].tolist() == golden['gen.input_ids'][0][real].tolist()
  expected = golden['gen.greedy_tokens'][0, 0]
  ids = molmo.generate_ids(inputs, len(expected))
  assert ids.tolist() == expected[:len(ids)].tolist() and (len(ids) == len(expected)
                                                           or ids[-1] == 2)


@pytest.mark.parametrize('name', [*v1_hub.CASES, 'experts'])
def test_saving_gives_back_every_tensor_and_file(loaded, folders, tmp_path, name):
  loaded[name].save_pretrained(tmp_path / 'saved')
  before, after = (load_file(f / 'model.safetensors') for f in (folders[name], tmp_path / 'saved'))
  assert before.keys() == after.keys()
  assert all(before[n].dtype == after[n].dtype and before[n].tobytes() == after[n].tobytes()
             for n in before)
  for file in FILES:
    assert (tmp_path / 'saved' / file).read_bytes() == (folders[name] / file).read_bytes(), file


def test_shards_are_read_and_written(loaded, folders, tmp_path):
  loaded['experts'].save_pretrained(tmp_path / 'saved', max_shard_size=20_000)
  assert len(list((tmp_path / 'saved').glob('model-*-of-*.safetensors'))) > 1
  again = molmo_jax.from_pretrained(tmp_path / 'saved', dtype='float32')
  assert all(map(np.array_equal, *map(jax.tree.leaves, (again.params, loaded['experts'].params))))


def test_experts_under_the_names_of_the_training_code_are_the_same_model(loaded, folders, tmp_path):
  tensors = v1_hub.expert_tensors()
  joined = {}
  for name in list(tensors):
    found = re.fullmatch(
      r'(model\.transformer\.blocks\.\d+)\.mlp\.experts\.(\d+)\.(\w+)_proj\.weight', name)
    if found:
      block, _, word = found.groups()
      x = tensors.pop(name)
      target = f'{block}.ffn.experts.mlp.{dict(gate="w1", up="v1", down="w2")[word]}'
      joined.setdefault(target, []).append(x.T if word == 'down' else x)
  rename = lambda n: (n.replace('.attn.', '.').replace('.mlp.ff_norm', '.ff_norm')
                      .replace('.mlp.gate.', '.ffn.router.layer.').replace(
                        'lm_head', 'model.transformer.ff_out'))
  joined = {n: np.ascontiguousarray(np.concatenate(x)) for n, x in joined.items()}
  tensors = {rename(n): x for n, x in tensors.items()} | joined
  v1_hub.write(tmp_path / 'm', v1_hub.EXPERTS, tensors, v1_hub.CLIP,
               v1_hub.EXPERTS['vision_backbone'], 3, [0, 0])
  other = molmo_jax.from_pretrained(tmp_path / 'm', dtype='float32')
  assert all(map(np.array_equal, *map(jax.tree.leaves, (other.params, loaded['experts'].params))))


def test_experts_answer_questions_with_and_without_images(loaded):
  molmo = loaded['experts']
  image = {'type': 'image', 'image': synthetic_image('A', 60, 90)}
  asked = [[{'role': 'user', 'content': [image, {'type': 'text', 'text': 'what?'}]}],
           [{'role': 'user', 'content': 'why?'}]]
  text, both = (molmo.processor(question)['tokens'].tolist() for question in reversed(asked))
  assert text == [2, *map(ord, ' User: why? Assistant:')]
  assert both[:3] == [2, 160, 162] and both[-23:] == [161,
                                                      *map(ord, ' User: what? Assistant:')][-23:]
  assert molmo.generate(asked, 3)[0] == molmo.generate(asked[0], 3)


def test_a_model_changed_by_training_is_written_in_words_of_its_own(loaded, folders, tmp_path):
  for name in ('experts', 'olmo_openai'):
    molmo = loaded[name]
    llm = dataclasses.replace(molmo.config.llm, rope_theta=123.0)
    changed = dataclasses.replace(molmo, config=dataclasses.replace(molmo.config, llm=llm))
    changed.save_pretrained(tmp_path / name)
    again = molmo_jax.from_pretrained(tmp_path / name, dtype='float32')
    assert (again.config.llm, again.config.vit, again.config.connector) == (llm, molmo.config.vit,
                                                                            molmo.config.connector)


def damaged(folder, tmp_path, change):
  tensors = load_file(folder / 'model.safetensors')
  change(tensors)
  for file in FILES:
    (tmp_path / file).write_bytes((folder / file).read_bytes())
  save_file(tensors, tmp_path / 'model.safetensors')
  return tmp_path


def test_all_that_is_wrong_with_the_tensors_is_one_error(folders, tmp_path):
  def change(tensors):
    del tensors['model.transformer.blocks.1.mlp.experts.2.up_proj.weight']
    tensors['model.transformer.blocks.0.mlp.experts.0.gate_proj.weight'] = np.zeros((5, 16),
                                                                                    np.float32)
    tensors['model.vision_backbone.image_vit.post_ln.weight'] = np.zeros(8, np.float32)
    tensors['model.vision_backbone.pad_embed'] = np.zeros((3, 16), np.float32)
  with pytest.raises(CheckpointError) as error:
    molmo_jax.from_pretrained(damaged(folders['experts'], tmp_path, change))
  for line in ('missing: model.transformer.blocks.1.mlp.experts.2.up_proj.weight [6, 16]',
               'blocks.0.mlp.experts.0.gate_proj.weight: stored [5, 16], the configuration makes '
               '[6, 16]',
               'left over: model.vision_backbone.image_vit.post_ln.weight [8]',
               'pad_embed: stored [3, 16], the configuration makes [2, 16]'):
    assert line in str(error.value)


def test_classes_of_transformers_do_not_exist_for_v1(loaded, tmp_path):
  with pytest.raises(CheckpointError, match='no classes of its own for Molmo v1'):
    loaded['olmo_openai'].save_pretrained(tmp_path / 'native', layout='native')
  assert not list(tmp_path.iterdir())


def test_inputs_without_the_mask_of_padding_are_refused(loaded):
  inputs = loaded['experts'].processor([{'role': 'user', 'content': 'why?'}])
  with pytest.raises(EncodingError, match='lack patch_mask'):
    loaded['experts'].logits({k: v for k, v in inputs.items() if k != 'patch_mask'})


def test_words_of_the_training_code_describe_the_same_models(folders, loaded, tmp_path):
  for case in v1_hub.CASES:
    folder = v1_hub.write_case(tmp_path / case, case, words='training')
    config = json.loads((folder / 'config.json').read_text())
    assert 'd_model' in config and 'hidden_size' in json.loads(
      (folders[case] / 'config.json').read_text())
    assert molmo_jax.from_pretrained(folder, dtype='float32').config == loaded[case].config
