"""Golden learning rates, losses with their gradients, and runs of AdamW and Lion: JSON files known
by their content.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from molmo_jax.parameters import flatten_paths
from molmo_jax.training.loss import loss_sums
from molmo_jax.training.optimizer import (
  GroupConfig,
  OptimizerConfig,
  group_norms,
  make_optimizer,
  schedule_of,
)

DEFAULT_WARMUP_START = 0.1       # of the peak, where the data names none
_MIN = {'rate': 1e-12, 'gradient': 1e-6, 'parameter': 2e-6}
_RELATIVE = {'rate': 1e-9, 'loss': 1e-5}

Result = tuple[str, str | None]


def recognises(folder: Path) -> bool:
  """A folder with learning rates, or with losses and optimizer runs beside their arrays."""
  return any(_is_rates(data) or _is_runs(data) for _, data in _files(folder))


def run(folder: Path) -> list[Result]:
  """Every learning rate, every loss and every step of an optimizer is a case."""
  results: list[Result] = []
  for path, data in _files(folder):
    if _is_rates(data):
      results += _rates(path.stem, data)
    elif _is_runs(data):
      arrays = _arrays(folder, data)
      for case in data['losses']:
        results.append((f'loss {case["key"]}', _attempt(_loss, case, arrays)))
      for case in data['optimizers']:
        results.append((f'{case["optimizer"]} {case["key"]}', _attempt(_optimizer, case, arrays)))
  return results


def _files(folder: Path) -> Iterator[tuple[Path, Any]]:
  for path in sorted(folder.glob('*.json')):
    try:
      yield path, json.loads(path.read_text())
    except (OSError, ValueError):
      continue


def _is_rates(data: Any) -> bool:
  given = data[0].get('input') if isinstance(data, list) and data and isinstance(data[0],
                                                                                 dict) else None
  return isinstance(given, dict) and {'peak_lr', 'warmup_steps'} <= given.keys()


def _is_runs(data: Any) -> bool:
  return isinstance(data, dict) and {'losses', 'optimizers'} <= data.keys()


def _arrays(folder: Path, data: Any) -> dict[str, np.ndarray]:
  """The npz file of the folder that holds the first case's arrays."""
  first = f'{data["losses"][0]["key"]}.logits' if data[
    'losses'] else f'{data["optimizers"][0]["key"]}.init.'
  for path in sorted(folder.glob('*.npz*')):
    arrays = np.load(path, allow_pickle=False)
    if any(name.startswith(first) for name in arrays.files):
      return dict(arrays)
  raise FileNotFoundError(f'{folder} has no npz file with {first}')


def _attempt(check: Any, case: Any, arrays: dict[str, np.ndarray]) -> str | None:
  try:
    return check(case, arrays)
  except Exception as error:   # whatever goes wrong is this case's result
    return f'{type(error).__name__}: {error}'


def _rates(file: str, rows: list[Any]) -> list[Result]:
  """All rows of one schedule at once, in float64."""
  schedules: dict[tuple, list[Any]] = {}
  for row in rows:
    schedules.setdefault(tuple(v for k, v in row['input'].items() if k != 'step'), []).append(row)
  results = []
  with jax.enable_x64(True):
    for same in schedules.values():
      given = same[0]['input']
      start = given['warmup_min_lr']
      group = GroupConfig('.*', given['peak_lr'], given['warmup_steps'],
                          given['peak_lr'] * DEFAULT_WARMUP_START if start is None else start)
      config = OptimizerConfig({'all': group}, min_lr_ratio=given['alpha_f'],
                               schedule_steps=given['t_max'] or 0)
      steps = np.array([row['input']['step'] for row in same], np.int64)
      found = np.asarray(schedule_of(group, config, given['max_steps'])(steps - 1))
      for row, value in zip(same, found.tolist(), strict=True):
        name = (f'{file} {row["input"].get("setting")} {row["input"].get("group")} step '
          f'{row["input"]["step"]}')
        good = np.isclose(value, row['expected'], rtol=_RELATIVE['rate'], atol=_MIN['rate'])
        results.append((name, None if good else f'{value!r}, expected {row["expected"]!r}'))
  return results


