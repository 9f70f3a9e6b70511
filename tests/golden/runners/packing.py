"""Golden runner: what the packer emits at every arrival, packed rows, and rows padded to a batch
(docs/training.md §3.6, §3.8).

A case folder holds a JSON list of streams (`sizes`, `steps`, `final_buffer` and the packer's
settings), or `cases.json` with `packs` and `batches` and an archive of `ex.…`, `packin.…`, `pack.…`
and `batch.…` arrays, or both. The counts of patches and pooling rows that the official packer keeps
beside a row have no counterpart here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from molmo_jax.data.batching import RowShape, pad_row, stack_rows
from molmo_jax.data.packing import PackingConfig, concatenate, next_row, token_unit

PATCHES = 4                     # of a crop in this data
FIELDS = {'tokens': 'input_tokens', 'targets': 'target_tokens', 'loss_weights': 'loss_masks',
          'positions': 'position_ids', 'segments': 'subsegment_ids', 'crops': 'images',
          'pool_index': 'token_pooling'}
BATCH_FIELDS = FIELDS | {'tokens': 'input_ids', 'targets': 'labels'}


def recognises(folder: Path) -> bool:
  """Whether the folder holds packer streams or packed rows."""
  return bool(_streams(folder)) or _rows(folder) is not None


def run(folder: Path) -> list[tuple[str, str | None]]:
  """Runs every stream, pack and batch: (name, None) or (name, how it differs)."""
  checks = [(f'stream {i}', check_stream, (stream,)) for i, stream in enumerate(_streams(folder))]
  cases, arrays = _rows(folder) or ({}, {})
  checks += [(f'pack {case["name"]}', check_pack, (case, cases, arrays))
             for case in cases.get('packs', ())]
  checks += [(f'batch {case["name"]}', check_batch, (case, cases, arrays))
             for case in cases.get('batches', ())]
  results = []
  for name, check, arguments in checks:
    try:
      reason = check(*arguments)
    except Exception as error:   # whatever goes wrong is this case's result
      reason = f'{type(error).__name__}: {error}'
    results.append((name, reason))
  return results


def check_stream(stream: Mapping[str, Any]) -> str | None:
  """None, or where the emissions differ."""
  limits = RowShape(stream['text_max_len'], stream['image_max_len'], 10**9, 4)
  if token_unit(limits.sequence) != stream['text_granularity']:
    return (f'tokens are counted in units of {token_unit(limits.sequence)}, expected '
      f'{stream["text_granularity"]}')
  config = PackingConfig(stream['buffer_size'], stream['text_weight'], stream['image_weight'],
                         stream['shortcut_max_len_images'])
  size = lambda example: RowShape(*stream['sizes'][example], 0, 4)
  waiting, steps = [], []
  for example in range(len(stream['sizes'])):
    row = next_row([size(w) for w in waiting], size(example), limits, config)
    waiting.append(example)
    if row:
      steps.append((example, [waiting[i] for i in row]))
      waiting = [w for i, w in enumerate(waiting) if i not in row]
  expected = [(step['example'], step['emitted']) for step in stream['steps']]
  for got, want in zip(steps, expected):
    if got != want:
      return f'example {got[0]} makes a row of {got[1]}; expected: example {want[0]}, {want[1]}'
  if len(steps) != len(expected):
    return f'{len(steps)} rows, expected {len(expected)}'
  return None if waiting == stream[
    'final_buffer'] else f'{waiting} wait at the end, expected {stream["final_buffer"]}'


def check_pack(pack: Mapping[str, Any], cases: Mapping[str, Any],
               arrays: Mapping[str, np.ndarray]) -> str | None:
  """None, or which field of a packed row differs."""
  row = _packed(pack, cases, arrays)
  return _difference(row, FIELDS, f'pack.{pack["name"]}.', arrays) or _check_features(row, cases)


def check_batch(batch: Mapping[str, Any], cases: Mapping[str, Any],
                arrays: Mapping[str, np.ndarray]) -> str | None:
  """None, or which field of a padded batch differs; positions of padding are 0 here, and −1
  officially.
  """
  packs = {pack['name']: pack for pack in cases['packs']}
  rows = [_packed(packs[name], cases, arrays) for name in batch.get('packs', ())]
  rows += [_example(name, None, cases, arrays) for name in batch.get('examples', ())]
  shape = RowShape(batch['sequence_length'], batch.get('max_images', 0),
                   batch.get('max_pooling_rows', 0),
                   batch.get('pool_width', 1))
  got = stack_rows([pad_row(row, shape) for row in rows])
  got['positions'] = np.where(got['tokens'] == -1, -1, got['positions'])
  fields = dict(BATCH_FIELDS)
  # not packed: any constant will do for an example that is no tree (see the masks)
  if 'examples' in batch:
    del fields['segments']
  got['loss_weights'] = np.maximum(got['loss_weights'], 0)
  stem = f'batch.{batch["name"]}.'
  clipped = {name: np.maximum(x, 0) if name.endswith('loss_masks') else x
             for name, x in arrays.items()
             if name.startswith(stem)}
  return _difference(got, fields, stem, clipped)


def _packed(pack: Mapping[str, Any], cases: Mapping[str, Any],
            arrays: Mapping[str, np.ndarray]) -> dict:
  return concatenate([_example(name, f'packin.{pack["name"]}.{i}.', cases, arrays)
               for i, name in enumerate(pack['examples'])], PATCHES)


def _example(name: str, media: str | None, cases: Mapping[str, Any],
             arrays: Mapping[str, np.ndarray]) -> dict:
  """An example as this project's `Encoded`, with the media that the pack gave it."""
  stored = {field: arrays[f'ex.{name}.{golden}'] for field, golden in list(FIELDS.items())[:4]}
  tokens = stored['tokens'].astype(np.int32)
  patch = tokens == cases['special_token_ids']['<im_patch>']
  pool = arrays.get(f'{media}token_pooling', np.zeros((0, 1), np.int64)).astype(np.int32)
  return dict(
    {field: x.astype(np.float32 if field == 'loss_weights' else np.int32)
     for field, x in stored.items()},
    segments=arrays.get(f'ex.{name}.subsegment_ids', np.zeros_like(tokens)).astype(np.int32),
    visual=patch.astype(np.int32),
    feature_index=np.where(patch, np.cumsum(patch) - 1, -1).astype(np.int32),
    crops=arrays.get(f'{media}images', np.zeros((0, PATCHES, 3), np.uint8)), pool_index=pool,
    layout_index=np.zeros((len(pool), 4), np.int32),
    layout_box=np.zeros((len(pool), 4), np.float32))


