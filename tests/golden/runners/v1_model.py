"""Golden runner: whole tiny Molmo v1 models, from normalised patches to losses, gradients and generated tokens.

A folder holds cases of three files each: a JSON file with `model_config` and `special_token_ids`, an npz of arrays
(`in.*`, `gen.*`, intermediates) and safetensors with the original names of v1 (spec/model §3.2, §9.3). The files of a
case are those whose names start alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from molmo_jax.inference.beam import beam_search
from molmo_jax.inference.generate import generate
from molmo_jax.kernels.mask import mask_info
from molmo_jax.model.config import resolve_vit_layers
from molmo_jax.model.connector import PaddingEmbedding
from molmo_jax.model.layers import RMSNorm
from molmo_jax.model.llm import Block
from molmo_jax.model.pooling import MEAN_QUERY, SCALE, Pooling, gather_windows, mean_over_slots
from molmo_jax.model.rotary import rotary_tables
from molmo_jax.model.vit import Vit, normalize_crops, patchify
from molmo_jax.training.step import batch_loss
from tests.golden.runners.v1_case import Arrays, Case, find_cases, load_case, make_batch, to_theirs

FEATURES, LOGITS, SCORES = 5e-5, 1e-4, 2e-4      # absolute
LOSS, GRADIENT = 1e-5, 1e-3                      # relative
Z_LOSS = 1e-4


def recognises(folder: Path) -> bool:
  """A JSON file with the configuration of a v1 model, beside weights and arrays."""
  return bool(find_cases(folder)) and any(folder.glob('*.safetensors*')) and any(folder.glob('*.npz*'))


def run(folder: Path) -> list[tuple[str, str | None]]:
  """Checks every stage of every case: (case and stage, None) or (case and stage, what is wrong)."""
  results = []
  for path, meta in find_cases(folder):
    try:
      case = load_case(path, meta)
    except Exception as error:   # a case that cannot be read is a failed case, not the end of the run
      results.append((path.name, f'{type(error).__name__}: {error}'.splitlines()[0]))
      continue
    for stage, check in CHECKS.items():
      try:
        problems = list(check(case))
      except Exception as error:
        problems = [f'{type(error).__name__}: {error}'.splitlines()[0]]
      results.append((f'{case.name}: {stage}', '; '.join(problems[:3]) or None))
  return results


def check_vision(case: Case) -> Iterator[str]:
  """Blocks of the tower, padding embedding, pooling and projector, for all crops that are not padding alone."""
  c, params, given, batch = case.config, case.params, case.arrays, make_batch(case, 'in')
  crops = batch['crops'].reshape(-1, *batch['crops'].shape[2:])
  patches = patchify(normalize_crops(crops, c.vit.normalize), c.vit.patch_size)
  real = ~(given['in.images'] == -1).all((-1, -2))
  apply = lambda module, p, *args: jax.jit(module.apply)({'params': p}, *args)
  read = resolve_vit_layers(c.connector.vit_layers, c.vit.layers)
  features = apply(Vit(c.vit, read), params['vit'], patches)
  for i, hidden in zip(c.connector.vit_layers, np.split(np.asarray(features), len(read), axis=-1), strict=True):
    expected = given[f'vit_hidden[{i}]'][:, int(c.vit.class_token):]
    yield from differs(f'vit_hidden[{i}]', hidden[real.reshape(-1)], expected[real.reshape(-1)], FEATURES)
  features = features.reshape(len(real), -1, features.shape[-1])
  if c.connector.padding_embed is not None:
    mask = batch['patch_mask'].reshape(len(real), -1)
    features = apply(PaddingEmbedding(c.connector), params['connector']['padding'], features, mask)
  per_crop = lambda x: np.asarray(x).reshape(*real.shape, -1, x.shape[-1])[real]
  yield from differs('features_after_pad_embed', per_crop(features), per_crop(given['features_after_pad_embed']),
                     FEATURES)
  if c.connector.pooling in SCALE:
    windows, valid = gather_windows(features, batch['pool_index'])
    query = mean_over_slots(windows, jnp.ones_like(valid)) if c.connector.pooling in MEAN_QUERY else windows[:, :, 0]
    yield from differs('pool_query', per_crop(query), per_crop(given['pool_query']), FEATURES)
    pooled = apply(Pooling(c.connector), params['connector']['pooling'], features, batch['pool_index'])
    yield from differs('pooled', per_crop(pooled), per_crop(given['pooled']), FEATURES)
  visual = jax.jit(lambda p, b: case.model.apply({'params': p}, b, method='visual_features'))(params, batch)
  yield from differs('image_features', per_crop(visual), per_crop(given['image_features']), FEATURES)


def check_decoder(case: Case) -> Iterator[str]:
  """Inputs of every block, the last hidden states, logits and losses of tokens."""
  c, params, given, batch = case.config, case.params, case.arrays, make_batch(case, 'in')
  real = batch['segments'] >= 0
  x = jax.jit(lambda p, b: case.model.apply({'params': p}, b, method='embed'))(params, batch)
  info = mask_info(batch['segments'], batch['visual'])
  table = rotary_tables(jnp.asarray(batch['positions']), c.llm.head_dim, c.llm.rope_theta, c.llm.yarn)[0]
  block = jax.jit(lambda p, x: Block(c).apply({'params': p}, x, table, info)[0])
  for i in range(c.llm.layers):
    yield from differs(f'hidden_states[{i}]', np.asarray(x)[real], given[f'hidden_states[{i}]'][real], FEATURES)
    x = block(jax.tree.map(lambda w, i=i: w[i], params['decoder']['blocks']), x)
  x = RMSNorm(c.llm.norm_eps).apply({'params': params['decoder']['norm']}, x)
  yield from differs('hidden_states at the end', np.asarray(x)[real],
                     given[f'hidden_states[{c.llm.layers}]'][real], FEATURES)

  run = jax.jit(lambda p, b: case.model.apply({'params': p}, case.model.apply({'params': p}, b), method='logits'))
  logits = np.asarray(run(params, batch))
  yield from differs('logits', logits[real], given['logits'][real], LOGITS)
  weights, targets = batch['loss_weights'], np.clip(batch['targets'], 0, logits.shape[-1] - 1)
  log_z = np.logaddexp.reduce(logits.astype(np.float64), axis=-1)
  picked = np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  yield from differs('ce_per_token', weights * (log_z - picked), given['ce_per_token'], LOGITS)
  yield from differs('zloss_per_token', Z_LOSS * weights * log_z ** 2, given['zloss_per_token'], LOGITS)


def check_loss(case: Case) -> Iterator[str]:
  """The loss of the batch, and of its gradients the norm, the sum and the first numbers."""
  batch, given = make_batch(case, 'in'), case.arrays
  loss = lambda p: batch_loss(case.model, p, batch, z_loss=Z_LOSS, chunk=64)
  (total, metrics), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(case.params)
  for name, ours in (('total_loss', total), ('ce_loss', metrics['loss'])):
    yield from differs(name, ours, given[name], LOSS * abs(float(given[name])))
  theirs = to_theirs(gradients, case.meta['param_shapes'])
  for name, expected in case.meta['grads'].items():
    ours = theirs[name].astype(np.float64).reshape(-1)
    if not expected or expected['l2'] is None:   # takes no part
      expected = dict(l2=0, sum=0, first=[])
    bound = GRADIENT * expected['l2'] + 1e-6
    yield from differs(f'norm of the gradient of {name}', np.sqrt(np.sum(ours ** 2)), expected['l2'], bound)
    yield from differs(f'gradient of {name}', ours[:len(expected['first'])], expected['first'], bound)
    yield from differs(f'sum of the gradient of {name}', ours.sum(), expected['sum'], bound * ours.size ** 0.5)


def check_generation(case: Case) -> Iterator[str]:
  """Greedy answers and those of beam searches, with their log-probabilities."""
  prompt, eos = make_batch(case, 'gen'), case.meta['eos_token_id']
  ended = lambda tokens: np.where(np.asarray(tokens) < 0, eos, tokens)   # there, an answer repeats its end
  for name in sorted(n for n in case.arrays if re.fullmatch(r'gen\..*_tokens', n)):
    expected, scores = case.arrays[name], name.replace('_tokens', '_scores')
    options = dict(max_new_tokens=expected.shape[-1], eos_ids=(eos,))
    found = beam_search(case.model, case.params, prompt, beams=expected.shape[1], **options)
    if not np.array_equal(ended(found.tokens), expected):
      yield f'{name}: {ended(found.tokens).tolist()}, expected {expected.tolist()}'
    yield from differs(scores, found.scores, case.arrays[scores], SCORES)
    if expected.shape[1] == 1:
      greedy = ended(generate(case.model, case.params, prompt, **options))
      if not np.array_equal(greedy, expected[:, 0]):
        yield f'{name}: greedy {greedy.tolist()}, expected {expected[:, 0].tolist()}'


CHECKS = {'vision': check_vision, 'decoder and logits': check_decoder, 'loss and gradients': check_loss,
          'generation': check_generation}


def differs(what: str, ours: Any, expected: Arrays | Any, tolerance: float) -> Iterator[str]:
  """One line if arrays are not the same within `tolerance`."""
  ours, expected = np.asarray(ours, np.float64), np.asarray(expected, np.float64)
  if ours.shape != expected.shape:
    yield f'{what}: shape {ours.shape}, expected {expected.shape}'
  elif not np.all(np.abs(ours - expected) <= tolerance):
    yield f'{what}: off by up to {np.max(np.abs(ours - expected)):.2e}'
