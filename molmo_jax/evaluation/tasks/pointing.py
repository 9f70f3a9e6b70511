"""Benchmarks of counting and pointing in images and videos, and of tracking."""

from __future__ import annotations

from molmo_jax.evaluation.tasks import mask_files, places
from molmo_jax.evaluation.tasks.images import AI2, LOADER, downloaded
from molmo_jax.evaluation.tasks.rows import Fields, Row, optional, rows
from molmo_jax.evaluation.tasks.tap import tap_davis
from molmo_jax.evaluation.tasks.task import Task
from molmo_jax.evaluation.tasks.video_columns import clip_of

IMAGE, VIDEO, TRACKING, MORE = ('image_pointing',), ('video_pointing',), ('tracking',
                                                                          ), ('more_pointing',)
FIND_GROUPS = ('{kind}', '{kind}-{data_type}')


def _count(row: Row) -> int:
  return int(row['count'] if 'count' in row else row['number'])


def _tracking(name: str, folder: str, split: str, videos: str, masks: mask_files.MaskSource,
              source: str) -> Task:
  return Task(f'{name}_track_eval_1fps', 'video', folder, (split,), 'video_point_track_per_frame',
              'tracking',
              max_new_tokens=4096, groups=TRACKING, records=places.video_tracks(videos, masks),
              source=source, licence='research only', schema=LOADER)


TASKS = (
  Task('countbench_qa', 'image', 'countbench_qa', ('test',), 'point_count', 'point_count',
       max_new_tokens=192,
       groups=IMAGE + ('single_image_test',),
       records=rows('**/{split}-*.parquet',
                    Fields(question='question', image='image', metadata={'count': _count},
                           id=optional('example_id'))),
       source='huggingface.co/datasets/vikhyatk/CountBenchQA', licence='CC BY 4.0',
       schema='memory'),
  Task('pixmo_count_counting', 'image', 'pixmo_count', ('validation', 'test'), 'point_count',
       'point_count',
       max_new_tokens=192, groups=IMAGE + ('single_image_test',), aliases=('pixmo_count',),
       records=rows('**/{split}-*.parquet',
                    Fields(question=lambda r: places.counting_prompt(r['label']),
                           image=downloaded, metadata={'count': _count})),
       source=f'{AI2}/pixmo-count; images by image_url, saved as images/<image_sha256>.*',
       licence='ODC-BY',
       schema=LOADER, note='published numbers draw one of 60 wordings per example; here there is '
       'one'),
  Task('pointing_eval_v2', 'image', 'pixmo_points_eval', ('test',), 'pointing', 'pointing',
       max_new_tokens=192,
       groups=IMAGE, aliases=('pointing_eval', 'pixmo_point_eval2'), records=places.pixmo_points,
       source=f'{AI2}/pixmo-points-eval; images by image_url, saved as images/<image_sha256>.*',
       licence='ODC-BY',
       schema=LOADER, note='published numbers draw one of 43 wordings per example; here there is '
       'one'),
  Task('point_bench', 'image', 'point_bench', ('test',), 'pointing', 'point_bench',
       max_new_tokens=256, groups=IMAGE,
       records=places.point_bench, source='huggingface.co/datasets/PointArena/pointarena-data '
       '(zips unpacked)',
       licence='MIT', schema=LOADER),
  Task('screen_spot_v2', 'image', 'screen_spot_v2', ('test',), 'user_qa', 'point_in_box',
       max_new_tokens=128,
       groups=MORE, records=places.screens('screenspot_*_v2.json', 'screenspotv2_image', True,
                                           FIND_GROUPS),
       source='huggingface.co/datasets/OS-Copilot/ScreenSpot-v2', licence='Apache-2.0',
       schema=LOADER),
  Task('screen_spot_pro', 'image', 'screen_spot_pro', ('test',), 'user_qa', 'point_in_box',
       max_new_tokens=128,
       groups=MORE, records=places.screens('annotations/*.json', 'images', False,
                                           ('{group}', '{group}-{application}')),
       source='huggingface.co/datasets/likaixin/ScreenSpot-Pro', licence='MIT', schema=LOADER),
  Task('os_worldg', 'image', 'os_worldg', ('test',), 'user_qa', 'point_in_box', max_new_tokens=128,
       groups=MORE,
       records=places.screens('**/test-*.parquet', 'images', True, ('{box_type}',), prompt='{}'),
       source='huggingface.co/datasets/MMInstruction/OSWorld-G', licence='Apache-2.0',
       schema=LOADER),
  Task('vixmo_points_count_clip_63s', 'video', 'molmo2_video_count', ('val',), 'video_count',
       'video_point_count',
       max_new_tokens=2048, groups=VIDEO, aliases=('molmo2_video_count_eval', 'video_count'),
       records=rows('**/{split}-*.parquet', Fields(
           question='question', video=places.find_video, clip=clip_of('clip_start', 'clip_end'),
           id=lambda r: f'{r["video_id"]}_{r["label"]}',
           metadata={'count': _count, 'subset': 'category'})),
       source=f'{AI2}/Molmo2-VideoCountEval; videos as its card says, re-encoded at 2 frames/s as '
       '<id>_2fps.mp4',
       licence='ODC-BY', schema=LOADER),
  Task('vixmo_points_point_eval', 'video', 'molmo2_video_point', ('val',), 'video_point_count',
       'video_pointing',
       max_new_tokens=2048, groups=VIDEO, aliases=('molmo2_video_point_eval', 'video_point'),
       records=places.video_points,
       source=f'{AI2}/Molmo2-VideoPointEval; videos as its card says, re-encoded at 2 frames/s as '
       '<id>_2fps.mp4',
       licence='ODC-BY', schema=LOADER),
  _tracking('mevis', 'mevis', 'valid_u', 'valid_u/videos', mask_files.in_mask_dict,
            f'{AI2}/molmo2-mevis (track); MeViS: valid_u/mask_dict.json, its frames as 6 frames/s '
            'videos'),
  _tracking('ref_yt_vos', 'ref_yt_vos', 'valid', 'valid/videos',
            mask_files.as_pictures(lambda r: f'Annotations/{r["video"]}/{r["qid"]}'),
            f'{AI2}/molmo2-ref-yt-vos (track); Refer-YouTube-VOS by registration, its frames as 6 '
            'frames/s videos'),
  _tracking('ref_davis17', 'ref_davis17', 'valid', 'valid/videos',
            mask_files.as_pictures(lambda r: f'Annotations/480p/{r["video"].removesuffix(".mp4")}',
                                   by_number=True),
            f'{AI2}/molmo2-ref-davis17 (track); DAVIS 2017 trainval 480p, its frames as 6 frames/s '
            'videos'),
  _tracking('reasonvos', 'reasonvos', 'test', 'videos',
            mask_files.as_pictures(lambda r: f'Annotations/{r["anno_id"][0]}'),
            f'{AI2}/molmo2-reasonvos (track); ReasonVOS of VideoLISA, its frames as videos'),
  _tracking('molmo2_video', 'molmo2_video_track', 'test', 'videos', mask_files.in_row,
            f'{AI2}/Molmo2-VideoTrackEval (masks inside); videos of APTv2, DanceTrack, SportsMOT, '
            'PersonPath22, SA-V'),
  Task('tap_davis', 'video', 'tapvid_davis', ('test',), 'video_single_point_track_per_frame',
       'tap_vid',
       max_new_tokens=4096, groups=MORE, records=tap_davis,
       source='github.com/google-deepmind/tapnet (tapvid_davis.pkl)', licence='CC BY 4.0',
       schema='a loader of a fork of allenai/molmo2; the prompt is our own'),
)
