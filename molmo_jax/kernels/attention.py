"""The door of attention: which form computes it, and what every device of a mesh sees.

Under the mask, each device sees the whole sequence of its rows, for some of the heads (Ulysses,
arXiv 2309.14509):

                            all-to-all                               all-to-all
    [B, S/context, N/tensor, H]  ──►  [B, S, N/(tensor·context), H]  ──►  as before
                                                 attend

The mask needs nothing new: its O(S) metadata are whole on every device, so it is exact whatever the
mesh. Inside `shard_map` each device skips the blocks that its own rows leave empty, and no loop
waits for another device.

Letters of shapes: `B` rows, `S` tokens of a row, `N` query heads, `K` key/value heads, `H` head
dim; `C` crops, `P` patches of a crop.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
from jax import Array
from jax.sharding import PartitionSpec as P

from molmo_jax.kernels import cpu
from molmo_jax.kernels.blockwise import attend_blockwise
from molmo_jax.kernels.mask import Bidirectional, MaskInfo
from molmo_jax.kernels.reference import attend_reference
from molmo_jax.parallel.activations import CROPS, HEADS, ROWS, axes_for, constrain, current_mesh
from molmo_jax.parallel.mesh import check_heads

IMPLEMENTATIONS: dict[str, Callable[..., Array]] = {
  'reference': attend_reference, 'blockwise': attend_blockwise, 'short': cpu.attend_short}

# 'auto' takes the plain form up to this many scores per row and head. Beyond, blockwise is faster:
# forward + backward 9 ms against 21 at 256 tokens, 74 against 229 at 512, 117 against 827 at 1024
# (12/4 heads × 64, fp32, CPU, 2 cores).
REFERENCE_MAX_SCORES = 256 * 256
# crops whose scores exist together, but on CPU
CROPS_AT_ONCE = 8


def attend(q: Array, k: Array, v: Array, info: MaskInfo, *,
           bidirectional: Bidirectional, impl: str = 'auto') -> Array:
  """Softmax self-attention of whole rows under the mask of `visible` (docs/model.md §4.2, §5.2).

  Args:
    q: [B,S,N,H]; k, v: [B,S,K,H], N a multiple of K.
    info: metadata of the tokens, [B,S].
    bidirectional: which visual tokens see each other, see `visible`.
    impl: 'reference', 'blockwise', 'short' (for training on short rows on CPU), or 'auto': the
      reference for few scores, S² ≤ 256², blockwise for more.

  Returns:
    [B,S,N,H] in the dtype of `v`; zeros for queries that see no key.

  Raises:
    ValueError: an unknown `impl` or `bidirectional`, or shapes that do not fit together.
    ConfigError: the mesh cuts heads into more parts than there are key/value heads.
  """
  if impl == 'auto':
    impl = 'reference' if q.shape[1] ** 2 <= REFERENCE_MAX_SCORES else 'blockwise'
  if impl not in IMPLEMENTATIONS:
    raise ValueError(f'attention implementation {impl!r} is unknown; valid ones: auto, '
                     f'{", ".join(IMPLEMENTATIONS)}')

  def whole_rows(q: Array, k: Array, v: Array, info: MaskInfo) -> Array:
    return IMPLEMENTATIONS[impl](q, k, v, info, info, bidirectional)

  mesh = current_mesh()
  if mesh is None:
    return whole_rows(q, k, v, info)
  check_heads(k.shape[2], mesh.shape['context'], mesh.shape['tensor'])
  rows = axes_for(q.shape[0], ROWS)
  heads = P(rows, None, HEADS)
  q, k, v = (constrain(x, (ROWS, 'context', 'tensor')) for x in (q, k, v))
  out = jax.shard_map(whole_rows, in_specs=(heads, heads, heads, P(rows)), out_specs=heads,
                      check_vma=False)(q, k, v, info)
  return constrain(out, (ROWS, 'context', 'tensor'))


def attend_patches(q: Array, k: Array, v: Array) -> Array:
  """Softmax attention of the vision tower: every patch of a crop sees every patch of it, no mask
  (docs/model.md §2).

  Scores are scaled by 1/√H; scores and softmax are float32. Only q, k and v are kept for the
  backward pass, which computes the scores again. On a mesh, crops are spread over data, fsdp and
  context, and heads over tensor.

  Args:
    q, k, v: [C,P,N,H] of one shape.

  Returns:
    [C,P,N,H] in the dtype of `v`.

  Raises:
    ValueError: the arrays are not [C,P,N,H] of one shape.
  """
  if not (q.ndim == 4 and q.shape == k.shape == v.shape):
    raise ValueError('attend_patches needs q, k and v of one shape [C,P,N,H], got '
                     f'{q.shape}, {k.shape}, {v.shape}')
  form = cpu.on_cpu(cpu.attend_crops, otherwise=_attend_some_crops)
  if current_mesh() is None:
    return form(q, k, v)
  spec = P(axes_for(q.shape[0], CROPS), None, axes_for(q.shape[2], 'tensor'))
  return jax.shard_map(form, in_specs=(spec, spec, spec), out_specs=spec, check_vma=False)(q, k, v)


def _attend_some_crops(q: Array, k: Array, v: Array) -> Array:
  """Some crops at a time: the scores of one crop of 729 patches and 16 heads are 34 MB."""
  attend_one = jax.checkpoint(
    lambda qkv: jax.nn.dot_product_attention(*(x[None] for x in qkv)).astype(v.dtype)[0])
  return jax.lax.map(attend_one, (q, k, v), batch_size=CROPS_AT_ONCE)
