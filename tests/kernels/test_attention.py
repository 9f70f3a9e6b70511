from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from molmo_jax.kernels.attention import IMPLEMENTATIONS, REFERENCE_MAX_SCORES, attend
from molmo_jax.kernels.blockwise import attend_blockwise
from molmo_jax.kernels.cpu import attend_short
from molmo_jax.kernels.mask import MODES, mask_info, visible
from molmo_jax.kernels.reference import attend_reference
from tests.kernels.rows import draw_rows

# 41 tokens: no multiple of the blocks below
# two images and branches, packed with text and an image
ROWS = ('p111p2222aabbbcc|p33tttt|111t____',
        '________________p111p222p333ttttttttttttt',     # left padding, a video with timestamps
        'p1122aaaa|p11p22p33p4aaabbbb|tttttttt')       # image tree, video tree, text
blockwise = functools.partial(attend_blockwise, blocks=(8, 16))
ALL = {'reference': attend_reference, 'blockwise': blockwise, 'short': attend_short}


@pytest.fixture(autouse=True)
def full_precision():
  with jax.default_matmul_precision('highest'):
    yield


def arrays(length, heads=4, kv_heads=2, rows=3, dim=8, dtype=jnp.float32):
  """q, k, v and a direction for the gradient."""
  random = np.random.default_rng(length + 10 * heads + kv_heads)
  return [jnp.asarray(random.standard_normal((rows, length, n, dim)), dtype)
          for n in (heads, kv_heads, kv_heads, heads)]


def value(attention, mode, q, k, v, q_info, k_info, scale=None):
  return jax.jit(lambda *x: attention(*x, mode, scale))(q, k, v, q_info, k_info)


def value_and_gradients(attention, mode, info, q, k, v, direction):
  """The output, and the gradients of its product with `direction`, from one jitted function."""
  @jax.jit
  def run(q, k, v, info):
    out, pull = jax.vjp(lambda q, k, v: attention(q, k, v, info, info, mode), q, k, v)
    return out, *pull(direction.astype(out.dtype))
  return run(q, k, v, info)


def numpy_attention(q, k, v, mask):
  """One head at a time, float64, written out."""
  out = np.zeros(q.shape)
  groups = q.shape[2] // k.shape[2]
  for row, query, head in np.ndindex(q.shape[:3]):
    keys = np.flatnonzero(mask[row, query])
    if len(keys):
      scores = k[row, keys, head // groups].astype(np.float64) @ q[row, query, head] / math.sqrt(
        q.shape[-1])
      weights = np.exp(scores - scores.max())
      out[row, query, head] = weights / weights.sum() @ v[row, keys, head // groups]
  return out


@pytest.mark.parametrize('kv_heads', [1, 2, 4])
def test_reference_equals_softmax_written_out(kv_heads):
  info = draw_rows(*ROWS)
  q, k, v, _ = arrays(info.index.shape[1], kv_heads=kv_heads)
  mask = np.asarray(visible(info, info, 'within_image'))
  expected = numpy_attention(*map(np.asarray, (q, k, v)), mask)
  np.testing.assert_allclose(value(attend_reference, 'within_image', q, k, v, info, info), expected,
                             atol=2e-6)


@pytest.mark.parametrize('attention', [blockwise, attend_short], ids=['blockwise', 'short'])
@pytest.mark.parametrize(('mode', 'kv_heads'), [*((mode, 2) for mode in MODES), ('image_tokens', 1),
                                                ('within_image', 4)])
def test_every_form_equals_the_reference_in_values_and_gradients(mode, kv_heads, attention):
  info = draw_rows(*ROWS)
  inputs = arrays(info.index.shape[1], kv_heads=kv_heads)
  expected = value_and_gradients(attend_reference, mode, info, *inputs)
  got = value_and_gradients(attention, mode, info, *inputs)
  np.testing.assert_allclose(got[0], expected[0], atol=2e-6)
  for a, b in zip(got[1:], expected[1:], strict=True):
    np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize('attention', ALL.values(), ids=ALL)
def test_padding_gives_zeros_and_zero_gradients_even_in_a_row_of_nothing_else(attention):
  info = draw_rows('t1122t____', '__________')
  inputs = arrays(10, rows=2)
  padding = np.asarray(info.segments) == -1
  for array in value_and_gradients(attention, 'image_tokens', info, *inputs):
    assert np.isfinite(array).all()
    assert not np.asarray(array)[padding].any()
    assert np.asarray(array)[~padding].any()


@pytest.mark.parametrize('attention', ALL.values(), ids=ALL)
def test_huge_scores_stay_finite(attention):
  info = draw_rows('t1122t____')
  q, k, v, direction = arrays(10, rows=1)
  for array in value_and_gradients(attention, 'image_tokens', info, 1e4 * q, 1e4 * k, v, direction):
    assert np.isfinite(array).all()


def test_bfloat16_accumulates_in_float32():
  info = draw_rows(*ROWS)
  inputs = arrays(info.index.shape[1], dtype=jnp.bfloat16)
  expected = value_and_gradients(attend_reference, 'image_tokens', info,
                                 *(x.astype(jnp.float32) for x in inputs))
  for attention in ALL.values():
    for a, b in zip(value_and_gradients(attention, 'image_tokens', info, *inputs), expected,
                    strict=True):
      assert a.dtype == jnp.bfloat16
      np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.02 * float(jnp.abs(b).max()))


