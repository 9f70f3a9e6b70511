"""The predictions of an evaluation as they come, so that an interrupted one continues where it was.

    predictions.partial.jsonl   first a line with the `identity`, then one per finished example
    predictions.jsonl           at the end: the predictions, in the manifest's order
    predictions.index.json      its identity, which example each line is, and why others have none

A line that a crash cut off is dropped. Only the first process has a journal on disk.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from molmo_jax.data.formatting import WordedManifest
from molmo_jax.data.manifest import Manifest
from molmo_jax.evaluation.predictions import (
  Prediction,
  prediction_from,
  read_predictions,
  write_predictions,
)
from molmo_jax.files import write_atomically

PARTIAL, FINAL, INDEX = 'predictions.partial.jsonl', 'predictions.jsonl', 'predictions.index.json'

# index in the manifest → prediction, or why there is none
Results = Mapping[int, Prediction | str]


def identity(manifest: Manifest | WordedManifest, settings: Any, params: Any) -> str:
  """A short text that differs if anything differs that predictions depend on.

  Args:
    manifest: what is asked.
    settings: a tree of plain values and dataclasses: how examples are prepared, generated and
      scored.
    params: the weights, of which the first and the last entry of every array count: quick, and
      the same on every mesh.
  """
  digest = hashlib.sha256(manifest.path.read_bytes())
  digest.update(json.dumps(settings, sort_keys=True, default=_plain).encode())
  digest.update(np.asarray(_ends(params)).tobytes())
  return digest.hexdigest()[:16]


@jax.jit
def _ends(params: Any) -> Float[Array, 'N']:
  ends = [x[(end,) * x.ndim] for x in jax.tree.leaves(params) if x.size for end in (0, -1)]
  return jnp.stack([x.astype(jnp.float32) for x in ends])


def _plain(value: Any) -> Any:
  if dataclasses.is_dataclass(value):
    return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
  return str(value)


@dataclasses.dataclass
class Journal:
  """What is known of an evaluation so far, in memory and in its folder."""
  folder: Path
  identity: str
  done: dict[int, Prediction | str]
  writes: bool                                # False: another process has the files

  def add(self, results: Results) -> None:
    """Appends results to the partial file."""
    new = {i: r for i, r in results.items() if i not in self.done}
    self.done |= new
    if self.writes and new:
      with open(self.folder / PARTIAL, 'a', encoding='utf-8') as file:
        file.write(''.join(map(_result_line, new.items())))

  def finish(self) -> tuple[list[Prediction], list[str]]:
    """Writes and returns the predictions in the manifest's order, and why others are missing."""
    predictions = {i: r for i, r in sorted(self.done.items()) if isinstance(r, Prediction)}
    problems = {i: r for i, r in sorted(self.done.items()) if i not in predictions}
    if self.writes:
      write_predictions(self.folder / FINAL, predictions.values())
      index = {'identity': self.identity, 'indices': list(predictions),
               'problems': list(problems.items())}
      write_atomically(self.folder / INDEX, json.dumps(index) + '\n')
      (self.folder / PARTIAL).unlink(missing_ok=True)
    return list(predictions.values()), list(problems.values())


def open_journal(folder: Path, identity: str, *, writes: bool = True,
                 overwrite: bool = False) -> Journal:
  """Continues the journal in `folder` if it has the same `identity`; `overwrite`: a new one."""
  if not writes:
    return Journal(folder, identity, {}, False)
  folder.mkdir(parents=True, exist_ok=True)
  done = {}
  if not overwrite:
    done = _read_final(folder, identity) or _read_partial(folder / PARTIAL, identity)
  lines = [_line({'identity': identity}), *map(_result_line, done.items())]
  write_atomically(folder / PARTIAL, ''.join(lines))
  return Journal(folder, identity, done, True)


def _read_final(folder: Path, identity: str) -> dict[int, Prediction | str]:
  try:
    index = json.loads((folder / INDEX).read_text(encoding='utf-8'))
    if index['identity'] != identity:
      return {}
    predictions = zip(index['indices'], read_predictions(folder / FINAL), strict=True)
    return dict(predictions) | dict(index['problems'])
  except (OSError, ValueError, KeyError):       # no complete evaluation, or somebody changed it
    return {}


def _read_partial(path: Path, identity: str) -> dict[int, Prediction | str]:
  lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
  first, *rest = [json.loads(line) for line in lines if line.endswith(b'\n')] or [None]
  if first != {'identity': identity}:
    return {}
  return {entry['index']: entry['problem'] if 'problem' in entry else
          prediction_from(entry['prediction']) for entry in rest}


def _result_line(entry: tuple[int, Prediction | str]) -> str:
  index, result = entry
  if isinstance(result, str):
    return _line({'index': index, 'problem': result})
  return _line({'index': index, 'prediction': dataclasses.asdict(result)})


def _line(value: Mapping[str, Any]) -> str:
  return json.dumps(value, ensure_ascii=False, allow_nan=False) + '\n'
