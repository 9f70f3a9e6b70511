"""Tracking with points (docs/training.md §5.3)."""

from __future__ import annotations

from collections.abc import (
  Hashable,
  Iterable,
  Mapping,
  Sequence,
)
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from molmo_jax.metrics.means import mean_of
from molmo_jax.metrics.point_scores import (
  Point,
  PointScores,
  is_inside,
  match_points,
  scores_of,
)
from molmo_jax.preprocess.tracks import TrackFrame, parse_tracks


class TrackingScores(NamedTuple):
  precision: float
  recall: float
  f1: float
  hota: HotaScores
  frames: int                                 # frames with a reference or a prediction


class _Frame(NamedTuple):
  """One frame, ready for scoring."""
  objects: list[Hashable]
  references: list[Point]
  masks: list[np.ndarray | None]              # a mask for each reference
  tracks: list[str]
  predicted: list[Point]


def tracking_scores(
    prediction: str,
    width: int,
    height: int,
    fps: float,
    references: Mapping[int, Mapping[Hashable, Point]],
    masks: Mapping[Hashable, Mapping[int, np.ndarray]],
    *,
    align_masks: bool = False,
    count_present: bool = False,
) -> TrackingScores:
  """Precision, recall, F1 (mean over the frames with a reference or a prediction; 1 without any)
  and HOTA of a video.

  In a frame, predicted and reference points are matched by distance; a pair is right if the
  predicted point is in the object's mask. A frame without references scores 1 if nothing is
  predicted in it, else 0.

  Args:
    prediction: the generated text; the frame of a time t is round(t·fps).
    width, height: of the video, pixels.
    fps: frames per second of the video.
    references: frame → object → point (x, y) in pixels.
    masks: object → frame → bool [h,w]. Its order is the objects' order.
    align_masks: upstream bug, reproduced by default: the k-th reference point of a frame gets the
      mask of the k-th of all objects, wrong where an earlier object is absent. True gives every
      point its object's mask.
    count_present: upstream bug, reproduced by default: recall divides by the number of all objects
      of the video. True divides by those in the frame.
  """
  predicted = _by_frame(parse_tracks(prediction, width, height, fps))
  frames = [_frame(number, references.get(number, {}), masks, predicted.get(number, {}),
                   align_masks)
            for number in sorted(references.keys() | predicted.keys())]
  if not frames:
    return TrackingScores(1.0, 1.0, 1.0, hota([]), 0)
  scores = [_frame_scores(frame, len(frame.references) if count_present else len(masks))
            for frame in frames]
  means = (mean_of(getattr(s, name) for s in scores) for name in PointScores._fields)
  return TrackingScores(*means, hota([_similarity(frame) for frame in frames]), len(frames))


def _by_frame(tracks: Sequence[TrackFrame]) -> dict[int, dict[str, Point]]:
  """Points by frame; of several times in one frame, later points of a track replace earlier ones.
  """
  by_frame: dict[int, dict[str, Point]] = {}
  for track in tracks:
    by_frame.setdefault(track.frame, {}).update(track.points)
  return by_frame


def _frame(number: int, references: Mapping[Hashable, Point],
           masks: Mapping[Hashable, Mapping[int, np.ndarray]],
           predicted: Mapping[str, Point], align_masks: bool) -> _Frame:
  order = list(references) if align_masks else list(masks)
  own = [masks[o].get(number) if o in masks else None for o in order][:len(references)]
  own += [None] * (len(references) - len(own))
  return _Frame(list(references), list(references.values()), own, list(predicted),
                list(predicted.values()))


def _frame_scores(frame: _Frame, objects: int) -> PointScores:
  if not frame.references or not frame.predicted:
    return PointScores(*[float(not frame.references and not frame.predicted)] * 3)
  pairs = match_points(np.asarray(frame.predicted, np.float64),
                       np.asarray(frame.references, np.float64))
  right = sum(is_inside(frame.predicted[i], frame.masks[j]) for i, j in pairs)
  return scores_of(right, len(frame.predicted), objects)


def _similarity(frame: _Frame) -> FrameSimilarity:
  inside = [[float(is_inside(point, mask)) for point in frame.predicted] for mask in frame.masks]
  return FrameSimilarity(frame.objects, frame.tracks,
                         np.asarray(inside, np.float64).reshape(len(frame.objects),
                                                                len(frame.tracks)))


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


THRESHOLDS = (1, 2, 4, 8, 16)                   # pixels


def tap_vid_scores(
    query_frames: np.ndarray,
    occluded: np.ndarray,
    tracks: np.ndarray,
    predicted_occluded: np.ndarray,
    predicted_tracks: np.ndarray,
    *,
    query_mode: str = 'first',
) -> dict[str, float]:
  """The scores of one video, over its points and evaluated frames together.

  'first' evaluates the frames after the query, 'strided' all but the query's. A point is near if
  its squared distance is smaller than the threshold's square. 'pts_within_k': near among the
  visible; 'jaccard_k': visible, predicted visible and near / (visible + predicted visible that are
  not visible or not near).

  Args:
    query_frames: [P], the frame in which each point is given.
    occluded, predicted_occluded: bool [P,T].
    tracks, predicted_tracks: float [P,T,2], pixels.

  Returns:
    'occlusion_accuracy', 'pts_within_k' and 'jaccard_k' for k = 1, 2, 4, 8, 16, and their means
    'average_pts_within_thresh' and 'average_jaccard'; NaN where there is nothing to count.

  Raises:
    ValueError: a query mode that does not exist.
  """
  frames, query = np.arange(occluded.shape[1]), np.round(
    np.asarray(query_frames, np.float64)).astype(np.int64)[:, None]
  if query_mode not in ('first', 'strided'):
    raise ValueError(f"query_mode {query_mode!r} does not exist; the modes are 'first' and "
      "'strided'")
  evaluated = frames > query if query_mode == 'first' else frames != query
  visible, shown = ~np.asarray(occluded, bool) & evaluated, ~np.asarray(predicted_occluded,
                                                                        bool) & evaluated
  distance = np.sum(np.square(np.asarray(predicted_tracks, np.float64)
                              - np.asarray(tracks, np.float64)), axis=-1)
  scores = {'occlusion_accuracy': _share(((visible == shown) & evaluated).sum(), evaluated.sum())}
  for threshold in THRESHOLDS:
    near = (distance < threshold ** 2) & visible
    right, wrong = (near & shown).sum(), (shown & ~near).sum()
    scores[f'pts_within_{threshold}'] = _share(near.sum(), visible.sum())
    scores[f'jaccard_{threshold}'] = _share(right, visible.sum() + wrong)
  for mean, name in (('average_pts_within_thresh', 'pts_within'), ('average_jaccard', 'jaccard')):
    scores[mean] = float(np.mean([scores[f'{name}_{threshold}'] for threshold in THRESHOLDS]))
  return scores


def _share(part: int, whole: int) -> float:
  return float(part / whole) if whole else float('nan')
