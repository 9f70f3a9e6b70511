"""The one entry to attention under the mask: picks the implementation by name."""

from __future__ import annotations

from collections.abc import Callable

import jax

from molmo_jax.kernels.blockwise import attend_blockwise
from molmo_jax.kernels.mask import Bidirectional, MaskInfo
from molmo_jax.kernels.reference import attend_reference
from molmo_jax.kernels.short import attend_short

IMPLEMENTATIONS: dict[str, Callable[..., jax.Array]] = {
    'reference': attend_reference,
    'blockwise': attend_blockwise,
    'short': attend_short,
}

# 'auto' takes the plain form up to this many scores per row and head. Beyond, blockwise is faster:
# forward + backward 9 ms against 21 at 256 tokens, 74 against 229 at 512, 117 against 827 at 1024
# (12/4 heads × 64, fp32, CPU, 2 cores).
REFERENCE_MAX_SCORES = 256 * 256


def attend(q: jax.Array, k: jax.Array, v: jax.Array, q_info: MaskInfo, k_info: MaskInfo, *,
           bidirectional: Bidirectional, impl: str = 'auto',
           scale: float | None = None) -> jax.Array:
  """Softmax attention under the mask of `visible` (docs/model.md §4.2, §5.2).

  Args:
    q: [B,Sq,N,H]; k, v: [B,Sk,K,H], N a multiple of K.
    q_info, k_info: metadata of the queries [B,Sq] and of the keys [B,Sk].
    bidirectional: which visual tokens see each other, see `visible`.
    impl: 'reference', 'blockwise', 'short' (for training on short rows on CPU), or 'auto':
      the reference for few scores, Sq·Sk ≤ 256² (a decoding step over a
      cache of up to 65,536 tokens included), blockwise for more.
    scale: of the scores; 1/√H if not given.

  Returns:
    [B,Sq,N,H] in the dtype of `v`; zeros for queries that see no key.

  Raises:
    ValueError: an unknown `impl` or `bidirectional`, or shapes that do not fit together.
  """
  if impl == 'auto':
    impl = 'reference' if q.shape[1] * k.shape[1] <= REFERENCE_MAX_SCORES else 'blockwise'
  if impl not in IMPLEMENTATIONS:
    raise ValueError(f'attention implementation {impl!r} is unknown; valid ones: auto, '
      f'{", ".join(IMPLEMENTATIONS)}')
  return IMPLEMENTATIONS[impl](q, k, v, q_info, k_info, bidirectional, scale)
