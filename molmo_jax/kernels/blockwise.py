"""Attention block by block: exact in values and gradients, memory O(S), empty blocks skipped. Plain
XLA, any backend.

The sequence is cut into blocks of queries and blocks of keys. Summaries of each block (minima and
maxima of its metadata) say which pairs may hold a visible entry; only those are computed, with a
running maximum and sum (online softmax). The backward pass computes the scores again from the
log-sum-exp that the forward pass saved.

Letters of shapes: `B` rows, `Sq` queries, `Sk` keys, `N` query heads, `K` key/value heads, `G` = N
/ K, `H` head dim; `I` blocks of `Y` queries, `J` blocks of `X` keys. Inside, the G query heads of a
key/value head are rows of one
matrix: a block of queries is [B,K,G·Y,H] and a block of scores [B,K,G·Y,X].
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import Array
from jax.custom_derivatives import linear_call

from molmo_jax.kernels.mask import PADDING_SEGMENT, Bidirectional, Blocks, MaskInfo, rule, visible
from molmo_jax.kernels.reference import check_shapes


class _Settings(NamedTuple):
  """What is known at trace time."""
  bidirectional: Bidirectional
  scale: float
  block_q: int
  block_k: int


def attend_blockwise(q: Array, k: Array, v: Array, q_info: MaskInfo, k_info: MaskInfo,
                     bidirectional: Bidirectional, scale: float | None = None,
                     blocks: tuple[int, int] | None = None) -> Array:
  """Softmax attention under the mask of `visible`, equal to `attend_reference` without its [Sq,Sk]
  arrays.

  Reverse-mode differentiable in q, k, v (any order of jit, scan and checkpoint around it); forward
  mode is not defined. A pair of blocks is skipped when no row of the batch needs it. Products of
  bfloat16 accumulate in float32.

  Args:
    q: [B,Sq,N,H]; k, v: [B,Sk,K,H], N a multiple of K; query head h uses key/value head h // G.
    q_info, k_info: metadata of the queries [B,Sq] and of the keys [B,Sk].
    bidirectional: which visual tokens see each other, see `visible`.
    scale: of the scores; 1/√H if not given.
    blocks: tokens of a block of queries and of one of keys; lengths that they do not divide are
      padded inside. If not given, 256 for sequences up to 2048 tokens (less waste in half-empty
      blocks) and 512 for longer ones (fewer steps).

  Returns:
    [B,Sq,N,H] in the dtype of `v`; zeros for queries that see no key.

  Raises:
    ValueError: shapes that do not fit together, an unknown `bidirectional`, or a block size below
      1.
  """
  check_shapes(q, k, v, q_info, k_info)
  blocks = blocks or tuple(256 if n <= 2048 else 512 for n in (q.shape[1], k.shape[1]))
  if min(blocks) < 1:
    raise ValueError(f'an attention block must have at least 1 token, got {blocks}')
  settings = _Settings(bidirectional, q.shape[-1] ** -0.5 if scale is None else float(scale),
                       *(min(size, n) for size, n in zip(blocks, (q.shape[1], k.shape[1]))))
  return _attend(settings, q, k, v, q_info, k_info)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _attend(settings: _Settings, q: Array, k: Array, v: Array, q_info: MaskInfo,
            k_info: MaskInfo) -> Array:
  return _forward(settings, q, k, v, q_info, k_info)[0]


@_attend.defjvp
def _attend_jvp(settings: _Settings, primals: tuple[Any, ...], tangents: tuple[Any, ...]
                ) -> tuple[Array, Array]:
  out, lse = _forward(settings, *primals)
  change = linear_call(functools.partial(_push, settings), functools.partial(_pull, settings),
                       (*primals, out, lse), tangents[:3])
  return out, change


def _forward(settings: _Settings, q: Array, k: Array, v: Array, q_info: MaskInfo,
             k_info: MaskInfo) -> tuple[Array, Array]:
  """The output, and the log-sum-exp of the scores [I,B,K,G·Y]."""
  q_blocks = _cut_queries(q, k.shape[2], settings)
  k_blocks, v_blocks = _cut_keys(k, settings), _cut_keys(v, settings)
  q_infos, k_infos = _cut_info(q_info, settings.block_q), _cut_info(k_info, settings.block_k)
  order, count = _needed_first(needed_blocks(q_infos, k_infos, settings.bidirectional))

  def attend_block(block: tuple[Any, ...]) -> tuple[Array, Array]:
    q_block, info, needed, length = block

    def add_keys(step: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
      highest, total, out = state
      j = needed[step]
      scores = _scores(settings, q_block, k_blocks[j], info, _take(k_infos, j))
      new = jnp.maximum(highest, jnp.max(scores, axis=-1))
      shift = jnp.where(jnp.isfinite(new), new, 0.0)
      weights = jnp.exp(scores - shift[..., None])
      keep = jnp.exp(highest - shift)
      out = out * keep[..., None] + _product('bkrx,bkxh->bkrh', weights.astype(v.dtype),
                                             v_blocks[j])
      return new, total * keep + jnp.sum(weights, axis=-1), out

    rows = jnp.zeros(q_block.shape[:-1], jnp.float32)
    start = rows - jnp.inf, rows, jnp.zeros(q_block.shape, jnp.float32)
    highest, total, out = jax.lax.fori_loop(0, length, add_keys, start)
    empty = total == 0
    total = jnp.where(empty, 1.0, total)
    lse = jnp.where(empty, 0.0, highest) + jnp.log(total)
    return (out / total[..., None]).astype(v.dtype), lse

  out, lse = jax.lax.map(attend_block, (q_blocks, q_infos, order, count))
  return _join_queries(out, q), lse


def _push(settings: _Settings, saved: tuple[Any, ...], tangents: tuple[Array, ...]) -> Array:
  """The derivative along `tangents` of q, k and v, in one more pass over the needed blocks.

  With weights w = softmax(s) and ds the change of the scores:
  d(Σ w v) = Σ w dv + Σ w ds v − out Σ w ds.
  """
  q, k, v, q_info, k_info, out, lse = saved
  kv_heads = k.shape[2]
  queries = tuple(_cut_queries(x, kv_heads, settings) for x in (q, tangents[0], out))
  k_blocks, dk_blocks, v_blocks, dv_blocks = (_cut_keys(x, settings)
                                              for x in (k, tangents[1], v, tangents[2]))
  q_infos, k_infos = _cut_info(q_info, settings.block_q), _cut_info(k_info, settings.block_k)
  order, count = _needed_first(needed_blocks(q_infos, k_infos, settings.bidirectional))

  def push_block(block: tuple[Any, ...]) -> Array:
    (q_block, dq_block, out_block), info, lse_block, needed, length = block

    def add_keys(step: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
      change, total = state
      j = needed[step]
      scores = _scores(settings, q_block, k_blocks[j], info, _take(k_infos, j))
      weights = jnp.exp(scores - lse_block[..., None])
      d_scores = weights * settings.scale * (_product('bkrh,bkxh->bkrx', dq_block, k_blocks[j])
                                             + _product('bkrh,bkxh->bkrx', q_block, dk_blocks[j]))
      change += _product('bkrx,bkxh->bkrh', weights.astype(v.dtype), dv_blocks[j])
      change += _product('bkrx,bkxh->bkrh', d_scores.astype(v.dtype), v_blocks[j])
      return change, total + jnp.sum(d_scores, axis=-1)

    start = jnp.zeros(q_block.shape, jnp.float32), jnp.zeros(q_block.shape[:-1], jnp.float32)
    change, total = jax.lax.fori_loop(0, length, add_keys, start)
    return (change - total[..., None] * out_block).astype(v.dtype)

  return _join_queries(jax.lax.map(push_block, (queries, q_infos, lse, order, count)), q)


def _pull(settings: _Settings, saved: tuple[Any, ...], out_gradient: Array
          ) -> tuple[Array, Array, Array]:
  """The transpose of `_push`: gradients of q, k and v."""
  q, k, v, q_info, k_info, out, lse = saved
  kv_heads = k.shape[2]
  q_blocks, k_blocks, v_blocks = _cut_queries(q, kv_heads, settings), _cut_keys(
    k, settings), _cut_keys(v, settings)
  g_blocks = _cut_queries(out_gradient, kv_heads, settings)
  delta = jnp.sum(out_gradient.astype(jnp.float32) * out.astype(jnp.float32), axis=-1,
                  keepdims=True)
  deltas = _cut_queries(delta, kv_heads, settings)[..., 0]
  q_infos, k_infos = _cut_info(q_info, settings.block_q), _cut_info(k_info, settings.block_k)
  order, count = _needed_first(needed_blocks(q_infos, k_infos, settings.bidirectional).T)

  def differentiate_block(dq: Array, block: tuple[Any, ...]) -> tuple[Array, tuple[Array, Array]]:
    k_block, v_block, info, needed, length = block

    def add_queries(step: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
      dq, dk, dv = state
      i = needed[step]
      scores = _scores(settings, q_blocks[i], k_block, _take(q_infos, i), info)
      weights = jnp.exp(scores - lse[i][..., None])
      dv += _product('bkrx,bkrh->bkxh', weights.astype(v.dtype), g_blocks[i])
      d_weights = _product('bkrh,bkxh->bkrx', g_blocks[i], v_block)
      d_scores = (settings.scale * weights * (d_weights - deltas[i][..., None])).astype(q.dtype)
      dk += _product('bkrx,bkrh->bkxh', d_scores, q_blocks[i])
      return dq.at[i].add(_product('bkrx,bkxh->bkrh', d_scores, k_block)), dk, dv

    zeros = jnp.zeros(k_block.shape, jnp.float32)
    dq, dk, dv = jax.lax.fori_loop(0, length, add_queries, (dq, zeros, zeros))
    return dq, (dk.astype(k.dtype), dv.astype(v.dtype))

  dq, (dk, dv) = jax.lax.scan(differentiate_block, jnp.zeros(q_blocks.shape, jnp.float32),
                              (k_blocks, v_blocks, k_infos, order, count))
  return _join_queries(dq, q).astype(q.dtype), _join_keys(dk, k), _join_keys(dv, v)


def needed_blocks(q_infos: MaskInfo, k_infos: MaskInfo, bidirectional: Bidirectional) -> Array:
  """Which pairs of blocks may hold a visible entry in some row: bool [I,J], from summaries of the
  blocks alone.

  Conservative: False is certain, True may turn out empty.

  Args:
    q_infos: blocks of queries, fields [I,B,Y].
    k_infos: blocks of keys, fields [J,B,X].
    bidirectional: as in `visible`.
  """
  queries = Blocks(jax.tree.map(lambda x: x[:, None], q_infos))
  keys = Blocks(jax.tree.map(lambda x: x[None], k_infos))
  return jnp.any(rule(queries, keys, bidirectional), axis=-1)


def _needed_first(needed: Array) -> tuple[Array, Array]:
  """For every line of bool [I,J]: the columns, needed ones first and in order, int32 [I,J], and
  their number [I].
  """
  order = jnp.argsort(~needed, axis=-1, stable=True).astype(jnp.int32)
  return order, jnp.sum(needed, axis=-1, dtype=jnp.int32)


def _scores(settings: _Settings, q: Array, k: Array, q_info: MaskInfo, k_info: MaskInfo) -> Array:
  """Scaled scores of a block, float32 [B,K,G·Y,X]; −inf where nothing is visible."""
  scores = settings.scale * _product('bkrh,bkxh->bkrx', q, k)
  mask = visible(q_info, k_info, settings.bidirectional)[:, None, None]
  rows, heads, _, width = scores.shape
  grouped = scores.reshape(rows, heads, -1, settings.block_q, width)
  return jnp.where(mask, grouped, -jnp.inf).reshape(scores.shape)


def _product(equation: str, a: Array, b: Array) -> Array:
  return jnp.einsum(equation, a, b, preferred_element_type=jnp.float32)


def _take(infos: MaskInfo, i: Array) -> MaskInfo:
  return jax.tree.map(lambda x: x[i], infos)


def _cut(x: Array, size: int, fill: int) -> Array:
  """Pads axis 1 to a multiple of `size` and cuts it: [B,S,…] → [B,blocks,size,…]."""
  blocks = -(-x.shape[1] // size)
  padding = [(0, 0)] * x.ndim
  padding[1] = (0, blocks * size - x.shape[1])
  return jnp.pad(x, padding, constant_values=fill).reshape(x.shape[0], blocks, size, *x.shape[2:])


def _cut_info(info: MaskInfo, size: int) -> MaskInfo:
  """Fields [B,S] → [blocks,B,size]; what is added is padding."""
  cut = MaskInfo(segments=_cut(info.segments, size, PADDING_SEGMENT),
                 visual=_cut(info.visual, size, 0), index=_cut(info.index, size, 0))
  return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), cut)


def _cut_queries(q: Array, kv_heads: int, settings: _Settings) -> Array:
  """[B,Sq,N,H] → [I,B,K,G·Y,H]."""
  return rearrange(_cut(q, settings.block_q, 0), 'b i y (k g) h -> i b k (g y) h', k=kv_heads)


def _join_queries(blocks: Array, q: Array) -> Array:
  """[I,B,K,G·Y,H] → the shape of q, [B,Sq,N,H]."""
  group = q.shape[2] // blocks.shape[2]
  return rearrange(blocks, 'i b k (g y) h -> b (i y) (k g) h', g=group)[:, :q.shape[1]]


def _cut_keys(k: Array, settings: _Settings) -> Array:
  """[B,Sk,K,H] → [J,B,K,X,H]."""
  return rearrange(_cut(k, settings.block_k, 0), 'b j x k h -> j b k x h')


def _join_keys(blocks: Array, k: Array) -> Array:
  """[J,B,K,X,H] → the shape of k, [B,Sk,K,H]."""
  return rearrange(blocks, 'j b k x h -> b (j x) k h')[:, :k.shape[1]]
