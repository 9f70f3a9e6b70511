"""Plain language models and image towers as transformers stores them: which tensor is which of our
parameters, and whether config.json describes the model of a run's configuration.

Every tensor of such a folder is in one of three places here: an entry of a table, the stem of a
tower (small tensors that are changed on the way), or the patterns of those that are not read, with
the reason. Anything else is left over, which is an error. Tensors tell sizes; what they do not tell
and what would go wrong in silence is compared by `check_llm` and `check_vit`: heads, rotary base,
epsilons, activations, norms. Names and keys are those of transformers' classes, with their defaults
where files leave them out; what Molmo takes of a tower is in docs/model.md §2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from molmo_jax.checkpoint.hf_config import read_rope
from molmo_jax.checkpoint.hf_config_v1 import KEYS, TOWERS
from molmo_jax.checkpoint.hf_files import listing
from molmo_jax.checkpoint.hf_table import WEIGHTS, TableEntry, read_table
from molmo_jax.errors import CheckpointError
from molmo_jax.json_section import Section, keys
from molmo_jax.model.config import Epsilon, LlmConfig, Theta, VitConfig

BICUBIC = -0.75   # torch's coefficient
LLM, VIT = keys(LlmConfig, KEYS['backbone_llm']), keys(VitConfig, KEYS['backbone_vit'])
# By `model_type` of config.json: the tensors, and the settings that no key tells.
LANGUAGE_MODELS: dict[str, tuple[tuple[TableEntry, ...], dict[str, Any]]] = {
  family: (read_table('language model', model='model', block='model.layers.{i}',
                      **WEIGHTS['norms'][settings['norm_order']]), settings)
  for family, settings in WEIGHTS['language_models'].items()}
STEMS = ('patches', 'class', 'positions')   # kinds that `stem_from_file` makes parameters of


def tower_table(family: str, prefix: str) -> tuple[tuple[TableEntry, ...], str, Mapping[str, str]]:
  """The tensors of a family of towers, the name of its blocks with '{i}' for their number, and the
  tensors that are not read: pattern (`re.fullmatch`) → reason. Blocks above those that exist in our
  model are not read either.

  Args:
    family: 'clip', 'siglip' or 'dinov2'.
    prefix: 'vision_model.' where the tower stands beside a text tower, else ''.
  """
  tower = WEIGHTS['towers'][family]
  block = prefix + tower['block']
  return (read_table(tower['table'], prefix=prefix, block=block, out='out_proj'), block,
          WEIGHTS['unused'][tower['table']])


def stem_misfit(kind: str, stored: tuple[int, ...], shape: tuple[int, ...],
                class_rows: int) -> str | None:
  """The shape that a stem's tensor must have, if the stored one makes no parameter of `shape`."""
  width, extra = shape[-1], len(stored) - len(shape)
  core = stored[extra:] if extra > 0 and math.prod(stored[:extra]) == 1 else stored
  if kind == 'positions':
    patches = core[0] - class_rows
    fits = core[1:] == (width,) and patches > 0 and math.isqrt(patches) ** 2 == patches
    return None if fits else f'[{"1 + " * class_rows}a square number, {width}]'
  side = math.isqrt(shape[0] // 3)
  needed = (width, 3, side, side) if kind == 'patches' else shape
  return None if (stored if kind == 'patches' else core) == needed else str(list(needed))


def stem_from_file(kind: str, stored: np.ndarray, shape: tuple[int, ...],
                   class_rows: int) -> np.ndarray:
  """The parameter of `shape`, float32; a position table of another grid is resized."""
  if kind == 'patches':
    return stored.transpose(2, 3, 1, 0).reshape(shape)
  if kind == 'class':
    return stored.reshape(shape)
  table = stored.reshape(-1, shape[-1])
  return np.concatenate([table[:class_rows],
                         resize_grid(table[class_rows:], shape[0] - class_rows)])


def resize_grid(table: np.ndarray, patches: int) -> np.ndarray:
  """A position table [n·n, E] for another square grid: float32 [patches, E].

  As upstream converts towers (docs/model.md §2): bicubic without antialias. The scale is
  (new + 0.1) / old, so that the places where the old grid is read lie a little closer to each other
  than the cells of the new one.
  """
  old, new = math.isqrt(len(table)), math.isqrt(patches)
  if old == new:
    return table
  weights = np.zeros((new, old))
  at = (np.arange(new) + 0.5) * old / (new + 0.1) - 0.5
  for offset in (-1, 0, 1, 2):
    cell = np.floor(at) + offset
    np.add.at(weights, (np.arange(new), np.clip(cell, 0, old - 1).astype(int)),
              _cubic(np.abs(at - cell)))
  grid = np.einsum('ia,jb,abe->ije', weights, weights, table.reshape(old, old, -1), optimize=True)
  return grid.reshape(patches, -1).astype(np.float32)


def _cubic(distance: np.ndarray) -> np.ndarray:
  """Keys' kernel for distances from 0 to 2."""
  a, x = BICUBIC, distance
  near = (a + 2) * x ** 3 - (a + 3) * x ** 2 + 1
  return np.where(x <= 1, near, a * x ** 3 - 5 * a * x ** 2 + 8 * a * x - 4 * a)


def check_llm(folder: Path, llm: LlmConfig) -> tuple[str, bool, list[str]]:
  """Compares a language model with the configuration of ours.

  Returns:
    Its `model_type`, whether its head may be its embedding, and remarks on differences that a run
    may choose.

  Raises:
    CheckpointError: not a known language model, or one that computes something else.
  """
  s = Section.read(Path(folder) / 'config.json')
  family = s.choose('model_type', words={name: name for name in LANGUAGE_MODELS})
  s.demand(hidden_act='silu', attention_bias=False, clip_qkv=None, norm_topk_prob=False,
           use_sliding_window=False)
  found = s.fields(LLM) | LANGUAGE_MODELS[family][1]
  theta, yarn = read_rope(_of_full_attention(s, found['layers']), found['layers'])
  found |= dict(rope_theta=theta, norm_eps=s.take('rms_norm_eps', kind=Epsilon),
                kv_heads=s.size('num_key_value_heads', default=found['heads']),
                head_dim=s.size('head_dim', default=found['width'] // found['heads']),
                experts=s.size('num_experts') if family == 'olmoe' else 0)
  if found['experts']:
    found['experts_per_token'] = s.size('num_experts_per_tok')
  _compare(s.file, 'model.llm', llm, found, 'the language model')
  remarks = []
  if yarn != llm.yarn and (yarn.layers or llm.yarn.layers):
    remarks.append(f'rotary scaling: the language model has {yarn}, the run '
                   f'model.llm.yarn={llm.yarn}')
  return family, s.take('tie_word_embeddings', kind=bool, default=True), remarks


def check_vit(folder: Path, vit: VitConfig) -> tuple[str, int]:
  """Compares an image tower with the configuration of ours; resolution and depth may differ.

  Returns:
    Its family ('clip', 'siglip', 'dinov2') and its number of blocks.

  Raises:
    CheckpointError: not a known tower, one that computes something else, or one with too few
      blocks.
  """
  top = Section.read(Path(folder) / 'config.json')
  family = top.choose('model_type', words=WEIGHTS['model_types'])
  part = top.section('vision_config') if top.has('vision_config') else top
  tower = WEIGHTS['towers'][family]
  given = {key: value for key, value in part.values.items() if value is not None}
  s = Section(part.file, tower['defaults'] | given, part.name)
  s.demand(num_channels=3, qkv_bias=True, use_swiglu_ffn=False)
  found = s.fields(VIT) | TOWERS[tower['normalize']] | dict(normalize=tower['normalize'])
  layers, width = found.pop('layers'), found['width']
  found['head_dim'] = width // s.size('num_attention_heads')
  if family == 'dinov2':
    found['mlp'] = width * s.size('mlp_ratio')
  _compare(s.file, 'model.vit', vit, found, 'the image tower')
  if layers < vit.layers:
    raise CheckpointError(f'{s.file}: the image tower has {layers} blocks, but '
                          f'model.vit.layers={vit.layers}')
  return family, layers


def _of_full_attention(s: Section, layers: int) -> Section:
  """Olmo 3 scales its rotary positions on the layers with full attention only; the other layers
  have the same base.
  """
  kinds = s.take('layer_types', kind=tuple[str, ...], default=['full_attention'] * layers)
  rope = s.values.get('rope_parameters') or {}
  values = dict(s.values, rope_scaling_layers=[i for i, kind in enumerate(kinds)
                                               if kind == 'full_attention'])
  if isinstance(rope, dict) and 'full_attention' in rope:
    nested = s.section('rope_parameters')
    full, sliding = nested.section('full_attention'), nested.section('sliding_attention')
    sliding.demand(rope_type='default', rope_theta=full.take('rope_theta', kind=Theta))
    values['rope_parameters'] = full.values
  return Section(s.file, values, s.name)


def _compare(file: Path, path: str, config: Any, found: dict[str, Any], what: str) -> None:
  wrong = [f'{path}.{name}={getattr(config, name)}: {what} has {value}'
           for name, value in found.items() if getattr(config, name) != value]
  if wrong:
    raise CheckpointError(f'{file}: its weights fit another configuration:\n  '
                          + listing(wrong, '\n  '))
