"""Golden runner: whole tiny Molmo v1 models, from normalised patches to losses, gradients and
generated tokens.

A folder holds cases of three files each: a JSON file with `model_config` and `special_token_ids`,
an npz of arrays (`in.*`, `gen.*`, intermediates) and safetensors with the original names of v1
(docs/model.md §3.2, §9.3). The files of a case are those whose names start alike. A case takes
three programs: the stages of a forward pass, the gradients, and all searches of its prompts;
compiling them is nearly all of the time.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from molmo_jax.inference.beam import search_from
from molmo_jax.inference.generate import begin, extend
from molmo_jax.inference.sampling import GREEDY
from molmo_jax.kernels.mask import mask_info
from molmo_jax.model.connector import PaddingEmbedding
from molmo_jax.model.llm import Block
from molmo_jax.model.molmo import Network
from molmo_jax.model.pooling import MEAN_QUERY, SCALE, Pooling, gather_windows, mean_over_slots
from molmo_jax.model.rotary import rotary_tables
from molmo_jax.model.vit import Vit
from molmo_jax.training.step import batch_loss
from tests.golden.runners.v1_case import Arrays, Case, find_cases, load_case, make_batch, to_theirs

FEATURES, LOGITS, SCORES = 5e-5, 1e-4, 2e-4      # absolute
LOSS, GRADIENT = 1e-5, 1e-3                      # relative
Z_LOSS = 1e-4
Outcome = tuple[str, str | None]                 # what was compared, and what is wrong


def recognises(folder: Path) -> bool:
  """A JSON file with the configuration of a v1 model, beside weights and arrays."""
  return bool(find_cases(folder)) and any(folder.glob('*.safetensors*')) and any(
    folder.glob('*.npz*'))


def run(folder: Path) -> list[tuple[str, str | None]]:
  """Checks every stage of every case: (case and stage, None) or (case and stage, what is wrong)."""
  results = []
  for path, meta in find_cases(folder):
    try:
      case = load_case(path, meta)
    except Exception as error:
      # a case that cannot be read is a failed case, not the end of the run
      results.append((path.name, f'{type(error).__name__}: {error}'.splitlines()[0]))
      continue
    for check in (check_forward, check_gradients, check_generation):
      try:
        found = list(check(case))
      except Exception as error:
        found = [(check.__name__.removeprefix('check_'),
                  f'{type(error).__name__}: {error}'.splitlines()[0])]
      results += [(f'{case.name}: {what}', problem) for what, problem in found]
  return results


def check_forward(case: Case) -> Iterator[Outcome]:
  """Intermediates of the vision part and of the decoder, logits, and the losses of tokens."""
  c, given, batch = case.config, case.arrays, make_batch(case, 'in')
  ours = {name: np.asarray(x) for name, x in stages(case.model, case.params, batch).items()}
  # those that are not padding
  tokens, crops = batch['segments'] >= 0, ~(given['in.images'] == -1).all((-1, -2))
  per_crop = lambda x: x.reshape(*crops.shape, -1, x.shape[-1])[crops]
  hidden = np.split(ours['vit'], len(c.connector.vit_layers), axis=-1)
  for i, features in zip(c.connector.vit_layers, hidden, strict=True):
    expected = given[f'vit_hidden[{i}]'][:, int(c.vit.class_token):]
    yield compare(f'vit_hidden[{i}]', features[crops.reshape(-1)], expected[crops.reshape(-1)],
                  FEATURES)
  for name in ('features_after_pad_embed', 'pool_query', 'pooled', 'image_features'):
    if name in ours and name in given:
      yield compare(name, per_crop(ours[name]), per_crop(given[name]), FEATURES)
  for i, x in enumerate([*ours['block_inputs'], ours['last_hidden']]):
    yield compare(f'hidden_states[{i}]', x[tokens], given[f'hidden_states[{i}]'][tokens], FEATURES)
  logits = ours['logits']
  yield compare('logits', logits[tokens], given['logits'][tokens], LOGITS)
  weights, targets = batch['loss_weights'], np.clip(batch['targets'], 0, logits.shape[-1] - 1)
  log_z = np.logaddexp.reduce(logits.astype(np.float64), axis=-1)
  picked = np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  yield compare('ce_per_token', weights * (log_z - picked), given['ce_per_token'], LOGITS)
  yield compare('zloss_per_token', Z_LOSS * weights * log_z ** 2, given['zloss_per_token'], LOGITS)


@functools.partial(jax.jit, static_argnums=0)
def stages(model: Network, params: Any, batch: Arrays) -> dict[str, jax.Array]:
  """What a forward pass computes on the way, by the names of the golden arrays."""
  c = model.config
  kept = lambda module, method: isinstance(module, (Vit, PaddingEmbedding, Pooling)) or method in (
    'embed', 'visual_features')
  hidden, state = model.apply({'params': params}, batch, capture_intermediates=kept,
                              mutable=['intermediates'])
  seen = state['intermediates']
  vit, (x,) = seen['vit']['__call__'][0], seen['embed']
  features = seen['connector']['padding']['__call__'][0] if 'padding' in seen['connector'] else vit
  features = features.reshape(len(batch['tokens']), -1, features.shape[-1])
  out = {'vit': vit, 'features_after_pad_embed': features,
         'image_features': seen['visual_features'][0]}
  if c.connector.pooling in SCALE:
    windows, valid = gather_windows(features, batch['pool_index'])
    mean = c.connector.pooling in MEAN_QUERY
    out['pool_query'] = mean_over_slots(windows, jnp.ones_like(valid)) if mean else windows[:, :, 0]
    out['pooled'] = seen['connector']['pooling']['__call__'][0]

  info = mask_info(batch['segments'], batch['visual'])
  table = rotary_tables(batch['positions'], c.llm.head_dim, c.llm.rope_theta, c.llm.yarn)[0]
  block = lambda x, p: (Block(c).apply({'params': p}, x, table, info)[0], x)
  _, out['block_inputs'] = jax.lax.scan(block, x, params['decoder']['blocks'])
  return out | {'last_hidden': hidden,
                'logits': model.apply({'params': params}, hidden, method='logits')}


def check_gradients(case: Case) -> Iterator[Outcome]:
  """The loss of the batch, and of its gradients the norm, the sum and the first numbers."""
  given = case.arrays
  (total, metrics), gradients = value_and_gradients(case.model, case.params, make_batch(case, 'in'))
  for name, ours in (('total_loss', total), ('ce_loss', metrics['loss']),
                     ('z_loss', total - metrics['loss'])):
    # the z-loss is a difference of the others
    yield compare(name, ours, given[name], LOSS * abs(float(total)))
  theirs = to_theirs(gradients)
  for name in sorted(theirs.keys() ^ case.meta['grads'].keys()):
    yield f'gradient of {name}', 'is on one side only'
  for name in sorted(theirs.keys() & case.meta['grads'].keys()):
    yield f'gradient of {name}', _gradient_problem(theirs[name], case.meta['grads'][name])


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradients(model: Network, params: Any, batch: Arrays) -> Any:
  loss = lambda p: batch_loss(model, p, batch, z_loss=Z_LOSS, chunk=batch['tokens'].shape[1])
  return jax.value_and_grad(loss, has_aux=True)(params)


def _gradient_problem(ours: np.ndarray, expected: dict[str, Any] | None) -> str | None:
  ours = ours.astype(np.float64).reshape(-1)
  if not expected or expected['l2'] is None:   # takes no part
    expected = dict(l2=0, sum=0, first=[])
  bound = GRADIENT * expected['l2'] + 1e-6
  found = (compare('norm', np.sqrt(np.sum(ours ** 2)), expected['l2'], bound),
           compare('first numbers', ours[:len(expected['first'])], expected['first'], bound),
           compare('sum', ours.sum(), expected['sum'], bound * ours.size ** 0.5))
  return '; '.join(f'{what}: {problem}' for what, problem in found if problem) or None


def check_generation(case: Case) -> Iterator[Outcome]:
  """Greedy answers and those of beam searches, with their log-probabilities."""
  eos = case.meta['eos_token_id']
  # there, an answer repeats its end
  ended = lambda tokens: np.where(np.asarray(tokens) < 0, eos, tokens)
  names = sorted(n for n in case.arrays if re.fullmatch(r'gen\..*_tokens', n))
  sizes = tuple(case.arrays[n].shape[1:] for n in names)
  found = searches(case.model, case.params, make_batch(case, 'gen'), sizes, eos)
  for name, (beams, greedy) in zip(names, found, strict=True):
    expected, scores = case.arrays[name], name.replace('_tokens', '_scores')
    for how, tokens in (('', beams.tokens), (' (greedy)', greedy)):
      if tokens is not None:
        same = np.array_equal(ended(tokens).reshape(expected.shape), expected)
        yield name + how, (None if same else
                           f'{ended(tokens).tolist()}, expected {expected.tolist()}')
    yield compare(scores, beams.scores, case.arrays[scores], SCORES)


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def searches(model: Network, params: Any, prompt: Arrays, sizes: tuple[tuple[int, int], ...],
             eos: int) -> list:
  """For each (beams, tokens) the beams, and the greedy answer where there is one beam."""
  out = []
  for beams, length in sizes:
    answers = begin(model, params, prompt, length)
    out.append((search_from(model, params, answers, GREEDY, beams=beams, max_new_tokens=length,
                            eos_ids=(eos,)),
                extend(model, params, answers, length, (eos,)).tokens if beams == 1 else None))
  return out


def compare(what: str, ours: Any, expected: Any, tolerance: float) -> Outcome:
  """Whether arrays are the same within `tolerance`; NaN is never."""
  ours, expected = np.asarray(ours, np.float64), np.asarray(expected, np.float64)
  if ours.shape != expected.shape:
    return what, f'shape {ours.shape}, expected {expected.shape}'
  if not np.all(np.abs(ours - expected) <= tolerance):
    return what, f'off by up to {np.max(np.abs(ours - expected)):.2e}'
  return what, None
