"""The few layers that everything else is made of: a matrix product, two norms, dropout, and a stack
of equal blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from molmo_jax.kernels.cpu import product

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
  'gelu_tanh': lambda x: jax.nn.gelu(x, approximate=True),
  'gelu': lambda x: jax.nn.gelu(x, approximate=False),
  'quick_gelu': lambda x: x * jax.nn.sigmoid(1.702 * x), 'silu': jax.nn.silu}


def fan_in_normal(fan_in: int, residual_layers: int = 0) -> Callable:
  """Normal with standard deviation 1/√fan_in; 0.016…0.02 at the released sizes (docs/model.md §3.3
  asks for 0.02).

  What is added to the residual stream of a tower starts smaller, by 1/√(2·`residual_layers`), so
  that the stream keeps its size whatever the depth.
  """
  std = 1 / math.sqrt(fan_in * max(2 * residual_layers, 1))
  return lambda key, shape, dtype=jnp.float32: jax.random.normal(key, shape, dtype) * std


class Einsum(nn.Module):
  """`einsum(equation, x, kernel) [+ bias]`, the only matrix product with a weight.

  Attributes:
    equation: two operands, for example 'bsd,dnh->bsnh'; the kernel is the second.
    shape: shape of the kernel.
    bias_shape: shape of the bias, or None.
    dtype: both operands are cast to it; the parameters stay as they are stored.
    kernel_init: initialiser of the kernel; by default normal with 1/√(product of contracted axes).
  """
  equation: str
  shape: tuple[int, ...]
  bias_shape: tuple[int, ...] | None = None
  dtype: Any = jnp.float32
  kernel_init: Callable | None = None

  @nn.compact
  def __call__(self, x: Array) -> Array:
    _, kernel_axes, out = self.equation.replace('->', ',').split(',')
    fan_in = math.prod(n for axis, n in zip(kernel_axes, self.shape) if axis not in out)
    kernel = self.param('kernel', self.kernel_init or fan_in_normal(fan_in), self.shape)
    y = product(self.equation, x.astype(self.dtype), kernel.astype(self.dtype))
    if self.bias_shape is not None:
      y = y + self.param('bias', nn.initializers.zeros, self.bias_shape).astype(self.dtype)
    return y


class RMSNorm(nn.Module):
  """x / rms(x) in float32, cast back to x's dtype, then times the weight (docs/model.md §4.2)."""
  eps: float

  @nn.compact
  def __call__(self, x: Array) -> Array:
    scale = self.param('scale', nn.initializers.ones, (x.shape[-1],))
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.eps)
    return y.astype(x.dtype) * scale.astype(x.dtype)


class LayerNorm(nn.Module):
  """LayerNorm with weight and bias, computed in float32."""
  eps: float

  @nn.compact
  def __call__(self, x: Array) -> Array:
    scale = self.param('scale', nn.initializers.ones, (x.shape[-1],))
    bias = self.param('bias', nn.initializers.zeros, (x.shape[-1],))
    y = x.astype(jnp.float32)
    y = y - jnp.mean(y, axis=-1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.eps)
    return (y * scale + bias).astype(x.dtype)


def dropout(x: Array, rate: float | Array, key: Array | None) -> Array:
  """Inverted dropout; `rate` is a number or broadcasts against x. Without a key x comes back
  unchanged.
  """
  if key is None:
    return x
  keep = 1.0 - jnp.asarray(rate, jnp.float32)
  kept = jax.random.bernoulli(key, jnp.broadcast_to(keep, x.shape))
  return jnp.where(kept, x / keep.astype(x.dtype), jnp.zeros_like(x))


def init_stack(block: nn.Module, layers: int, *example_inputs: Any) -> Callable:
  """An initialiser for `layers` equal blocks: every parameter of `block` with a leading layer axis.
  """
  def init(key: Array) -> Any:
    return jax.vmap(lambda k: block.init(k, *example_inputs)['params'])(
      jax.random.split(key, layers))
  return init


def apply_stack(body: Callable, stack: Any, carry: Any, per_layer: Any, remat: str, unroll: int = 1
                ) -> tuple[Any, Any]:
  """`lax.scan` of `body` over the layer axis, rematerialised by policy: compile time and program
  size do not depend on the number of layers.

  Args:
    body: `(params, carry, per_layer) → (carry, output)`, one layer.
    stack: parameters of all layers, with a leading layer axis.
    carry: what goes from layer to layer.
    per_layer: other inputs of every layer, with a leading layer axis, or None.
    remat: 'none' keeps every intermediate, 'dots' the results of matrix products without batch
      axes, 'full' only each layer's input, 'offload' keeps that in the host's memory.
    unroll: layers that are written out per step of the scan, which saves copies on CPU.

  Returns:
    The last carry, and the outputs of all layers.
  """
  policies = jax.checkpoint_policies

  def step(carry: Any, xs: Any) -> tuple[Any, Any]:
    if remat == 'offload':
      carry = checkpoint_name(carry, 'layer input')
    return body(xs[0], carry, xs[1])

  if remat != 'none':
    policy = {'full': None, 'dots': policies.dots_with_no_batch_dims_saveable,
              'offload': policies.save_and_offload_only_these_names(
                  names_which_can_be_saved=[], names_which_can_be_offloaded=['layer input'],
                  offload_src='device', offload_dst='pinned_host')}[remat]
    step = jax.checkpoint(step, policy=policy, prevent_cse=False)
  return jax.lax.scan(step, carry, (stack, per_layer), unroll=unroll)
