"""The configuration files: they load, and the models that they describe have the released sizes
(docs/model.md §1).
"""

from __future__ import annotations

import functools

import pytest

from configs import image, molmo2, molmo_v1, scenes, video
from molmo_jax import experiment
from molmo_jax.model.config import resolve_vit_layers
from molmo_jax.parameters import count, flatten_paths
from molmo_jax.training.optimizer import label_parameters
from molmo_jax.training.state import abstract_params

SIZES = ('4b', '8b', 'o7b')
IMAGE = [f'size={size},stage={stage}' for size in SIZES for stage in ('pretrain', 'sft')]
VIDEO = [f'size={size},stage={stage}' for size in SIZES for stage in ('sft', 'long_context')]


@functools.cache
def shapes(size):
  of = molmo_v1 if size in molmo_v1.LLM else image
  run = experiment.from_config(of.get_config(f'size={size}'))
  return abstract_params(run.model)


@pytest.mark.parametrize('arguments', IMAGE)
def test_image_configurations_load(arguments):
  run = experiment.from_config(image.get_config(arguments))
  assert (run.preprocess.image.max_crops, run.preprocess.image.max_crops_eval) == (8, 24)
  assert (run.data.sequence_length,
          run.data.crops) == ((16_384, 128) if 'sft' in arguments else (2_536, 16))
  assert run.data.packing.buffer == 48
  assert run.model.connector.vit_layers == (-3, -9)
  assert run.preprocess.image.pooling == (2, 2)
  assert (run.model.llm.residual_dropout, run.model.llm.response_residual_dropout) == (
    (0.1, 0.0) if 'sft' in arguments else (0.0, 0.1))
  size, stage = (option.partition('=')[2] for option in arguments.split(','))
  assert run.name == f'image_{size}_{stage}'


@pytest.mark.parametrize('arguments', VIDEO)
def test_video_configurations_load(arguments):
  run = experiment.from_config(video.get_config(arguments))
  frames, tokens = (384, 36_864) if 'long' in arguments else (128, 16_384)
  assert run.preprocess.video.max_frames == run.data.crops == frames
  assert run.preprocess.video.max_frames_eval == 384
  assert run.data.sequence_length == tokens
  assert 81 * frames <= run.data.visual_tokens <= tokens
  assert run.preprocess.video.pooling == (3, 3)
  assert run.preprocess.video.max_fps == 2.0


def test_defaults_are_the_8b_size_and_the_first_stage():
  assert experiment.from_config(image.get_config()).model.llm.width == 4096
  assert experiment.from_config(image.get_config('')).name == 'image_8b_pretrain'
  assert experiment.from_config(video.get_config()).name == 'video_8b_sft'
  assert experiment.from_config(
    video.get_config('stage=long_context')).name == 'video_8b_long_context'


def test_manifests_of_a_stage_are_mixed_at_the_released_rates(tmp_path):
  for name in ('pixmo_cap_with_transcripts', 'pixmo_points', 'tulu4_max_2304'):
    (tmp_path / f'{name}.jsonl').write_text('{"question": "a", "answer": "b"}\n')
  run = experiment.from_config(image.get_config(f'stage=pretrain,data={tmp_path}'))
  assert set(run.data.mixture) == {'pixmo_cap_with_transcripts', 'pixmo_points', 'tulu4_max_2304'}
  assert sorted(run.data.groups.values()) == [0.1, 0.3, 0.6]


def test_the_scenes_configuration_loads():
  run = experiment.from_config(scenes.get_config())
  assert run.data.crops >= 1 + run.preprocess.image.max_crops
  assert run.data.crops >= run.preprocess.video.max_frames


@pytest.mark.parametrize('get_config, arguments, message', [
  (image.get_config, 'size=8b,context=long', "unknown options .*context"),
  (image.get_config, 'sise=8b', "unknown options .*sise"),
  (image.get_config, 'size=9b', "size='9b' is unknown; sizes: 4b, 8b, o7b"),
  (video.get_config, 'size=8b,frames=3',
   'unknown options .*frames.*this configuration has: size, stage, data'),
  (video.get_config, 'stage=pretrain',
   'stage=pretrain is unknown; configs/video.py has: sft, long_context'),
  (image.get_config, 'stage=long_context', 'configs/image.py has: pretrain, sft'),
  (image.get_config, 'data=nowhere', 'nowhere holds none of the manifests of stage pretrain'),
  (molmo2.model, '1b', "size='1b' is unknown"),
  (molmo_v1.get_config, 'size=8b',
   'size=7b_d|7b_o|72b|1b_e, stage=captioner|multitask, vision=clip|metaclip'),
])
def test_an_unknown_option_is_an_error(get_config, arguments, message):
  with pytest.raises(ValueError, match=message):
    get_config(arguments)


@pytest.mark.parametrize('size, whole, vision', [
  ('4b', 4_850_869_200, 439_117_264),
  ('8b', 8_661_703_120, 470_443_472),
  ('o7b', 7_760_786_896, 462_251_472),
])
def test_released_sizes_have_the_released_number_of_parameters(size, whole, vision):
  params, llm = shapes(size), image.get_config(f'size={size}').model.llm
  # the released file of 4B stores the tied head a second time
  copy = llm.vocab * llm.width if llm.tied else 0
  assert count(params) + copy == whole
  assert count(params['vit']) + count(params['connector']) == vision


