"""TAP-Vid: tracking of any point, with occlusion (docs/training.md §5.3)."""

from __future__ import annotations

import numpy as np

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