def _check_features(row: Mapping[str, np.ndarray], cases: Mapping[str, Any]) -> str | None:
  patch = row['tokens'] == cases['special_token_ids']['<im_patch>']
  if not np.array_equal(row['feature_index'][patch], np.arange(patch.sum())):
    return ('the n-th <im_patch> token should get the n-th feature, not '
      f'{row["feature_index"][patch]}')
  return None


def _difference(row: Mapping[str, np.ndarray], fields: Mapping[str, str], stem: str,
                arrays: Mapping[str, np.ndarray]) -> str | None:
  for field, golden in fields.items():
    if stem + golden not in arrays:
      if field in ('crops', 'pool_index') and not row[field].size:
        continue
      return f'the archive lacks {stem}{golden}'
    expected = arrays[stem + golden]
    if row[field].shape != expected.shape:
      return f'{field} has shape {row[field].shape}, expected {expected.shape}'
    wrong = np.argwhere(np.abs(row[field].astype(np.float64) - expected)
                        > (1e-6 if field == 'loss_weights' else 0))
    if len(wrong):
      at = tuple(wrong[0])
      return (f'{field}{list(map(int, at))} is {row[field][at]}, expected {expected[at]} '
        f'({len(wrong)} differ)')
  return None


def _streams(folder: Path) -> list[dict[str, Any]]:
  for value in _json_files(folder):
    if isinstance(value, list) and value and all(isinstance(s, dict)
                                                 and {'sizes', 'steps', 'buffer_size'} <= set(s)
                                                 for s in value):
      return value
  return []


def _rows(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
  cases = [value for value in _json_files(folder)
           if isinstance(value, dict) and isinstance(value.get('packs'), list)
           and 'special_token_ids' in value]
  for path in sorted(folder.glob('*.npz')) if cases else ():
    with np.load(path) as stored:
      if any(name.startswith('pack.') for name in stored.files):
        return cases[0], {name: stored[name] for name in stored.files if '.mask.' not in name}
  return None


def _json_files(folder: Path) -> list[Any]:
  values = []
  for path in sorted(folder.glob('*.json')):
    try:
      values.append(json.loads(path.read_text()))
    except (OSError, ValueError):
      continue
  return values
