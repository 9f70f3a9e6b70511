"""Golden runner: pooling and projector variants of the connector, and the whole image path
(docs/model.md §2, §3).

A folder holds `config.json` (`connector_cases`, `full_backbone_cases`), weights as safetensors
named `<case>.<original name>`, and an npz of arrays `<case>.<array>`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

from molmo_jax.model.config import ConnectorConfig, VitConfig
from molmo_jax.model.connector import Connector
from molmo_jax.model.vit import Vit

OUTPUT_TOLERANCE = 2e-5
GRADIENT_TOLERANCE = 1e-4          # absolute or relative
ACTIVATIONS = {'gelu_pytorch_tanh': 'gelu_tanh', 'quick_gelu': 'quick_gelu', 'gelu': 'gelu'}

Arrays = dict[str, np.ndarray]


def recognises(folder: Path) -> bool:
  """A JSON file with connector cases, beside weights and arrays."""
  return _config(folder) is not None and any(folder.glob('*.safetensors')) and any(
    folder.glob('*.npz'))


def run(folder: Path) -> list[tuple[str, str | None]]:
  """Checks every variant that the reference itself can run: (name, None) or (name, what is wrong).
  """
  config = _config(folder)
  weights, arrays = {}, {}
  for path in sorted(folder.glob('*.safetensors')):
    weights |= load_file(path)
  for path in sorted(folder.glob('*.npz')):
    with np.load(path) as data:
      arrays |= dict(data)
  results = []
  checks = (('connector_cases', _check_connector), ('full_backbone_cases', _check_backbone))
  for group, check in checks:
    for case in config.get(group, ()):
      if case.get('error'):   # the reference has no numbers for this variant
        continue
      name = case['name']
      own = lambda source, name=name: {k[len(name) + 1:]: v for k, v in source.items()
                                       if k.startswith(f'{name}.')}
      try:
        reason = check(case, own(weights), own(arrays))
      except Exception as error:   # a case that raises is a failed case, not the end of the run
        reason = f'{type(error).__name__}: {error}'.splitlines()[0]
      results.append((name, reason))
  return results


def _config(folder: Path) -> dict[str, Any] | None:
  for path in sorted(folder.glob('*.json')):
    try:
      config = json.loads(path.read_text())
    except (OSError, ValueError):
      continue
    if isinstance(config, dict) and 'connector_cases' in config:
      return config
  return None


def _check_connector(case: dict[str, Any], weights: Arrays, arrays: Arrays) -> str | None:
  config = ConnectorConfig(
    vit_layers=tuple(case['vit_layers']), pooling=case['image_pooling_2d'],
    pooling_mask=case['pooling_attention_mask'],
    heads=case['image_num_heads'], kv_heads=case['image_num_key_value_heads'],
    head_dim=case['image_head_dim'],
    width=case['image_emb_dim'], pool_slots=case['pool_window'], projector=case['image_projector'],
    hidden=case['llm_mlp_hidden_size'] // 2, padding_embed=case['image_padding_embed'])
  params = _connector_params(config, weights)
  connector = Connector(config, case['d_model'])
  rows = arrays['features'].shape[0]
  features = jnp.asarray(arrays['features']).reshape(rows, -1, arrays['features'].shape[-1])
  pool_index = jnp.asarray(arrays['pooled_patches_idx'].astype(np.int32))
  valid = (pool_index >= 0).any(-1)
  mask = None if 'image_masks' not in arrays else jnp.asarray(arrays['image_masks']).reshape(rows,
                                                                                             -1)

  def loss(params: Any, features: jax.Array) -> tuple[jax.Array, jax.Array]:
    out = connector.apply({'params': params}, features, pool_index, patch_mask=mask)
    return 0.5 * jnp.sum(jnp.where(valid[..., None], out, 0) ** 2), out

  (value, out), (param_grads, grads) = jax.value_and_grad(loss, (0, 1), has_aux=True)(params,
                                                                                      features)
  problem = (_differs('output', np.asarray(out)[np.asarray(valid)], arrays['output_valid_rows'],
                      OUTPUT_TOLERANCE)
             or _differs('loss', value, case['loss'], GRADIENT_TOLERANCE, relative=True)
             or _differs('gradient of the features',
                         np.asarray(grads).reshape(arrays['grad_features'].shape),
                         arrays['grad_features'], GRADIENT_TOLERANCE, relative=True))
  if problem:
    return problem
  expected = _connector_params(config, {n: np.float64(x) for n, x in case['param_grad_l2'].items()},
                               norms=True)
  ours = jax.tree.map(lambda g: np.sqrt(np.sum(np.square(np.asarray(g, np.float64)))), param_grads)
  norms = zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True)
  return next((p for a, b in norms
               if (p := _differs('norm of a gradient', a, b, GRADIENT_TOLERANCE, relative=True))),
              None)


def _check_backbone(case: dict[str, Any], weights: Arrays, arrays: Arrays) -> str | None:
  v = case['vit']
  vit_config = VitConfig(
    image_size=v['image_default_input_size'][0], patch_size=v['image_patch_size'],
    width=v['image_emb_dim'],
    layers=v['image_num_layers_in_config'], heads=v['image_num_heads'],
    head_dim=v['image_head_dim'],
    mlp=v['image_mlp_dim'], activation=ACTIVATIONS[v['image_mlp_activations']],
    norm_eps=v['image_norm_eps'],
    class_token='image_vit.class_embedding' in weights,
    pre_norm='image_vit.pre_ln.weight' in weights,
    patch_bias='image_vit.patch_embedding.bias' in weights)
  connector_config = ConnectorConfig(
    vit_layers=tuple(case['vit_layers']), pooling=case['image_pooling_2d'],
    pooling_mask=case['pooling_attention_mask'],
    heads=v['image_num_heads'], kv_heads=v['image_num_key_value_heads'],
    head_dim=v['image_head_dim'],
    width=v['image_emb_dim'], projector=case['image_projector'],
    hidden=case['llm_mlp_hidden_size'] // 2)

  images = jnp.asarray(arrays['images'])
  rows, crops = images.shape[:2]
  patches = images.reshape(rows * crops, *images.shape[2:])
  vit = Vit(vit_config, tuple(case['vit_layers_resolved']))
  built = vit_config.built(vit.read)
  if built != v['image_num_layers_built']:
    return f'{built} blocks are built, {v["image_num_layers_built"]} are needed'
  features = vit.apply({'params': _vit_params(vit_config, weights, built)}, patches,
                       method='encode')
  features = features.reshape(rows, crops * features.shape[1], -1)
  pool_index = jnp.asarray(arrays['pooled_patches_idx'].astype(np.int32))
  out = Connector(connector_config, case['d_model']).apply(
    {'params': _connector_params(connector_config, weights)}, features, pool_index)
  return (_differs('encoded image', features, arrays['encode_image'].reshape(features.shape),
                   OUTPUT_TOLERANCE)
          or _differs('output', np.asarray(out)[np.asarray((pool_index >= 0).any(-1))],
                      arrays['output_valid_rows'],
                      OUTPUT_TOLERANCE))


def _differs(what: str, ours: Any, expected: Any, tolerance: float,
             relative: bool = False) -> str | None:
  ours, expected = np.asarray(ours, np.float64), np.asarray(expected, np.float64)
  if ours.shape != expected.shape:
    return f'{what}: shape {ours.shape}, expected {expected.shape}'
  bound = tolerance * np.maximum(1.0, np.abs(expected)) if relative else tolerance
  worst = np.max(np.abs(ours - expected), initial=0.0)
  return None if np.all(np.abs(ours - expected) <= bound) else f'{what}: off by up to {worst:.2e}'


def _connector_params(config: ConnectorConfig, weights: dict[str, Any],
                      norms: bool = False) -> dict[str, Any]:
  """Original names → our tree; with `norms` the values are numbers and only the names change."""
  params: dict[str, Any] = {}

  def put(path: str, name: str, transform: Callable) -> None:
    if name in weights:
      *parents, leaf = path.split('/')
      node = params
      for parent in parents:
        node = node.setdefault(parent, {})
      node[leaf] = weights[name] if norms else jnp.asarray(transform(weights[name]))

  head_dim = config.head_dim * {'attention_meanq_2x': 2, 'attention_2wide': 2,
                                'attention_meanq_4x': 4}.get(
                                  config.pooling, 1)
  split = lambda w: w.T.reshape(w.shape[1], -1, head_dim)
  for ours, theirs in (('query', 'wq'), ('key', 'wk'), ('value', 'wv')):
    put(f'pooling/attention/{ours}/kernel', f'image_pooling_2d.{theirs}.weight', split)
    put(f'pooling/attention/{ours}/bias', f'image_pooling_2d.{theirs}.bias',
        lambda b: b.reshape(-1, head_dim))
  put('pooling/attention/out/kernel', 'image_pooling_2d.wo.weight',
      lambda w: w.T.reshape(-1, head_dim, w.shape[0]))
  put('pooling/attention/out/bias', 'image_pooling_2d.wo.bias', lambda b: b)
  for ours, theirs in (('gate', 'w1'), ('up', 'w3'), ('down', 'w2')):
    put(f'projector/mlp/{ours}/kernel', f'image_projector.{theirs}.weight', lambda w: w.T)
  put('projector/linear/kernel', 'image_projector.weight', lambda w: w.T)
  put('padding/vectors', 'pad_embed', lambda w: w)
  return params


def _vit_params(config: VitConfig, weights: Arrays, built: int) -> dict[str, Any]:
  heads = (config.heads, config.head_dim)
  block = 'image_vit.transformer.resblocks.{}.'
  stack = lambda name, f: jnp.stack([f(weights[block.format(i) + name]) for i in range(built)])
  linear = lambda name, kernel, bias: {'kernel': stack(f'{name}.weight', kernel),
                                       'bias': stack(f'{name}.bias', bias)}
  norm = lambda name: {'scale': stack(f'{name}.weight', lambda w: w),
                       'bias': stack(f'{name}.bias', lambda b: b)}
  plain = lambda name: linear(name, lambda w: w.T, lambda b: b)
  qkv = lambda name: linear(name, lambda w: w.T.reshape(config.width, *heads),
                            lambda b: b.reshape(heads))
  params = {
    'patch_embedding': {'kernel': jnp.asarray(weights['image_vit.patch_embedding.weight'].T)},
    'position_embedding': jnp.asarray(weights['image_vit.positional_embedding']),
    'blocks': {
      'query': qkv('attention.wq'), 'key': qkv('attention.wk'), 'value': qkv('attention.wv'),
      'out': linear('attention.wo', lambda w: w.T.reshape(*heads, config.width), lambda b: b),
      'up': plain('feed_forward.w1'), 'down': plain('feed_forward.w2'),
      'attention_norm': norm('attention_norm'), 'mlp_norm': norm('ffn_norm')}}
  if config.patch_bias:
    params['patch_embedding']['bias'] = jnp.asarray(weights['image_vit.patch_embedding.bias'])
  if config.class_token:
    params['class_embedding'] = jnp.asarray(weights['image_vit.class_embedding'])
  if config.pre_norm:
    params['pre_norm'] = {'scale': jnp.asarray(weights['image_vit.pre_ln.weight']),
                          'bias': jnp.asarray(weights['image_vit.pre_ln.bias'])}
  return params
