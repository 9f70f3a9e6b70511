"""Tracking: the sets as they were prepared for Molmo2 (parquet of the Hub) and their benchmarks."""

from __future__ import annotations

from molmo_jax.data.facts import TRACKING_STYLES
from molmo_jax.datasets import mask_files
from molmo_jax.datasets.dataset import Dataset, Fields, Training, hub, table
from molmo_jax.datasets.image_qa import AI2
from molmo_jax.datasets.places import video_tracks
from molmo_jax.datasets.tap import tap_davis
from molmo_jax.datasets.task import Task
from molmo_jax.datasets.tracking_rows import can_be_sampled, frame_sampling, track_facts

STYLES = dict(zip(('track', 'ground', 'single_point_track'), TRACKING_STYLES))
ALL = tuple(STYLES)
# set → the tasks that are trained
TASKS = {'mevis': ALL, 'ref_yt_vos': ALL[:1], 'lv_vis': ALL, 'vicas': ALL, 'revos': ALL,
         'burst': ALL, 'ref_davis17': ALL[:1], 'yt_vis': ALL[:1], 'moca': ALL[:2],
         'molmo2_video': ALL}
SINGLE_OBJECT = ('webuav', 'got10k', 'vasttrack', 'trackingnet', 'lvosv1', 'lvosv2', 'lasot',
                 'uwcot', 'webuot', 'latot', 'tnl2k', 'tnllt')
# set → folder of its files, split, folder of the videos and masks of its benchmark, more files
EVALUATED = {
  'mevis': ('mevis', 'valid_u', 'valid_u/videos', mask_files.in_mask_dict,
            'MeViS: valid_u/mask_dict.json, its frames as 6 frames/s videos'),
  'ref_yt_vos': ('ref_yt_vos', 'valid', 'valid/videos', mask_files.as_pictures(
    lambda r: f'Annotations/{r["video"]}/{r["qid"]}'),
                 'Refer-YouTube-VOS by registration, its frames as 6 frames/s videos'),
  'ref_davis17': ('ref_davis17', 'valid', 'valid/videos', mask_files.as_pictures(
    lambda r: f'Annotations/480p/{r["video"].removesuffix(".mp4")}', by_number=True),
                  'DAVIS 2017 trainval 480p, its frames as 6 frames/s videos'),
  'reasonvos': ('reasonvos', 'test', 'videos', mask_files.as_pictures(
    lambda r: f'Annotations/{r["anno_id"][0]}'), 'ReasonVOS of VideoLISA, its frames as videos'),
  'molmo2_video': ('molmo2_video_track', 'test', 'videos', mask_files.in_row,
                   'masks inside; videos of APTv2, DanceTrack, SportsMOT, PersonPath22, SA-V'),
}
SOURCES = {'molmo2_video': f'{AI2}/molmo2-track-instruction (training), Molmo2-VideoTrackEval'}


def _fields(task: str, video: str = 'video') -> Fields:
  return Fields(video=lambda f, r: f.video(f'{r[video]}.mp4'), facts=track_facts(STYLES[task]),
                sampling=lambda r: frame_sampling(r['fps']), style=STYLES[task])


def _set(name: str) -> Dataset:
  video = 'clip' if name == 'molmo2_video' else 'video'
  folder, split, videos, masks, more = EVALUATED.get(name, (name, '', '', None, ''))
  source = SOURCES.get(name, f'{AI2}/molmo2-{name.replace("_", "-")}')
  return Dataset(
    folder, table(hub()), _fields('track', video), source + (f'; {more}' if more else ''),
    'research only' if more else 'see source', 'loader',
    training=tuple(Training(f'{name}_{task}', table(hub('train', task), keep=can_be_sampled),
                            _fields(task, video)) for task in TASKS.get(name, ())),
    benchmarks=(Task(f'{name}_track_eval_1fps', 'tracking', 'video', (split,), max_new_tokens=4096,
                     groups=('tracking',), records=video_tracks(videos, masks)),) if more else ())


DATASETS = (
  *map(_set, dict.fromkeys([*TASKS, *EVALUATED])),
  Dataset('single_object', table(hub()), _fields('single_point_track'),
          f'{AI2}/molmo2-single-object-track', schema='loader', training=tuple(
            Training(f'{name}_single_object_track', table(hub('train', name), keep=can_be_sampled))
            for name in SINGLE_OBJECT)),
  Dataset('tapvid_davis', table('*'), Fields(style=STYLES['single_point_track']),
          'github.com/google-deepmind/tapnet (tapvid_davis.pkl)', 'CC BY 4.0', 'fork', benchmarks=(
            Task('tap_davis', 'tap_vid', 'video', max_new_tokens=4096, groups=('more_pointing',),
                 records=tap_davis, note='the prompt is our own'),)))
