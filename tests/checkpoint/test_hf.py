"""Hugging Face checkpoints: what is read is what was stored, in every layout, dtype and sharding;
faults are named.
"""

from __future__ import annotations

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from molmo_jax.checkpoint import hf
from molmo_jax.checkpoint.hf_config import read_model_config
from molmo_jax.checkpoint.hf_files import new_folder
from molmo_jax.errors import CheckpointError
from molmo_jax.model.molmo import Network
from molmo_jax.parallel.mesh import MeshConfig, make_mesh
from molmo_jax.parallel.sharding import shardings_of
from molmo_jax.parameters import flatten_paths
from tests.checkpoint.hub import (
  RELEASED,
  abstract,
  edit_config,
  equal,
  load,
  random_params,
  rewrite,
  same_files,
  tensors,
  write,
)
from tests.model.tiny import config

released = pytest.mark.parametrize('folder', RELEASED, ids=lambda f: f.name)


def tiny(**llm):
  return config(connector=dict(pool_slots=9), llm=llm)


@released
def test_a_released_checkpoint_gives_the_reference_logits(folder):
  c, case = read_model_config(folder), np.load(folder / 'cases/text.npz')
  ids = case['input_ids'].astype(np.int32)[None]
  side, zeros = c.vit.image_size, np.zeros_like(ids)
  rows = dict(tokens=ids, positions=np.arange(ids.size, dtype=np.int32)[None], segments=zeros,
              visual=zeros,
              feature_index=zeros - 1, crops=np.zeros((1, 0, side, side, 3), np.uint8),
              pool_index=np.zeros((1, 0, 9), np.int32))
  model, params = Network(c), {'params': load(folder)}
  found = jax.jit(lambda p, rows: model.apply(p, model.apply(p, rows), method='logits'))(params,
                                                                                         rows)
  assert np.abs(found[0, -24:] - case['logits_tail']).max() < 2e-5


@released
def test_import_and_export_in_both_layouts_keep_every_byte(folder, tmp_path):
  c, params = read_model_config(folder), load(folder)
  hf.save_params(params, c, made(tmp_path / 'hub'), 'hub')
  assert same_files(tmp_path / 'hub', folder)
  hf.save_params(params, c, made(tmp_path / 'native'), 'native', shard_bytes=100_000)
  assert not same_files(tmp_path / 'native', folder)
  again = load(tmp_path / 'native')
  assert equal(again, params)
  hf.save_params(again, read_model_config(tmp_path / 'native'), made(tmp_path / 'back'), 'hub')
  assert same_files(tmp_path / 'back', folder)


def made(folder):
  folder.mkdir()
  return folder


def test_fused_and_transposed_tensors_hold_the_rows_of_the_specification(tmp_path):
  params, stored = flatten_paths(write(tmp_path / 'm', layout='hub')), tensors(tmp_path / 'm')
  block = 'model.transformer.blocks.1.'
  q, k, v = (np.asarray(params[f'decoder/blocks/attention/{n}/kernel'][1])
             for n in ('query', 'key', 'value'))
  fused = np.concatenate([x.reshape(16, -1).T for x in (q, k, v)])   # [D,N,H] → rows of heads
  assert np.array_equal(stored[block + 'self_attn.att_proj.weight'], fused)
  up, gate = (np.asarray(params[f'decoder/blocks/mlp/{n}/kernel'][1]) for n in ('up', 'gate'))
  assert np.array_equal(stored[block + 'mlp.ff_proj.weight'], np.concatenate([up.T, gate.T]))
  out = np.asarray(params['decoder/blocks/attention/out/kernel'][1])
  assert np.array_equal(stored[block + 'self_attn.attn_out.weight'], out.reshape(-1, 16).T)
  projector = 'model.vision_backbone.image_projector.'
  gate, up = (np.asarray(params[f'connector/projector/mlp/{n}/kernel']) for n in ('gate', 'up'))
  assert np.array_equal(stored[projector + 'w1.weight'], gate.T)
  assert np.array_equal(stored[projector + 'w3.weight'], up.T)


