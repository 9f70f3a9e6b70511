"""The one table between the tensors of a Hugging Face checkpoint and our parameters, for import and
export alike.

A PyTorch linear weight is [out, in]; our kernels are [in…, out…] with the heads apart, stacked over
layers. `att_proj` holds the rows of q, k, v; `ff_proj` those of up, then gate (docs/model.md §4.2,
§9).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np

Kind = Literal['vector', 'table', 'kernel', 'output', 'experts', 'experts_out']
ATTENTION = ('query', 'key', 'value', 'out')
_OURS = 'decoder/blocks'
QKV = tuple(f'{_OURS}/attention/{w}' for w in ATTENTION[:3])


@dataclasses.dataclass(frozen=True)
class Entry:
  """Tensors of a file and the parameters that they hold, both joined along their first axis
  ("rows").

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
    return '{i}' in self.names[0]

  @property
  def per_expert(self) -> bool:
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


def entry(names: str | tuple[str, ...], paths: str | tuple[str, ...], kind: Kind) -> Entry:
  return Entry((names,) if isinstance(names, str) else names,
               (paths,) if isinstance(paths, str) else paths, kind)


def linear(name: str, path: str, kind: Kind = 'kernel', bias: bool = True) -> tuple[Entry, ...]:
  """A linear layer's weight and, where the model has one, its bias."""
  weight = entry(f'{name}.weight', f'{path}/kernel', kind)
  return (weight, entry(f'{name}.bias', f'{path}/bias', 'vector')) if bias else (weight,)


def norm(name: str, path: str, bias: bool = False) -> tuple[Entry, ...]:
  weight = entry(f'{name}.weight', f'{path}/scale', 'vector')
  return (weight, entry(f'{name}.bias', f'{path}/bias', 'vector')) if bias else (weight,)


def tower_blocks(block: str, names: dict[str, str]) -> tuple[Entry, ...]:
  """The blocks of an image tower; `names` turns our words into the file's."""
  blocks = 'vit/blocks'
  return (
    *(e for w in ATTENTION for e in linear(f'{block}.{names["attention"]}.{names[w]}',
                                           f'{blocks}/{w}', _side(w))),
    *(e for w in ('up', 'down') for e in linear(f'{block}.{names[f"mlp {w}"]}', f'{blocks}/{w}')),
    *(e for w in ('attention_norm', 'mlp_norm')
      for e in norm(f'{block}.{names[w]}', f'{blocks}/{w}', bias=True)))


def _side(word: str) -> Kind:
  return 'output' if word == 'out' else 'kernel'


def _vision(tower: str, block: str, pooling: str, projector: str,
            names: dict[str, str]) -> tuple[Entry, ...]:
  """The tower and the connector; `names` turns our words into the layout's."""
  return (
    entry(f'{tower}.positional_embedding', 'vit/position_embedding', 'table'),
    *linear(f'{tower}.patch_embedding', 'vit/patch_embedding'),
    *tower_blocks(block, names),
    *(e for w in ATTENTION for e in linear(f'{pooling}.{names[w]}',
                                           f'connector/pooling/attention/{w}', _side(w))),
    *(linear(f'{projector}.{names[w]}', f'connector/projector/mlp/{w}', bias=False)[0]
      for w in ('gate', 'down', 'up')))


def decoder(model: str, attention_norm: str, mlp_norm: str) -> tuple[Entry, ...]:
  """Blocks and final norm of a language model under the names of transformers' own classes."""
  block = f'{model}.layers.{{i}}'
  return (
    *(e for p, n in zip(QKV, 'qkv') for e in linear(f'{block}.self_attn.{n}_proj', p)),
    entry(f'{block}.self_attn.o_proj.weight', f'{_OURS}/attention/out/kernel', 'output'),
    *norm(f'{block}.self_attn.q_norm', f'{_OURS}/attention/query_norm'),
    *norm(f'{block}.self_attn.k_norm', f'{_OURS}/attention/key_norm'),
    *norm(f'{block}.{attention_norm}', f'{_OURS}/attention_norm'),
    *norm(f'{block}.{mlp_norm}', f'{_OURS}/mlp_norm'),
    *(linear(f'{block}.mlp.{w}_proj', f'{_OURS}/mlp/{w}', bias=False)[0]
      for w in ('up', 'gate', 'down')),
    *norm(f'{model}.norm', 'decoder/norm'))


