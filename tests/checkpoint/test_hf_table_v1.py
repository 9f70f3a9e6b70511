"""The names of Molmo v1: as many as the released checkpoints have, and every parameter comes back.
"""

from __future__ import annotations

import jax
import numpy as np
import pytest

from configs import molmo_v1
from molmo_jax import experiment
from molmo_jax.checkpoint.hf_table import NAMINGS, file_shape, from_file, to_file
from molmo_jax.model.molmo import Network
from molmo_jax.parameters import flatten_paths
from molmo_jax.training.state import init_params


def tensors(size, entries=NAMINGS['v1'][1]):
  """Names of the tensors of a released size, and the shape of what is joined in each entry."""
  run = experiment.from_config(molmo_v1.get_config(f'size={size}'))
  params = flatten_paths(jax.eval_shape(lambda: init_params(Network(run.model), jax.random.key(0))))
  shapes, placed = {}, set()
  for entry in entries:   # of experts with tensors of their own, the names of the first
    if entry.paths[0] not in params:
      continue
    placed |= set(entry.paths)
    parts = [file_shape(entry.kind, params[path].shape[int(entry.stacked):])
             for path in entry.paths]
    for i in range(params[entry.paths[0]].shape[0] if entry.stacked else 1):
      for name in entry.names:
        shapes[name.format(i=i, e=0)] = (sum(part[0] for part in parts), *parts[0][1:])
  assert placed == params.keys()
  return shapes


@pytest.mark.parametrize('size, number', [('7b_d', 585), ('7b_o', 645), ('72b', 949)])
def test_every_parameter_has_a_place_among_the_released_number_of_tensors(size, number):
  assert len(tensors(size)) == number


def test_tensors_have_the_released_shapes():
  shapes = tensors('7b_d')
  assert shapes['transformer.blocks.27.att_proj.weight'] == (4608, 3584)
  assert shapes['transformer.blocks.0.att_proj.bias'] == (4608,)
  assert shapes['transformer.blocks.0.ff_proj.weight'] == (37888, 3584)
  assert shapes['transformer.blocks.0.ff_out.weight'] == (3584, 18944)
  assert shapes['transformer.ff_out.weight'] == (152064, 3584)
  assert shapes['transformer.wte.embedding'] == (152064 + 128, 3584)     # with the second table
  assert shapes['vision_backbone.pad_embed'] == (2, 2048)
  assert shapes['vision_backbone.image_vit.class_embedding'] == (1024,)
  assert shapes['vision_backbone.image_vit.pre_ln.bias'] == (1024,)
  assert shapes['vision_backbone.image_vit.transformer.resblocks.22.feed_forward.w1.weight'] == (
    4096, 1024)
  experts = tensors('1b_e')
  assert experts['transformer.blocks.0.ffn.router.layer.weight'] == (64, 2048)
  assert {experts[f'transformer.blocks.15.ffn.experts.mlp.{w}']
          for w in ('w1', 'v1', 'w2')} == {(65536, 2048)}


def test_names_on_the_hub_have_a_prefix():
  hub = tensors('7b_o', NAMINGS['v1 hub'][1])
  assert {f'model.{name}' for name in tensors('7b_o')} == hub.keys()


def test_parts_of_molmoe_have_other_names_on_the_hub():
  shapes = tensors('1b_e', NAMINGS['v1 experts hub'][1])
  block = 'model.transformer.blocks.15'
  assert shapes[f'{block}.attn.att_proj.weight'] == (6144, 2048)
  assert shapes[f'{block}.attn.attn_norm.weight'] == shapes[f'{block}.mlp.ff_norm.weight'] == (2048,
                                                                                               )
  assert shapes[f'{block}.mlp.gate.weight'] == (64, 2048)
  # of all experts together
  assert shapes[f'{block}.mlp.experts.0.gate_proj.weight'] == (64 * 1024, 2048)
  assert shapes[f'{block}.mlp.experts.0.down_proj.weight'] == (64 * 2048, 1024)
  assert shapes['lm_head.weight'] == (50304, 2048)
  assert not any('ff_proj' in name or 'ff_out' in name or '.ffn.' in name for name in shapes)


def test_an_expert_owns_a_run_of_rows():
  kernels = np.random.default_rng(0).normal(size=(3, 4, 5))      # of 3 experts
  into, out = to_file('experts', kernels), to_file('experts_out', kernels)
  # gate and up: [hidden, width] of each expert
  assert np.array_equal(into[5:10], kernels[1].T)
  assert np.array_equal(out[4:8], kernels[1])                    # down, transposed
  assert np.array_equal(from_file('experts', into, (3, 4, 5)), kernels)
  assert np.array_equal(from_file('experts_out', out, (3, 4, 5)), kernels)
