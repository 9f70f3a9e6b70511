"""The mixtures of the released training stages, from `recipes.toml`."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Entry:
  """One dataset of a stage, by the name of its training use; fields as `mixture.DatasetConfig`."""
  name: str
  size: float | None = None
  rate: float = 1.0
  message_weight: float | None = None
  p_high_res: float = 0.0


@dataclasses.dataclass(frozen=True)
class Group:
  """Datasets that share a part of all draws."""
  rate: float
  entries: tuple[Entry, ...]


def _group(table: Mapping[str, Any]) -> Group:
  factors = {name: 1.0 for name in table.get('names', ())} | table.get('factors', {})
  for factor, names in table.get('by_factor', {}).items():
    factors |= {name: float(factor) for name in names}
  sizes, weights = table.get('sizes', {}), table.get('message_weights', {})
  return Group(table['rate'], tuple(
    Entry(name, sizes.get(name, table.get('size')), factor,
          weights.get(name, table.get('message_weight')), table.get('p_high_res', 0.0))
    for name, factor in factors.items()))


STAGES: dict[str, dict[str, Group]] = {
  stage: {name: _group(table) for name, table in groups.items()} for stage, groups in tomllib.loads(
    Path(__file__).with_suffix('.toml').read_text(encoding='utf-8')).items()}
STAGES['long_context'] = STAGES['sft']


def recipe(stage: str, folder: str | Path, present_only: bool = False) -> dict[str, dict[str, Any]]:
  """The sections `mixture` and `groups` of `data` for a stage whose manifests are
  `folder`/<name>.jsonl.

  Args:
    stage: one of `STAGES`.
    present_only: leave out datasets without a manifest, and groups without datasets; the rates of
      the others grow in proportion.

  Raises:
    ValueError: no such stage, or no manifest at all.
  """
  if stage not in STAGES:
    raise ValueError(f'there is no stage {stage!r}; there are: {", ".join(STAGES)}')
  mixture, groups = {}, {}
  for name, group in STAGES[stage].items():
    for entry in group.entries:
      manifest = Path(folder) / f'{entry.name}.jsonl'
      if present_only and not manifest.exists():
        continue
      fields = vars(entry) | dict(manifest=str(manifest), group=name)
      mixture[entry.name] = {key: value for key, value in fields.items()
                             if key != 'name' and value is not None}
      groups[name] = group.rate
  if not mixture:
    raise ValueError(f'{folder} holds none of the manifests of stage {stage}; write them with '
                     'molmo-jax prepare_dataset')
  return dict(mixture=mixture, groups=groups)
