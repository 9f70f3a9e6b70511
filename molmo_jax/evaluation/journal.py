"""The predictions of an evaluation as they come, so that an interrupted one continues where it was.

    predictions.journal.jsonl   a line per finished example: its index in the manifest, the
                                prediction or why there is none, and a digest of all this
                                and the `identity`
    predictions.jsonl           at the end: the predictions, in the manifest's order

The example of a line with another digest is asked again: a crash cut it off, it was damaged, or it
is of another evaluation. Only the first process has a journal on disk.
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
from absl import logging
from jax import Array
from jaxtyping import Float

from molmo_jax.data.formatting import WordedManifest
from molmo_jax.data.manifest import Manifest
from molmo_jax.evaluation.predictions import Prediction, prediction_from, write_predictions
from molmo_jax.files import read_json_lines, write_atomically

JOURNAL, FINAL = 'predictions.journal.jsonl', 'predictions.jsonl'

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
    """Appends results to the file."""
    new = {i: r for i, r in results.items() if i not in self.done}
    self.done |= new
    if self.writes and new:
      with open(self.folder / JOURNAL, 'a', encoding='utf-8') as file:
        file.write(self._lines(new))

  def finish(self) -> tuple[list[Prediction], list[str]]:
    """Writes and returns the predictions in the manifest's order, and why others are missing."""
    results = [self.done[i] for i in sorted(self.done)]
    predictions = [r for r in results if isinstance(r, Prediction)]
    if self.writes:
      write_predictions(self.folder / FINAL, predictions)
    return predictions, [r for r in results if isinstance(r, str)]

  def read(self) -> None:
    """Takes the results of the file that are of this evaluation, and drops its other lines."""
    path = self.folder / JOURNAL
    entries, problems = read_json_lines(path, self._entry) if path.exists() else ([], [])
    self.done = dict(entries)
    if problems:
      logging.warning('%d lines are damaged or of another evaluation, and their examples are asked '
                      'again; the first: %s', len(problems), problems[0])

  def rewrite(self) -> None:
    """Writes the whole file."""
    write_atomically(self.folder / JOURNAL, self._lines(self.done))

  def _lines(self, results: Results) -> str:
    entries = [{'index': i, 'result': r if isinstance(r, str) else dataclasses.asdict(r)}
               for i, r in results.items()]
    return ''.join(json.dumps(entry | {'digest': self._digest(entry)}) + '\n' for entry in entries)

  def _entry(self, line: dict[str, Any]) -> tuple[int, Prediction | str]:
    if line.pop('digest') != self._digest(line):
      raise ValueError('the digest differs')
    result = line['result']
    return line['index'], result if isinstance(result, str) else prediction_from(result)

  def _digest(self, entry: Mapping[str, Any]) -> str:
    text = self.identity + json.dumps(entry, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def open_journal(folder: Path, identity: str, *, writes: bool = True,
                 overwrite: bool = False) -> Journal:
  """Continues the journal in `folder` if it has the same `identity`; `overwrite`: a new one."""
  journal = Journal(folder, identity, {}, writes)
  if writes:
    if not overwrite:
      journal.read()
    journal.rewrite()
  return journal
