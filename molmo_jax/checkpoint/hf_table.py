"""The table between the tensors of a Hugging Face checkpoint and our parameters.

A PyTorch linear weight is [out, in]; our kernels are [in…, out…] with the heads apart, stacked over
layers. `att_proj` holds the rows of q, k, v; `ff_proj` those of up, then gate (docs/model.md §4.2,
§9).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np

from molmo_jax.checkpoint.hf_config_v1 import is_v1
from molmo_jax.errors import CheckpointError
from molmo_jax.model.config import ModelConfig

Kind = Literal['vector', 'table', 'kernel', 'output', 'experts', 'experts_out']
BASE, EXTRA, HEAD = 'embedding/base', 'embedding/extra', 'embedding/head'
_BLOCKS = 'decoder/blocks'
_ATTENTION, _MLP = f'{_BLOCKS}/attention', f'{_BLOCKS}/mlp'


@dataclasses.dataclass(frozen=True)
class TableEntry:
  """Tensors of a file and the parameters that they hold, both joined along their first axis: rows.

  An entry counts for a model that has all of its parameters; other models pass over it.

  Attributes:
    names: tensors of the file; '{i}' stands for the layer, '{e}' for the expert where each has a
      tensor of its own. Where there are several, rows may be cut between them anywhere: the
      parameters' own shapes decide where one ends.
    paths: parameters, in the order of their rows; with '{i}' in the names they have a leading layer
      axis.
    kind: how a parameter (without its layer axis) becomes rows: 'vector' flattened; 'table' as it
      is; 'kernel' [in, out…] → [out, in]; 'output' [in…, out] → [out, in]; 'experts' [expert, in,
      out] → [expert·out, in]; 'experts_out' [expert, in, out] → [expert·in, out].
    spare: the file may have more rows than the parameters; they are not read.
  """
  names: tuple[str, ...]
  paths: tuple[str, ...]
  kind: Kind
  spare: bool = False

  @property
  def stacked(self) -> bool:
    """Whether the parameters have a leading layer axis."""
    return '{i}' in self.names[0]

  @property
  def per_expert(self) -> bool:
    """Whether every expert has tensors of its own."""
    return '{e}' in self.names[0]


def _axes(kind: Kind, ndim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """Our axes that make the rows, and those that make the columns."""
  axes = tuple(range(ndim))
  return {'vector': (axes, ()), 'table': (axes[:1], axes[1:]), 'kernel': (axes[1:], axes[:1]),
          'output': (axes[-1:], axes[:-1]), 'experts': (axes[:1] + axes[2:], axes[1:2]),
          'experts_out': (axes[:2], axes[2:])}[kind]


def file_shape(kind: Kind, shape: tuple[int, ...]) -> tuple[int, ...]:
  """Shape in the file of a parameter of `shape` (without its layer axis)."""
  return tuple(math.prod(shape[a] for a in group) for group in _axes(kind, len(shape)) if group)


def to_file(kind: Kind, array: np.ndarray) -> np.ndarray:
  """Our array (without its layer axis) as it stands in the file."""
  rows, columns = _axes(kind, array.ndim)
  return array.transpose(rows + columns).reshape(file_shape(kind, array.shape))


def from_file(kind: Kind, block: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """The inverse of `to_file`, for a whole parameter or for a box of one; `shape` is ours."""
  rows, columns = _axes(kind, len(shape))
  order = rows + columns
  return block.reshape([shape[a] for a in order]).transpose(np.argsort(order))


def file_index(kind: Kind, shape: tuple[int, ...], index: tuple[slice, ...]
               ) -> tuple[tuple[slice, ...], tuple[int, ...], tuple[slice, ...]]:
  """Which part of the file's tensor holds the box `index` of a parameter of `shape`.

  Returns:
    The slices in the file, the shape of our array that they hold, and the slices of that array that
    are `index`: all of it, unless an inner axis of several that share rows or columns is cut.
  """
  bounds = [s.indices(n)[:2] for s, n in zip(index, shape)]
  slices, held, rest = [], list(shape), [slice(*b) for b in bounds]
  for group in _axes(kind, len(shape)):
    if group:
      (start, stop), inner = bounds[group[0]], math.prod(shape[a] for a in group[1:])
      slices.append(slice(start * inner, stop * inner))
      held[group[0]], rest[group[0]] = stop - start, slice(0, stop - start)
  return tuple(slices), tuple(held), tuple(rest)


def entry(names: str | tuple[str, ...], paths: str | tuple[str, ...], kind: Kind,
          spare: bool = False) -> TableEntry:
  """An `TableEntry`; a single name or path needs no tuple."""
  return TableEntry((names,) if isinstance(names, str) else names,
               (paths,) if isinstance(paths, str) else paths, kind, spare)


def linear(name: str, path: str) -> tuple[TableEntry, ...]:
  """Weight and bias of a linear layer."""
  kind: Kind = 'output' if path.endswith('/out') else 'kernel'
  return (entry(f'{name}.weight', f'{path}/kernel', kind),
          entry(f'{name}.bias', f'{path}/bias', 'vector'))


def norm(name: str, path: str) -> tuple[TableEntry, ...]:
  """Weight and bias of a normalisation."""
  return (entry(f'{name}.weight', f'{path}/scale', 'vector'),
          entry(f'{name}.bias', f'{path}/bias', 'vector'))


def modules(name: str, path: str, parts: dict[str, str]) -> tuple[TableEntry, ...]:
  """Linear layers and norms of one module; `parts` turns our names into the file's."""
  return tuple(e for ours, theirs in parts.items() for e in (
    norm if ours.endswith('norm') else linear)(f'{name}.{theirs}', f'{path}/{ours}'))