def test_the_joint_embedding_may_be_cut_anywhere(tmp_path):
  params = write(tmp_path / 'm')
  names = ['model.transformer.wte.embedding', 'model.transformer.wte.new_embedding']

  def halves(t):   # as transformers' save_pretrained writes it
    joint = np.concatenate([t[n] for n in names])
    return t | dict(zip(names, np.split(joint, 2)))

  rewrite(tmp_path / 'm', halves)
  assert tensors(tmp_path / 'm')[names[1]].shape[0] == 24
  assert equal(load(tmp_path / 'm'), params)


@pytest.mark.parametrize('layout', ['hub', 'native'])
@pytest.mark.parametrize(
  'llm', [dict(qkv_bias=True), dict(qk_norm='full', norm_order='post'), dict(tied=True)],
  ids=['bias', 'olmo', 'tied'])
def test_every_kind_of_model_comes_back(tmp_path, layout, llm):
  params = write(tmp_path / 'm', tiny(**llm), layout)
  assert equal(load(tmp_path / 'm'), params)
  assert ('lm_head.weight' in tensors(tmp_path / 'm')) != llm.get('tied', False)


def test_a_stored_head_of_a_tied_model_must_be_the_embedding(tmp_path):
  params = write(tmp_path / 'm', tiny(tied=True))
  add_head = lambda scale: lambda t: t | {'lm_head.weight': t['model.transformer.wte.embedding']
                                          * np.float32(scale)}
  rewrite(tmp_path / 'm', add_head(1))
  assert equal(load(tmp_path / 'm'), params)
  rewrite(tmp_path / 'm', add_head(2))
  with pytest.raises(CheckpointError, match='lm_head.weight: differs from the embedding, but '
                     'tie_word_embeddings'):
    load(tmp_path / 'm')


@pytest.mark.parametrize(
  'mesh,piece', [(dict(fsdp=2, tensor=2, data=2), 700), (dict(tensor=4, fsdp=2), hf.PIECE),
                 (dict(fsdp=8), 700), (dict(data=8, fsdp=1), 700)])
def test_sharded_arrays_hold_the_same_numbers_and_no_byte_is_read_twice(tmp_path, monkeypatch, mesh,
                                                                        piece):
  params, c = write(tmp_path / 'm'), tiny()
  monkeypatch.setattr(hf, 'PIECE', piece)
  files = []
  monkeypatch.setattr(hf, 'TensorFolder', lambda folder,
                      make=hf.TensorFolder: files.append(make(folder)) or files[0])
  wanted = abstract(c, lambda shapes: shardings_of(shapes, make_mesh(MeshConfig(**mesh))))
  found = hf.load_params(tmp_path / 'm', wanted)
  assert equal(found, params)
  assert all(x.sharding == w.sharding
             for x, w in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True))
  assert files[0].bytes_read == sum(x.nbytes for x in tensors(tmp_path / 'm').values())


def test_an_axis_of_layers_or_of_head_channels_may_be_split_too(tmp_path):
  params, mesh = write(tmp_path / 'm'), make_mesh(MeshConfig(data=2, fsdp=4))
  spec = lambda x: jax.sharding.PartitionSpec(
    *('data' if i == 0 and n % 2 == 0 else None for i, n in enumerate(
      x.shape[:-1])), *(['fsdp'] if x.ndim and x.shape[-1] % 4 == 0 else []))
  wanted = abstract(tiny(), lambda shapes: jax.tree.map(
    lambda x: jax.sharding.NamedSharding(mesh, spec(x)), shapes))
  assert equal(hf.load_params(tmp_path / 'm', wanted), params)