@pytest.mark.parametrize('attention', ALL.values(), ids=ALL)
def test_queries_of_a_shard_see_the_keys_of_the_whole_row(attention):
  info = draw_rows(*ROWS)
  q, k, v, _ = arrays(info.index.shape[1])
  part = jax.tree.map(lambda x: x[:, 20:31], info)
  whole = value(attend_reference, 'image_tokens', q, k, v, info, info)
  got = value(attention, 'image_tokens', q[:, 20:31], k, v, part, info)
  np.testing.assert_allclose(got, whole[:, 20:31], atol=2e-6)


def test_scale_replaces_the_root_of_the_head_dim():
  info = draw_rows(ROWS[0])
  q, k, v, _ = arrays(info.index.shape[1], rows=1)
  expected = value(attend_reference, 'none', 2 * q, k, v, info, info)
  for attention in ALL.values():
    np.testing.assert_allclose(value(attention, 'none', q, k, v, info, info, 2 / math.sqrt(8)),
                               expected, atol=2e-6)


def test_blockwise_works_inside_scan_and_checkpoint():
  info = draw_rows(*ROWS)
  q, k, v, direction = arrays(info.index.shape[1])
  layers = jnp.array([0.5, 1.0, 1.5])

  def stack(attention, q, k, v, info):
    def layer(x, weight):
      return x + attention(weight * x, k, v, info, info, 'within_image'), None
    return jnp.sum(jax.lax.scan(jax.checkpoint(layer), q, layers)[0] * direction)

  got, expected = (jax.jit(jax.grad(functools.partial(stack, f), (0, 1, 2)))(q, k, v, info)
                   for f in (blockwise, attend_reference))
  for a, b in zip(got, expected, strict=True):
    np.testing.assert_allclose(a, b, atol=5e-5)


def test_blocks_that_nothing_needs_are_not_computed():
  """Keys of another packed example are NaN: a block that is computed spreads them, a skipped one
  does not.
  """
  info = draw_rows('t' * 16 + '|' + 't' * 16)
  q, k, v, direction = arrays(32, rows=1)
  first = jnp.arange(32)[:, None, None] < 16
  k, v = jnp.where(first, jnp.nan, k), jnp.where(first, jnp.nan, v)
  out, dq, dk, dv = value_and_gradients(blockwise, 'image_tokens', info, q, k, v, direction)
  assert all(np.isfinite(x[:, 16:]).all() for x in (out, dq, dk, dv))


LONG = 8192


def long_gradient(attention):
  shapes = [jax.ShapeDtypeStruct((1, LONG, n, 8), jnp.float32) for n in (4, 2, 2)]
  info = jax.eval_shape(mask_info, *2 * [jax.ShapeDtypeStruct((1, LONG), jnp.int32)])
  gradient = jax.value_and_grad(lambda q, k, v,
                                i: jnp.sum(attention(q, k, v, i, i, 'image_tokens')), (0, 1, 2))
  return gradient, (*shapes, info)