def decoder(model: str, attention_norm: str, mlp_norm: str) -> tuple[TableEntry, ...]:
  """Blocks and final norm of a language model under the names of transformers' own classes."""
  block = f'{model}.layers.{{i}}'
  return (
    *modules(f'{block}.self_attn', _ATTENTION, {
      'query': 'q_proj', 'key': 'k_proj', 'value': 'v_proj', 'out': 'o_proj',
      'query_norm': 'q_norm', 'key_norm': 'k_norm'}),
    *modules(block, _BLOCKS, {'attention_norm': attention_norm, 'mlp_norm': mlp_norm}),
    *modules(f'{block}.mlp', _MLP, {'up': 'up_proj', 'gate': 'gate_proj', 'down': 'down_proj'}),
    *norm(f'{model}.norm', 'decoder/norm'))


def experts(block: str) -> tuple[TableEntry, ...]:
  """The router of a mixture of experts, and an MLP for each expert, by transformers' names."""
  return (*linear(f'{block}.mlp.gate', f'{_MLP}/router'),
          *(entry(f'{block}.mlp.experts.{{e}}.{w}_proj.weight', f'{_MLP}/{w}', 'experts')
            for w in ('gate', 'up', 'down')))


def _vision(tower: str, block: str, pooling: str, projector: str, names: dict[str, str],
            block_names: dict[str, str]) -> tuple[TableEntry, ...]:
  """The tower and the connector; the two dicts turn our names into the file's."""
  return (
    entry(f'{tower}.class_embedding', 'vit/class_embedding', 'vector'),
    entry(f'{tower}.positional_embedding', 'vit/position_embedding', 'table'),
    *linear(f'{tower}.patch_embedding', 'vit/patch_embedding'),
    *norm(f'{tower}.pre_ln', 'vit/pre_norm'),
    *modules(block, 'vit/blocks', block_names),
    entry(f'{block}.lambda1', 'vit/blocks/attention_scale', 'vector'),
    entry(f'{block}.lambda2', 'vit/blocks/mlp_scale', 'vector'),
    *modules(pooling, 'connector/pooling/attention',
             {w: names[w] for w in ('query', 'key', 'value', 'out')}),
    *modules(projector, 'connector/projector/mlp', {w: names[w] for w in ('gate', 'down', 'up')}))


def _released(attention: str, attention_norm: str, mlp: str, mlp_norm: str,
              head: str) -> tuple[TableEntry, ...]:
  """Names of the released checkpoints, by the modules of the parts of a block, and by the head."""
  block, vision = 'model.transformer.blocks.{i}', 'model.vision_backbone'
  qkv = [f'{_ATTENTION}/{w}' for w in ('query', 'key', 'value')]
  tower = f'{vision}.image_vit'
  return (
    entry(('model.transformer.wte.embedding', 'model.transformer.wte.new_embedding'),
          (BASE, EXTRA), 'table'),
    entry(f'{block}{attention}.att_proj.weight', tuple(f'{p}/kernel' for p in qkv), 'kernel'),
    entry(f'{block}{attention}.att_proj.bias', tuple(f'{p}/bias' for p in qkv), 'vector'),
    *modules(f'{block}{attention}', _ATTENTION, {
      'out': 'attn_out', 'query_norm': 'q_norm', 'key_norm': 'k_norm'}),
    *norm(f'{block}{attention_norm}.attn_norm', f'{_BLOCKS}/attention_norm'),
    *norm(f'{block}{mlp_norm}.ff_norm', f'{_BLOCKS}/mlp_norm'),
    entry(f'{block}{mlp}.ff_proj.weight', (f'{_MLP}/up/kernel', f'{_MLP}/gate/kernel'), 'kernel'),
    *linear(f'{block}{mlp}.ff_out', f'{_MLP}/down'),
    *norm('model.transformer.ln_f', 'decoder/norm'),
    entry(f'{head}.weight', HEAD, 'table'),
    entry(f'{vision}.pad_embed', 'connector/padding/vectors', 'table'),
    *_vision(tower, f'{tower}.transformer.resblocks.{{i}}', f'{vision}.image_pooling_2d',
             f'{vision}.image_projector', {
               'query': 'wq', 'key': 'wk', 'value': 'wv', 'out': 'wo', 'gate': 'w1', 'down': 'w2',
               'up': 'w3'}, {
               'query': 'attention.wq', 'key': 'attention.wk', 'value': 'attention.wv',
               'out': 'attention.wo', 'up': 'feed_forward.w1', 'down': 'feed_forward.w2',
               'attention_norm': 'attention_norm', 'mlp_norm': 'ffn_norm'}),
    *linear(f'{vision}.image_projector', 'connector/projector/linear'))