@pytest.mark.parametrize('size, whole', [
  ('7b_d', 8_021_025_280), ('7b_o', 7_665_032_192), ('72b', 73_308_285_952),
  ('1b_e', 7_221_875_712)])
def test_released_sizes_of_v1_have_the_released_number_of_parameters(size, whole):
  assert count(shapes(size)) == whole


def test_vision_of_v1_has_the_released_number_of_parameters():
  params = shapes('7b_d')
  assert count(params['vit']) + count(params['connector']) == 404_950_016
  assert params['vit']['blocks']['up']['kernel'].shape == (23, 1024, 4096)
  assert params['connector']['padding']['vectors'].shape == (2, 2048)


@pytest.mark.parametrize('size, base, extra_from, head', [
  ('7b_d', 152064, 152064, 152064), ('7b_o', 100352, 100278, 100352),
  ('1b_e', 50304, 50280, 50304)])
def test_extra_tokens_of_the_olmo_sizes_of_v1_lie_in_the_base_table(size, base, extra_from, head):
  tables = shapes(size)['embedding']
  assert (tables['base'].shape[0], tables['head'].shape[0],
          tables['extra'].shape[0]) == (base, head, 128)
  assert experiment.from_config(
    molmo_v1.get_config(f'size={size}')).model.llm.first_extra_id == extra_from


@pytest.mark.parametrize('vision, read, side, channels', [
  ('clip', (21, 14), 336, 2048), ('metaclip', (21, 15), 336, 2048), ('dinov2', (21, 15), 336, 2048),
  ('siglip', (24, 18), 378, 2304)])
def test_towers_of_v1_load(vision, read, side, channels):
  run = experiment.from_config(molmo_v1.get_config(f'vision={vision}'))
  assert resolve_vit_layers(run.model.connector.vit_layers, run.model.vit.layers) == read
  assert run.preprocess.image.crop_size == side
  assert run.preprocess.image.has_patch_mask
  params = abstract_params(run.model)
  assert params['connector']['padding']['vectors'].shape == (2, channels)
  assert ('attention_scale' in params['vit']['blocks']) == (vision == 'dinov2')


def test_v1_is_causal_and_pools_four_slots_without_a_mask():
  run = experiment.from_config(molmo_v1.get_config('size=1b_e,stage=multitask'))
  assert run.model.bidirectional == 'none'
  assert (run.model.connector.pool_slots, run.model.connector.pooling_mask) == (4, False)
  assert run.preprocess.image.pooling == run.preprocess.video.pooling == (2, 2)
  assert (run.model.llm.residual_dropout, run.preprocess.text.message_format) == (0.1, 'role')
  assert run.name == 'molmo_v1_1b_e_multitask'


@pytest.mark.parametrize('size', ['7b_d', '1b_e'])
def test_the_recipe_of_v1_trains_padding_embeddings_with_the_connector(size):
  groups = experiment.from_config(molmo_v1.get_config(f'size={size}')).optimizer.groups
  labels = flatten_paths(label_parameters(shapes(size), groups))
  assert labels['connector/padding/vectors'] == labels['embedding/extra'] == 'connector'
  assert groups[labels['embedding/base']].frozen


@pytest.mark.parametrize('size', SIZES)
def test_only_the_25_blocks_that_are_read_are_built(size):
  assert shapes(size)['vit']['blocks']['up']['kernel'].shape == (25, 1152, 4304)


@pytest.mark.parametrize('size', SIZES)
def test_the_released_recipe_freezes_the_base_embedding_and_trains_the_extra_one_with_the_connector(
  size):
  groups = experiment.from_config(image.get_config(f'size={size}')).optimizer.groups
  labels = flatten_paths(label_parameters(shapes(size), groups))
  assert groups[labels['embedding/base']].frozen
  assert labels['embedding/extra'] == 'connector'
  # 4B has no head of its own
  assert labels.get('embedding/head', 'llm') == labels['decoder/norm/scale'] == 'llm'
  assert {path.split('/')[0] for path, label in labels.items() if label == 'vit'} == {'vit'}
  assert {label for path, label in labels.items() if path.startswith('connector/')} == {'connector'}


def test_the_video_recipe_has_the_learning_rates_of_fine_tuning():
  groups = experiment.from_config(video.get_config()).optimizer.groups
  assert {n: (g.learning_rate, g.warmup) for n, g in groups.items() if not g.frozen} == {
    'connector': (5e-6, 200), 'vit': (5e-6, 200), 'llm': (1e-5, 200)}
  groups = experiment.from_config(image.get_config()).optimizer.groups
  assert {n: (g.learning_rate, g.warmup) for n, g in groups.items() if not g.frozen} == {
    'connector': (2e-4, 200), 'vit': (6e-6, 2000), 'llm': (2e-5, 2000)}


def test_the_head_of_4b_is_the_embedding_while_it_is_trained():
  assert [image.get_config(f'size={size},stage=pretrain').model.llm.tied
          for size in SIZES] == [True, False, False]
