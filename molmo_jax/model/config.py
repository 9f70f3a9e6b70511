"""Hyper-parameters of the model as frozen dataclasses. Defaults are Molmo2-8B's (docs/model.md §1).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Literal

from molmo_jax.configuration import Count, Dropout, Positive, Range, Size
from molmo_jax.kernels.mask import Bidirectional
from molmo_jax.normalization import Normalization

Pooling = Literal['attention_meanq', 'attention', 'attention_meanq_2x', 'attention_meanq_4x',
                  'attention_2wide', 'mean', 'stack', 'none']
Projector = Literal['mlp', 'linear', 'random_linear', '2mlp']
PaddingEmbed = Literal['pad_embed', 'regress', 'pad_and_partial_pad']
Remat = Literal['none', 'full', 'dots', 'offload']
Width = Annotated[int, Range(1, 2 ** 20)]       # channels, heads, pixels
Depth = Annotated[int, Range(1, 1024)]          # layers
Epsilon = Annotated[float, Range(0, 1, but=0)]  # of a norm
Theta = Annotated[float, Range(1, 1e12, but=1)] # base of the rotary frequencies


@dataclasses.dataclass(frozen=True)
class TowerConfig:
  """What the rest of the program knows about an image tower, of whatever kind (model/tower.py)."""
  image_size: Width = 378            # side of a crop, pixels
  patch_size: Width = 14             # side of a patch, pixels
  width: Width = 1152                # E, channels of a patch
  layers: Depth = 27                 # blocks, those that are not read included
  normalize: Normalization = 'siglip'   # mean and deviation of pixels
  kind: str = 'vit'                  # which tower: a key of `model.molmo.TOWERS`

  def __post_init__(self):
    if self.image_size % self.patch_size:
      raise ValueError(f'model.vit.image_size={self.image_size} must be a multiple of '
                       f'patch_size={self.patch_size}')

  @property
  def patches(self) -> int:
    """P, patches of one crop."""
    return (self.image_size // self.patch_size) ** 2

  @property
  def tokens(self) -> int:
    """Vectors of one crop that the layers work on: the patches, and what a tower adds to them."""
    return self.patches

  def built(self, read: tuple[int, ...]) -> int:
    """How many layers exist, if the outputs of the layers `read` are used."""
    return max(read) + 1

  def attention_flops(self, read: tuple[int, ...]) -> int:
    """Operations for one crop in products of activations with each other, without a weight."""
    del read
    return 0


@dataclasses.dataclass(frozen=True)
class VitConfig(TowerConfig):
  """A vision transformer. `layers` counts the blocks of the original tower; only those up to the
  deepest one that is read get built.
  """
  heads: Count = 16                  # of the attention
  head_dim: Width = 72               # width / heads
  mlp: Width = 4304                  # hidden width of the MLP
  activation: Literal['gelu_tanh', 'quick_gelu', 'gelu'] = 'gelu_tanh'  # of the MLP
  norm_eps: Epsilon = 1e-6           # of the LayerNorms
  class_token: bool = False                   # CLIP, DINOv2
  patch_bias: bool = True            # of the patch embedding
  pre_norm: bool = False                      # a LayerNorm before the first block (CLIP)
  # a learned factor per channel on every sub-layer's output (DINOv2)
  layer_scale: bool = False
  # patches of the position table; None: those of a crop. If they differ, the table is interpolated
  positions: Size | None = None
  # blocks above the deepest one that is read exist, too (Molmo v1)
  keep_unread: bool = False

  def __post_init__(self):
    super().__post_init__()
    if self.kind == 'vit' and not self.heads:
      raise ValueError('model.vit.heads=0: a vision transformer has at least one')
    if self.positions is not None and math.isqrt(self.positions) ** 2 != self.positions:
      raise ValueError(f'model.vit.positions={self.positions} must be a square number, without the '
                       'class token')

  @property
  def tokens(self) -> int:
    """Patches and, if there is one, the class token."""
    return self.patches + self.class_token

  def built(self, read: tuple[int, ...]) -> int:
    """All blocks with `keep_unread`, else those up to the deepest one that is read."""
    return self.layers if self.keep_unread else max(read) + 1

  def attention_flops(self, read: tuple[int, ...]) -> int:
    """Scores and weighted sums of every patch with every patch, in the blocks that exist."""
    return 4 * self.built(read) * self.heads * self.head_dim * self.tokens ** 2


@dataclasses.dataclass(frozen=True)
class ConnectorConfig:
  """From ViT features to LLM-width visual tokens (docs/model.md §3)."""
  vit_layers: tuple[int, ...] = (-3, -9)      # concatenated in this order, the deeper block first
  pooling: Pooling = 'attention_meanq'  # how a window becomes one vector
  # empty slots take part neither in the mean query nor in the attention
  pooling_mask: bool = True
  heads: Width = 16                  # query heads of the pooling attention
  kv_heads: Width = 16               # its key and value heads
  head_dim: Width = 72               # of a head
  width: Width = 1152                # output of the pooling attention
  pool_slots: Width = 9              # W; `stack` needs it to size the projector
  projector: Projector = 'mlp'       # from pooled features to the decoder's width
  hidden: Width = 12288              # h of the gated projector
  padding_embed: PaddingEmbed | None = None  # added to patches that are padding (v1)
  feature_dropout: Dropout = 0.0     # on patch features before pooling
  # learned vectors for row, column, crop or frame, kind and box
  layout_embedding: bool = False
  layout_grid: Width = 256           # rows of the row and column tables
  layout_crops: Width = 512          # rows of the crop-or-frame table


@dataclasses.dataclass(frozen=True)
class YarnConfig:
  """YaRN scaling of the rotary frequencies on some layers (docs/model.md §4.3)."""
  layers: tuple[int, ...] = ()       # which layers are scaled
  factor: Positive = 8.0             # longest context / `original_length`
  original_length: Size = 8192       # context before scaling, tokens
  beta_fast: Positive = 32.0         # turns above which frequencies stay
  beta_slow: Positive = 1.0          # turns below which they are divided by `factor`
  attention_factor: Positive = 1.2079441541679836  # on cosine and sine


@dataclasses.dataclass(frozen=True)
class LlmConfig:
  """The decoder (docs/model.md §4)."""
  vocab: Size = 151936               # rows of the base embedding and of the head
  extra_vocab: Count = 128           # rows of the second table, for ids from `vocab` on
  # id of the first extra (visual) token; None: `vocab`. Where the base table is padded, extra
  # tokens lie in it (docs/model.md §10)
  extra_from: Count | None = None
  width: Width = 4096                # D, channels of a token
  layers: Depth = 36                 # L, blocks
  heads: Width = 32                  # N, query heads
  kv_heads: Width = 8                # K, key and value heads
  head_dim: Width = 128              # H, channels of a head
  mlp: Width = 12288                 # hidden width of the MLP, or of one expert
  experts: Count = 0                 # per layer, in place of one MLP (MolmoE); 0: an MLP
  experts_per_token: Width = 8       # the most likely ones
  rope_theta: Theta = 1e6            # base of the rotary frequencies
  yarn: YarnConfig = YarnConfig()
  # Qwen3: per head · OLMo: over the whole projection
  qk_norm: Literal['head', 'full', 'none'] = 'head'
  norm_order: Literal['pre', 'post'] = 'pre'           # OLMo: norms after the sub-layers
  norm_eps: Epsilon = 1e-6           # of the RMSNorms
  qkv_bias: bool = False                               # Qwen2
  tied: bool = False                                   # the head is the base embedding
  residual_dropout: Dropout = 0.0    # on every sub-layer output, all tokens
  # the rate at positions whose target carries loss, if > 0
  response_residual_dropout: Dropout = 0.0

  @property
  def first_extra_id(self) -> int:
    """Id of the first extra token; the tokenizer's base vocabulary ends before it."""
    return self.vocab if self.extra_from is None else self.extra_from


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """The whole model."""
  vit: VitConfig = VitConfig()
  connector: ConnectorConfig = ConnectorConfig()
  llm: LlmConfig = LlmConfig()
  # which visual tokens see later ones (docs/model.md §5.2)
  bidirectional: Bidirectional = 'image_tokens'
  # implementation of the decoder's attention
  attention: Literal['auto', 'reference', 'blockwise', 'short'] = 'auto'
  # control experiment: visual features are zero
  blind: bool = False
  # of matrix products and activations inside a layer
  dtype: Literal['float32', 'bfloat16'] = 'float32'
  residual_dtype: Literal['float32', 'bfloat16'] = 'float32'  # of the sum that layers add to
  # what the backward pass recomputes, per layer; 'offload': all of it, from inputs that wait in the
  # host's memory
  remat: Remat = 'full'
  # layers of a tower written out per step of its scan
  unroll: Depth = 1

  @property
  def tower(self) -> TowerConfig:
    """The image tower, whatever its kind."""
    return self.vit

  @property
  def read(self) -> tuple[int, ...]:
    """Indices from 0 of the tower's layers whose outputs are features, in that order."""
    return resolve_vit_layers(self.connector.vit_layers, self.tower.layers)

  def __post_init__(self):
    resolve_vit_layers(self.connector.vit_layers, self.tower.layers)
    for name, part in (('llm', self.llm), ('connector', self.connector)):
      if part.heads % part.kv_heads:
        raise ValueError(f'model.{name}.heads={part.heads} must be a multiple of '
                         f'kv_heads={part.kv_heads}')
    if self.llm.experts and not 0 < self.llm.experts_per_token <= self.llm.experts:
      raise ValueError(f'model.llm.experts_per_token={self.llm.experts_per_token} must be from 1 '
        f'to experts={self.llm.experts}')
    if self.llm.first_extra_id > self.llm.vocab:
      raise ValueError(f'model.llm.extra_from={self.llm.extra_from}: ids of extra tokens may start '
        f'at vocab={self.llm.vocab} at most, where the rows of the second table begin')


def resolve_vit_layers(vit_layers: tuple[int, ...], declared: int) -> tuple[int, ...]:
  """Block indices from 0, in the order of concatenation; negative ones count from the `declared`
  number of blocks.
  """
  resolved = tuple(i + declared if i < 0 else i for i in vit_layers)
  if not resolved or any(not 0 <= i < declared for i in resolved):
    raise ValueError(f'model.connector.vit_layers={vit_layers}: a tower of {declared} blocks has '
                     f'-{declared}…{declared - 1}, and at least one is needed')
  return resolved