# The blocks of the towers of transformers' classes.
TRANSFORMERS_TOWER = {'query': 'self_attn.q_proj', 'key': 'self_attn.k_proj',
                      'value': 'self_attn.v_proj', 'out': 'self_attn.out_proj', 'up': 'mlp.fc1',
                      'down': 'mlp.fc2', 'attention_norm': 'layer_norm1', 'mlp_norm': 'layer_norm2'}

HUB = _released('.self_attn', '', '.mlp', '', 'lm_head')
NATIVE: tuple[TableEntry, ...] = (
  entry('model.language_model.embed_tokens.weight', (BASE, EXTRA), 'table'),
  *decoder('model.language_model', 'input_layernorm', 'post_attention_layernorm'),
  entry('lm_head.weight', HEAD, 'table'),
  *_vision('model.vision_tower', 'model.vision_tower.layers.{i}',
           'model.multi_modal_projector.image_pooling_2d',
           'model.multi_modal_projector.image_projector', {
             'query': 'q_proj', 'key': 'k_proj', 'value': 'v_proj', 'out': 'o_proj',
             'gate': 'gate_proj', 'down': 'down_proj', 'up': 'up_proj'},
           TRANSFORMERS_TOWER | {'out': 'self_attn.o_proj'}))

# Molmo v1 (docs/model.md §9.3). The top-level `ff_out` is the head, those of the blocks belong to
# the MLP. The training code's own checkpoints have no 'model.' in front.
_FFN = 'model.transformer.blocks.{i}.ffn'
V1_HUB = (
  *_released('', '', '', '', 'model.transformer.ff_out'),
  *linear(f'{_FFN}.router.layer', f'{_MLP}/router'),
  entry(f'{_FFN}.experts.mlp.w1', f'{_MLP}/gate', 'experts'),
  entry(f'{_FFN}.experts.mlp.v1', f'{_MLP}/up', 'experts'),
  entry(f'{_FFN}.experts.mlp.w2', f'{_MLP}/down', 'experts_out'))
V1 = tuple(dataclasses.replace(e, names=tuple(n.removeprefix('model.') for n in e.names))
           for e in V1_HUB)
# MolmoE on the Hub, taken from copies of its code; the released file itself has not been seen.
V1_EXPERTS_HUB = (*_released('.attn', '.attn', '.mlp', '.mlp', 'lm_head'),
                  *experts('model.transformer.blocks.{i}'))

# The sets of names, each recognised by the start of a name that only it has.
NAMINGS: dict[str, tuple[str, tuple[TableEntry, ...]]] = {
  'hub': ('model.transformer.blocks.0.self_attn.', HUB),
  'native': ('model.language_model.', NATIVE),
  'v1': ('transformer.', V1), 'v1 hub': ('model.transformer.blocks.0.att_proj.', V1_HUB),
  'v1 experts hub': ('model.transformer.blocks.0.attn.', V1_EXPERTS_HUB)}


def naming_of(config: ModelConfig, layout: str) -> str:
  """The key of `NAMINGS` under whose names a model is written.

  Raises:
    CheckpointError: transformers has no classes of its own for this model.
  """
  if not is_v1(config):
    return layout
  if layout == 'native':
    raise CheckpointError('transformers has no classes of its own for Molmo v1 '
      "(model.vit.keep_unread=True); write it with layout 'hub', as it was released")
  return 'v1 experts hub' if config.llm.experts else 'v1 hub'
