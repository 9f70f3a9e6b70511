"""Plain language models and image towers as transformers stores them: the tables from their tensors
to our parameters.

Every tensor of such a folder is in one of three places here: an entry of the table, the stem of a
tower (small tensors that are changed on the way), or the list of those that are not read, with the
reason. Anything else is left over, which is an error. Names are those of transformers' classes;
what Molmo takes of a tower is in docs/model.md §2.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from molmo_jax.checkpoint.hf_table import Entry, decoder, entry, linear, norm, tower_blocks

StemKind = Literal['patches', 'class', 'positions']
BICUBIC = -0.75   # torch's coefficient


@dataclasses.dataclass(frozen=True)
class Stem:
  """A tensor of a tower's first layer. Axes of length one in front do not count.

  Attributes:
    kind: 'patches' a convolution [E, 3, p, p] → [p·p·3, E], pixels in the order row, column,
      channel; 'class' [E]; 'positions' [rows, E], of which `class_rows` come first and belong to no
      patch.
  """
  name: str
  path: str
  kind: StemKind
  class_rows: int = 0


@dataclasses.dataclass(frozen=True)
class Tower:
  """The tensors of an image tower.

  Attributes:
    block: name of the blocks, with '{i}' for their number.
    unused: what is not read: pattern (`re.fullmatch`) → reason. Blocks above those that exist are
      not read either.
  """
  stem: tuple[Stem, ...]
  entries: tuple[Entry, ...]
  block: str
  unused: dict[str, str]


def _language_model(attention_norm: str, mlp_norm: str) -> tuple[Entry, ...]:
  """Tables may be padded beyond the vocabulary of the configuration; experts have a matrix each."""
  experts = 'model.layers.{i}.mlp.experts.{e}'
  tables = (entry('model.embed_tokens.weight', 'embedding/base', 'table'),
            entry('lm_head.weight', 'embedding/head', 'table'))
  return (
    *(dataclasses.replace(e, spare=True) for e in tables),
    *decoder('model', attention_norm, mlp_norm),
    entry('model.layers.{i}.mlp.gate.weight', 'decoder/blocks/mlp/router/kernel', 'kernel'),
    *(entry(f'{experts}.{w}_proj.weight', f'decoder/blocks/mlp/{w}', 'experts')
      for w in ('gate', 'up', 'down')))


_PRE = _language_model('input_layernorm', 'post_attention_layernorm')
_POST = _language_model('post_attention_layernorm', 'post_feedforward_layernorm')
# by `model_type` of config.json
LANGUAGE_MODELS: dict[str, tuple[Entry, ...]] = {
  'qwen2': _PRE, 'qwen3': _PRE, 'olmo2': _POST, 'olmo3': _POST, 'olmoe': _PRE}
LANGUAGE_MODEL_UNUSED = {
  r'model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq': 'a constant, which old files store'}

_CLIP_BLOCK = {'attention': 'self_attn', 'query': 'q_proj', 'key': 'k_proj', 'value': 'v_proj',
               'out': 'out_proj',
               'mlp up': 'mlp.fc1', 'mlp down': 'mlp.fc2', 'attention_norm': 'layer_norm1',
               'mlp_norm': 'layer_norm2'}
_DINOV2_BLOCK = {'attention': 'attention', 'query': 'attention.query', 'key': 'attention.key',
                 'value': 'attention.value', 'out': 'output.dense', 'mlp up': 'mlp.fc1',
                 'mlp down': 'mlp.fc2',
                 'attention_norm': 'norm1', 'mlp_norm': 'norm2'}
# of the tensors of CLIP and SigLIP
_PAIR = {r'text_model\..*': 'the text tower',
         r'(visual|text)_projection\.weight': 'into the space of texts and images',
         r'logit_(scale|bias)': 'of the contrastive loss',
         r'(vision_model\.)?embeddings\.position_ids': 'a constant',
         r'(vision_model\.)?post_layernorm\.(weight|bias)': 'a norm above the last block, where '
         'nothing is read',
         r'(vision_model\.)?head\..*': 'the pooling head, above the last block'}


def _clip(prefix: str) -> Tower:
  block = f'{prefix}encoder.layers.{{i}}'
  return Tower(
    (Stem(f'{prefix}embeddings.patch_embedding.weight', 'vit/patch_embedding/kernel', 'patches'),
     Stem(f'{prefix}embeddings.class_embedding', 'vit/class_embedding', 'class'),
     Stem(f'{prefix}embeddings.position_embedding.weight', 'vit/position_embedding', 'positions',
          class_rows=1)),
    (*norm(f'{prefix}pre_layrnorm', 'vit/pre_norm', bias=True), *tower_blocks(block, _CLIP_BLOCK)),
    block, _PAIR)


def _siglip(prefix: str) -> Tower:
  block, patches = f'{prefix}encoder.layers.{{i}}', f'{prefix}embeddings.patch_embedding'
  return Tower(
    (Stem(f'{patches}.weight', 'vit/patch_embedding/kernel', 'patches'),
     Stem(f'{prefix}embeddings.position_embedding.weight', 'vit/position_embedding', 'positions')),
    (linear(patches, 'vit/patch_embedding')[1], *tower_blocks(block, _CLIP_BLOCK)), block, _PAIR)


def _dinov2(prefix: str) -> Tower:
  block, patches = f'{prefix}encoder.layer.{{i}}', f'{prefix}embeddings.patch_embeddings.projection'
  scale = lambda n, path: entry(f'{block}.layer_scale{n}.lambda1', f'vit/blocks/{path}', 'vector')
  return Tower(
    (Stem(f'{patches}.weight', 'vit/patch_embedding/kernel', 'patches'),
     Stem(f'{prefix}embeddings.cls_token', 'vit/class_embedding', 'class'),
     Stem(f'{prefix}embeddings.position_embeddings', 'vit/position_embedding', 'positions',
          class_rows=1)),
    (linear(patches, 'vit/patch_embedding')[1], *tower_blocks(block, _DINOV2_BLOCK),
     scale(1, 'attention_scale'),
     scale(2, 'mlp_scale')), block,
    {r'embeddings\.mask_token': 'for pretraining with hidden patches',
     r'layernorm\.(weight|bias)': 'a norm above the last block, where nothing is read'})


TOWERS: dict[str, Callable[[str], Tower]] = {'clip': _clip, 'siglip': _siglip, 'dinov2': _dinov2}


def tower(family: str, is_part: bool) -> Tower:
  """The table of a family; `is_part`: the tower's names begin with 'vision_model.', as beside a
  text tower.
  """
  return TOWERS[family]('vision_model.' if is_part else '')


def stem_problem(stem: Stem, stored: tuple[int, ...], shape: tuple[int, ...]) -> str | None:
  """Which shape a stem's tensor must have, if the stored one does not make a parameter of `shape`.
  """
  width = shape[-1]
  if stem.kind == 'patches':
    side = math.isqrt(shape[0] // 3)
    return None if stored == (width, 3, side, side) else str([width, 3, side, side])
  core = stored[max(len(stored) - len(shape), 0):]
  if math.prod(stored) != math.prod(core):
    return str(list(shape))
  if stem.kind == 'class':
    return None if core == shape else str(list(shape))
  patches = core[0] - stem.class_rows
  if len(core) != 2 or core[1] != width or patches < 1 or math.isqrt(patches) ** 2 != patches:
    return f'[{"1 + " * stem.class_rows}a square number, {width}]'
  return None


def stem_from_file(stem: Stem, stored: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """The parameter of `shape`; a position table of another grid is resized."""
  if stem.kind == 'patches':
    return stored.transpose(2, 3, 1, 0).reshape(shape)
  if stem.kind == 'class':
    return stored.reshape(shape)
  table = stored.reshape(-1, shape[-1])
  first, rest = table[:stem.class_rows], table[stem.class_rows:]
  return np.concatenate([first, resize_grid(rest, shape[0] - stem.class_rows)])


def resize_grid(table: np.ndarray, patches: int) -> np.ndarray:
  """A position table [n·n, E] for another square grid: float32 [patches, E].

  As upstream converts towers (docs/model.md §2): bicubic without antialias. The scale is (new +
  0.1) / old, so that the places where the old grid is read lie a little closer to each other than
  the cells of the new one.
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
