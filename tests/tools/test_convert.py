"""The converter: released layouts and runs become one another without a changed byte; faults are
one line.
"""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import pytest
from absl import flags

from molmo_jax import experiment, run_folder
from molmo_jax.checkpoint import native
from molmo_jax.checkpoint.hf_config import read_model_config
from molmo_jax.tools.convert import main
from tests.checkpoint import v1_hub
from tests.checkpoint.hub import RELEASED, abstract, equal, load, same_files, tensors, write

flags.FLAGS.mark_as_parsed()
QWEN, OLMO = RELEASED


def convert(*arguments):
  return main([str(a) for a in arguments])


@pytest.mark.parametrize('source', [QWEN, OLMO], ids=lambda f: f.name)
def test_layouts_become_one_another_and_back(tmp_path, source):
  assert convert(source, tmp_path / 'native', '--layout', 'native', '--shard-size', '200KB') == 0
  assert len(list((tmp_path / 'native').glob('model-*-of-*.safetensors'))) > 1
  assert 'model.language_model.embed_tokens.weight' in tensors(tmp_path / 'native')
  assert convert(tmp_path / 'native', tmp_path / 'hub', '--layout', 'hub') == 0
  assert same_files(tmp_path / 'hub', source)
  for name in ('tokenizer.json', 'processor_config.json', 'chat_template.jinja',
               'generation_config.json'):
    assert (tmp_path / 'hub' / name).read_bytes() == (source / name).read_bytes()
  before, after = (json.loads((f / 'config.json').read_text()) for f in (source, tmp_path / 'hub'))
  assert after['text_config'] == before['text_config']
  assert {k: v for k, v in after.items() if k.endswith('_id')} == {k: v for k, v in before.items()
                                                                   if k.endswith('_id')}


@pytest.mark.parametrize('write_v1',
                         [lambda f: v1_hub.write_case(f, 'olmo_openai'), v1_hub.write_experts],
                         ids=['7b_o', 'experts'])
def test_molmo_v1_becomes_a_run_and_comes_back(tmp_path, write_v1):
  source = write_v1(tmp_path / 'source')
  assert convert(source, tmp_path / 'copy', '--layout', 'hub') == 0
  assert convert(source, tmp_path / 'run', '--layout', 'orbax') == 0
  assert convert(tmp_path / 'run', tmp_path / 'back', '--layout', 'hub') == 0
  for folder in (tmp_path / 'copy', tmp_path / 'back'):
    assert same_files(folder, source)
    c, other = read_model_config(folder), read_model_config(source)
    assert (c.vit, c.connector, c.llm, c.bidirectional) == (other.vit, other.connector, other.llm,
                                                            'none')
    for name in ('tokenizer.json', 'preprocessor_config.json', 'tokenizer_config.json'):
      assert (folder / name).read_bytes() == (source / name).read_bytes()
  assert (tmp_path / 'copy/config.json').read_bytes() == (source / 'config.json').read_bytes()


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """QWEN as the folder of a run."""
  folder = tmp_path_factory.mktemp('runs') / 'qwen'
  assert convert(QWEN, folder, '--layout', 'orbax') == 0
  return folder


def test_a_converted_run_is_read_like_one_of_training(run):
  settings = experiment.from_config(experiment.load(run / 'config.json'))
  assert settings.model.llm == read_model_config(QWEN).llm
  assert settings.data.tokenizer == str(run / 'processor')
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
                        abstract(settings.model))
  with native.open_checkpoints(run / 'checkpoints') as checkpoints:
    params, step = native.restore_params(checkpoints, None, wanted)
  assert step == 0
  assert equal(params, load(QWEN))


def test_a_run_becomes_a_released_checkpoint(run, tmp_path):
  assert convert(run, tmp_path / 'hub', '--layout', 'hub') == 0
  assert same_files(tmp_path / 'hub', QWEN)
  assert (tmp_path / 'hub/tokenizer.json').read_bytes() == (QWEN / 'tokenizer.json').read_bytes()
  assert json.loads((tmp_path / 'hub/config.json').read_text())['text_config'][
    'max_position_embeddings'] == 36864


