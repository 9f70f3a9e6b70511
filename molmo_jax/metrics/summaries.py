"""The numbers that a benchmark publishes, from all predictions of a task (docs/metrics.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from molmo_jax.metrics.benchmarks import BENCHMARKS, ai2d_names
from molmo_jax.metrics.counting import point_count_means, video_point_count_means
from molmo_jax.metrics.means import ai2d_means, mean_by, mean_of, text_metric_means
from molmo_jax.metrics.references import Reference, metadata_of
from molmo_jax.metrics.scoring import headline, sub_scores
from molmo_jax.metrics.versions import MOLMO2
from molmo_jax.metrics.video_answers import video_mme_means

Pairs = Sequence[tuple[str, Reference]]
Rows = Sequence[Mapping[str, Any]]


def published(metric: str, pairs: Pairs) -> dict[str, float]:
  """The numbers of one task by name.

  A metric whose benchmark has a summary of its own gets that one (`SUMMARIES`). Every other gets
  the mean of each sub-score, under its name ('score' for a metric with one). An example may name
  groups that it belongs to, as a list of strings under 'groups' in its metadata: the mean score of
  every group G is added as 'group_G'.

  Args:
    metric: name of a metric.
    pairs: (prediction, example) of every example of the task.

  Returns:
    Means, over those values that are not NaN; NaN of nothing.

  Raises:
    ValueError: a metric that does not exist, or an example that it cannot use.
  """
  rows = [_row(prediction, example, metric) for prediction, example in pairs]
  return SUMMARIES.get(metric, _sub_score_means)(rows) | mean_by(
    ((group, row['score']) for row in rows for group in row.get('groups', ())), 'group_')


def _row(prediction: str, example: Reference, metric: str) -> dict[str, Any]:
  """What the summaries read of one prediction: the example's metadata are among it."""
  scores = sub_scores(prediction, example, metric)
  return {**metadata_of(example), 'prediction': prediction, 'example': example,
          'answers': example.answers, 'answer': (*example.answers, '')[0], 'sub_scores': scores,
          'score': headline(scores)}


def _sub_score_means(rows: Rows) -> dict[str, float]:
  scores = [row['sub_scores'] for row in rows]
  return {name: mean_of(s[name] for s in scores if not math.isnan(s[name]))
          for name in (scores[0] if scores else ())}


def _charts(rows: Rows) -> dict[str, float]:
  return text_metric_means(rows, ['relaxed_correctness', 'scifi_relaxed_correctness', 'em'])


def _ai2d(rows: Rows) -> dict[str, float]:
  names = [ai2d_names(row['example']) for row in rows]
  named = [{**row, 'option_names': of_row, 'answer_idx': of_row.index(row['answer'])}
           for row, of_row in zip(rows, names, strict=True)]
  return ai2d_means(named, version=_version(rows))


def _version(rows: Rows) -> str:
  return rows[0].get('version', MOLMO2) if rows else MOLMO2


def _point_bench(rows: Rows) -> dict[str, float]:
  """Mean over the examples, and over the categories (the paper's number)."""
  by_category = mean_by((row.get('category', ''), row['score']) for row in rows)
  return {'accuracy': mean_of(row['score'] for row in rows),
          'category_mean': mean_of(by_category.values())}


def _ego3d(rows: Rows) -> dict[str, float]:
  means = {}
  for name, column in (('MSE', 'squared_error'), ('ACC', 'accuracy')):
    values = [(row['category'], row['sub_scores'][column]) for row in rows
              if not math.isnan(row['sub_scores'][column])]
    means[f'All_{name}'] = mean_of(value for _, value in values)
    means |= {f'{category}_{name}': mean for category, mean in mean_by(values).items()}
  return means | {'All_MISSING': math.fsum(row['sub_scores']['missing'] for row in rows)}


def all_right(pairs: Iterable[tuple[Any, float]]) -> dict[Any, float]:
  """The smallest score of every group of (group, score): 1 where all of a group is right."""
  groups: dict[Any, float] = {}
  for group, value in pairs:
    groups[group] = min(groups.get(group, 1.0), value)
  return groups


def video_hallucer_means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """VideoHallucer: fraction of the groups (a question and its hallucinated twin) that are right.

  Args:
    rows: 'score', 'question_group' and 'category'.

  Returns:
    'm_b_acc_all' and 'm_b_acc_C' of every category C.
  """
  groups = all_right(((row['category'], row['question_group']), row['score']) for row in rows)
  means = mean_by(((category, score) for (category, _), score in groups.items()), 'm_b_acc_')
  return {'m_b_acc_all': mean_of(groups.values())} | means


def vinoground_means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """Vinoground: fraction of the pairs of videos of which both sides are right.

  Upstream writes the single scores down and leaves the pairs to the benchmark's own script; its
  rule is this one.

  Args:
    rows: 'score', 'pair', and 'kind': 'textscore' (which caption fits a video), 'videoscore' (which
      video a caption).

  Returns:
    'text', 'video', 'group': both sides right as text, as video, as both; 'text_single',
    'video_single': plain means.
  """
  means, right = {}, {}
  for name in ('text', 'video'):
    scored = [(row['pair'], row['score']) for row in rows if row['kind'] == f'{name}score']
    right[name] = all_right(scored)
    means |= {name: mean_of(right[name].values()), f'{name}_single': mean_of(s for _, s in scored)}
  text, video = right['text'], right['video']
  both = [min(text[pair], video[pair]) for pair in text.keys() & video.keys()]
  return means | {'group': mean_of(both)}


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


SUMMARIES: dict[str, Callable[[Rows], dict[str, float]]] = {
  'chart_qa': _charts,
  'ai2d': _ai2d,
  'point_count': lambda rows: point_count_means(rows, version=_version(rows)),
  'video_point_count': video_point_count_means,
  'video_mme': video_mme_means,
  'video_hallucer': video_hallucer_means,
  'vinoground': vinoground_means,
  'temporal_bench': temporal_bench_means,
  'temporal_bench_published': temporal_bench_means,
  'point_bench': _point_bench,
  'ego3d': _ego3d,
  'predictions_only': lambda rows: {},
} | {name: lambda rows: {} for name, benchmark in BENCHMARKS.items() if benchmark.judged}
