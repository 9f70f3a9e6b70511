"""Golden runner: which images the released training code gives to each rank of a context group
(docs/training.md §8).

That code gives whole images (a frame of a video is one, too) to ranks, one row at a time. This
project does not: it spreads the crops of all rows evenly, wherever images begin, since a crop does
not see the others and pooling comes after the gathering of patch features
(`molmo_jax/parallel/activations.py`). No device then waits for the one with the largest images. The
rule of the released code therefore lives here, as a reference: `tests/parallel/test_crops.py` shows
that features come out the same both ways.

A case folder holds a JSON file with a list of cases: `cum_image_bounds` and
`cum_token_pooling_bounds`, running totals of crops and of pooled tokens after every image;
`cp_world_size` ranks; `expected`: by rank, where its crops and its pooled tokens start and end, and
the largest number of pooled tokens of any rank.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

FIELDS = {'cum_image_bounds', 'cum_token_pooling_bounds', 'cp_world_size', 'expected'}


@dataclasses.dataclass(frozen=True)
class Share:
  """What one rank encodes: crops [start_image_idx, end_image_idx) and the pooled tokens that they
  become.
  """
  start_image_idx: int
  end_image_idx: int
  start_pool_idx: int
  end_pool_idx: int


def whole_images(crops: Sequence[int], pooled: Sequence[int], ranks: int) -> list[Share]:
  """The shares of all ranks; those of ranks without work are empty and lie at the end.

  One rank after the other takes an image and then more of them, until all ranks so far have their
  part of the crops, (rank + 1) / ranks of them. A rank that finds nothing left takes the last image
  of the nearest rank before it that has several, but never of rank 0, so that there may be idle
  ranks.

  Args:
    crops: running total of crops after each image; every image has at least one.
    pooled: running total of pooled tokens after each image.
  """
  images, taken, shares = len(crops), 0, []
  for rank in range(ranks):
    first = taken
    while taken < images and (taken == first or crops[taken - 1] < (rank + 1) * crops[-1] / ranks):
      taken += 1
    shares.append((first, taken))
    if first == taken:
      donor = next((d for d in range(rank - 1, 0, -1) if shares[d][1] - shares[d][0] > 1), None)
      if donor is not None:
        start, end = shares[donor]
        shares[donor], shares[rank] = (start, end - 1), (end - 1, end)
  crops, pooled = [0, *crops], [0, *pooled]
  return [Share(crops[a], crops[b], pooled[a], pooled[b]) for a, b in shares]


def recognises(folder: Path) -> bool:
  """Whether some JSON file of the folder lists splits of images."""
  return any(True for _ in _cases(folder))


def run(folder: Path) -> list[tuple[str, str | None]]:
  """Runs every case: (name, None) or (name, how it differs)."""
  results = []
  for number, case in enumerate(_cases(folder)):
    try:
      reason = check_case(case)
    except Exception as error:   # whatever goes wrong is this case's result
      reason = f'{type(error).__name__}: {error}'
    results.append((f'image split {number}', reason))
  return results


def check_case(case: Mapping[str, Any]) -> str | None:
  """None, or the first rank whose share differs."""
  shares = whole_images(case['cum_image_bounds'], case['cum_token_pooling_bounds'],
                        case['cp_world_size'])
  most = max(share.end_pool_idx - share.start_pool_idx for share in shares)
  found = {str(rank): dataclasses.asdict(share) | {'max_num_tokens': most}
           for rank, share in enumerate(shares)}
  for rank, expected in case['expected'].items():
    if found.get(rank) != expected:
      return f'rank {rank}: {found.get(rank)}, expected {expected}'
  return None if len(found) == len(
    case['expected']) else f'{len(found)} ranks, expected {len(case["expected"])}'


def _cases(folder: Path) -> Iterator[dict[str, Any]]:
  for path in sorted(folder.glob('*.json')):
    try:
      content = json.loads(path.read_text())
    except (OSError, ValueError):
      continue
    for entries in content.values() if isinstance(content, dict) else [content]:
      if isinstance(entries, list):
        yield from (entry for entry in entries if isinstance(entry, dict) and FIELDS <= set(entry))