def test_a_run_without_a_checkpoint_behind_it_gets_a_processor_of_its_own(run, tmp_path):
  own = tmp_path / 'own'
  own.mkdir()
  (own / 'checkpoints').symlink_to(run / 'checkpoints')
  settings = experiment.load(run / 'config.json')
  settings.init_from, settings.data.tokenizer, settings.data.sequence_length = '', str(
    QWEN / 'tokenizer.json'), 777
  run_folder.claim(own, settings)
  assert convert(own, tmp_path / 'hub', '--layout', 'hub', '--dtype', 'bfloat16') == 0
  names = {f.name for f in (tmp_path / 'hub').iterdir()}
  assert names >= {'config.json', 'generation_config.json', 'model.safetensors',
                   'processor_config.json',
                   'tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'}
  written = json.loads((tmp_path / 'hub/config.json').read_text())
  assert (written['text_config']['max_position_embeddings'], written['dtype']) == (777, 'bfloat16')
  assert equal(load(tmp_path / 'hub', dtype='bfloat16'), load(QWEN, dtype='bfloat16'))


@pytest.mark.parametrize('stored,asked,expected',
                         [('bfloat16', None, 'bfloat16'), ('float16', None, 'float32'),
                          ('float32', 'bfloat16', 'bfloat16')])
def test_the_dtype_stays_unless_another_is_asked_for(tmp_path, stored, asked, expected):
  write(tmp_path / 'a', dtype=stored)
  assert convert(tmp_path / 'a', tmp_path / 'b', '--layout', 'hub',
                 *(['--dtype', asked] if asked else [])) == 0
  assert {x.dtype.name for x in tensors(tmp_path / 'b').values()} == {expected}
  before, after = load(tmp_path / 'a'), load(tmp_path / 'b')
  assert equal(after, jax.tree.map(lambda x: x.astype(expected).astype(jnp.float32), before))


def test_faults_are_one_line_and_leave_nothing_behind(run, tmp_path, capsys):
  write(tmp_path / 'a')
  (tmp_path / 'a/model.safetensors').write_bytes(b'\0' * 100)
  for arguments, message in (
      ((QWEN, tmp_path / 'a', '--layout', 'hub'),
       f'{tmp_path}/a: exists already; give a new folder'),
      ((tmp_path / 'a', tmp_path / 'b', '--layout', 'hub'),
       'model.safetensors: not a whole safetensors file'),
      ((run, tmp_path / 'b', '--layout', 'orbax'), 'is the folder of a run already'),
      ((run, tmp_path / 'b', '--layout', 'hub', '--step', 7), 'holds no step 7')):
    assert convert(*arguments) == 1
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith('error: ') and message in error[-1]
  assert [f.name for f in tmp_path.iterdir()] == ['a']


def test_a_model_that_the_layout_cannot_express_stays_a_run(run, tmp_path, capsys):
  other = tmp_path / 'other'
  other.mkdir()
  (other / 'processor').symlink_to(run / 'processor')
  settings = experiment.load(run / 'config.json')
  settings.model.bidirectional = 'none'
  run_folder.claim(other, settings)
  (other / 'checkpoints').symlink_to(run / 'checkpoints')
  assert convert(other, tmp_path / 'hub', '--layout', 'hub') == 1
  assert "cannot express model.bidirectional='none'" in capsys.readouterr().err
  assert not (tmp_path / 'hub').exists()


@pytest.mark.parametrize('size', ['5XB', '-1GB', '0'])
def test_a_size_that_is_none_is_refused(size, capsys):
  with pytest.raises(SystemExit):
    convert(QWEN, 'x', '--layout', 'hub', f'--shard-size={size}')
  assert 'sizes look like 5GB, 500MB' in capsys.readouterr().err


def test_the_help_shows_commands(capsys):
  with pytest.raises(SystemExit):
    convert('--help')
  assert 'molmo-jax convert runs/mine mine_molmo2 --layout hub' in capsys.readouterr().out
