"""The mixture of experts: every form equals the definition, token by token, whatever the experts
that are chosen.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from molmo_jax.model.moe import MixtureOfExperts, mix_every_expert, mix_sorted, per_device
from molmo_jax.parallel.mesh import MeshConfig, make_mesh
from tests.inference.test_generate import continued, generate
from tests.model.tiny import batch, build, close, config, logits, row

EXPERTS, CHOSEN, WIDTH, HIDDEN = 6, 2, 8, 4
X = jax.random.normal(jax.random.key(0), (8, 5, WIDTH))
LAYER = MixtureOfExperts(EXPERTS, CHOSEN, HIDDEN)


@pytest.fixture(scope='module')
def params():
  shapes = jax.eval_shape(LAYER.init, jax.random.key(0), X)['params']
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.5, leaf.shape), leaf.dtype), shapes)


def one_token(x, p):
  """The definition in plain numpy: [D] → [D]."""
  scores = np.exp(x @ p['router']['kernel'])
  scores = scores / scores.sum()
  y = np.zeros_like(x)
  for e in np.argsort(-scores)[:CHOSEN]:
    gate = x @ p['gate'][e]
    y += scores[e] * ((gate / (1 + np.exp(-gate)) * (x @ p['up'][e])) @ p['down'][e])
  return y


def expected(x, params):
  p = jax.tree.map(lambda w: np.asarray(w, np.float64), params)
  return np.apply_along_axis(one_token, -1, np.asarray(x, np.float64), p)


def choice(params, x=X):
  scores = jax.nn.softmax(x @ params['router']['kernel'], axis=-1)
  return (*jax.lax.top_k(scores, CHOSEN), params['gate'], params['up'], params['down'])


def test_every_token_gets_the_weighted_sum_of_its_most_likely_experts(params):
  assert np.allclose(jax.jit(LAYER.apply)({'params': params}, X), expected(X, params), atol=1e-5)


def test_weights_are_shares_of_all_experts_and_not_renormalised(params):
  doubled = params | {name: jnp.broadcast_to(params[name][:1], params[name].shape)
                      for name in ('gate', 'up', 'down')}
  gate, up = X @ params['gate'][0], X @ params['up'][0]
  one_expert = (jax.nn.silu(gate) * up) @ params['down'][0]
  shares = choice(params)[0].sum(-1, keepdims=True)
  assert np.allclose(LAYER.apply({'params': doubled}, X), shares * one_expert, atol=1e-5)
  assert shares.max() < 0.99


@pytest.mark.parametrize('form', [mix_sorted, mix_every_expert], ids=['sorted', 'every expert'])
def test_forms_agree_forwards_and_backwards(params, form):
  target = jax.random.normal(jax.random.key(1), X.shape)

  def loss(form, x, params):
    weights, chosen, *kernels = choice(params, x)
    return jnp.sum(form(x, weights, chosen, *kernels) * target)

  def plain(x, weights, chosen, gate, up, down):
    picked = lambda kernel: jnp.take(kernel, chosen, axis=0)       # [B,S,k,·,·]
    h = jax.nn.silu(jnp.einsum('bsd,bskdf->bskf', x, picked(gate))) * jnp.einsum('bsd,bskdf->bskf',
                                                                                 x, picked(up))
    return jnp.einsum('bskf,bskfd,bsk->bsd', h, picked(down), weights)

  ours, reference = (jax.jit(jax.value_and_grad(lambda x, p, f=f: loss(f, x, p), (0, 1)))(X, params)
                     for f in (form, plain))
  assert close(ours, reference, 2e-5)


@pytest.mark.parametrize('form', [mix_sorted, mix_every_expert], ids=['sorted', 'every expert'])
def test_no_token_is_dropped_when_all_choose_the_same_experts(params, form):
  router = params['router']['kernel'].at[:].set(0).at[:, 3].set(1).at[:, 1].set(0.5)
  crowded = params | {'router': {'kernel': router}}
  x = jnp.abs(X)
  weights, chosen, *kernels = choice(crowded, x)
  assert (np.asarray(chosen) == [3, 1]).all()
  assert np.allclose(form(x, weights, chosen, *kernels), expected(x, crowded), atol=1e-5)


@pytest.mark.parametrize('mesh', [MeshConfig(data=8, fsdp=1), MeshConfig(fsdp=4, tensor=2),
                                  MeshConfig(tensor=8, fsdp=1)],
                         ids=['data 8', 'fsdp 4 × tensor 2', 'tensor 8, which does not divide'])
@pytest.mark.parametrize('form', [mix_sorted, mix_every_expert], ids=['sorted', 'every expert'])
def test_a_mesh_gives_the_same_numbers_and_gradients(params, form, mesh):
  def run(x, params):
    weights, chosen, *kernels = choice(params, x)
    return jnp.sum(jnp.sin(per_device(form)(x, weights, chosen, *kernels)))
  gradient = jax.value_and_grad(run, (0, 1))
  alone = jax.jit(gradient)(X, params)
  mesh = make_mesh(mesh)
  with jax.set_mesh(mesh):
    x = jax.device_put(X, jax.NamedSharding(mesh, P(('data', 'fsdp'))))
    assert close(jax.jit(gradient)(x, params), alone, 2e-5)


def test_devices_sort_their_own_tokens_only(params):
  mesh = make_mesh(MeshConfig(fsdp=8))
  with jax.set_mesh(mesh):
    x = jax.device_put(X, jax.NamedSharding(mesh, P(('data', 'fsdp'))))
    args = jax.device_put(choice(params)[:2], jax.NamedSharding(mesh, P(('data', 'fsdp'))))
    program = jax.jit(per_device(mix_sorted)).lower(x, *args,
                                                    *choice(params)[2:]).compile().as_text()
  sorts = [line for line in program.splitlines() if ' sort(' in line]
  # 5 tokens of one row, each twice
  assert sorts and all(f'[{5 * CHOSEN}]' in line for line in sorts)
  assert 'all-gather' not in program


def test_the_decoder_takes_experts_in_place_of_its_mlp():
  c = config(llm=dict(experts=5, experts_per_token=3, mlp=6))
  mlp = build(c)[1]['decoder']['blocks']['mlp']
  assert jax.tree.map(jnp.shape, mlp) == dict(router=dict(kernel=(2, 16, 5)), gate=(2, 5, 16, 6),
                                              up=(2, 5, 16, 6),
                                              down=(2, 5, 6, 16))


def test_answers_from_the_cache_equal_full_forward_passes():
  model, params = build(config(llm=dict(experts=5, experts_per_token=3, mlp=6)))
  prompt = row(3, seed=4)
  made = np.asarray(generate(model, params, batch(prompt), max_new_tokens=3, eos_ids=(-7,)))[0]
  text = continued(prompt, made[:-1])
  scores = np.asarray(logits(model, params, batch(text)))[0, 2:]
  # the best up to rounding, which depends on the processor
  assert np.allclose(np.take_along_axis(scores, made[:, None], 1)[:, 0], scores.max(-1), atol=1e-5)


def test_more_experts_per_token_than_experts_are_an_error():
  with pytest.raises(ValueError, match='model.llm.experts_per_token=8 must be from 1 to experts=4'):
    config(llm=dict(experts=4))
