"""Tracking: points that follow objects, HOTA and TAP-Vid (docs/training.md §5.3)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from molmo_jax.metrics.means import F1Scores, mean_of
from molmo_jax.metrics.point_scores import Point, in_masks, is_inside, matched_scores
from molmo_jax.preprocess.tracks import parse_tracks


class FrameSimilarity(NamedTuple):
  """One frame: who is there, and how similar."""
  objects: Sequence[Hashable]                 # identities of the N reference points
  tracks: Sequence[Hashable]                  # identities of the M predicted points
  similarity: np.ndarray                      # float [N,M], 0…1


def tracking_scores(prediction: str, width: int, height: int, fps: float,
                    references: Mapping[int, Mapping[Hashable, Point]],
                    masks: Mapping[Hashable, Mapping[int, np.ndarray]], *,
                    align_masks: bool = False, count_present: bool = False) -> dict[str, float]:
  """'f1', 'precision' and 'recall' (means over the frames with a reference or a prediction, whose
  number is 'frames'; 1 without any), and what `hota` says of the video.

  In a frame, predicted and reference points are matched by distance; a pair is right if the
  predicted point is in the object's mask. A frame without references scores 1 if nothing is
  predicted in it, else 0. Of several predicted times in one frame the last counts.

  Args:
    prediction: the generated text; the frame of a time t is round(t·fps).
    width: of the video, pixels.
    height: of the video, pixels.
    fps: frames per second of the video.
    references: frame → object → point (x, y) in pixels.
    masks: object → frame → bool [h,w]. Its order is the objects' order.
    align_masks: upstream bug, reproduced by default: the k-th reference point of a frame gets the
      mask of the k-th of all objects, wrong where an earlier object is absent. True gives every
      point its object's mask.
    count_present: upstream bug, reproduced by default: recall divides by the number of all objects
      of the video. True divides by those in the frame.
  """
  predicted = {track.frame: track.points for track in parse_tracks(prediction, width, height, fps)}
  scores, similarities = [], []
  for number in sorted(references.keys() | predicted.keys()):
    objects, tracks = references.get(number, {}), predicted.get(number, {})

    def masks_of(names: Sequence[Hashable], number: int = number) -> list[np.ndarray | None]:
      order = [masks.get(name, {}).get(number) for name in (names if align_masks else masks)]
      return (order + [None] * len(names))[:len(names)]

    points = list(tracks.values())
    scores.append(matched_scores(points, list(objects.values()),
                                 in_masks(points, masks_of(list(objects))),
                                 total=None if count_present else len(masks)))
    # Equally good matches are decided by the order: upstream sorts objects as numbers.
    names, ids = sorted(objects, key=lambda name: (len(str(name)), str(name))), sorted(tracks)
    inside = [is_inside(tracks[i], mask) for mask in masks_of(names) for i in ids]
    similarities.append(FrameSimilarity(
        names, ids, np.array(inside, np.float64).reshape(len(names), len(ids))))
  means = {name: mean_of(values) for name, values in zip(
    F1Scores._fields, zip(*scores or [F1Scores(1.0, 1.0, 1.0)]))}
  return means | hota(similarities) | {'frames': len(scores)}


_THRESHOLD = 0.5                                # of a similarity that is 0 or 1


def hota(frames: Sequence[FrameSimilarity]) -> dict[str, float]:
  """HOTA (Luiten et al. 2021, arXiv 2009.07736) of a video: one number for where objects are and
  for which is which. Neither references nor predictions at all: 1; only one of them: 0.

  The names are those of the paper: 'HOTA' √(DetA · AssA); 'DetA' matches / (matches + misses +
  false points), with recall 'DetRe' and precision 'DetPr'; 'AssA' how well identities agree, mean
  over the matches; 'LocA' mean similarity of the matches, 1 without any.

  In every frame points are matched, one to one, so that the sum of similarity × how much the two
  identities overlap in the whole video is largest. Similarities are 1 inside an object's mask and 0
  outside, so that the result is the same at every localisation threshold.
  """
  objects = _numbered(identity for frame in frames for identity in frame.objects)
  tracks = _numbered(identity for frame in frames for identity in frame.tracks)
  if not objects or not tracks:
    same = float(not objects and not tracks)
    return dict.fromkeys(('HOTA', 'DetA', 'AssA', 'DetRe', 'DetPr'), same) | {'LocA': 1.0}
  present, overlap = np.zeros((2, len(objects), len(tracks)))   # float [objects,tracks] both
  references = predictions = 0
  places = []
  for frame in frames:
    rows = [objects[identity] for identity in frame.objects]
    columns = [tracks[identity] for identity in frame.tracks]
    places.append(np.ix_(np.asarray(rows, int), np.asarray(columns, int)))
    present[rows] += 1
    present[:, columns] += 1
    references, predictions = references + len(rows), predictions + len(columns)
    similar = frame.similarity
    sums = similar.sum(axis=1, keepdims=True) + similar.sum(axis=0, keepdims=True) - similar
    overlap[places[-1]] += np.divide(similar, sums, out=np.zeros_like(sums), where=sums > 0)
  alignment = overlap / (present - overlap + np.finfo(float).eps)

  matches, located = np.zeros_like(present), 0.0
  for frame, place in zip(frames, places, strict=True):
    if frame.similarity.size:
      i, j = linear_sum_assignment(-alignment[place] * frame.similarity)
      similar = frame.similarity[i, j] * (frame.similarity[i, j] >= _THRESHOLD)
      matches[place[0][i, 0], place[1][0, j]] += similar > 0
      located += float(similar.sum())
  right = float(matches.sum())
  detection = right / (references + predictions - right)
  association = float((matches ** 2 / np.maximum(present - matches, 1)).sum()) / max(right, 1)
  return {'HOTA': (detection * association) ** 0.5, 'DetA': detection, 'AssA': association,
          'DetRe': right / references, 'DetPr': right / predictions,
          'LocA': located / right if right else 1.0}


def _numbered(identities: Iterable[Hashable]) -> dict[Hashable, int]:
  return {identity: number for number, identity in enumerate(dict.fromkeys(identities))}


TAP_VID_THRESHOLDS = (1, 2, 4, 8, 16)           # pixels


def tap_vid_scores(query_frames: np.ndarray, occluded: np.ndarray, tracks: np.ndarray,
                   predicted_occluded: np.ndarray, predicted_tracks: np.ndarray, *,
                   query_mode: str = 'first') -> dict[str, float]:
  """TAP-Vid, tracking of any point with occlusion (arXiv 2211.03726): the scores of one video, over
  its points and evaluated frames together.

  'first' evaluates the frames after the query, 'strided' all but the query's. A point is near if
  its squared distance is smaller than the threshold's square. 'pts_within_k': near among the
  visible; 'jaccard_k': visible, predicted visible and near / (visible + predicted visible that are
  not visible or not near).

  Args:
    query_frames: [P], the frame in which each point is given.
    occluded: bool [P,T].
    tracks: float [P,T,2], pixels.
    predicted_occluded: bool [P,T].
    predicted_tracks: float [P,T,2], pixels.
    query_mode: 'first' or 'strided'.

  Returns:
    'occlusion_accuracy', 'pts_within_k' and 'jaccard_k' for k = 1, 2, 4, 8, 16, and their means
    'average_pts_within_thresh' and 'average_jaccard'; NaN where there is nothing to count.

  Raises:
    ValueError: a query mode that does not exist.
  """
  frames = np.arange(occluded.shape[1])
  query = np.round(np.asarray(query_frames, np.float64)).astype(np.int64)[:, None]
  if query_mode not in ('first', 'strided'):
    raise ValueError(f'query_mode {query_mode!r} does not exist; '
                     "the modes are 'first' and 'strided'")
  evaluated = frames > query if query_mode == 'first' else frames != query
  visible = ~np.asarray(occluded, bool) & evaluated
  shown = ~np.asarray(predicted_occluded, bool) & evaluated
  offsets = np.asarray(predicted_tracks, np.float64) - np.asarray(tracks, np.float64)
  distance = np.sum(np.square(offsets), axis=-1)
  scores = {'occlusion_accuracy': _fraction(((visible == shown) & evaluated).sum(),
                                            evaluated.sum())}
  within, jaccard = [], []
  for threshold in TAP_VID_THRESHOLDS:
    near = (distance < threshold ** 2) & visible
    wrong = (shown & ~near).sum()
    within.append(_fraction(near.sum(), visible.sum()))
    jaccard.append(_fraction((near & shown).sum(), visible.sum() + wrong))
    scores |= {f'pts_within_{threshold}': within[-1], f'jaccard_{threshold}': jaccard[-1]}
  return scores | {'average_pts_within_thresh': float(np.mean(within)),
                   'average_jaccard': float(np.mean(jaccard))}


def _fraction(part: int, whole: int) -> float:
  return float(part / whole) if whole else float('nan')