def _loss(case: Any, arrays: dict[str, np.ndarray]) -> str | None:
  """The logits stand for hidden states under a head that is the identity."""
  get = lambda name: jnp.asarray(arrays[f'{case["key"]}.{name}'])
  logits, weights = get('logits'), jnp.maximum(get('loss_masks'), 0)
  targets, scale = get('labels').astype(jnp.int32), case['z_loss_scale']

  def total(x: jax.Array) -> tuple[jax.Array, Any]:
    sums = loss_sums(x, jnp.eye(x.shape[-1]), targets, weights, chunk=4)
    return (sums.cross_entropy + scale * sums.z) / sums.weight, sums
  (loss, sums), gradient = jax.value_and_grad(total, has_aux=True)(logits)
  found = dict(ce_weighted_sum=sums.cross_entropy, z_weighted_sum=scale * sums.z,
               divisor=sums.weight,
               ce_loss=sums.cross_entropy / sums.weight, z_loss=scale * sums.z / sums.weight,
               total_loss=loss,
               weighted_accuracy=sums.correct / sums.weight)
  wrong = [f'{name} {float(value):.7g}, expected {case[name]:.7g}' for name, value in found.items()
           if not np.isclose(value, case[name], rtol=_RELATIVE['loss'], atol=0)]
  error = float(np.abs(np.asarray(gradient) - np.asarray(get('grad_logits'))).max())
  if error > _MIN['gradient']:
    wrong.append(f'the gradient differs by {error:.2g}')
  return '; '.join(wrong) or None


def _optimizer(case: Any, arrays: dict[str, np.ndarray]) -> str | None:
  """All steps of one run, with the parameters as a nested dict."""
  get = lambda what: _nested(
    {name: arrays[f'{case["key"]}.{what}.{name}'] for name in case['param_shapes']})
  params = get('init')
  groups = {name: GroupConfig(f'{name}/', peak, case['warmup'][name], case['warmup_min_lr'] or 0.0)
            for name, peak in case['peak_lrs'].items()}
  config = OptimizerConfig(groups, 'lion' if case['optimizer'].startswith('lion') else 'adamw',
                           *case['betas'],
                           eps=case['eps'], weight_decay=case['weight_decay'],
                           clip_norm=case['max_grad_norm'],
                           min_lr_ratio=case['alpha_f'])
  optimizer = make_optimizer(config, case['max_steps'], params)
  state = optimizer.init(params)
  for step in case['steps']:
    number = step['step']
    gradients = get(f'step{number}.grad')
    norms = group_norms(gradients, groups)
    for name, expected in step['grad_norms'].items():
      if not np.isclose(norms[name], expected, rtol=_RELATIVE['loss']):
        return (f'step {number}: gradient norm of {name} is {float(norms[name])}, expected '
          f'{expected}')
      rate = schedule_of(groups[name], config, case['max_steps'])(number - 1)
      if not np.isclose(rate, step['lrs'][name], rtol=1e-6):
        return (f'step {number}: learning rate of {name} is {float(rate)}, expected '
          f'{step["lrs"][name]}')
    updates, state = optimizer.update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    expected = flatten_paths(get(f'step{number}.param'))
    for path, value in flatten_paths(params).items():
      error = float(np.abs(np.asarray(value) - expected[path]).max())
      if not error <= _MIN['parameter']:
        return f'step {number}: {path} differs by {error:.2g}'
  return None


def _nested(flat: dict[str, np.ndarray]) -> dict[str, Any]:
  tree: dict[str, Any] = {}
  for name, value in flat.items():
    *above, last = name.split('.')
    node = tree
    for key in above:
      node = node.setdefault(key, {})
    node[last] = jnp.asarray(value)
  return tree
