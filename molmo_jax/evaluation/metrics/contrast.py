"""Benchmarks that ask about the same thing several times: a group of questions counts only if all
of it is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from molmo_jax.evaluation.metrics.means import mean_by, mean_of


def all_right(pairs: Iterable[tuple[Any, float]]) -> dict[Any, float]:
  """The smallest score of every group of (group, score): 1 where all of a group is right."""
  groups: dict[Any, float] = {}
  for group, score in pairs:
    groups[group] = min(groups.get(group, 1.0), score)
  return groups


def video_hallucer_means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """VideoHallucer: share of the groups (a question and its hallucinated twin) that are right.

  Args:
    rows: 'score', 'question_group' and 'category'.

  Returns:
    'm_b_acc_all' and 'm_b_acc_C' of every category C.
  """
  groups = all_right(((row['category'], row['question_group']), row['score']) for row in rows)
  means = mean_by(((category, score) for (category, _), score in groups.items()), 'm_b_acc_')
  return {'m_b_acc_all': mean_of(groups.values())} | means


def vinoground_means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """Vinoground: share of the pairs of videos of which both sides are right.

  Upstream writes the single scores down and leaves the pairs to the benchmark's own script; its
  rule is this one.

  Args:
    rows: 'score', 'pair', and 'kind': 'textscore' (which caption fits a video), 'videoscore' (which
      video a caption).

  Returns:
    'text', 'video', 'group': both sides right as text, as video, as both; 'text_single',
    'video_single': plain means.
  """
  pairs = {kind: all_right((row['pair'], row['score']) for row in rows if row['kind'] == kind)
           for kind in ('textscore', 'videoscore')}
  text, video = pairs['textscore'], pairs['videoscore']
  both = [min(text[pair], video[pair]) for pair in text.keys() & video.keys()]
  singles = {f'{kind.removesuffix("score")}_single': mean_of(row['score'] for row in rows
                                                             if row['kind'] == kind)
             for kind in pairs}
  return {'text': mean_of(text.values()), 'video': mean_of(video.values()),
          'group': mean_of(both)} | singles


def temporal_bench_means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """TemporalBench: binary accuracy (each question) and multiple binary accuracy (all questions of a
    video right).

  Args:
    rows: 'score', 'kind' ('short_qa' or 'long_qa') and 'video'.

  Returns:
    'binary_K' and 'multiple_binary_K' of every kind K, and of 'all'.
  """
  videos = all_right(((row['kind'], row['video']), row['score']) for row in rows)
  return ({'binary_all': mean_of(row['score'] for row in rows),
           'multiple_binary_all': mean_of(videos.values())}
          | mean_by(((row['kind'], row['score']) for row in rows), 'binary_')
          | mean_by(((kind, score) for (kind, _), score in videos.items()), 'multiple_binary_'))
