"""Tracks: the academic sets as they were prepared for Molmo2 (parquet of the Hub), and
Molmo2-VideoTrack itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from molmo_jax.data.adapters import prompts
from molmo_jax.data.adapters.adapter import Adapter, Context, Conversation, Row
from molmo_jax.data.adapters.media import Media
from molmo_jax.preprocess.points import format_points
from molmo_jax.preprocess.tracks import Moments, ObjectPoint, format_tracks

Task = Literal['track', 'ground', 'single_point_track']

STYLES = {'track': 'video_point_track_per_frame', 'ground': 'video_point_ground_start_end',
          'single_point_track': 'video_single_point_track_per_frame'}
MODES = {'track': 'track', 'ground': 'ground', 'single_point_track': 'initial'}
TASKS: dict[str, tuple[Task, ...]] = {
  'mevis': ('track', 'ground', 'single_point_track'), 'ref_yt_vos': ('track',),
  'lv_vis': ('track', 'ground', 'single_point_track'),
  'vicas': ('track', 'ground', 'single_point_track'),
  'revos': ('track', 'ground', 'single_point_track'),
  'burst': ('track', 'ground', 'single_point_track'),
  'ref_davis17': ('track',), 'yt_vis': ('track',), 'moca': ('track', 'ground')}
SINGLE_OBJECT = ('webuav', 'got10k', 'vasttrack', 'trackingnet', 'lvosv1', 'lvosv2', 'lasot',
                 'uwcot', 'webuot',
                 'latot', 'tnl2k', 'tnllt')
# share of single tracks whose query is not the first visible frame
LATER_QUERY = 0.2


def _moments(row: Row) -> Moments:
  """Objects by the time, as fractions of the sides; frames off the grid of `sampling_fps` are left
  out.
  """
  known = {str(name): number for number, name in enumerate(row['mask_id'])}
  every = row['fps'] // row['sampling_fps']
  moments = []
  for frame in sorted(row['frame_trajectories'] or (), key=lambda f: f['frame']):
    if frame['frame'] % every == 0:
      moments.append((frame['time'], {
        known[str(p['id'])]: ObjectPoint(p['point'][0] / row['width'],
                                         p['point'][1] / row['height'],
                                         bool(p['occluded']))
        for p in frame['points'] if str(p['id']) in known and p['point']}))
  return moments


def tracked(row: Row, moments: Moments, task: Task, context: Context) -> Conversation | None:
  """The conversation of one expression; None if no object is to be seen."""
  label = row['expression'].strip().lower()
  fps = row['sampling_fps']
  seen = [(time, name) for time, objects in moments for name, p in objects.items()
          if not p.occluded]
  if not seen:
    return None
  if task != 'single_point_track':
    question = prompts.draw(context, prompts.TRACK if task == 'track' else prompts.GROUND,
                            label=label, fps=fps)
    return Conversation((question,
                         format_tracks(moments, label, mode=MODES[task], version=context.points)),
                        STYLES[task])
  later = context.rng.random() < LATER_QUERY
  time, name = seen[int(context.rng.integers(len(seen)))] if later else seen[0]
  point = next(objects[name] for t, objects in moments if t == time)
  query = format_points({float(time): [(point.x, point.y)]}, label, version=context.points)
  text = format_tracks(moments, label, mode='initial', queries=[(name, time)],
                       version=context.points,
                       only_queried=True)
  question = prompts.draw(context, prompts.TRACK_POINT, query=query)
  return Conversation((question, text), STYLES[task])


def _conversations(task: Task):
  def conversations(row: Row, context: Context) -> Iterator[Conversation]:
    conversation = tracked(row, _moments(row), task, context)
    if conversation:
      yield conversation
  return conversations


def _divides(row: Row) -> bool:
  return row['fps'] > 0 and row['sampling_fps'] > 0 and row['fps'] % row['sampling_fps'] == 0


def _set(task: Task, *files: str) -> Adapter:
  return Adapter(files, lambda row: Media(video=row['video']), _conversations(task), 'loader',
                 keep=_divides)


def _own_moments(row: Row) -> Moments:
  """Molmo2-VideoTrack: one point a frame for every object, in pixels; a frame without it has none.
  """
  tracks = {entry['object_id']: entry['points'] for entry in row['points']}
  frames = max((len(points) for points in tracks.values()), default=0)
  return [(frame / row['fps'],
           {name: ObjectPoint(points[frame][0] / row['w'], points[frame][1] / row['h'])
            for name, points in tracks.items()
            if frame < len(points) and points[frame] and None not in points[frame]})
          for frame in range(frames)]


def _own(task: Task):
  def conversations(row: Row, context: Context) -> Iterator[Conversation]:
    row = row | {'expression': row['exp'], 'sampling_fps': 2 if row['fps'] % 2 == 0 else 1}
    every = int(row['fps']) // row['sampling_fps']
    conversation = tracked(row, _own_moments(row)[::max(every, 1)], task, context)
    if conversation:
      yield conversation
  return conversations


def _own_set(task: Task) -> Adapter:
  return Adapter(('data/**/*.parquet',), lambda row: Media(video=row['clip'] or row['video']),
                 _own(task), 'card',
                 keep=lambda row: bool(row['points']) and row['fps'] >= 1)


TRACKING = {
  **{f'{name}_{task}': _set(task, f'{task}/train-*.parquet', f'**/{task}/*train*.parquet')
     for name, tasks in TASKS.items() for task in tasks},
  **{f'{name}_single_object_track': _set('single_point_track', f'{name}/train-*.parquet',
                                         f'**/{name}/*train*.parquet')
     for name in SINGLE_OBJECT},
  **{f'molmo2_video_{task}': _own_set(task) for task in ('track', 'ground', 'single_point_track')},
}
