"""Who may attend to whom, from three integers per token: any block of the [S,S] mask follows from
O(S) metadata.

Here is the one statement of the rule (`rule`) and the one list of its modes (`MODES`). The rule is
read in three ways, and what it says must be the same in all of them:

  - token by token: `visible`, the mask of the reference, of short rows and of a decoding step;
  - block by block: `needed_blocks` (kernels/blockwise.py), which pairs of blocks can be skipped;
  - run by run: `visible_pairs` (training/flops.py), how many pairs there are.

Letters of shapes: `B` rows, `S` tokens of a row, `Sq` queries, `Sk` keys.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

# segment = EXAMPLE_STRIDE * example + subsegment
EXAMPLE_STRIDE = 100_000
# segment of a token that nobody sees
PADDING_SEGMENT = -1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MaskInfo:
  """What the attention mask needs to know about every token of a row (docs/model.md §5.2).

  A slice of tokens, a KV cache or a shard of a long row is a `MaskInfo` too: `index` keeps the
  numbers of the whole row.
  """
  # int32 [B,S]: 100000 * example + subsegment; −1 = padding or an empty cache slot
  segments: Array
  # int32 [B,S]: 0 = text, else 1 + n, n = running count of image and frame starts
  visual: Array
  index: Array              # int32 [B,S]: number of the token in its row


def mask_info(segments: Array, visual: Array, index: Array | None = None) -> MaskInfo:
  """Bundles int32 [B,S] arrays; without `index` the tokens are a whole row, numbered from 0.

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


def examples(segments: Array) -> Array:
  """The packed example of every token (any shape, int32); −1 for padding."""
  return segments // EXAMPLE_STRIDE


class Tokens:
  """Queries or keys as the rule reads them: fields that compare with those of the other side.

  The fields of single tokens are arrays, of any shapes that broadcast.
  """

  def __init__(self, info: MaskInfo, counted: Array | None = None):
    """`counted`: bool like the fields, the tokens that are meant; None: all but padding."""
    self.info, self.counted = info, info.segments != PADDING_SEGMENT if counted is None else counted
    self.present = self.some(self.counted)
    self.example, self.segment = self.read(examples(info.segments)), self.read(info.segments)
    self.visual, self.index = self.read(info.visual), self.read(info.index)

  def images(self) -> Tokens:
    """The visual tokens alone."""
    return type(self)(self.info, self.counted & (self.info.visual > 0))

  def read(self, field: Array) -> Any:
    """What comparisons see of a field."""
    return field

  def some(self, counted: Array) -> Array:
    """Whether anything is meant."""
    return counted


class Blocks(Tokens):
  """Blocks of tokens: a field is the range of its values over the last axis.

  A comparison of ranges is True where it may hold for some pair, so the rule about blocks never
  misses a pair that the rule about tokens finds. For this the rule must be built of comparisons
  (≤, ==) joined by & and |, without any negation.
  """

  def read(self, field: Array) -> Range:
    """Least and largest value in a block; of an empty one, a range that meets no other."""
    limits = jnp.iinfo(jnp.int32)
    return Range(jnp.min(field, axis=-1, where=self.counted, initial=limits.max),
                 jnp.max(field, axis=-1, where=self.counted, initial=limits.min))

  def some(self, counted: Array) -> Array:
    """Whether the block has a token that is meant."""
    return jnp.any(counted, axis=-1)


@dataclasses.dataclass(frozen=True, eq=False)
class Range:
  """Values from `low` to `high`; comparisons say whether they may hold."""
  low: Array
  high: Array

  def __le__(self, other: Range) -> Array:
    return self.low <= other.high

  def __eq__(self, other: Any) -> Array:   # type: ignore[override]
    return (self <= other) & (other <= self)


class Mode(NamedTuple):
  """One value of `model.bidirectional`: which visual tokens see later ones of their example."""
  # of two visual tokens of one example: whether the query sees the key, wherever it stands; None:
  # only if it stands before. Compares `visual` and `segment`, see `Blocks`
  ahead: Callable[[Tokens, Tokens], Any] | None
  meaning: str                  # a sentence for readers


# the modes, and what is true for them; the released models of the second generation have
# 'image_tokens', those of the first 'none'
Bidirectional = Literal['none', 'image_tokens', 'within_image']
MODES: dict[str, Mode] = {
  'none': Mode(None, 'The mask is causal: every token, visual or not, sees what stands before it.'),
  'image_tokens': Mode(
    lambda q, k: True,
    'Text is causal; all visual tokens of an example see each other in both directions, across '
    'images, views and frames.'),
  'within_image': Mode(
    lambda q, k: k.visual <= q.visual,
    'Text is causal; visual tokens see each other in both directions as far as their own image or '
    'frame, and all earlier ones.'),
}


def rule(q: Tokens, k: Tokens, bidirectional: str) -> Array:
  """Whether query q may attend to key k, for tokens, runs or blocks of them (docs/model.md §5.2).

  A key is seen where it stands no later than the query, or as far as the mode lets visual tokens
  look ahead. In either case both are of one example, and segment(q) ≤ segment(k): the branches of
  a message tree see the shared prefix, whose segment is the highest, but not each other.

  Raises:
    ValueError: an unknown mode.
  """
  if bidirectional not in MODES:
    raise ValueError(f'bidirectional is {bidirectional!r}; it must be one of {", ".join(MODES)}')
  ahead = MODES[bidirectional].ahead
  seen = _related(q, k) & (k.index <= q.index)
  if ahead is not None:
    q, k = q.images(), k.images()
    seen = seen | (_related(q, k) & ahead(q, k))
  return seen


def _related(q: Tokens, k: Tokens) -> Array:
  return q.present & k.present & (q.example == k.example) & (q.segment <= k.segment)


def visible(q: MaskInfo, k: MaskInfo, bidirectional: Bidirectional) -> Array:
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
  queries, keys = (jax.tree.map(lambda x: x[:, :, None], q), jax.tree.map(lambda x: x[:, None], k))
  return rule(Tokens(queries), Tokens(keys), bidirectional)