def largest_array(jaxpr) -> int:
  """Elements of the largest array that a jaxpr, or one inside it, makes."""
  largest = 0
  for equation in jaxpr.eqns:
    largest = max([largest, *(math.prod(getattr(v.aval, 'shape', ())) for v in equation.outvars)])
    for inner in jax.tree.leaves(equation.params,
                                 is_leaf=lambda x: hasattr(x, 'eqns') or hasattr(x, 'jaxpr')):
      inner = getattr(inner, 'jaxpr', inner)
      if hasattr(inner, 'eqns'):
        largest = max(largest, largest_array(inner))
  return largest


def test_blockwise_makes_no_array_of_all_pairs():
  sizes = {}
  for attention in (attend_reference, attend_blockwise):
    gradient, arguments = long_gradient(attention)
    sizes[attention] = largest_array(jax.make_jaxpr(gradient)(*arguments).jaxpr)
  assert sizes[attend_reference] == 4 * LONG * LONG
  assert sizes[attend_blockwise] < LONG * LONG / 16


def test_blockwise_needs_little_memory_at_8192_tokens():
  gradient, arguments = long_gradient(attend_blockwise)
  temporary = jax.jit(gradient).lower(*arguments).compile().memory_analysis().temp_size_in_bytes
  assert temporary < LONG * LONG * 4 * 4 / 20


@pytest.mark.skipif(jax.device_count() < 4, reason='needs 4 devices')
def test_rows_and_heads_sharded_over_devices_are_not_gathered():
  mesh = jax.make_mesh((2, 2), ('data', 'tensor'), axis_types=(AxisType.Auto,) * 2,
                       devices=jax.devices()[:4])
  info = draw_rows(*ROWS[:2])
  q, k, v, direction = arrays(info.index.shape[1], rows=2)

  def gradients(q, k, v, info):
    return jax.grad(lambda *x: jnp.sum(blockwise(*x, info, info, 'image_tokens') * direction),
                    (0, 1, 2))(q, k, v)

  heads = NamedSharding(mesh, PartitionSpec('data', None, 'tensor'))
  sharded = (*(jax.device_put(x, heads) for x in (q, k, v)),
             jax.device_put(info, NamedSharding(mesh, PartitionSpec('data'))))
  compiled = jax.jit(gradients, out_shardings=heads).lower(*sharded).compile()
  assert 'all-gather' not in compiled.as_text()
  for a, b in zip(compiled(*sharded), jax.jit(gradients)(q, k, v, info), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-5)


def test_dispatch_by_name_and_by_size(monkeypatch):
  taken = []
  for name in list(IMPLEMENTATIONS):
    monkeypatch.setitem(IMPLEMENTATIONS, name, lambda q, *_, name=name: taken.append(name))
  side = math.isqrt(REFERENCE_MAX_SCORES)
  for impl, length in [('reference', 4096), ('blockwise', 4), ('auto', side), ('auto', side + 1)]:
    attend(*3 * [jnp.zeros((1, length, 1, 1))], None, bidirectional='none', impl=impl)
  assert taken == ['reference', 'blockwise', 'reference', 'blockwise']


def test_unknown_implementation_is_an_error_that_lists_the_valid_ones():
  info = draw_rows('tttt')
  with pytest.raises(ValueError,
                     match="'flash' is unknown; valid ones: auto, reference, blockwise"):
    attend(*arrays(4, rows=1)[:3], info, bidirectional='none', impl='flash')


@pytest.mark.parametrize('attention', ALL.values(), ids=ALL)
def test_wrong_shapes_and_modes_are_errors(attention):
  info = draw_rows('tttt')
  q, k, v, _ = arrays(4, rows=1)
  with pytest.raises(ValueError, match='N a multiple of K'):
    attention(q[:, :, :3], k, v, info, info, 'none')
  with pytest.raises(ValueError, match=r'metadata \(1, 3\)'):
    attention(q, k, v, jax.tree.map(lambda x: x[:, :3], info), info, 'none')
  with pytest.raises(ValueError, match='none, image_tokens, within_image'):
    attention(q, k, v, info, info, 'all')


def test_block_of_no_tokens_is_an_error():
  info = draw_rows('tttt')
  with pytest.raises(ValueError, match='at least 1 token'):
    attend_blockwise(*arrays(4, rows=1)[:3], info, info, 'none', blocks=(0, 16))