HUB_VISION = {'attention': 'attention', 'query': 'wq', 'key': 'wk', 'value': 'wv', 'out': 'wo',
              'mlp up': 'feed_forward.w1', 'mlp down': 'feed_forward.w2',
              'attention_norm': 'attention_norm',
              'mlp_norm': 'ffn_norm', 'gate': 'w1', 'down': 'w2', 'up': 'w3'}
NATIVE_VISION = {'attention': 'self_attn', 'query': 'q_proj', 'key': 'k_proj', 'value': 'v_proj',
                 'out': 'o_proj',
                 'mlp up': 'mlp.fc1', 'mlp down': 'mlp.fc2', 'attention_norm': 'layer_norm1',
                 'mlp_norm': 'layer_norm2', 'gate': 'gate_proj', 'down': 'down_proj',
                 'up': 'up_proj'}
_HUB = 'model.transformer.blocks.{i}'
_TABLES = ('embedding/base', 'embedding/extra')

HUB: tuple[Entry, ...] = (
  entry(('model.transformer.wte.embedding', 'model.transformer.wte.new_embedding'), _TABLES,
        'table'),
  entry(f'{_HUB}.self_attn.att_proj.weight', tuple(f'{p}/kernel' for p in QKV), 'kernel'),
  entry(f'{_HUB}.self_attn.att_proj.bias', tuple(f'{p}/bias' for p in QKV), 'vector'),
  entry(f'{_HUB}.self_attn.attn_out.weight', f'{_OURS}/attention/out/kernel', 'output'),
  *norm(f'{_HUB}.self_attn.q_norm', f'{_OURS}/attention/query_norm'),
  *norm(f'{_HUB}.self_attn.k_norm', f'{_OURS}/attention/key_norm'),
  *norm(f'{_HUB}.attn_norm', f'{_OURS}/attention_norm'),
  *norm(f'{_HUB}.ff_norm', f'{_OURS}/mlp_norm'),
  entry(f'{_HUB}.mlp.ff_proj.weight', (f'{_OURS}/mlp/up/kernel', f'{_OURS}/mlp/gate/kernel'),
        'kernel'),
  entry(f'{_HUB}.mlp.ff_out.weight', f'{_OURS}/mlp/down/kernel', 'kernel'),
  *norm('model.transformer.ln_f', 'decoder/norm'),
  entry('lm_head.weight', 'embedding/head', 'table'),
  *_vision('model.vision_backbone.image_vit',
           'model.vision_backbone.image_vit.transformer.resblocks.{i}',
           'model.vision_backbone.image_pooling_2d', 'model.vision_backbone.image_projector',
           HUB_VISION))

NATIVE: tuple[Entry, ...] = (
  entry('model.language_model.embed_tokens.weight', _TABLES, 'table'),
  *decoder('model.language_model', 'input_layernorm', 'post_attention_layernorm'),
  entry('lm_head.weight', 'embedding/head', 'table'),
  *_vision('model.vision_tower', 'model.vision_tower.layers.{i}',
           'model.multi_modal_projector.image_pooling_2d',
           'model.multi_modal_projector.image_projector', NATIVE_VISION))

_V1, _TOWER = 'transformer.blocks.{i}', 'vision_backbone.image_vit'
_EXPERTS = f'{_V1}.ffn.experts.mlp'

