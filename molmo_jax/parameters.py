"""Parameters by name: the '/'-paths that sharding, optimiser groups and checkpoints share."""

from __future__ import annotations

import math
from typing import Any

import jax


def path_name(path: tuple) -> str:
  """'decoder/blocks/mlp/up/kernel' of a key path as JAX's tree functions give it."""
  return '/'.join(str(getattr(k, 'key', getattr(k, 'name', getattr(k, 'idx', k)))) for k in path)


def flatten_paths(tree: Any) -> dict[str, Any]:
  """The leaves of a tree by their paths, in the tree's order."""
  return {path_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def count(tree: Any) -> int:
  """Number of parameters; takes arrays or shapes."""
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
