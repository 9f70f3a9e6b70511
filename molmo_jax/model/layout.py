"""Layout embeddings: where a visual token lies, as learned vectors that are added to its feature.

They start at zero, so that switching them on leaves a checkpoint's outputs unchanged at step 0.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Float, Int

from molmo_jax.model.config import ConnectorConfig

KINDS = 3   # 0 global view, 1 overlapping crops, 2 video frame


class LayoutEmbedding(nn.Module):
  """The sum of five vectors: row and column in the token's grid, crop or frame, kind, and a linear
  map of the box.

  `layout_index` int32 [B,V,4]: row, column, crop or frame, kind. `layout_box` float32 [B,V,4]: x0,
  y0, x1, y1 as fractions of the image. Indices past a table's end share its last entry.
  """
  config: ConnectorConfig
  width: int

  @nn.compact
  def __call__(self, layout_index: Int[Array, 'B V 4'],
               layout_box: Float[Array, 'B V 4']) -> Float[Array, 'B V D']:
    c = self.config
    out = jnp.einsum('bvx,xd->bvd', layout_box,
                     self.param('box', nn.initializers.zeros, (4, self.width)))
    for i, (name, rows) in enumerate((('row', c.layout_grid), ('column', c.layout_grid),
                                      ('crop', c.layout_crops), ('kind', KINDS))):
      table = self.param(name, nn.initializers.zeros, (rows, self.width))
      out = out + jnp.take(table, layout_index[..., i], axis=0, mode='clip')
    return out
