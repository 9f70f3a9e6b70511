"""Golden runner: attention masks of examples, packed rows and collated batches, bit for bit
(docs/model.md §5).

A case folder holds `cases.json` (`special_token_ids`, `examples`, `packs`, `batches`) and
`data.npz` with arrays `ex.<name>.<field>`, `pack.<name>.<field>` and `batch.<name>.<field>`;
`<field>` = `mask.None`, `mask.image_tokens` and `mask.within_image` are the expected bool [S,S] (a
batch: [B,S,S]), lines = queries.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from molmo_jax.kernels.mask import MaskInfo, mask_info, visible

VISUAL_TOKENS = ('<im_patch>', '<im_col>', '<im_start>', '<low_res_im_start>', '<frame_start>',
                 '<im_end>',
                 '<frame_end>', '<im_low>')
START_TOKENS = ('<low_res_im_start>', '<frame_start>')
MODES = {'mask.None': 'none', 'mask.image_tokens': 'image_tokens',
         'mask.within_image': 'within_image'}
GROUPS = {'examples': ('ex', 'input_tokens'), 'packs': ('pack', 'input_tokens'),
          'batches': ('batch', 'input_ids')}


def recognises(folder: Path) -> bool:
  """Whether some JSON file of the folder lists cases and some npz file holds masks for them."""
  try:
    _load(folder)
  except (OSError, ValueError, zipfile.BadZipFile):
    return False
  return True


def run(folder: Path) -> list[tuple[str, str | None]]:
  """Runs every mask of the folder; see `check_masks`."""
  return check_masks(folder)


def check_masks(folder: Path) -> list[tuple[str, str | None]]:
  """Compares `visible` with every stored mask: (case name, None if equal else a one-line reason).

  Queries that are padding (token −1) are not compared.
  """
  cases, arrays = _load(folder)
  results = []
  for group, (prefix, tokens_field) in GROUPS.items():
    for case in cases.get(group, ()):
      stem = f'{prefix}.{case.get("name")}'
      for field, mode in MODES.items():
        if f'{stem}.{field}' not in arrays and case.get('error'):
          continue
        try:
          reason = _compare(cases['special_token_ids'], arrays, stem, tokens_field, field, mode)
        except Exception as error:  # a case that raises is a failed case, not the end of the run
          reason = f'{type(error).__name__}: {error}'.splitlines()[0]
        results.append((f'{stem}.{field}', reason))
  return results


def _compare(ids: Mapping[str, int], arrays: Mapping[str, np.ndarray], stem: str, tokens_field: str,
             field: str,
             mode: str) -> str | None:
  tokens = np.atleast_2d(arrays[f'{stem}.{tokens_field}']).astype(np.int64)
  segments = f'{stem}.subsegment_ids'
  segments = np.atleast_2d(arrays[segments]).astype(
    np.int64) if segments in arrays else np.zeros_like(tokens)
  info = token_mask_info(tokens, segments, ids)
  expected = arrays[f'{stem}.{field}']
  expected = expected.reshape((-1, *expected.shape[-2:]))
  got = np.asarray(visible(info, info, mode))
  if got.shape != expected.shape:
    return f'mask has shape {got.shape}, expected {expected.shape}'
  wrong = np.argwhere((got != expected) & (tokens != -1)[:, :, None])
  if not len(wrong):
    return None
  row, query, key = wrong[0]
  return (f'{len(wrong)} of {expected.size} entries differ; first: row {row}, query {query}, key '
    f'{key}: {bool(got[row, query, key])}, expected {bool(expected[row, query, key])}')


def token_mask_info(tokens: np.ndarray, segments: np.ndarray, ids: Mapping[str, int]) -> MaskInfo:
  """Metadata of int [B,S] tokens: the 8 visual ids of docs/model.md §5.1, the running count of
  image and frame starts.
  """
  visual = np.isin(tokens, [ids[name] for name in VISUAL_TOKENS])
  count = np.cumsum(np.isin(tokens, [ids[name] for name in START_TOKENS]), axis=-1)
  return mask_info(jnp.asarray(np.where(tokens == -1, -1, segments), jnp.int32),
                   jnp.asarray(np.where(visual, 1 + count, 0), jnp.int32))


def _load(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
  """The cases and the arrays of a folder, found by content; ValueError if it holds no masks."""
  cases = [c for c in map(_read_json, sorted(folder.glob('*.json')))
           if isinstance(c, dict) and 'special_token_ids' in c and any(g in c for g in GROUPS)]
  for path in sorted(folder.glob('*.npz')) if len(cases) == 1 else ():
    with np.load(path) as stored:
      if any(name.endswith('.mask.image_tokens') for name in stored.files):
        return cases[0], dict(stored)
  raise ValueError(f'{folder} holds no attention masks: needs one JSON file of cases and an npz '
    'file with *.mask.*')


def _read_json(path: Path) -> object:
  try:
    return json.loads(path.read_text())
  except (OSError, UnicodeDecodeError, json.JSONDecodeError):
    return None