# Molmo v1 (docs/model.md §9.3). The top-level `ff_out` is the head, those of the blocks belong to
# the MLP.
V1: tuple[Entry, ...] = (
  entry(('transformer.wte.embedding', 'transformer.wte.new_embedding'), _TABLES, 'table'),
  entry(f'{_V1}.att_proj.weight', tuple(f'{p}/kernel' for p in QKV), 'kernel'),
  entry(f'{_V1}.att_proj.bias', tuple(f'{p}/bias' for p in QKV), 'vector'),
  entry(f'{_V1}.attn_out.weight', f'{_OURS}/attention/out/kernel', 'output'),
  *norm(f'{_V1}.q_norm', f'{_OURS}/attention/query_norm'),
  *norm(f'{_V1}.k_norm', f'{_OURS}/attention/key_norm'),
  *norm(f'{_V1}.attn_norm', f'{_OURS}/attention_norm'),
  *norm(f'{_V1}.ff_norm', f'{_OURS}/mlp_norm'),
  entry(f'{_V1}.ff_proj.weight', (f'{_OURS}/mlp/up/kernel', f'{_OURS}/mlp/gate/kernel'), 'kernel'),
  entry(f'{_V1}.ff_out.weight', f'{_OURS}/mlp/down/kernel', 'kernel'),
  entry(f'{_V1}.ffn.router.layer.weight', f'{_OURS}/mlp/router/kernel', 'kernel'),
  entry(f'{_EXPERTS}.w1', f'{_OURS}/mlp/gate', 'experts'),
  entry(f'{_EXPERTS}.v1', f'{_OURS}/mlp/up', 'experts'),
  entry(f'{_EXPERTS}.w2', f'{_OURS}/mlp/down', 'experts_out'),
  *norm('transformer.ln_f', 'decoder/norm'),
  entry('transformer.ff_out.weight', 'embedding/head', 'table'),
  entry('vision_backbone.pad_embed', 'connector/padding/vectors', 'table'),
  entry(f'{_TOWER}.class_embedding', 'vit/class_embedding', 'vector'),
  *norm(f'{_TOWER}.pre_ln', 'vit/pre_norm', bias=True),
  entry(f'{_TOWER}.transformer.resblocks.{{i}}.lambda1', 'vit/blocks/attention_scale', 'vector'),
  entry(f'{_TOWER}.transformer.resblocks.{{i}}.lambda2', 'vit/blocks/mlp_scale', 'vector'),
  *_vision(_TOWER, f'{_TOWER}.transformer.resblocks.{{i}}', 'vision_backbone.image_pooling_2d',
           'vision_backbone.image_projector', HUB_VISION),
  *linear('vision_backbone.image_projector', 'connector/projector/linear', bias=False))
V1_HUB = tuple(dataclasses.replace(e, names=tuple(f'model.{n}' for n in e.names)) for e in V1)

# MolmoE on the Hub: other groups of the parts of a block, an MLP for each expert, and another name
# of the head. Taken from copies of its code; the released file itself has not been seen.
_BLOCK = f'model.{_V1}'
_MOVED = ('att_proj', 'attn_out', 'q_norm', 'k_norm', 'attn_norm')
_REGROUPED = {
  **{f'{_BLOCK}.{w}': f'{_BLOCK}.attn.{w}' for w in _MOVED},
  f'{_BLOCK}.ff_norm': f'{_BLOCK}.mlp.ff_norm',
  f'{_BLOCK}.ffn.router.layer': f'{_BLOCK}.mlp.gate', 'model.transformer.ff_out': 'lm_head'}


def _regrouped(name: str) -> str:
  module, _, leaf = name.rpartition('.')
  return f'{_REGROUPED.get(module, module)}.{leaf}'


V1_EXPERTS_HUB = (
  *(dataclasses.replace(e, names=tuple(map(_regrouped, e.names))) for e in V1_HUB
    if e.kind not in ('experts', 'experts_out')),
  *(entry(f'{_BLOCK}.mlp.experts.{{e}}.{w}_proj.weight', f'{_OURS}/mlp/{w}', 'experts')
    for w in ('gate', 'up', 'down')))

# A layout is recognised by the start of a name that only it has.
LAYOUTS: dict[str, tuple[str, tuple[Entry, ...]]] = {
  'hub': ('model.transformer.blocks.0.self_attn.', HUB),
  'native': ('model.language_model.', NATIVE),
  'v1': ('transformer.', V1), 'v1 hub': ('model.transformer.blocks.0.att_proj.', V1_HUB),
  'v1 experts hub': ('model.transformer.blocks.0.attn.', V1_EXPERTS_HUB)}
