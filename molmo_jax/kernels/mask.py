"""Who may attend to whom, from three integers per token: any block of the [S,S] mask follows from
O(S) metadata.

Letters of shapes: `B` rows, `S` tokens of a row, `Sq` queries, `Sk` keys.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import jax
import jax.numpy as jnp

Bidirectional = Literal['none', 'image_tokens', 'within_image']

EXAMPLE_STRIDE = 100_000        # segment = EXAMPLE_STRIDE * example + subsegment
PADDING = -1                    # segment of a token that nobody sees


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MaskInfo:
  """What the attention mask needs to know about every token of a row (docs/model.md §5.2).

  A slice of tokens, a KV cache or a shard of a long row is a `MaskInfo` too: `index` keeps the true
  places.
  """
  # int32 [B,S]: 100000 * example + subsegment; −1 = padding or an empty cache slot
  segments: jax.Array
  # int32 [B,S]: 0 = text, else 1 + n, n = running count of image and frame starts
  visual: jax.Array
  index: jax.Array              # int32 [B,S]: place of the token in its row


def mask_info(segments: jax.Array, visual: jax.Array, index: jax.Array | None = None) -> MaskInfo:
  """Bundles int32 [B,S] arrays; without `index` the tokens are a whole row, from place 0 on.

  Raises:
    ValueError: the arrays are not [B,S] of one shape.
  """
  segments, visual = jnp.asarray(segments, jnp.int32), jnp.asarray(visual, jnp.int32)
  if index is None:
    index = jnp.broadcast_to(jnp.arange(segments.shape[-1], dtype=jnp.int32), segments.shape)
  index = jnp.asarray(index, jnp.int32)
  if not (segments.ndim == 2 and segments.shape == visual.shape == index.shape):
    raise ValueError('mask_info needs segments, visual and index of one shape [B,S], got '
                     f'{segments.shape}, {visual.shape}, {index.shape}')
  return MaskInfo(segments, visual, index)


def examples(segments: jax.Array) -> jax.Array:
  """The packed example of every token (any shape, int32); −1 for padding."""
  return segments // EXAMPLE_STRIDE


def visible(q: MaskInfo, k: MaskInfo, bidirectional: Bidirectional) -> jax.Array:
  """Whether query q may attend to key k: bool [B,Sq,Sk] (docs/model.md §5.2).

      visible = key is no padding  ∧  same example  ∧  segment(q) ≤ segment(k)
              ∧ ( index(k) ≤ index(q)  ∨  both visual [ ∧ n(k) ≤ n(q), for 'within_image' ] )

  One row: a prefix (`B` = BOS, two images `1` and `2`), the branches `a` and `b` of a message tree,
  a second packed example with its own image `3`, and padding `_`. Queries are the lines, keys the
  columns.

      segment   10000.. ‖ 0 0 ‖ 1 1 ‖ 100000.. ‖ −1

            B 1 1 2 2 a a b b B 3 3 c _
          B # . . . . . . . . . . . . .
          1 # # o + + . . . . . . . . .      # causal: in every mode
          1 # # # + + . . . . . . . . .      o ahead, same image: 'within_image' and 'image_tokens'
          2 # # # # o . . . . . . . . .      + ahead, in a later image: 'image_tokens' alone
          2 # # # # # . . . . . . . . .      . never
          a # # # # # # . . . . . . . .
          a # # # # # # # . . . . . . .
          b # # # # # . . # . . . . . .
          b # # # # # . . # # . . . . .
          B . . . . . . . . . # . . . .
          3 . . . . . . . . . # # o . .
          3 . . . . . . . . . # # # . .
          c . . . . . . . . . # # # # .
          _ . . . . . . . . . . . . . .

  A padding query sees nothing; what attention returns for it is zeros.

  Args:
    q: the queries' metadata, [B,Sq].
    k: the keys' metadata, [B,Sk]; any part of the same rows, in any order.
    bidirectional: 'none' (causal), 'image_tokens' (all visual tokens of an example see each other;
      the released behaviour) or 'within_image' (only as far as the query's own image or frame).

  Raises:
    ValueError: an unknown `bidirectional`.
  """
  check_bidirectional(bidirectional)
  queries, keys = _column(q), _row(k)
  reachable = keys.index <= queries.index
  if bidirectional != 'none':
    both = (queries.visual > 0) & (keys.visual > 0)
    if bidirectional == 'within_image':
      both &= keys.visual <= queries.visual
    reachable |= both
  same = examples(queries.segments) == examples(keys.segments)
  return (keys.segments >= 0) & same & (queries.segments <= keys.segments) & reachable


def check_bidirectional(bidirectional: str) -> None:
  """Raises ValueError, listing the valid modes, for an unknown one."""
  if bidirectional not in get_args(Bidirectional):
    raise ValueError(f'bidirectional is {bidirectional!r}; it must be one of '
      f'{", ".join(get_args(Bidirectional))}')


def _column(info: MaskInfo) -> MaskInfo:
  return jax.tree.map(lambda x: x[:, :, None], info)


def _row(info: MaskInfo) -> MaskInfo:
  return jax.tree.map(lambda x: x[:, None, :], info)
