"""The decoder: its two embedding tables, its variants, rotary scaling per layer, and dropout by
position.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from molmo_jax.kernels.mask import mask_info
from molmo_jax.model.config import ModelConfig, YarnConfig
from molmo_jax.model.llm import Decoder, Embedding
from tests.model.tiny import build, close, config

S = 5
X = jax.random.normal(jax.random.key(0), (2, S, 16))
POSITIONS = jnp.broadcast_to(jnp.arange(S), (2, S))
INFO = mask_info(jnp.zeros((2, S), jnp.int32), jnp.zeros((2, S), jnp.int32))


@functools.partial(jax.jit, static_argnums=0)
def decode_all(c, params, x, weights=None, key=None):
  return Decoder(c).apply({'params': params}, x, POSITIONS, INFO, weights, key)[0]


def rms(x, weight, eps=1e-6):
  return x / np.sqrt((x ** 2).mean(-1, keepdims=True) + eps) * weight


def expected(c: ModelConfig, params, x):
  """The decoder in plain numpy, layer by layer and head by head (docs/model.md §4.2, §4.3)."""
  l, x = c.llm, np.asarray(x, np.float64)
  params = jax.tree.map(lambda w: np.asarray(w, np.float64), params)
  half = l.head_dim // 2
  for i in range(l.layers):
    p = jax.tree.map(lambda w, i=i: w[i], params['blocks'])
    frequency, factor = l.rope_theta ** (-np.arange(half) * 2 / l.head_dim), 1.0
    if i in l.yarn.layers:
      turns = lambda n: l.head_dim * np.log(l.yarn.original_length
                                            / (n * 2 * np.pi)) / (2 * np.log(l.rope_theta))
      low, high = max(np.floor(turns(l.yarn.beta_fast)), 0), min(np.ceil(turns(l.yarn.beta_slow)),
                                                                 l.head_dim - 1)
      ramp = np.clip((np.arange(half) - low) / (high - low), 0, 1)
      frequency, factor = frequency * (
        1 - ramp) + frequency / l.yarn.factor * ramp, l.yarn.attention_factor
    angle = np.arange(S)[:, None] * frequency
    cos, sin = np.cos(angle) * factor, np.sin(angle) * factor

    def attention(h, p=p, cos=cos, sin=sin):
      a = p['attention']
      project = lambda n: np.einsum('bsd,dnh->bnsh', h,
                                    a[n]['kernel']) + (a[n]['bias'][:, None] if l.qkv_bias else 0)
      q, k, v = project('query'), project('key'), project('value')
      def norm(y, name):
        if l.qk_norm == 'full':
          flat = y.swapaxes(1, 2).reshape(2, S, -1)
          return rms(flat, a[name]['scale']).reshape(2, S, -1, l.head_dim).swapaxes(1, 2)
        return rms(y, a[name]['scale']) if l.qk_norm == 'head' else y
      def turn(y):
        one, two = y[..., :half], y[..., half:]
        return np.concatenate([one * cos - two * sin, two * cos + one * sin], -1)
      q, k = turn(norm(q, 'query_norm')), turn(norm(k, 'key_norm'))
      k, v = (np.repeat(y, l.heads // l.kv_heads, axis=1) for y in (k, v))
      scores = np.where(np.tri(S, dtype=bool), q @ k.swapaxes(-1, -2) / np.sqrt(l.head_dim),
                        -np.inf)
      weights = np.exp(scores - scores.max(-1, keepdims=True))
      y = weights / weights.sum(-1, keepdims=True) @ v
      return np.einsum('bnsh,nhd->bsd', y, a['out']['kernel'])

    def mlp(h, p=p):
      gate = h @ p['mlp']['gate']['kernel']
      return (gate / (1 + np.exp(-gate))
              * (h @ p['mlp']['up']['kernel'])) @ p['mlp']['down']['kernel']

    for layer, scale in ((attention, p['attention_norm']['scale']), (mlp, p['mlp_norm']['scale'])):
      x = x + (layer(rms(x, scale)) if l.norm_order == 'pre' else rms(layer(x), scale))
  return rms(x, params['norm']['scale'])


@pytest.mark.parametrize('llm', [
  dict(qk_norm='head', norm_order='pre'),
  dict(qk_norm='full', norm_order='post', kv_heads=4, yarn=YarnConfig(layers=(1,))),
  dict(qk_norm='none', norm_order='pre', qkv_bias=True, kv_heads=1)],
                         ids=['qwen3', 'olmo', 'qwen2'])
def test_the_decoder_equals_a_plain_loop(llm):
  c = config(llm=llm)
  params = build(c)[1]['decoder']
  assert np.allclose(decode_all(c, params, X), expected(c, params, X), atol=2e-5)


def test_yarn_acts_on_its_layers_only():
  def run(layers):
    c = config(llm=dict(yarn=YarnConfig(layers=layers)))
    return decode_all(c, build(c)[1]['decoder'], X)
  none, first, second, both = run(()), run((0,)), run((1,)), run((0, 1))
  results = [none, first, second, both]
  assert not any(close(results[i], results[j], 1e-3) for i in range(4) for j in range(i))


@pytest.mark.parametrize('kv_heads, qk_norm, bias',
                         [(2, 'head', False), (1, 'full', True), (4, 'none', False)])
def test_variants_have_the_parameters_that_they_need(kv_heads, qk_norm, bias):
  c = config(llm=dict(kv_heads=kv_heads, qk_norm=qk_norm, qkv_bias=bias))
  attention = build(c)[1]['decoder']['blocks']['attention']
  assert attention['query']['kernel'].shape == (2, 16, 4, 8)
  assert attention['key']['kernel'].shape == attention['value']['kernel'].shape == (2, 16, kv_heads,
                                                                                    8)
  assert ('bias' in attention['query']) == bias
  norms = {'head': (8, 8), 'full': (32, 8 * kv_heads), 'none': None}[qk_norm]
  if norms is None:
    assert 'query_norm' not in attention
  else:
    assert (attention['query_norm']['scale'].shape[1],
            attention['key_norm']['scale'].shape[1]) == norms


def test_head_counts_that_do_not_divide_are_an_error():
  with pytest.raises(ValueError, match='model.llm.heads=4 must be a multiple of kv_heads=3'):
    config(llm=dict(kv_heads=3))


def embedding(tied):
  c = config(llm=dict(tied=tied)).llm
  params = build(config(llm=dict(tied=tied)))[1]['embedding']
  return c, Embedding(c), params


def test_ids_from_the_vocabulary_on_use_the_table_of_extra_tokens():
  c, layer, params = embedding(tied=False)
  found = layer.apply({'params': params}, jnp.array([[0, c.vocab - 1, c.vocab, c.vocab + 7]]))
  assert np.array_equal(found[0], [params['base'][0], params['base'][-1], params['extra'][0],
                                   params['extra'][7]])


def test_extra_tokens_in_a_padded_base_table_leave_the_second_one_unread():
  c = config(llm=dict(extra_from=34)).llm                # six rows of padding, up to 40
  assert (c.first_extra_id, config().llm.first_extra_id) == (34, 40)
  params = build(config(llm=dict(extra_from=34)))[1]['embedding']
  ids = jnp.array([[33, 34, 39]])
  look_up = lambda p: Embedding(c).apply({'params': p}, ids)
  assert np.array_equal(look_up(params)[0], params['base'][ids[0]])
  gradients = jax.grad(lambda p: jnp.sum(look_up(p)))(params)
  assert not gradients['extra'].any()
  assert gradients['base'][34].all()


def test_extra_tokens_cannot_start_beyond_both_tables():
  with pytest.raises(ValueError, match='model.llm.extra_from=41.* may start at vocab=40 at most'):
    config(llm=dict(extra_from=41))


def test_padding_looks_up_the_first_row():
  _, layer, params = embedding(tied=False)
  assert np.array_equal(layer.apply({'params': params}, jnp.array([[-1]]))[0, 0], params['base'][0])


@pytest.mark.parametrize('tied', [True, False])
def test_the_head_is_the_base_table_if_tied_and_a_matrix_of_its_own_if_not(tied):
  c, layer, params = embedding(tied)
  assert ('head' in params) != tied
  head = layer.apply({'params': params}, method='head_kernel')
  assert head.shape == (c.vocab, c.width)
  assert np.array_equal(head, params['base' if tied else 'head'])


def test_response_dropout_acts_at_positions_with_a_loss_weight_only():
  c = config(llm=dict(response_residual_dropout=0.5, layers=1))
  params = build(c)[1]['decoder']
  weights = jnp.zeros((2, S)).at[0, 3].set(0.3)
  quiet, noisy = decode_all(c, params, X, weights), decode_all(c, params, X, weights,
                                                               jax.random.key(1))
  changed = np.abs(noisy - quiet).max(-1) > 1e-4
  assert changed.tolist() == [[False, False, False, True, False], [False] * S]


def test_residual_dropout_acts_everywhere_and_only_with_a_key():
  c = config(llm=dict(residual_dropout=0.5, layers=1))
  params = build(c)[1]['decoder']
  quiet = decode_all(c, params, X)
  noisy = decode_all(c, params, X, None, jax.random.key(1))
  assert close(quiet, decode_all(config(llm=dict(layers=1)), params, X))
  assert (np.abs(noisy - quiet).max(-1) > 1e-4).all()
  assert not close(noisy, decode_all(c, params, X, None, jax.random.key(2)), 1e-3)


def test_response_dropout_without_loss_weights_is_an_error():
  c = config(llm=dict(response_residual_dropout=0.5, layers=1))
  with pytest.raises(ValueError, match='model.llm.response_residual_dropout needs loss_weights'):
    decode_all(c, build(c)[1]['decoder'], X, None, jax.random.key(0))


def test_every_layer_draws_its_own_dropout():
  c = config(llm=dict(residual_dropout=0.5))
  key = jax.random.key(0)
  rate, keys = Decoder(c)._dropout(None, key)
  assert float(rate) == 0.5
  assert len({tuple(np.asarray(jax.random.key_data(k))) for k in keys}) == 2
