"""HOTA (Luiten et al. 2021) of tracked points: one number for where objects are and for which is
which.

The similarity of a predicted point and an object is 1 inside the object's mask and 0 outside, so
that the result is the same at every localisation threshold (docs/training.md §5.3).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment


class HotaScores(NamedTuple):
  """All 0…1; their names are those of the paper."""
  HOTA: float                                 # sqrt(DetA · AssA)
  DetA: float                                 # matches / (matches + misses + false points)
  AssA: float                                 # how well identities agree, mean over the matches
  DetRe: float
  DetPr: float
  LocA: float                                 # mean similarity of the matches; 1 without any


class FrameSimilarity(NamedTuple):
  """One frame: who is there, and how similar."""
  objects: Sequence[Hashable]                 # identities of the N reference points
  tracks: Sequence[Hashable]                  # identities of the M predicted points
  similarity: np.ndarray                      # float [N,M], 0…1


_THRESHOLD = 0.5                                # of a similarity that is 0 or 1


def hota(frames: Sequence[FrameSimilarity]) -> HotaScores:
  """HOTA of a video. Neither references nor predictions at all: 1; only one of them: 0.

  In every frame points are matched, one to one, so that the sum of similarity × how much the two
  identities overlap in the whole video is largest.
  """
  objects = _numbered(identity for frame in frames for identity in frame.objects)
  tracks = _numbered(identity for frame in frames for identity in frame.tracks)
  if not objects or not tracks:
    same = float(not objects and not tracks)
    return HotaScores(same, same, same, same, same, 1.0)
  rows = [[objects[identity] for identity in frame.objects] for frame in frames]
  columns = [[tracks[identity] for identity in frame.tracks] for frame in frames]
  object_counts, track_counts = (
    np.bincount(np.concatenate([np.asarray(c, np.int64) for c in n]), minlength=size)
    for n, size in ((rows, len(objects)), (columns, len(tracks))))
  totals = object_counts[:, None] + track_counts[None]
  alignment = _potential(frames, rows, columns, totals.shape)
  alignment /= np.maximum(totals - alignment, 1e-10)

  matches = np.zeros(totals.shape)
  located = 0.0
  for frame, row, column in zip(frames, rows, columns, strict=True):
    if not row or not column:
      continue
    chosen = linear_sum_assignment(-alignment[np.ix_(row, column)] * frame.similarity)
    for i, j in zip(*chosen, strict=True):
      if frame.similarity[i, j] >= _THRESHOLD:
        matches[row[i], column[j]] += 1
        located += frame.similarity[i, j]
  return _scores(matches, located, totals, int(object_counts.sum()), int(track_counts.sum()))


def _numbered(identities: Iterable[Hashable]) -> dict[Hashable, int]:
  return {identity: number for number, identity in enumerate(dict.fromkeys(identities))}


def _potential(frames: Sequence[FrameSimilarity], rows: list[list[int]], columns: list[list[int]],
               shape: tuple[int, int]) -> np.ndarray:
  """How often each object could be each track, float [objects, tracks]: in a frame, similarity /
  sum of the pair's.
  """
  potential = np.zeros(shape)
  for frame, row, column in zip(frames, rows, columns, strict=True):
    similarity = np.asarray(frame.similarity, np.float64).reshape(len(row), len(column))
    sums = similarity.sum(axis=1, keepdims=True) + similarity.sum(axis=0,
                                                                  keepdims=True) - similarity
    np.add.at(potential, np.ix_(row, column),
              np.divide(similarity, sums, out=np.zeros_like(sums), where=sums > 0))
  return potential


def _scores(matches: np.ndarray, located: float, totals: np.ndarray, references: int,
            predictions: int) -> HotaScores:
  """The scores of how often each object was each track (`matches`), and both of them occur
  (`totals`), float [N,M].
  """
  right = float(matches.sum())
  detection = right / (references + predictions - right)
  association = float((matches * matches / np.maximum(totals - matches, 1)).sum() / max(right, 1))
  return HotaScores(HOTA=(detection * association) ** 0.5, DetA=detection, AssA=association,
                    DetRe=right / references,
                    DetPr=right / predictions, LocA=located / right if right else 1.0)