class OneOfTwo:
  """A sharding as a process sees it that holds one of two halves of the second axis."""

  def addressable_devices_indices_map(self, shape):
    return {'device': (slice(None), slice(shape[1] // 2), *[slice(None)] * (len(shape) - 2))}


def test_a_process_reads_only_what_its_devices_hold(tmp_path, monkeypatch):
  params = flatten_paths(write(tmp_path / 'm'))
  files = hf.TensorFolder(tmp_path / 'm')
  path = 'decoder/blocks/attention/query/kernel'
  plan = dict(zip(params, hf.plan_import(files, abstract(tiny()), {}), strict=True))
  kept = []
  monkeypatch.setattr(jax, 'device_put', lambda x, device: kept.append(x))
  monkeypatch.setattr(jax, 'make_array_from_single_device_arrays', lambda *a: None)
  shape = params[path].shape
  hf.read_sharded(OneOfTwo(), shape,
           lambda index: hf.read_box(files, plan[path], shape, index, np.dtype(np.float32)))
  assert np.array_equal(kept[0], params[path][:, :shape[1] // 2])
  assert files.bytes_read == params[path].nbytes // 2


@pytest.mark.parametrize(
  'stored,wanted', [('float32', 'bfloat16'), ('bfloat16', 'float32'), ('float16', 'float32')])
def test_dtypes_are_converted_by_rounding_to_nearest(tmp_path, stored, wanted):
  params = write(tmp_path / 'm', dtype=stored)
  assert {x.dtype.name for x in tensors(tmp_path / 'm').values()} == {stored}
  assert equal(load(tmp_path / 'm', dtype=wanted),
               jax.tree.map(lambda x: x.astype(stored).astype(wanted), params))


def test_bfloat16_survives_import_and_export(tmp_path):
  write(tmp_path / 'a', dtype='bfloat16')
  hf.save_params(load(tmp_path / 'a', dtype='bfloat16'), tiny(), made(tmp_path / 'b'))
  assert same_files(tmp_path / 'a', tmp_path / 'b')


def test_progress_ends_at_its_total(tmp_path):
  seen = []
  write(tmp_path / 'm', progress=lambda *x: seen.append(x))
  assert seen[-1] == (len(tensors(tmp_path / 'm')),) * 2
  load(tmp_path / 'm', progress=lambda *x: seen.append(x))
  assert seen[-1] == (1, 1)


def test_all_tensors_that_do_not_fit_are_named_at_once_before_any_is_read(tmp_path, monkeypatch):
  write(tmp_path / 'm')

  def spoil(t):
    t['model.transformer.blocks.1.mlp.ff_out.weight'] = np.zeros((16, 25), np.float32)
    t['model.transformer.ln_f.weight'] = np.zeros(16, np.int32)
    t['model.transformer.blocks.2.attn_norm.weight'] = np.zeros(16, np.float32)
    t['model.transformer.wte.embedding'] = np.zeros((41, 16), np.float32)
    del t['lm_head.weight'], t[
      'model.vision_backbone.image_vit.transformer.resblocks.0.attention.wq.bias']
    return t

  rewrite(tmp_path / 'm', spoil)
  monkeypatch.setattr(hf.TensorFolder, 'read', lambda *a: pytest.fail('a tensor was read'))
  with pytest.raises(CheckpointError) as error:
    load(tmp_path / 'm')
  lines = str(error.value).splitlines()
  assert str(tmp_path / 'm') in lines[0]
  assert sorted(line.strip() for line in lines[1:]) == [
    'left over: model.transformer.blocks.2.attn_norm.weight [16]',
    'missing: lm_head.weight [40, 16]',
    'missing: model.vision_backbone.image_vit.transformer.resblocks.0.attention.wq.bias [8]',
    'model.transformer.blocks.1.mlp.ff_out.weight: stored [16, 25], the configuration makes [16, '
    '24]',
    'model.transformer.ln_f.weight: stored as I32; supported are F32, BF16, F16',
    'model.transformer.wte.embedding + model.transformer.wte.new_embedding: stored [41, 16] + [8, '
    '16], the configuration makes [48, 16]']


def test_a_long_list_of_faults_is_cut_and_counted(tmp_path):
  write(tmp_path / 'm')
  edit_config(tmp_path / 'm', lambda c: c['text_config'].update(num_hidden_layers=5))
  # three layers of eight tensors
  with pytest.raises(CheckpointError, match=r'… and 4 more$') as error:
    load(tmp_path / 'm')
  assert len(str(error.value).splitlines()) == 22


def test_parameters_that_may_be_missing_come_from_their_initialiser(tmp_path):
  params = write(tmp_path / 'm')
  c = config(connector=dict(pool_slots=9, layout_embedding=True))
  fresh = {'connector/layout/': jnp.zeros}
  found = hf.load_params(tmp_path / 'm', abstract(c), 'bfloat16', fresh)
  layout = found['connector'].pop('layout')
  assert all(x.dtype == jnp.bfloat16 and not x.any() for x in jax.tree.leaves(layout))
  assert jax.tree.map(jnp.shape, layout) == jax.tree.map(jnp.shape,
                                                         random_params(c)['connector']['layout'])
  assert equal(found, jax.tree.map(lambda x: x.astype(jnp.bfloat16), params))
  with pytest.raises(CheckpointError,
                     match=r'no tensor of such a checkpoint holds the parameter '
                                            r'connector/layout/box \[4, 16\]'):
    load_with(tmp_path / 'm', c)
  with pytest.raises(CheckpointError, match="'layot' matches no parameter"):
    load_with(tmp_path / 'm', c, fresh={'layot': jnp.zeros})


def load_with(folder, c, **options):
  return hf.load_params(folder, abstract(c), **options)


def test_what_the_file_has_is_taken_even_if_it_may_be_missing(tmp_path):
  params = write(tmp_path / 'm')
  assert equal(load(tmp_path / 'm', fresh={'connector/': jnp.zeros}), params)

  rewrite(tmp_path / 'm', lambda t: {n: x for n, x in t.items() if 'image_projector' not in n})
  found = load(tmp_path / 'm', fresh={'connector/projector': jnp.ones})
  assert all((x == 1).all() for x in jax.tree.leaves(found['connector']['projector']))


def test_tensors_of_an_unknown_model_are_one_clear_error(tmp_path):
  write(tmp_path / 'm')
  rewrite(tmp_path / 'm', lambda t: {f'llama.{n}': x for n, x in t.items()})
  with pytest.raises(CheckpointError,
                     match=r'its tensors \(llama.lm_head.weight.*names of no known checkpoint'):
    load(tmp_path / 'm')


@pytest.mark.parametrize('layout', ['hub', 'native'])
def test_what_a_layout_has_no_place_for_is_named_and_nothing_is_written(tmp_path, layout):
  c = config(connector=dict(pool_slots=9, layout_embedding=True))
  with pytest.raises(CheckpointError, match='no tensors for these parameters: '
                     'connector/layout/box, connector/layout/'):
    write(tmp_path / 'm', c, layout)
  c = config(connector=dict(pooling='mean'), bidirectional='none')
  with pytest.raises(CheckpointError,
                     match=r"cannot express model.connector.pooling='mean' "
                           r"\(only 'attention_meanq'\), "
                                            r"model.bidirectional='none' \(only 'image_tokens'\)"):
    write(tmp_path / 'm', c, layout)
  assert not list(tmp_path.iterdir())


def test_sharded_parameters_are_written_like_whole_ones(tmp_path):
  params = write(tmp_path / 'a')
  mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
  hf.save_params(jax.device_put(params, shardings_of(params, mesh)), tiny(), made(tmp_path / 'b'))
  assert same_files(tmp_path / 'a', tmp_path / 'b')


def test_a_large_table_is_written_in_pieces(tmp_path, monkeypatch):
  write(tmp_path / 'a')
  monkeypatch.setattr(hf, 'PIECE', 1000)
  write(tmp_path / 'b')
  assert same_files(tmp_path / 'a', tmp_path / 'b')


def test_the_folder_can_be_completed_before_it_appears(tmp_path):
  with new_folder(tmp_path / 'm') as new:
    hf.save_params(random_params(tiny()), tiny(), new, special=None)
    shutil.copy(new / 'config.json', new / 'tokenizer.json')
    assert not (tmp_path / 'm').exists()
  assert sorted(f.name for f in (tmp_path / 'm').iterdir()) == [
    'config.json', 'model.safetensors', 'tokenizer.json']


@pytest.mark.parametrize('value, dtype', [(np.nan, None), (-np.inf, None), (3.4e38, jnp.bfloat16)])
@pytest.mark.parametrize('name', ['model.transformer.ln_f.weight',
                                  'model.transformer.blocks.1.mlp.ff_proj.weight'])
def test_weights_that_are_not_finite_or_too_large_are_refused_by_name(tmp_path, name, value, dtype):
  write(tmp_path / 'hub')
  changed = tensors(tmp_path / 'hub')
  changed[name] = np.array(changed[name])
  changed[name].flat[-1] = value
  save_file(changed, tmp_path / 'hub/model.safetensors', {'format': 'pt'})
  with pytest.raises(CheckpointError, match=f'{name} has values that are not finite or too large'):
    load(tmp_path / 'hub', dtype=dtype)
