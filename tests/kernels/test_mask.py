from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from molmo_jax.kernels.blockwise import needed_blocks
from molmo_jax.kernels.mask import MODES, MaskInfo, mask_info, visible
from tests.kernels.rows import draw_rows

# '#' visible in every mode, 'o' ahead in the same image, '+' ahead in a later image, '.' never.
DRAWING = """
    B 1 1 2 2 a a b b B 3 3 c _
  B # . . . . . . . . . . . . .
  1 # # o + + . . . . . . . . .
  1 # # # + + . . . . . . . . .
  2 # # # # o . . . . . . . . .
  2 # # # # # . . . . . . . . .
  a # # # # # # . . . . . . . .
  a # # # # # # # . . . . . . .
  b # # # # # . . # . . . . . .
  b # # # # # . . # # . . . . .
  B . . . . . . . . . # . . . .
  3 . . . . . . . . . # # o . .
  3 . . . . . . . . . # # # . .
  c . . . . . . . . . # # # # .
  _ . . . . . . . . . . . . . .
"""
VISIBLE = {'none': '#', 'within_image': '#o', 'image_tokens': '#o+'}


def drawn(mode: str) -> np.ndarray:
  lines = [line.split()[1:] for line in DRAWING.strip().splitlines()[1:]]
  return np.array([[mark in VISIBLE[mode] for mark in line] for line in lines])


def drawn_info() -> MaskInfo:
  return draw_rows('p1122aabb|t33t_')


@pytest.mark.parametrize('mode', MODES)
def test_mask_equals_the_drawing(mode):
  info = drawn_info()
  np.testing.assert_array_equal(np.asarray(visible(info, info, mode))[0], drawn(mode))


def test_drawing_is_the_one_in_the_docstring():
  typed = [line.split() for line in DRAWING.strip().splitlines()]
  documented = [line.split()[:len(typed[0]) + 1] for line in inspect.getdoc(visible).splitlines()]
  start = next(i for i, line in enumerate(documented) if line[:len(typed[0])] == typed[0])
  assert documented[start + 1:start + len(typed)] == typed[1:]


@pytest.mark.parametrize('mode', MODES)
def test_any_slice_of_queries_and_keys_gives_that_part_of_the_mask(mode):
  info = drawn_info()
  queries, keys = jax.tree.map(lambda x: x[:, 5:9], info), jax.tree.map(lambda x: x[:, 2:8], info)
  np.testing.assert_array_equal(np.asarray(visible(queries, keys, mode))[0], drawn(mode)[5:9, 2:8])


def test_one_new_token_sees_a_cache_whose_empty_slots_are_padding():
  cache = mask_info([[0, 0, 0, 0, -1, -1]], [[0, 2, 2, 0, 0, 0]], [[0, 1, 2, 3, 0, 0]])
  token = mask_info([[0]], [[0]], [[3]])
  np.testing.assert_array_equal(visible(token, cache, 'image_tokens')[0],
                                [[True] * 4 + [False] * 2])


def test_keys_in_another_order_keep_their_places():
  info = drawn_info()
  order = np.random.default_rng(0).permutation(info.index.shape[1])
  shuffled = jax.tree.map(lambda x: x[:, order], info)
  np.testing.assert_array_equal(np.asarray(visible(info, shuffled, 'within_image'))[0],
                                drawn('within_image')[:, order])


def test_later_branch_and_later_example_do_not_see_earlier_ones():
  info = draw_rows('p1ab|p2ab')
  mask = np.asarray(visible(info, info, 'image_tokens'))[0]
  assert not mask[3, 2] and not mask[4:, :4].any() and not mask[:4, 4:].any()


def test_mask_info_is_a_pytree_that_crosses_jit():
  info = drawn_info()
  again = jax.jit(lambda x: x)(info)
  assert isinstance(again, MaskInfo)
  assert len(jax.tree.leaves(info)) == 3


def test_unknown_mode_is_an_error_that_lists_the_valid_ones():
  info = drawn_info()
  with pytest.raises(ValueError, match='none, image_tokens, within_image'):
    visible(info, info, 'images')


def test_metadata_of_different_shapes_is_an_error():
  with pytest.raises(ValueError, match=r'\[B,S\]'):
    mask_info(jnp.zeros((1, 4)), jnp.zeros((1, 5)))


def blocks(info: MaskInfo, size: int) -> MaskInfo:
  return jax.tree.map(lambda x: x.reshape(x.shape[0], -1, size).swapaxes(0, 1), info)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize(
  'row', ['p1122aabb|t33t___', '____p1p2aaaabbbb', 'p0p1p2aa|1122t___', 'tttttttt|tttttttt'])
def test_needed_blocks_hold_every_visible_entry(mode, row):
  info = draw_rows(row)
  needed = np.asarray(needed_blocks(blocks(info, 4), blocks(info, 2), mode))
  full = np.asarray(visible(info, info, mode))[0].reshape(4, 4, 8, 2).any((1, 3))
  assert not (full & ~needed).any()


def test_empty_blocks_of_causal_order_examples_branches_images_and_padding_are_skipped():
  info = blocks(draw_rows('1122aabb|t3tt____'), 2)
  needed = np.asarray(needed_blocks(info, info, 'within_image')).astype(int)
  np.testing.assert_array_equal(needed, [[1, 0, 0, 0, 0, 0, 0, 0],
                                         [1, 1, 0, 0, 0, 0, 0, 0],
                                         [1, 1, 1, 0, 0, 0, 0, 0],
                                         [1, 1, 0, 1, 0, 0, 0, 0],
                                         [0, 0, 0, 0, 1, 0, 0, 0],
                                         [0, 0, 0, 0, 1, 1, 0, 0],
                                         [0, 0, 0, 0, 0, 0, 0, 0],
                                         [0, 0, 0, 0, 0, 0, 0, 0]])
  assert np.asarray(needed_blocks(info, info, 'image_tokens'))[0, 1]
  assert not np.asarray(needed_blocks(info, info, 'none'))[0, 1]
